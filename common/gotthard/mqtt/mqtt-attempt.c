/* SPDX-License-Identifier: ISC */
/*
 * One attempt after the other: when to try, with which protocol version, and the wait after a
 * failure. This file must not use a socket or the library.
 */
#include <stdio.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "gotthard/mqtt/mqtt-internal.h"
#include "gotthard/signaling/topic.h"

#define VERSION_S 5. /* without a CONNACK: the broker may ignore MQTT 5 */

static const char *const state_names[] = {
    [MQTT_WAITING] = "waiting", [MQTT_TRYING] = "trying", [MQTT_UP] = "up",
    [MQTT_OVER] = "over",       [MQTT_GONE] = "gone",
};

void gt_mqtt_set_timer(struct gt_mqtt *mqtt, double timeout_s)
{
    ev_timer_stop(mqtt->loop, &mqtt->timer);
    if (timeout_s < 0)
        return;
    ev_now_update(mqtt->loop);
    ev_timer_set(&mqtt->timer, timeout_s, 0);
    ev_timer_start(mqtt->loop, &mqtt->timer);
}

void gt_mqtt_enter(struct gt_mqtt *mqtt, enum mqtt_state state, double timeout_s)
{
    gt_debug("mqtt=%s %s -> %s", mqtt->settings.client_id, state_names[mqtt->state],
             state_names[state]);
    mqtt->state = state;
    gt_mqtt_set_timer(mqtt, timeout_s);
}

static void mqtt_enter_trying(struct gt_mqtt *mqtt)
{
    mqtt->n_ungranted = 0;
    mqtt->is_connected = mqtt->is_version_timed = false;
    mqtt->limit_s = gt_mqtt_retry_connack_s(&mqtt->retry, mqtt->settings.connack_s);
    gt_mqtt_enter(mqtt, MQTT_TRYING, mqtt->limit_s);
}

static unsigned mqtt_next_wait(struct gt_mqtt *mqtt, enum gt_mqtt_effect effect)
{
    struct gt_mqtt_retry_end end = {.effect = effect, .was_up = mqtt->state == MQTT_UP};
    uint64_t random = UINT64_MAX / 2;

    if (end.was_up)
        end.lasted_s = gt_clock() - mqtt->up_since;
    if (mqtt->events.is_awaited)
        end.is_awaited = mqtt->events.is_awaited(mqtt->userdata);
    if (gt_random(&random, sizeof(random)) != 0)
        gt_debug("mqtt: no random bytes for the back-off");
    return gt_mqtt_retry_next(&mqtt->retry, &end, random);
}

/* Ends the connection or the attempt. */
static void mqtt_fail(struct gt_mqtt *mqtt, enum gt_mqtt_effect effect, const char *why)
{
    bool is_attempt = mqtt->state != MQTT_UP;
    char with_cause[GT_MQTT_WHY + 2 * GT_NAME_MAX];

    mqtt->resolve = gt_resolve_free(mqtt->resolve);
    mqtt->connection = gt_mqtt_connection_free(mqtt->connection, 0);
    unsigned wait_ms = mqtt_next_wait(mqtt, effect);
    if (is_attempt || mqtt->has_answered_v5)
        mqtt->is_v5 = mqtt->settings.version != GT_MQTT_VERSION_3;
    if (is_attempt && mqtt->settings.is_once && mqtt->up_since == 0) {
        wait_ms = 0;
        gt_mqtt_enter(mqtt, MQTT_OVER, -1);
    } else {
        gt_mqtt_enter(mqtt, MQTT_WAITING, wait_ms / 1e3);
    }
    if (!is_attempt && effect != GT_MQTT_EFFECT_RIVAL && gt_mqtt_retry_has_rival(&mqtt->retry)) {
        snprintf(with_cause, sizeof(with_cause),
                 "%s, again after a short time; is there a second device named %s?", why,
                 mqtt->settings.client_id);
        why = with_cause;
    }
    mqtt->events.on_down(mqtt->userdata, why, wait_ms);
}

static bool is_before_proxy(const struct gt_mqtt_error *end)
{
    return end->name_err != 0 || end->late == GT_MQTT_LATE_NAME ||
           end->late == GT_MQTT_LATE_CONNECTION;
}

void gt_mqtt_attempt_fail(struct gt_mqtt *mqtt, struct gt_mqtt_error end)
{
    char why[GT_MQTT_WHY];

    end.was_up = mqtt->state == MQTT_UP;
    end.is_at_proxy = mqtt->settings.proxy && is_before_proxy(&end);
    if (end.is_at_proxy)
        gt_proxy_name(mqtt->settings.proxy, end.proxy);
    gt_mqtt_error_describe(&end, why, sizeof(why));
    mqtt->outcome = gt_mqtt_error_outcome(&end);
    mqtt_fail(mqtt, gt_mqtt_error_effect(&end), why);
}

/* Connects to the addresses. */
static void mqtt_begin(struct gt_mqtt *mqtt)
{
    char topic[GT_TOPIC_MAX + 1];
    uint8_t payload[GT_MESSAGE_MAX];
    size_t n = 0;
    struct gt_mqtt_connection_will will;

    mqtt->has_will = mqtt->events.make_will;
    bool is_made = !mqtt->has_will || mqtt->events.make_will(mqtt->userdata, topic, payload, &n);
    if (mqtt->state == MQTT_GONE)
        return;
    if (!is_made) {
        gt_mqtt_attempt_fail(mqtt, (struct gt_mqtt_error){.start_err = -ENOMEM});
        return;
    }
    will = (struct gt_mqtt_connection_will){topic, gt_span(payload, n), mqtt->has_retained_will};
    int r = gt_mqtt_connection_new(&mqtt->settings, mqtt->addrs, mqtt->n_addrs, mqtt->is_v5,
                                   mqtt->has_will ? &will : NULL, &mqtt->probed, mqtt->loop,
                                   &mqtt->wakeup, &mqtt->connection);
    if (r < 0)
        gt_mqtt_attempt_fail(mqtt, (struct gt_mqtt_error){.start_err = r});
}

static void mqtt_handle_resolved(struct gt_mqtt *mqtt)
{
    mqtt->resolve = gt_resolve_free(mqtt->resolve);
    if (mqtt->resolve_err == 0)
        mqtt_begin(mqtt);
    else
        gt_mqtt_attempt_fail(mqtt, (struct gt_mqtt_error){.name_err = mqtt->resolve_err,
                                                          .name_s = gt_clock() - mqtt->tried_at});
}

static bool mqtt_can_use_v3(const struct gt_mqtt *mqtt)
{
    return mqtt->is_v5 && mqtt->settings.version == GT_MQTT_VERSION_ANY;
}

/* Returns true if silence, or an end without a reason, may mean that the broker ignores MQTT 5. One
 * that has answered it before is busy, or is away behind a load balancer. */
static bool mqtt_may_be_ignored(const struct gt_mqtt *mqtt)
{
    return mqtt_can_use_v3(mqtt) && !mqtt->has_answered_v5;
}

/* Changes the attempt for a broker that has less of MQTT. Returns false if nothing is left to try.
 */
static bool mqtt_reduce(struct gt_mqtt *mqtt, enum gt_mqtt_effect effect)
{
    if (mqtt->state != MQTT_TRYING)
        return false;
    if ((effect == GT_MQTT_EFFECT_V3 && mqtt_can_use_v3(mqtt)) ||
        (effect == GT_MQTT_EFFECT_V3_GUESS && mqtt_may_be_ignored(mqtt))) {
        mqtt->is_v5 = false;
        return true;
    }
    bool is_will = effect == GT_MQTT_EFFECT_UNRETAINED && mqtt->has_will;
    bool is_reduced = is_will && mqtt->has_retained_will;
    mqtt->has_retained_will &= !is_will;
    return is_reduced;
}

/* Ends the attempt, and begins another one at once if less of MQTT may help. */
void gt_mqtt_attempt_end(struct gt_mqtt *mqtt, enum gt_mqtt_effect effect, const char *why)
{
    if (!mqtt_reduce(mqtt, effect)) {
        mqtt_fail(mqtt, effect, why);
        return;
    }
    gt_debug("mqtt=%s reason=\"%s\" next=%s", mqtt->settings.client_id, why,
             mqtt->is_v5 ? "without retained will" : "version 3.1.1");
    mqtt->connection = gt_mqtt_connection_free(mqtt->connection, 0);
    mqtt_enter_trying(mqtt);
    mqtt_begin(mqtt);
}

/* CONNECT is on its way. A broker that needed long for TCP and TLS is busy: a second CONNECT would
 * make that worse. */
void gt_mqtt_attempt_connected(struct gt_mqtt *mqtt)
{
    double left_s = ev_timer_remaining(mqtt->loop, &mqtt->timer);
    double quick_s = GT_MAX(mqtt->limit_s - VERSION_S, VERSION_S);

    mqtt->is_connected = true;
    mqtt->is_version_timed = mqtt_may_be_ignored(mqtt) && left_s > quick_s;
    if (mqtt->is_version_timed)
        gt_mqtt_set_timer(mqtt, VERSION_S);
}

/* After a failure another address is the first: one can accept connections and do nothing else. */
static void mqtt_on_resolved(void *userdata, int err, const struct gt_addr *addrs, size_t n_addrs)
{
    struct gt_mqtt *mqtt = userdata;

    mqtt->resolve_err = err;
    mqtt->n_addrs = n_addrs;
    for (size_t i = 0; i < n_addrs; i++)
        mqtt->addrs[i] = addrs[(i + mqtt->retry.n_failures) % n_addrs];
    gt_mqtt_run(mqtt, mqtt_handle_resolved);
}

static void mqtt_try(struct gt_mqtt *mqtt)
{
    mqtt->has_retained_will = true;
    mqtt->tried_at = gt_clock();
    mqtt_enter_trying(mqtt);
    const struct gt_mqtt_settings *settings = &mqtt->settings;
    const char *host = settings->proxy ? settings->proxy->host : settings->host;
    uint16_t port = settings->proxy ? settings->proxy->port : settings->port;
    int r = gt_resolve_new(mqtt->loop, host, port, mqtt_on_resolved, mqtt, &mqtt->resolve);
    if (r < 0)
        gt_mqtt_attempt_fail(mqtt, (struct gt_mqtt_error){.start_err = r});
}

/* Returns the answer that did not come in time. */
static enum gt_mqtt_late mqtt_missing_answer(const struct gt_mqtt *mqtt)
{
    if (mqtt->state == MQTT_UP)
        return GT_MQTT_LATE_SUBACK;
    if (mqtt->resolve)
        return GT_MQTT_LATE_NAME;
    if (!mqtt->connection || !gt_mqtt_connection_has_peer(mqtt->connection))
        return GT_MQTT_LATE_CONNECTION;
    return mqtt->is_connected ? GT_MQTT_LATE_CONNACK : GT_MQTT_LATE_TLS;
}

void gt_mqtt_attempt_time_out(struct gt_mqtt *mqtt)
{
    bool is_up = mqtt->state == MQTT_UP;
    struct gt_mqtt_error end = {.late = mqtt_missing_answer(mqtt)};

    end.limit_s = is_up ? mqtt->settings.connack_s : mqtt->limit_s;
    if (mqtt->state == MQTT_WAITING)
        mqtt_try(mqtt);
    else if (end.late == GT_MQTT_LATE_CONNACK && mqtt->is_version_timed)
        gt_mqtt_attempt_end(mqtt, GT_MQTT_EFFECT_V3, "no answer to MQTT 5");
    else
        gt_mqtt_attempt_fail(mqtt, end);
}
