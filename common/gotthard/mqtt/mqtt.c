/* SPDX-License-Identifier: ISC */
/*
 * One state machine over connections that come and go: when to try, with which version of the
 * protocol, and how long to wait after a failure. It knows no socket and no library, only reports
 * of a struct gt_broker, and there is never more than one of those that it listens to.
 */
#include "gotthard/mqtt.h"

#include <stdio.h>

#include "gotthard/broker.h"
#include "gotthard/clock.h"
#include "gotthard/log.h"
#include "gotthard/netwatch.h"

#define CONNACK_S    20 /* unless the settings say otherwise */
#define STABLE_S     30
#define PARTING_MS   1000 /* without a will, */
#define GOODBYE_MS   3000 /* and with one, which a goodbye keeps unpublished */
#define RETRY_MIN_MS 1000
#define RETRY_MAX_MS 60000
#define RIVAL_MIN_MS 5000 /* while another client has our client id */
#define RIVAL_MAX_MS 300000

#define HASTE_S 2. /* between two attempts, however often the network changes */

#define REPORTS_PER_TURN 64

enum mqtt_state {
    MQTT_WAITING, /* for the next attempt; the first is due at once */
    MQTT_TRYING,  /* at most connack_s */
    MQTT_UP,      /* as long as the keep-alive is answered, which is the library's deadline;
                     connack_s while a subscription is not granted */
    MQTT_OVER,    /* is_once, and it failed */
    MQTT_GONE,    /* freed inside a callback: no more than memory */
};

static const char *const state_names[] = {
    [MQTT_WAITING] = "waiting", [MQTT_TRYING] = "trying", [MQTT_UP] = "up",
    [MQTT_OVER] = "over",       [MQTT_GONE] = "gone",
};

struct gt_mqtt {
    struct ev_loop *loop;
    struct gt_mqtt_settings settings; /* the strings are owned */
    struct gt_mqtt_events events;
    void *userdata;

    enum mqtt_state state;
    bool is_telling; /* inside a callback: freed after it */
    bool is_v5, has_will;
    struct gt_broker *broker; /* TRYING, UP */
    ev_async heard;
    ev_timer timer; /* WAITING, TRYING */
    struct gt_netwatch netwatch;
    double up_since;     /* by gt_clock() */
    double tried_at;     /* the last attempt's beginning */
    unsigned n_failures; /* in a row, of any kind */
    unsigned n_short;    /* connections in a row that did not last */
    unsigned wait_ms;    /* the last one */
    unsigned n_ungranted;
};

static void mqtt_set_timer(struct gt_mqtt *mqtt, double timeout_s)
{
    ev_timer_stop(mqtt->loop, &mqtt->timer);
    if (timeout_s < 0)
        return;
    ev_now_update(mqtt->loop);
    ev_timer_set(&mqtt->timer, timeout_s, 0);
    ev_timer_start(mqtt->loop, &mqtt->timer);
}

static void mqtt_enter(struct gt_mqtt *mqtt, enum mqtt_state state, double timeout_s)
{
    gt_debug("mqtt=%s %s -> %s", mqtt->settings.client_id, state_names[mqtt->state],
             state_names[state]);
    mqtt->state = state;
    mqtt_set_timer(mqtt, timeout_s);
}

/* Doubles from @min_ms to four fifths of @max_ms, then up to a quarter more by chance: clients that
 * lost their broker together do not come back together. */
static unsigned retry_ms(unsigned n_failures, unsigned min_ms, unsigned max_ms)
{
    uint64_t base = (uint64_t)min_ms << GT_MIN(n_failures, 16u);
    base = GT_MIN(base, (uint64_t)max_ms * 4 / 5);
    uint32_t chance = UINT32_MAX / 2;
    if (gt_random(&chance, sizeof(chance)) != 0)
        gt_debug("mqtt: no randomness for the back-off");
    return (unsigned)(base + base * chance / UINT32_MAX / 4);
}

/*
 * How long to wait now. A connection that was lost soon after it began was perhaps taken over by
 * another client with our id, who then waits as long as we do before he takes it back: so only one
 * that lasted twice our last wait counts as stable, and makes the waits short again.
 */
static unsigned mqtt_next_wait(struct gt_mqtt *mqtt, int reason)
{
    bool was_up = mqtt->state == MQTT_UP;
    if (reason == GT_BROKER_NO_WAY) /* nobody's fault over there */
        return retry_ms(0, RETRY_MIN_MS, RETRY_MAX_MS);
    double lasted_s = was_up ? gt_clock() - mqtt->up_since : 0;
    bool is_stable = was_up && lasted_s >= GT_MAX(STABLE_S, 2 * mqtt->wait_ms / 1e3);
    if (is_stable)
        mqtt->n_failures = mqtt->n_short = 0;
    else if (was_up)
        mqtt->n_short++;
    if (reason == GT_BROKER_TAKEN_OVER || (was_up && mqtt->n_short > 1))
        return retry_ms(mqtt->n_short - GT_MIN(mqtt->n_short, 2u), RIVAL_MIN_MS, RIVAL_MAX_MS);
    return retry_ms(mqtt->n_failures++, RETRY_MIN_MS, RETRY_MAX_MS);
}

/* The connection or the attempt at one is over. */
static void mqtt_fail(struct gt_mqtt *mqtt, int reason, const char *why)
{
    bool is_attempt = mqtt->state != MQTT_UP;
    mqtt->broker = gt_broker_free(mqtt->broker, 0);
    mqtt->wait_ms = mqtt_next_wait(mqtt, reason);
    if (is_attempt)
        mqtt->is_v5 = true;
    if (is_attempt && mqtt->settings.is_once) {
        mqtt->wait_ms = 0;
        mqtt_enter(mqtt, MQTT_OVER, -1);
    } else {
        mqtt_enter(mqtt, MQTT_WAITING, mqtt->wait_ms / 1e3);
    }
    mqtt->events.on_down(mqtt->userdata, why, mqtt->wait_ms);
}

static int mqtt_begin(struct gt_mqtt *mqtt)
{
    char topic[GT_TOPIC_MAX + 1];
    uint8_t payload[GT_MESSAGE_MAX];
    size_t n = 0;
    struct gt_broker_will will;
    mqtt->has_will =
        mqtt->events.make_will && mqtt->events.make_will(mqtt->userdata, topic, payload, &n);
    if (mqtt->state == MQTT_GONE)
        return 0;
    will = (struct gt_broker_will){topic, gt_span(payload, n)};
    return gt_broker_new(&mqtt->settings, mqtt->is_v5, mqtt->has_will ? &will : NULL, mqtt->loop,
                         &mqtt->heard, &mqtt->broker);
}

static void mqtt_try(struct gt_mqtt *mqtt)
{
    mqtt->n_ungranted = 0;
    mqtt->tried_at = gt_clock();
    mqtt_enter(mqtt, MQTT_TRYING, mqtt->settings.connack_s);
    int r = mqtt_begin(mqtt);
    if (r == -EINVAL)
        mqtt_fail(mqtt, 0, "a certificate, key or other setting is not usable");
    else if (r < 0)
        mqtt_fail(mqtt, 0, r == -EAGAIN ? "no thread for it" : "out of memory");
}

static void mqtt_on_ended(struct gt_mqtt *mqtt, const struct gt_broker_report *report)
{
    if (mqtt->state != MQTT_TRYING || !report->is_version) {
        mqtt_fail(mqtt, report->reason, report->text);
        return;
    }
    gt_debug("mqtt=%s reason=\"%s\": trying version 3.1.1", mqtt->settings.client_id, report->text);
    mqtt->broker = gt_broker_free(mqtt->broker, 0);
    mqtt->is_v5 = false;
    mqtt_try(mqtt);
}

static void mqtt_on_up(struct gt_mqtt *mqtt)
{
    mqtt_enter(mqtt, MQTT_UP, -1);
    mqtt->up_since = gt_clock();
    mqtt->events.on_up(mqtt->userdata);
}

static void mqtt_on_granted(struct gt_mqtt *mqtt, const struct gt_broker_report *report)
{
    if (report->reason >= GT_BROKER_FAILED) {
        mqtt_fail(mqtt, 0, "the broker refuses a subscription");
    } else if (mqtt->n_ungranted && --mqtt->n_ungranted == 0) {
        mqtt_set_timer(mqtt, -1);
        mqtt->events.on_subscribed(mqtt->userdata);
    }
}

static void mqtt_on_puback(struct gt_mqtt *mqtt, const struct gt_broker_report *report)
{
    if (report->reason >= GT_BROKER_FAILED) {
        if (mqtt->events.on_refused)
            mqtt->events.on_refused(mqtt->userdata, report->id, report->text);
    } else if (mqtt->events.on_published) {
        mqtt->events.on_published(mqtt->userdata, report->id, report->reason == GT_BROKER_UNHEARD);
    }
}

static void mqtt_on_report(struct gt_mqtt *mqtt, const struct gt_broker_report *report)
{
    switch (report->event) {
    case GT_BROKER_UP: mqtt_on_up(mqtt); return;
    case GT_BROKER_GRANTED: mqtt_on_granted(mqtt, report); return;
    case GT_BROKER_MESSAGE:
        mqtt->events.on_message(mqtt->userdata, report->text, report->is_retained,
                                gt_span(report->payload, report->n));
        return;
    case GT_BROKER_PUBLISHED: mqtt_on_puback(mqtt, report); return;
    case GT_BROKER_ENDED: mqtt_on_ended(mqtt, report); return;
    }
}

static void mqtt_destroy(struct gt_mqtt *mqtt)
{
    const char *const strings[] = {
        mqtt->settings.host,     mqtt->settings.ca_file,  mqtt->settings.cert_file,
        mqtt->settings.key_file, mqtt->settings.alpn,     mqtt->settings.client_id,
        mqtt->settings.username, mqtt->settings.password,
    };
    if (mqtt->settings.password)
        gt_wipe((char *)mqtt->settings.password, strlen(mqtt->settings.password));
    for (size_t i = 0; i < GT_ARRAY_SIZE(strings); i++)
        free((char *)strings[i]);
    free(mqtt);
}

static void mqtt_tell(struct gt_mqtt *mqtt, void (*step)(struct gt_mqtt *))
{
    mqtt->is_telling = true;
    step(mqtt);
    mqtt->is_telling = false;
    if (mqtt->state == MQTT_GONE)
        mqtt_destroy(mqtt);
}

/* A broker that never stops talking does not stop the rest of the loop. */
static void mqtt_hear(struct gt_mqtt *mqtt)
{
    struct gt_broker_report *report = NULL;
    for (unsigned n = 0; n < REPORTS_PER_TURN && (report = gt_broker_take(mqtt->broker)); n++) {
        mqtt_on_report(mqtt, report);
        free(report);
    }
    if (report && mqtt->state != MQTT_GONE)
        ev_async_send(mqtt->loop, &mqtt->heard); /* there may be more */
}

static void mqtt_on_heard(struct ev_loop *loop, ev_async *async, int revents)
{
    mqtt_tell(gt_container_of(async, struct gt_mqtt, heard), mqtt_hear);
}

static void mqtt_time_out(struct gt_mqtt *mqtt)
{
    if (mqtt->state == MQTT_WAITING)
        mqtt_try(mqtt);
    else
        mqtt_fail(mqtt, 0, "no answer from the broker in time");
}

static void mqtt_on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
    mqtt_tell(gt_container_of(timer, struct gt_mqtt, timer), mqtt_time_out);
}

/* A wait is for the broker's sake; when what failed was perhaps our own network, it need not be
 * long. Whoever shares our client id is waited for all the same. */
static void mqtt_hasten(struct gt_mqtt *mqtt)
{
    double rest = mqtt->tried_at + HASTE_S - gt_clock();
    double left = ev_timer_remaining(mqtt->loop, &mqtt->timer);
    if (mqtt->n_short > 1)
        return;
    mqtt->n_failures = 0;
    mqtt_set_timer(mqtt, GT_MIN(left, GT_MAX(rest, 0.)));
}

static void mqtt_on_network(void *userdata, enum gt_netwatch_event event)
{
    struct gt_mqtt *mqtt = userdata;
    switch (mqtt->state) {
    case MQTT_WAITING: mqtt_hasten(mqtt); return;
    case MQTT_TRYING:
    case MQTT_UP: gt_broker_check(mqtt->broker); return;
    case MQTT_OVER:
    case MQTT_GONE: return;
    }
}

/* Replaces each string by a copy. False when memory ran out; the copies are the caller's all the
 * same, the rest is NULL. */
static bool copy_settings(const struct gt_mqtt_settings *from, struct gt_mqtt_settings *ret)
{
    const char *const sources[] = {from->host, from->ca_file,   from->cert_file, from->key_file,
                                   from->alpn, from->client_id, from->username,  from->password};
    const char **const copies[] = {&ret->host, &ret->ca_file,   &ret->cert_file, &ret->key_file,
                                   &ret->alpn, &ret->client_id, &ret->username,  &ret->password};
    bool is_whole = true;
    *ret = *from;
    for (size_t i = 0; i < GT_ARRAY_SIZE(sources); i++) {
        *copies[i] = sources[i] ? strdup(sources[i]) : NULL;
        is_whole &= !sources[i] || *copies[i];
    }
    return is_whole;
}

int gt_mqtt_new(struct ev_loop *loop, const struct gt_mqtt_settings *settings,
                const struct gt_mqtt_events *events, void *userdata, struct gt_mqtt **ret)
{
    struct gt_mqtt *mqtt = calloc(1, sizeof(*mqtt));
    if (!mqtt)
        return -ENOMEM;
    if (!copy_settings(settings, &mqtt->settings)) {
        mqtt_destroy(mqtt);
        return -ENOMEM;
    }
    mqtt->loop = loop;
    mqtt->events = *events;
    mqtt->userdata = userdata;
    mqtt->is_v5 = true;
    if (!settings->connack_s)
        mqtt->settings.connack_s = CONNACK_S;
    ev_async_init(&mqtt->heard, mqtt_on_heard);
    ev_async_start(loop, &mqtt->heard);
    ev_init(&mqtt->timer, mqtt_on_timer);
    if (!settings->is_once)
        gt_netwatch_start(&mqtt->netwatch, loop, mqtt_on_network, mqtt);
    mqtt_enter(mqtt, MQTT_WAITING, 0);
    *ret = mqtt;
    return 0;
}

struct gt_mqtt *gt_mqtt_free(struct gt_mqtt *mqtt)
{
    if (!mqtt)
        return NULL;
    unsigned patience_ms = mqtt->has_will ? GOODBYE_MS : PARTING_MS;
    mqtt->broker = gt_broker_free(mqtt->broker, mqtt->state == MQTT_UP ? patience_ms : 0);
    mqtt_enter(mqtt, MQTT_GONE, -1);
    ev_async_stop(mqtt->loop, &mqtt->heard);
    gt_netwatch_stop(&mqtt->netwatch);
    if (!mqtt->is_telling)
        mqtt_destroy(mqtt);
    return NULL;
}

bool gt_mqtt_is_up(const struct gt_mqtt *mqtt)
{
    return mqtt->state == MQTT_UP;
}

int gt_mqtt_publish(struct gt_mqtt *mqtt, const char *topic, struct gt_span payload,
                    bool is_retained, unsigned expiry_s, int *ret_id)
{
    if (mqtt->state != MQTT_UP)
        return -ENOTCONN;
    return gt_broker_publish(mqtt->broker, topic, payload, is_retained, expiry_s, ret_id);
}

int gt_mqtt_subscribe(struct gt_mqtt *mqtt, const char *filter)
{
    if (mqtt->state != MQTT_UP)
        return -ENOTCONN;
    int r = gt_broker_subscribe(mqtt->broker, filter);
    mqtt->n_ungranted++; /* one that could not be asked for never is: no connection to keep */
    mqtt_set_timer(mqtt, mqtt->settings.connack_s);
    return r;
}
