/* SPDX-License-Identifier: ISC */
/*
 * The state machine over successive connections: when to try, with which protocol version, and how
 * long to wait after a failure. It handles only events of struct gt_mqtt_connection and must not
 * use a socket or the library. There is at most one connection at a time.
 */
#include "gotthard/mqtt/mqtt.h"

#include <netdb.h>
#include <stdio.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "gotthard/mqtt/mqtt-connection.h"
#include "gotthard/mqtt/mqtt-settings.h"
#include "gotthard/net/netwatch.h"
#include "gotthard/net/resolve.h"

#define CONNACK_S 20 /* default of the settings */
#define STABLE_S  30
/* Time to disconnect: with a will the broker must have read the DISCONNECT, which suppresses it. */
#define CLOSE_MS           1000
#define CLOSE_WITH_WILL_MS 3000
#define RETRY_MIN_MS       1000
#define RETRY_MAX_MS       60000
#define RIVAL_MIN_MS       5000 /* while another client uses our client id */
#define RIVAL_MAX_MS       300000

#define ATTEMPT_INTERVAL_S 2. /* shortest, however often the network changes */

#define EVENTS_PER_WAKEUP 64

enum mqtt_state {
    MQTT_WAITING, /* for the next attempt; the first is due at once */
    MQTT_TRYING,  /* resolving, then connecting, for at most connack_s */
    MQTT_UP,      /* the library's deadline is the keep-alive; connack_s while a SUBACK is
                     outstanding */
    MQTT_OVER,    /* is_once, and the attempt failed */
    MQTT_GONE,    /* freed inside a callback: only the memory remains */
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
    bool is_in_callback; /* gt_mqtt_free() must leave the memory */
    bool is_v5, has_will;
    bool has_retained_will;       /* false: this attempt follows a CONNACK "retain not supported" */
    struct gt_mqtt_limits limits; /* of the last connection that was up */
    struct gt_resolve *resolve;   /* owned; TRYING */
    struct gt_addr addrs[GT_RESOLVE_MAX]; /* of the last result */
    size_t n_addrs;
    int resolve_err;                       /* EAI_x */
    struct gt_mqtt_connection *connection; /* TRYING, UP */
    ev_async wakeup;
    ev_timer timer; /* WAITING, TRYING */
    struct gt_netwatch netwatch;
    double up_since;      /* by gt_clock() */
    double tried_at;      /* start of the last attempt */
    unsigned n_failures;  /* in a row, of any kind */
    unsigned n_short;     /* short-lived connections in a row */
    unsigned wait_ms;     /* the last wait */
    unsigned n_ungranted; /* subscriptions without a SUBACK */
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

/* Doubles from @min_ms to four fifths of @max_ms, plus up to a quarter at random: clients that lost
 * their broker together must not reconnect together. */
static unsigned retry_ms(unsigned n_failures, unsigned min_ms, unsigned max_ms)
{
    uint64_t base = (uint64_t)min_ms << GT_MIN(n_failures, 16u);

    base = GT_MIN(base, (uint64_t)max_ms * 4 / 5);
    uint32_t jitter = UINT32_MAX / 2;
    if (gt_random(&jitter, sizeof(jitter)) != 0)
        gt_debug("mqtt: no random bytes for the back-off");
    return (unsigned)(base + base * jitter / UINT32_MAX / 4);
}

/*
 * Returns the wait before the next attempt, in ms. A connection that was lost soon may have been
 * taken over by another client with our client id, which waits as long as we do before it takes it
 * over again. So only a connection that lasted twice the last wait is stable and resets the waits.
 */
static unsigned mqtt_next_wait(struct gt_mqtt *mqtt, int reason)
{
    bool was_up = mqtt->state == MQTT_UP;

    if (reason == GT_MQTT_REASON_NO_ROUTE) /* not a failure of the broker */
        return retry_ms(0, RETRY_MIN_MS, RETRY_MAX_MS);
    double lasted_s = was_up ? gt_clock() - mqtt->up_since : 0;
    bool is_stable = was_up && lasted_s >= GT_MAX(STABLE_S, 2 * mqtt->wait_ms / 1e3);
    if (is_stable)
        mqtt->n_failures = mqtt->n_short = 0;
    else if (was_up)
        mqtt->n_short++;
    if (reason == GT_MQTT_REASON_TAKEN_OVER || (was_up && mqtt->n_short > 1))
        return retry_ms(mqtt->n_short - GT_MIN(mqtt->n_short, 2u), RIVAL_MIN_MS, RIVAL_MAX_MS);
    return retry_ms(mqtt->n_failures++, RETRY_MIN_MS, RETRY_MAX_MS);
}

/* Ends the connection or the attempt. */
static void mqtt_fail(struct gt_mqtt *mqtt, int reason, const char *why)
{
    bool is_attempt = mqtt->state != MQTT_UP;

    mqtt->resolve = gt_resolve_free(mqtt->resolve);
    mqtt->connection = gt_mqtt_connection_free(mqtt->connection, 0);
    mqtt->wait_ms = mqtt_next_wait(mqtt, reason);
    if (is_attempt)
        mqtt->is_v5 = true;
    if (is_attempt && mqtt->settings.is_once && mqtt->up_since == 0) {
        mqtt->wait_ms = 0;
        mqtt_enter(mqtt, MQTT_OVER, -1);
    } else {
        mqtt_enter(mqtt, MQTT_WAITING, mqtt->wait_ms / 1e3);
    }
    mqtt->events.on_down(mqtt->userdata, why, mqtt->wait_ms);
}

static void mqtt_fail_errno(struct gt_mqtt *mqtt, int r)
{
    switch (r) {
    case -EINVAL: mqtt_fail(mqtt, 0, "invalid certificate, key or other setting"); return;
    case -EAGAIN: mqtt_fail(mqtt, 0, "too many threads are blocked"); return;
    default: mqtt_fail(mqtt, 0, "out of memory"); return;
    }
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
        mqtt_fail_errno(mqtt, -ENOMEM);
        return;
    }
    will = (struct gt_mqtt_connection_will){topic, gt_span(payload, n), mqtt->has_retained_will};
    int r = gt_mqtt_connection_new(&mqtt->settings, mqtt->addrs, mqtt->n_addrs, mqtt->is_v5,
                                   mqtt->has_will ? &will : NULL, mqtt->loop, &mqtt->wakeup,
                                   &mqtt->connection);
    if (r < 0)
        mqtt_fail_errno(mqtt, r);
}

static void mqtt_handle_resolved(struct gt_mqtt *mqtt)
{
    char why[160];

    mqtt->resolve = gt_resolve_free(mqtt->resolve);
    if (mqtt->resolve_err == 0) {
        mqtt_begin(mqtt);
        return;
    }
    snprintf(why, sizeof(why), "the host name cannot be resolved (%s)",
             gai_strerror(mqtt->resolve_err));
    mqtt_fail(mqtt, 0, why);
}

/* Changes the attempt for a broker that has less of MQTT. Returns false if nothing is left to try.
 */
static bool mqtt_reduce(struct gt_mqtt *mqtt, const struct gt_mqtt_event *event)
{
    if (mqtt->state != MQTT_TRYING)
        return false;
    if (event->is_version) {
        mqtt->is_v5 = false;
        return true;
    }
    bool is_will = mqtt->has_will && event->reason == GT_MQTT_REASON_NO_RETAINED;
    bool is_reduced = is_will && mqtt->has_retained_will;
    mqtt->has_retained_will &= !is_will;
    return is_reduced;
}

static void mqtt_on_ended(struct gt_mqtt *mqtt, const struct gt_mqtt_event *event)
{
    if (!mqtt_reduce(mqtt, event)) {
        mqtt_fail(mqtt, event->reason, event->text);
        return;
    }
    gt_debug("mqtt=%s reason=\"%s\" next=%s", mqtt->settings.client_id, event->text,
             mqtt->is_v5 ? "without retained will" : "version 3.1.1");
    mqtt->connection = gt_mqtt_connection_free(mqtt->connection, 0);
    mqtt->n_ungranted = 0;
    mqtt_enter(mqtt, MQTT_TRYING, mqtt->settings.connack_s);
    mqtt_begin(mqtt);
}

static void mqtt_on_up(struct gt_mqtt *mqtt, const struct gt_mqtt_event *event)
{
    mqtt_enter(mqtt, MQTT_UP, -1);
    mqtt->limits = event->limits;
    mqtt->up_since = gt_clock();
    mqtt->events.on_up(mqtt->userdata);
}

static void mqtt_on_granted(struct gt_mqtt *mqtt, const struct gt_mqtt_event *event)
{
    if (event->n_refused && !mqtt->events.on_suback) {
        mqtt_fail(mqtt, 0, "the broker refuses a subscription");
        return;
    }
    bool is_last = mqtt->n_ungranted && --mqtt->n_ungranted == 0;
    if (is_last)
        mqtt_set_timer(mqtt, -1);
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
        mqtt_set_timer(mqtt, mqtt->settings.connack_s);
    mqtt->events.on_message(mqtt->userdata, event->text, event->is_retained,
                            gt_span(event->payload, event->n));
}

static void mqtt_on_event(struct gt_mqtt *mqtt, const struct gt_mqtt_event *event)
{
    switch (event->type) {
    case GT_MQTT_EVENT_UP: mqtt_on_up(mqtt, event); return;
    case GT_MQTT_EVENT_SUBSCRIBED: mqtt_on_granted(mqtt, event); return;
    case GT_MQTT_EVENT_MESSAGE: mqtt_on_message(mqtt, event); return;
    case GT_MQTT_EVENT_PUBLISHED: mqtt_on_puback(mqtt, event); return;
    case GT_MQTT_EVENT_ENDED: mqtt_on_ended(mqtt, event); return;
    }
}

static void mqtt_destroy(struct gt_mqtt *mqtt)
{
    gt_mqtt_settings_deinit(&mqtt->settings);
    free(mqtt);
}

/* Runs @step, in whose callbacks @mqtt may be freed. */
static void mqtt_run(struct gt_mqtt *mqtt, void (*step)(struct gt_mqtt *))
{
    mqtt->is_in_callback = true;
    step(mqtt);
    mqtt->is_in_callback = false;
    if (mqtt->state == MQTT_GONE)
        mqtt_destroy(mqtt);
}

/* After a failure another address is the first: one can accept connections and do nothing else. */
static void mqtt_on_resolved(void *userdata, int err, const struct gt_addr *addrs, size_t n_addrs)
{
    struct gt_mqtt *mqtt = userdata;

    mqtt->resolve_err = err;
    mqtt->n_addrs = n_addrs;
    for (size_t i = 0; i < n_addrs; i++)
        mqtt->addrs[i] = addrs[(i + mqtt->n_failures) % n_addrs];
    mqtt_run(mqtt, mqtt_handle_resolved);
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
    mqtt_run(gt_container_of(async, struct gt_mqtt, wakeup), mqtt_handle_events);
}

static void mqtt_try(struct gt_mqtt *mqtt)
{
    mqtt->n_ungranted = 0;
    mqtt->has_retained_will = true;
    mqtt->tried_at = gt_clock();
    mqtt_enter(mqtt, MQTT_TRYING, mqtt->settings.connack_s);
    int r = gt_resolve_new(mqtt->loop, mqtt->settings.host, mqtt->settings.port, mqtt_on_resolved,
                           mqtt, &mqtt->resolve);
    if (r < 0)
        mqtt_fail_errno(mqtt, r);
}

static void mqtt_handle_timeout(struct gt_mqtt *mqtt)
{
    if (mqtt->state == MQTT_WAITING)
        mqtt_try(mqtt);
    else
        mqtt_fail(mqtt, 0, "no answer from the broker in time");
}

static void mqtt_on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
    mqtt_run(gt_container_of(timer, struct gt_mqtt, timer), mqtt_handle_timeout);
}

/* Shortens a wait after a change of the network: the wait protects the broker, but the failure may
 * have been our own network's. A wait for another client with our client id stays. */
static void mqtt_shorten_wait(struct gt_mqtt *mqtt)
{
    double earliest = mqtt->tried_at + ATTEMPT_INTERVAL_S - gt_clock();
    double left = ev_timer_remaining(mqtt->loop, &mqtt->timer);

    if (mqtt->n_short > 1)
        return;
    mqtt->n_failures = 0;
    mqtt_set_timer(mqtt, GT_MIN(left, GT_MAX(earliest, 0.)));
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
        mqtt_destroy(mqtt);
        return -ENOMEM;
    }
    mqtt->loop = loop;
    mqtt->events = *events;
    mqtt->userdata = userdata;
    mqtt->is_v5 = true;
    mqtt->limits = (struct gt_mqtt_limits){.max_packet = UINT32_MAX, .has_retained = true};
    if (!settings->connack_s)
        mqtt->settings.connack_s = CONNACK_S;
    ev_async_init(&mqtt->wakeup, mqtt_on_wakeup);
    ev_async_start(loop, &mqtt->wakeup);
    ev_init(&mqtt->timer, mqtt_on_timer);
    if (!settings->is_once)
        gt_netwatch_start(&mqtt->netwatch, loop, mqtt_on_network, mqtt);
    mqtt_enter(mqtt, MQTT_WAITING, 0);
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
    mqtt_enter(mqtt, MQTT_GONE, -1);
    ev_async_stop(mqtt->loop, &mqtt->wakeup);
    gt_netwatch_stop(&mqtt->netwatch);
    if (!mqtt->is_in_callback)
        mqtt_destroy(mqtt);
    return NULL;
}

bool gt_mqtt_is_up(const struct gt_mqtt *mqtt)
{
    return mqtt->state == MQTT_UP;
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
    mqtt_set_timer(mqtt, mqtt->settings.connack_s);
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
