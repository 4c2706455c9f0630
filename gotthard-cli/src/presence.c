/* SPDX-License-Identifier: ISC */
/*
 * Collects retained STATE messages: CONNECTING -> SUBSCRIBING -> COLLECTING -> DONE. The broker
 * does not say which retained message is the last, so a short silence does; what a device that is
 * known already says meanwhile is heard, and breaks no silence. The number of devices kept is
 * limited, and so is the time: a hostile broker may invent as many as it likes.
 */
#include "presence.h"

#include <stdio.h>
#include <string.h>
#include <uthash.h>

#include "broker.h"
#include "gotthard/clock.h"
#include "gotthard/log.h"

#define DEVICES_MAX 65536
#define QUIET       .3   /* seconds */
#define LOOK_MAX    120. /* seconds that a broker may go on sending */

enum presence_state {
    PRESENCE_CONNECTING,
    PRESENCE_SUBSCRIBING,
    PRESENCE_COLLECTING,
    PRESENCE_DONE,
};

static const struct {
    const char *name;
    double deadline;
} states[] = {
    [PRESENCE_CONNECTING] = {"connecting", 25},
    [PRESENCE_SUBSCRIBING] = {"subscribing", 10},
    [PRESENCE_COLLECTING] = {"collecting", 1},
    [PRESENCE_DONE] = {"done", 0},
};

struct row {
    struct presence_device device;
    UT_hash_handle hh;
};

struct presence {
    struct presence_settings settings;
    struct presence_events events;
    void *userdata; /* keeps */
    enum presence_state state;
    ev_timer deadline;
    double enough_at; /* by gt_clock(): the end of COLLECTING in any case */
    struct gt_mqtt *mqtt;
    char topic[GT_TOPIC_MAX + 1];
    struct row *rows; /* a uthash by name; owned */
    bool is_failed;
    struct failure failure;
};

static void presence_enter(struct presence *presence, enum presence_state state, double deadline)
{
    if (state != presence->state)
        gt_debug("presence %s -> %s", states[presence->state].name, states[state].name);
    presence->state = state;
    ev_timer_stop(presence->settings.loop, &presence->deadline);
    ev_timer_set(&presence->deadline, deadline, 0);
    ev_timer_start(presence->settings.loop, &presence->deadline);
}

static void presence_fail(struct presence *presence)
{
    presence->is_failed = true;
    presence_enter(presence, PRESENCE_DONE, 0);
}

/* --- one device's message ------------------------------------------------------------------ */

static int open_state(const struct presence *presence, const char *device, const char *topic,
                      struct gt_span payload, struct gt_state *ret, uint8_t *buffer)
{
    uint8_t of_device[2][GT_KEY_SIZE];
    struct gt_message_keys keys;
    struct failure ignored;
    size_t n, n_keys = presence->settings.identity->has_previous ? 2 : 1;
    int err = identity_of_device(presence->settings.identity, device, of_device[0], of_device[1],
                                 &ignored);
    for (size_t i = 0; i < n_keys && err == 0; i++) {
        err = gt_key_messages(of_device[i], &keys);
        if (err == 0 &&
            gt_message_open(keys.presence, GT_MESSAGE_STATE, topic, payload, buffer, &n) == 0) {
            err = gt_state_decode(gt_span(buffer, n), ret);
            break;
        }
        if (err == 0 && i + 1 == n_keys)
            err = GT_MESSAGE_E_BAD;
    }
    gt_wipe(of_device, sizeof(of_device));
    gt_wipe(&keys, sizeof(keys));
    return err;
}

static void describe(const struct gt_state *state, struct presence_device *ret)
{
    const struct gt_extensions *extensions = &state->extensions;
    size_t n = 0;
    ret->services[0] = 0;
    ret->is_authentic = true;
    ret->is_online = state->is_online;
    ret->n_sessions = extensions->n_sessions;
    ret->since = extensions->since;
    gt_text_escape(extensions->version, ret->version, sizeof(ret->version));
    for (size_t i = 0; i < extensions->n_services; i++) {
        char name[GT_SERVICE_MAX + 1];
        gt_text_escape(extensions->services[i], name, sizeof(name));
        int written =
            snprintf(ret->services + n, sizeof(ret->services) - n, "%s%s", n ? " " : "", name);
        n = GT_MIN(n + (size_t)written, sizeof(ret->services) - 1);
    }
}

/* Where @name's row is, or a new one. NULL: no more room. */
static struct row *presence_row(struct presence *presence, const char *name)
{
    struct row *row;
    HASH_FIND_STR(presence->rows, name, row);
    if (row || HASH_COUNT(presence->rows) == DEVICES_MAX)
        return row;
    row = calloc(1, sizeof(*row));
    if (!row)
        return NULL;
    strcpy(row->device.name, name);
    HASH_ADD_STR(presence->rows, device.name, row);
    return row;
}

/* There is one device more: it is all there is to know, or others may follow. */
static void presence_collect(struct presence *presence)
{
    double left = GT_MAX(presence->enough_at - gt_clock(), 0.);
    if (presence->settings.device)
        presence_enter(presence, PRESENCE_DONE, 0);
    else
        presence_enter(presence, PRESENCE_COLLECTING, GT_MIN(left, QUIET));
}

static void presence_on_message(void *userdata, const char *topic, bool is_retained,
                                struct gt_span payload)
{
    struct presence *presence = userdata;
    char name[GT_NAME_MAX + 1];
    uint8_t buffer[GT_MESSAGE_MAX];
    struct gt_state state;
    const char *wanted = presence->settings.device;
    size_t n_before = HASH_COUNT(presence->rows);
    if (presence->state == PRESENCE_DONE || payload.n == 0 ||
        gt_topic_device(presence->settings.settings->mqtt_prefix, topic, name) != 0 ||
        (wanted && strcmp(name, wanted) != 0))
        return;
    struct row *row = presence_row(presence, name);
    if (!row)
        return;
    row->device.is_authentic = false;
    if (open_state(presence, name, topic, payload, &state, buffer) == 0)
        describe(&state, &row->device);
    if (presence->state == PRESENCE_COLLECTING && HASH_COUNT(presence->rows) > n_before)
        presence_collect(presence);
}

/* --- what MQTT tells ----------------------------------------------------------------------- */

static void presence_on_up(void *userdata)
{
    struct presence *presence = userdata;
    if (presence->state != PRESENCE_CONNECTING)
        return;
    int err = gt_mqtt_subscribe(presence->mqtt, presence->topic);
    if (err != 0) {
        if (err == -ENOTCONN) /* it has gone already, before the loop heard of it */
            broker_failure(presence->settings.settings, "the connection was lost",
                           &presence->failure);
        else
            failure_set(&presence->failure, FAILURE_INTERNAL, NULL, "subscribe: %s",
                        strerror(abs(err)));
        presence_fail(presence);
        return;
    }
    presence_enter(presence, PRESENCE_SUBSCRIBING, states[PRESENCE_SUBSCRIBING].deadline);
}

static void presence_on_down(void *userdata, const char *why, unsigned retry_ms)
{
    struct presence *presence = userdata;
    if (presence->state == PRESENCE_DONE)
        return;
    broker_failure(presence->settings.settings, why, &presence->failure);
    presence_fail(presence);
}

static void presence_on_subscribed(void *userdata)
{
    struct presence *presence = userdata;
    if (presence->state != PRESENCE_SUBSCRIBING)
        return;
    bool is_found = presence->settings.device && presence->rows;
    presence->enough_at = gt_clock() + LOOK_MAX;
    presence_enter(presence, is_found ? PRESENCE_DONE : PRESENCE_COLLECTING,
                   is_found ? 0 : states[PRESENCE_COLLECTING].deadline);
}

static int compare_rows(struct row *a, struct row *b)
{
    return strcmp(a->device.name, b->device.name);
}

static void presence_tell(struct presence *presence)
{
    size_t n = HASH_COUNT(presence->rows), at = 0;
    gt_cleanup(gt_free) struct presence_device *devices = calloc(n + 1, sizeof(*devices));
    HASH_SRT(hh, presence->rows, compare_rows);
    for (struct row *row = presence->rows; row && devices; row = row->hh.next)
        devices[at++] = row->device;
    presence->events.on_devices(presence->userdata, devices, at);
}

static void presence_on_deadline(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct presence *presence = timer->data;
    switch (presence->state) {
    case PRESENCE_CONNECTING:
    case PRESENCE_SUBSCRIBING:
        broker_failure(presence->settings.settings, "it did not answer in time",
                       &presence->failure);
        presence_fail(presence);
        return;
    case PRESENCE_COLLECTING: presence_enter(presence, PRESENCE_DONE, 0); return;
    case PRESENCE_DONE: break;
    }
    if (presence->is_failed)
        presence->events.on_failure(presence->userdata, &presence->failure);
    else
        presence_tell(presence);
}

/* --- birth and end ------------------------------------------------------------------------- */

int presence_new(const struct presence_settings *settings, const struct presence_events *events,
                 void *userdata, struct presence **ret, struct failure *ret_failure)
{
    static const struct gt_mqtt_events mqtt_events = {
        .on_up = presence_on_up,
        .on_down = presence_on_down,
        .on_subscribed = presence_on_subscribed,
        .on_message = presence_on_message,
    };
    struct presence *presence = calloc(1, sizeof(*presence));
    if (!presence)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "out of memory");
    presence->settings = *settings;
    presence->events = *events;
    presence->userdata = userdata;
    ev_init(&presence->deadline, presence_on_deadline);
    presence->deadline.data = presence;
    int err = gt_topic_state(settings->settings->mqtt_prefix,
                             settings->device ? settings->device : "+", presence->topic);
    if (err != 0)
        failure_set(ret_failure, FAILURE_CONFIG, NULL, "no topic can be made of that name");
    else
        err = broker_connect(settings->loop, settings->settings, settings->print, &mqtt_events,
                             presence, &presence->mqtt, ret_failure);
    if (err != 0) {
        presence_free(presence);
        return 1;
    }
    presence_enter(presence, PRESENCE_CONNECTING, states[PRESENCE_CONNECTING].deadline);
    *ret = presence;
    return 0;
}

struct presence *presence_free(struct presence *presence)
{
    if (!presence)
        return NULL;
    ev_timer_stop(presence->settings.loop, &presence->deadline);
    gt_mqtt_free(presence->mqtt);
    struct row *row, *next;
    HASH_ITER (hh, presence->rows, row, next) {
        HASH_DEL(presence->rows, row);
        free(row);
    }
    free(presence);
    return NULL;
}
