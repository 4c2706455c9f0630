/* SPDX-License-Identifier: ISC */
/*
 * Collects retained STATE messages: CONNECTING -> SUBSCRIBING -> COLLECTING -> DONE. MQTT does not
 * mark the last retained message, so that a short silence ends the collection. Only the message of
 * a new device extends it: further messages of a known device update its entry. The number of
 * devices and the total time are limited. Messages that are not authentic have smaller limits of
 * their own, and never replace an authentic one: any client of the broker may invent them.
 */
#include "device-list.h"

#include <stdio.h>
#include <string.h>
#include <uthash.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "mqtt-connect.h"

#define DEVICES_MAX       65536
#define FOREIGN_MAX       1024 /* entries that are not authentic */
#define SILENCE_S         .3   /* without a new device: the list is complete */
#define COLLECT_S         120. /* maximum duration of COLLECTING */
#define COLLECT_FOREIGN_S 10.  /* and of one that only entries that are not authentic extend */

enum device_list_state {
    DEVICE_LIST_CONNECTING,
    DEVICE_LIST_SUBSCRIBING,
    DEVICE_LIST_COLLECTING,
    DEVICE_LIST_DONE,
};

static const struct {
    const char *name;
    double deadline_s;
} states[] = {
    [DEVICE_LIST_CONNECTING] = {"connecting", 25},
    [DEVICE_LIST_SUBSCRIBING] = {"subscribing", 10},
    [DEVICE_LIST_COLLECTING] = {"collecting", 1},
    [DEVICE_LIST_DONE] = {"done", 0},
};

struct row {
    struct device_list_entry entry;
    UT_hash_handle hh;
};

struct device_list {
    struct device_list_settings settings;
    struct device_list_events events;
    void *userdata; /* keeps */
    enum device_list_state state;
    ev_timer deadline;
    double collecting_since; /* by gt_clock() */
    size_t n_foreign;        /* rows that are not authentic */
    struct gt_mqtt *mqtt;
    char topic[GT_TOPIC_MAX + 1];
    struct row *rows; /* a uthash by name; owned */
    bool is_failed;
    struct failure failure;
};

static void device_list_enter(struct device_list *list, enum device_list_state state,
                              double deadline)
{
    if (state != list->state)
        gt_debug("device list state %s -> %s", states[list->state].name, states[state].name);
    list->state = state;
    ev_timer_stop(list->settings.loop, &list->deadline);
    ev_timer_set(&list->deadline, deadline, 0);
    ev_timer_start(list->settings.loop, &list->deadline);
}

static void device_list_fail(struct device_list *list)
{
    list->is_failed = true;
    device_list_enter(list, DEVICE_LIST_DONE, 0);
}

/* --- the message of one device ------------------------------------------------------------- */

/* Decrypts and decodes a STATE with the device's key, or with the one before a rotation. Returns 0,
 * a GT_MESSAGE_E_ condition, or a negative errno. */
static int decode_state(const struct device_list *list, const char *device, const char *topic,
                        struct gt_span payload, struct gt_state *ret, uint8_t *buffer)
{
    uint8_t key[2][GT_KEY_SIZE];
    struct gt_message_keys keys;
    struct failure ignored;
    size_t n, n_keys = list->settings.identity->has_previous ? 2 : 1;
    int r = identity_device_key(list->settings.identity, device, key[0], key[1], &ignored);

    for (size_t i = 0; i < n_keys && r == 0; i++) {
        r = gt_key_messages(key[i], &keys);
        if (r == 0 &&
            gt_message_open(keys.presence, GT_MESSAGE_STATE, topic, payload, buffer, &n) == 0) {
            r = gt_state_decode(gt_span(buffer, n), ret);
            break;
        }
        if (r == 0 && i + 1 == n_keys)
            r = GT_MESSAGE_E_BAD;
    }
    gt_wipe(key, sizeof(key));
    gt_wipe(&keys, sizeof(keys));
    return r;
}

static void entry_set(const struct gt_state *state, struct device_list_entry *ret)
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

/* Returns the row of @name, a new one if necessary, or NULL if its table is full. A new row is not
 * authentic. */
static struct row *device_list_row(struct device_list *list, const char *name, bool is_authentic)
{
    struct row *row;

    HASH_FIND_STR(list->rows, name, row);
    size_t n_authentic = HASH_COUNT(list->rows) - list->n_foreign;
    if (row || (is_authentic ? n_authentic == DEVICES_MAX : list->n_foreign == FOREIGN_MAX))
        return row;
    row = calloc(1, sizeof(*row));
    if (!row)
        return NULL;
    strcpy(row->entry.name, name);
    HASH_ADD_STR(list->rows, entry.name, row);
    list->n_foreign++;
    return row;
}

/* Returns true if the device is new in the list, or its first authentic message came. */
static bool device_list_add(struct device_list *list, const char *name,
                            const struct gt_state *state)
{
    size_t n_before = HASH_COUNT(list->rows);
    struct row *row = device_list_row(list, name, state != NULL);

    if (!row || !state)
        return HASH_COUNT(list->rows) > n_before;
    bool is_first = !row->entry.is_authentic;
    list->n_foreign -= is_first;
    entry_set(state, &row->entry);
    return is_first;
}

/* A new device is in the list, which is complete now, or others may follow. */
static void device_list_collect(struct device_list *list, bool is_authentic)
{
    double most = is_authentic ? COLLECT_S : COLLECT_FOREIGN_S;
    double left = GT_MAX(list->collecting_since + most - gt_clock(), 0.);
    double wait = GT_MIN(left, SILENCE_S);

    if (list->settings.device)
        device_list_enter(list, DEVICE_LIST_DONE, 0);
    else if (is_authentic || wait > ev_timer_remaining(list->settings.loop, &list->deadline))
        device_list_enter(list, DEVICE_LIST_COLLECTING, wait);
}

static void device_list_on_message(void *userdata, const char *topic, bool is_retained,
                                   struct gt_span payload)
{
    struct device_list *list = userdata;
    char name[GT_NAME_MAX + 1];
    uint8_t buffer[GT_MESSAGE_MAX];
    struct gt_state state;
    const char *wanted = list->settings.device;

    if (list->state == DEVICE_LIST_DONE || payload.n == 0 ||
        gt_topic_device(list->settings.settings->mqtt_prefix, topic, name) != 0 ||
        (wanted && strcmp(name, wanted) != 0))
        return;
    bool is_authentic = decode_state(list, name, topic, payload, &state, buffer) == 0;
    bool is_new = device_list_add(list, name, is_authentic ? &state : NULL);
    if (list->state == DEVICE_LIST_COLLECTING && is_new && (is_authentic || !wanted))
        device_list_collect(list, is_authentic);
}

/* --- events of the MQTT connection --------------------------------------------------------- */

static void device_list_on_up(void *userdata)
{
    struct device_list *list = userdata;

    if (list->state != DEVICE_LIST_CONNECTING)
        return;
    int r = gt_mqtt_subscribe(list->mqtt, list->topic);
    if (r != 0) {
        if (r == -ENOTCONN) /* closed by the broker, and not yet reported to the loop */
            mqtt_connect_failure(list->settings.settings, "the connection was lost",
                                 &list->failure);
        else
            failure_set(&list->failure, FAILURE_INTERNAL, NULL, "subscribe: %s", strerror(abs(r)));
        device_list_fail(list);
        return;
    }
    device_list_enter(list, DEVICE_LIST_SUBSCRIBING, states[DEVICE_LIST_SUBSCRIBING].deadline_s);
}

static void device_list_on_down(void *userdata, const char *why, unsigned retry_ms)
{
    struct device_list *list = userdata;

    if (list->state == DEVICE_LIST_DONE)
        return;
    mqtt_connect_failure(list->settings.settings, why, &list->failure);
    device_list_fail(list);
}

static void device_list_on_subscribed(void *userdata)
{
    struct device_list *list = userdata;

    if (list->state != DEVICE_LIST_SUBSCRIBING)
        return;
    bool is_found = list->settings.device && HASH_COUNT(list->rows) > list->n_foreign;
    list->collecting_since = gt_clock();
    device_list_enter(list, is_found ? DEVICE_LIST_DONE : DEVICE_LIST_COLLECTING,
                      is_found ? 0 : states[DEVICE_LIST_COLLECTING].deadline_s);
}

static int compare_rows(struct row *a, struct row *b)
{
    return strcmp(a->entry.name, b->entry.name);
}

static void device_list_notify_owner(struct device_list *list)
{
    size_t n = HASH_COUNT(list->rows), at = 0;
    gt_cleanup(gt_free) struct device_list_entry *entries = calloc(n + 1, sizeof(*entries));

    HASH_SRT(hh, list->rows, compare_rows);
    for (struct row *row = list->rows; row && entries; row = row->hh.next)
        entries[at++] = row->entry;
    list->events.on_end(list->userdata, entries, at, NULL);
}

static void device_list_on_deadline(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct device_list *list = timer->data;

    switch (list->state) {
    case DEVICE_LIST_CONNECTING:
    case DEVICE_LIST_SUBSCRIBING:
        mqtt_connect_failure(list->settings.settings, "no answer in time", &list->failure);
        device_list_fail(list);
        return;
    case DEVICE_LIST_COLLECTING: device_list_enter(list, DEVICE_LIST_DONE, 0); return;
    case DEVICE_LIST_DONE: break;
    }
    if (list->is_failed)
        list->events.on_end(list->userdata, NULL, 0, &list->failure);
    else
        device_list_notify_owner(list);
}

/* --- creation and end ---------------------------------------------------------------------- */

int device_list_new(const struct device_list_settings *settings,
                    const struct device_list_events *events, void *userdata,
                    struct device_list **ret, struct failure *ret_failure)
{
    static const struct gt_mqtt_events mqtt_events = {
        .on_up = device_list_on_up,
        .on_down = device_list_on_down,
        .on_subscribed = device_list_on_subscribed,
        .on_message = device_list_on_message,
    };
    struct device_list *list = calloc(1, sizeof(*list));

    if (!list)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "out of memory");
    list->settings = *settings;
    list->events = *events;
    list->userdata = userdata;
    ev_init(&list->deadline, device_list_on_deadline);
    list->deadline.data = list;
    int r = gt_topic_state(settings->settings->mqtt_prefix,
                           settings->device ? settings->device : "+", list->topic);
    if (r != 0)
        failure_set(ret_failure, FAILURE_CONFIG, NULL, "cannot form the topic of that device");
    else
        r = mqtt_connect(settings->loop, settings->settings, settings->identity, settings->print,
                         &mqtt_events, list, &list->mqtt, ret_failure);
    if (r != 0) {
        device_list_free(list);
        return 1;
    }
    device_list_enter(list, DEVICE_LIST_CONNECTING, states[DEVICE_LIST_CONNECTING].deadline_s);
    *ret = list;
    return 0;
}

struct device_list *device_list_free(struct device_list *list)
{
    if (!list)
        return NULL;
    ev_timer_stop(list->settings.loop, &list->deadline);
    gt_mqtt_free(list->mqtt);
    struct row *row, *next;
    HASH_ITER (hh, list->rows, row, next) {
        HASH_DEL(list->rows, row);
        free(row);
    }
    free(list);
    return NULL;
}
