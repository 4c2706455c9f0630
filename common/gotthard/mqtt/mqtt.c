/* SPDX-License-Identifier: ISC */
/*
 * The events of one connection after another, and the public functions. This file must not use a
 * socket or the library. There is at most one connection at a time.
 */
#include "gotthard/mqtt/mqtt.h"

#include "gotthard/base/clock.h"
#include "gotthard/mqtt/mqtt-internal.h"
#include "gotthard/mqtt/mqtt-settings.h"

#define CONNACK_S 20 /* default of the settings */
/* Time to disconnect: with a will the broker must have read the DISCONNECT, which suppresses it. */
#define CLOSE_MS           1000
#define CLOSE_WITH_WILL_MS 3000

#define ATTEMPT_INTERVAL_S 2. /* shortest, however often the network changes */

#define EVENTS_PER_WAKEUP 64

static void mqtt_on_up(struct gt_mqtt *mqtt, const struct gt_mqtt_event *event)
{
    gt_mqtt_enter(mqtt, MQTT_UP, -1);
    gt_mqtt_retry_up(&mqtt->retry);
    mqtt->has_answered_v5 |= mqtt->is_v5;
    mqtt->limits = event->limits;
    mqtt->up_since = gt_clock();
    mqtt->events.on_up(mqtt->userdata);
}

static void mqtt_on_granted(struct gt_mqtt *mqtt, const struct gt_mqtt_event *event)
{
    if (event->n_refused && !mqtt->events.on_suback) {
        gt_mqtt_attempt_fail(mqtt, (struct gt_mqtt_error){.is_filter_refused = true});
        return;
    }
    bool is_last = mqtt->n_ungranted && --mqtt->n_ungranted == 0;
    if (is_last)
        gt_mqtt_set_timer(mqtt, -1);
    if (mqtt->events.on_suback)
        mqtt->events.on_suback(mqtt->userdata, event->id, event->n_refused, event->text);
    if (is_last && mqtt->state == MQTT_UP && mqtt->n_ungranted == 0)
        mqtt->events.on_subscribed(mqtt->userdata);
}

static void mqtt_on_puback(struct gt_mqtt *mqtt, const struct gt_mqtt_event *event)
{
    if (event->reason >= GT_MQTT_REASON_FAILURE) {
        if (mqtt->events.on_refused)
            mqtt->events.on_refused(mqtt->userdata, event->id, event->text);
    } else if (mqtt->events.on_published) {
        mqtt->events.on_published(mqtt->userdata, event->id,
                                  event->reason == GT_MQTT_REASON_NO_SUBSCRIBERS);
    }
}

/* A SUBACK comes behind the messages that the broker has queued, so its deadline starts again. */
static void mqtt_on_message(struct gt_mqtt *mqtt, const struct gt_mqtt_event *event)
{
    if (mqtt->n_ungranted > 0)
        gt_mqtt_set_timer(mqtt, mqtt->settings.connack_s);
    mqtt->events.on_message(mqtt->userdata, event->text, event->is_retained,
                            gt_span(event->payload, event->n));
}

static void mqtt_on_event(struct gt_mqtt *mqtt, const struct gt_mqtt_event *event)
{
    switch (event->type) {
    case GT_MQTT_EVENT_CONNECTED: gt_mqtt_attempt_connected(mqtt); return;
    case GT_MQTT_EVENT_UP: mqtt_on_up(mqtt, event); return;
    case GT_MQTT_EVENT_SUBSCRIBED: mqtt_on_granted(mqtt, event); return;
    case GT_MQTT_EVENT_MESSAGE: mqtt_on_message(mqtt, event); return;
    case GT_MQTT_EVENT_PUBLISHED: mqtt_on_puback(mqtt, event); return;
    case GT_MQTT_EVENT_ENDED:
        mqtt->outcome = event->outcome;
        mqtt->probed = event->probed;
        gt_mqtt_attempt_end(mqtt, event->effect, event->text);
        return;
    }
}

void gt_mqtt_destroy(struct gt_mqtt *mqtt)
{
    gt_mqtt_settings_deinit(&mqtt->settings);
    free(mqtt);
}

void gt_mqtt_run(struct gt_mqtt *mqtt, void (*step)(struct gt_mqtt *))
{
    mqtt->is_in_callback = true;
    step(mqtt);
    mqtt->is_in_callback = false;
    if (mqtt->state == MQTT_GONE)
        gt_mqtt_destroy(mqtt);
}

/* Bounded: a broker that keeps sending must not block the loop. */
static void mqtt_handle_events(struct gt_mqtt *mqtt)
{
    struct gt_mqtt_event *event = NULL;

    for (unsigned n = 0;
         n < EVENTS_PER_WAKEUP && (event = gt_mqtt_connection_next_event(mqtt->connection)); n++) {
        mqtt_on_event(mqtt, event);
        free(event);
    }
    if (event && mqtt->state != MQTT_GONE)
        ev_async_send(mqtt->loop, &mqtt->wakeup); /* there may be more */
}

static void mqtt_on_wakeup(struct ev_loop *loop, ev_async *async, int revents)
{
    gt_mqtt_run(gt_container_of(async, struct gt_mqtt, wakeup), mqtt_handle_events);
}

static void mqtt_on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
    gt_mqtt_run(gt_container_of(timer, struct gt_mqtt, timer), gt_mqtt_attempt_time_out);
}

static void mqtt_shorten_wait(struct gt_mqtt *mqtt)
{
    double earliest = mqtt->tried_at + ATTEMPT_INTERVAL_S - gt_clock();
    double left = ev_timer_remaining(mqtt->loop, &mqtt->timer);

    if (!gt_mqtt_retry_network_changed(&mqtt->retry))
        return;
    gt_mqtt_set_timer(mqtt, GT_MIN(left, GT_MAX(earliest, 0.)));
}

static void mqtt_on_network(void *userdata, enum gt_netwatch_event event)
{
    struct gt_mqtt *mqtt = userdata;

    switch (mqtt->state) {
    case MQTT_WAITING: mqtt_shorten_wait(mqtt); return;
    case MQTT_TRYING:
    case MQTT_UP:
        if (mqtt->connection)
            gt_mqtt_connection_check(mqtt->connection);
        return;
    case MQTT_OVER:
    case MQTT_GONE: return;
    }
}

int gt_mqtt_new(struct ev_loop *loop, const struct gt_mqtt_settings *settings,
                const struct gt_mqtt_events *events, void *userdata, struct gt_mqtt **ret)
{
    struct gt_mqtt *mqtt = calloc(1, sizeof(*mqtt));

    if (!mqtt)
        return -ENOMEM;
    if (!gt_mqtt_settings_copy(settings, &mqtt->settings)) {
        gt_mqtt_destroy(mqtt);
        return -ENOMEM;
    }
    mqtt->loop = loop;
    mqtt->events = *events;
    mqtt->userdata = userdata;
    mqtt->is_v5 = settings->version != GT_MQTT_VERSION_3;
    mqtt->retry.spread_ms = settings->reconnect_spread_ms;
    mqtt->limits = (struct gt_mqtt_limits){.max_packet = UINT32_MAX, .has_retained = true};
    if (!settings->connack_s)
        mqtt->settings.connack_s = CONNACK_S;
    ev_async_init(&mqtt->wakeup, mqtt_on_wakeup);
    ev_async_start(loop, &mqtt->wakeup);
    ev_init(&mqtt->timer, mqtt_on_timer);
    if (!settings->is_once)
        gt_netwatch_start(&mqtt->netwatch, loop, mqtt_on_network, mqtt);
    gt_mqtt_enter(mqtt, MQTT_WAITING, 0);
    *ret = mqtt;
    return 0;
}

struct gt_mqtt *gt_mqtt_free(struct gt_mqtt *mqtt)
{
    return gt_mqtt_free_within(mqtt, mqtt && mqtt->has_will ? CLOSE_WITH_WILL_MS : CLOSE_MS);
}

struct gt_mqtt *gt_mqtt_free_within(struct gt_mqtt *mqtt, unsigned timeout_ms)
{
    if (!mqtt)
        return NULL;
    mqtt->resolve = gt_resolve_free(mqtt->resolve);
    mqtt->connection =
        gt_mqtt_connection_free(mqtt->connection, mqtt->state == MQTT_UP ? timeout_ms : 0);
    gt_mqtt_enter(mqtt, MQTT_GONE, -1);
    ev_async_stop(mqtt->loop, &mqtt->wakeup);
    gt_netwatch_stop(&mqtt->netwatch);
    if (!mqtt->is_in_callback)
        gt_mqtt_destroy(mqtt);
    return NULL;
}

bool gt_mqtt_is_up(const struct gt_mqtt *mqtt)
{
    return mqtt->state == MQTT_UP;
}

const struct gt_mqtt_outcome *gt_mqtt_last_outcome(const struct gt_mqtt *mqtt)
{
    return mqtt->outcome;
}

uint32_t gt_mqtt_max_packet(const struct gt_mqtt *mqtt)
{
    return mqtt->limits.max_packet;
}

bool gt_mqtt_has_retained(const struct gt_mqtt *mqtt)
{
    return mqtt->limits.has_retained;
}

int gt_mqtt_publish(struct gt_mqtt *mqtt, const char *topic, struct gt_span payload,
                    bool is_retained, unsigned expiry_s, int *ret_id)
{
    if (mqtt->state != MQTT_UP)
        return -ENOTCONN;
    /* The library's own check is wrong by some bytes. */
    if (payload.n + strlen(topic) + GT_MQTT_OVERHEAD > mqtt->limits.max_packet)
        return -EOPNOTSUPP;
    return gt_mqtt_connection_publish(mqtt->connection, topic, payload, is_retained, expiry_s,
                                      ret_id);
}

/* Without a SUBACK the connection ends. */
static void mqtt_expect_suback(struct gt_mqtt *mqtt)
{
    mqtt->n_ungranted++;
    gt_mqtt_set_timer(mqtt, mqtt->settings.connack_s);
}

int gt_mqtt_subscribe(struct gt_mqtt *mqtt, const char *filter)
{
    int id;

    if (mqtt->state != MQTT_UP)
        return -ENOTCONN;
    int r = gt_mqtt_subscribe_all(mqtt, &filter, 1, 1, &id);
    if (r != 0)
        mqtt_expect_suback(mqtt); /* which does not come, so the connection ends */
    return r;
}

int gt_mqtt_subscribe_all(struct gt_mqtt *mqtt, const char *const *filters, size_t n, unsigned qos,
                          int *ret_id)
{
    if (mqtt->state != MQTT_UP)
        return -ENOTCONN;
    if (n < 1 || n > GT_MQTT_FILTERS_MAX || qos > 1)
        return -EINVAL;
    int r = gt_mqtt_connection_subscribe(mqtt->connection, filters, n, qos, ret_id);
    if (r == 0)
        mqtt_expect_suback(mqtt);
    return r;
}
