/* SPDX-License-Identifier: ISC */
/*
 * Collects retained STATE messages with QoS 0, because brokers limit the queue of QoS 1. It
 * subscribes to all devices, and then to each known name without a state: 8 of them in a packet, 48
 * on a connection, and then a further connection (AWS IoT Core permits 8 and 50). settling.c
 * decides when the messages have come, list-verdict.c whether the list is whole.
 *
 * Brokers also limit their queues of QoS 0, and drop the remainder silently. A longer list is
 * therefore read twice, and again while two readings differ.
 *
 * If a round of names brings nothing, although the subscription to all devices brought states, the
 * names have none, and no further round follows.
 */
#include "device-list-internal.h"

#include <stdio.h>
#include <string.h>

#include "device-state.h"
#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "gotthard/signaling/topic.h"
#include "mqtt-connect.h"

#define PASSES     5  /* readings, at most */
#define PASS_MIN   50 /* devices of a list that is read twice; no queue is smaller */
#define MARKER     "gotthard-cli:marker" /* its state is the marker's topic */
#define FOREIGN_S  10.                   /* new states that do not open extend the list no longer */
#define FLOOD_S    15.                   /* of messages that do not open */
#define PROGRESS_S .2                    /* between two updates of the progress line */
#define UP_S       25.                   /* for the connection */

static const char *const state_names[] = {
    [DEVICE_LIST_CONNECTING] = "connecting",
    [DEVICE_LIST_ALL] = "all",
    [DEVICE_LIST_NAMES] = "names",
    [DEVICE_LIST_DONE] = "done",
};

static int device_list_connect(struct device_list *list, struct failure *ret_failure);

void device_list_enter(struct device_list *list, enum device_list_state state)
{
    gt_debug("device list state %s -> %s", state_names[list->state], state_names[state]);
    list->state = state;
    list->authentic_at = gt_clock();
}

static void device_list_set_timer(struct device_list *list, double seconds)
{
    ev_timer_stop(list->settings.loop, &list->timer);
    ev_now_update(list->settings.loop);
    ev_timer_set(&list->timer, GT_MAX(seconds, 0.), 0);
    ev_timer_start(list->settings.loop, &list->timer);
}

/* The owner is notified from the loop. */
void device_list_finish(struct device_list *list)
{
    device_list_enter(list, DEVICE_LIST_DONE);
    device_list_set_timer(list, 0);
}

void device_list_fail(struct device_list *list)
{
    list->is_failed = true;
    device_list_finish(list);
}

/* The connection ended. The devices so far are shown, if there are any. */
void device_list_lose(struct device_list *list, const char *why)
{
    list->facts.end = LIST_LOST;
    snprintf(list->facts.why, sizeof(list->facts.why), "%s", why);
    if (list->settings.table->n_authentic > 0 && !list->settings.device) {
        device_list_finish(list);
        return;
    }
    mqtt_connect_failure(list->settings.settings, gt_mqtt_last_outcome(list->mqtt), why,
                         &list->failure);
    device_list_fail(list);
}

/* --- the course ---------------------------------------------------------------------------------
 */

static void device_list_reconnect(struct device_list *list)
{
    list->mqtt = gt_mqtt_free(list->mqtt);
    list->n_outstanding = 0;
    if (device_list_connect(list, &list->failure) != 0)
        device_list_fail(list);
}

/* Returns true if this pass brought every device of the passes before, and no further one. */
static bool device_list_is_repeated(const struct device_list *list)
{
    const struct device_table *table = list->settings.table;

    return list->n_before == table->n_authentic && table->n_in_pass == table->n_authentic;
}

/* A repeated pass needs no silence: its number of devices is known. */
static bool device_list_is_confirmed(const struct device_list *list)
{
    return list->state == DEVICE_LIST_ALL && list->settings.table->pass > 1 &&
           list->settling.n_quiet > 0 && device_list_is_repeated(list);
}

static bool device_list_needs_pass(struct device_list *list)
{
    const struct device_table *table = list->settings.table;
    bool is_open = table->n_authentic >= PASS_MIN && !device_list_is_repeated(list);

    list->facts.is_dropping = is_open && table->pass >= PASSES;
    return is_open && table->pass < PASSES;
}

static void device_list_end_all(struct device_list *list)
{
    const struct device_table *table = list->settings.table;

    if (device_list_needs_pass(list)) {
        device_list_ask_all(list);
        return;
    }
    list->facts.n_by_all = list->n_retained;
    list->next = table->rows;
    if (!list->settings.device && table->n_unknown > 0)
        device_list_ask_names(list);
    else
        device_list_finish(list);
}

static void device_list_end_round(struct device_list *list)
{
    bool is_fruitless = list->facts.n_by_all > 0 && list->n_found == 0;

    list->facts.n_by_name += list->n_found;
    list->facts.n_unasked = device_list_count_unasked(list);
    if (is_fruitless || list->facts.n_unasked == 0)
        device_list_finish(list);
    else
        device_list_reconnect(list);
}

static void device_list_end_phase(struct device_list *list)
{
    if (list->state == DEVICE_LIST_ALL)
        device_list_end_all(list);
    else
        device_list_end_round(list);
}

static void device_list_give_up(struct device_list *list, enum list_end end)
{
    list->facts.end = end;
    device_list_finish(list);
}

/* Waits for an event, or until @until. */
static void device_list_wait(struct device_list *list, double now, double until)
{
    double again = device_list_keep_alive(list, now);

    if (list->state != DEVICE_LIST_DONE) /* the connection was lost */
        device_list_set_timer(list, GT_MIN(until, again) - now);
}

void device_list_step(struct device_list *list)
{
    double until, now = gt_clock();

    if (list->state != DEVICE_LIST_ALL && list->state != DEVICE_LIST_NAMES)
        return;
    if (list->state == DEVICE_LIST_NAMES && list->n_awaited == 0 && list->n_outstanding == 0) {
        device_list_end_round(list);
        return;
    }
    if (device_list_is_confirmed(list)) {
        device_list_end_all(list);
        return;
    }
    switch (settling_next(&list->settling, now, &until)) {
    case SETTLING_WAIT: device_list_wait(list, now, until); return;
    case SETTLING_MARK:
        device_list_mark(list);
        device_list_step(list);
        return;
    case SETTLING_DONE: device_list_end_phase(list); return;
    case SETTLING_SILENT: device_list_give_up(list, LIST_SILENT); return;
    case SETTLING_OVERDUE: device_list_give_up(list, LIST_OVERDUE); return;
    }
}

static void device_list_show_progress(struct device_list *list)
{
    double now = gt_clock();

    if (list->settings.device || now < list->shown_at + PROGRESS_S)
        return;
    list->shown_at = now;
    print_progress(list->settings.print, "%zu devices", list->settings.table->n_authentic);
}

/* --- the message of one device ------------------------------------------------------------------
 */

/* Counts the first state of a device, in the phase in which it came. */
static void device_list_count(struct device_list *list, const struct device_row *row)
{
    double now = gt_clock();
    bool is_authentic = row->knowledge == DEVICE_AUTHENTIC;
    bool is_new = is_authentic || now < list->began_at + FOREIGN_S;

    if (is_authentic && list->state == DEVICE_LIST_ALL && !list->settings.device)
        list->settling.least_s = DEVICE_LIST_SILENCE_S;
    settling_received(&list->settling, is_new, now);
    if (list->state == DEVICE_LIST_NAMES && row->is_asked && list->n_awaited > 0) {
        list->n_awaited--;
        list->n_found++;
    }
    device_list_show_progress(list);
}

/* The broker's answers may be behind more messages than this side can look at. */
static bool device_list_is_flooded(struct device_list *list, bool is_authentic)
{
    double now = gt_clock();

    if (is_authentic)
        list->authentic_at = now;
    return now >= list->authentic_at + FLOOD_S;
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
    list->n_retained += is_retained && list->state == DEVICE_LIST_ALL;
    if (!identity_holds_device(list->settings.identity, name)) { /* not for this operator */
        settling_received(&list->settling, false, gt_clock());
        device_list_step(list);
        return;
    }
    bool is_authentic =
        device_state_decode(list->settings.identity, name, topic, payload, &state, buffer);
    const struct device_row *row =
        device_table_add(list->settings.table, name, is_authentic ? &state : NULL, is_retained);
    if (row)
        device_list_count(list, row);
    else
        settling_received(&list->settling, false, gt_clock());
    if (wanted && is_authentic)
        device_list_finish(list);
    else if (device_list_is_flooded(list, is_authentic))
        device_list_give_up(list, LIST_FLOODED);
    else
        device_list_step(list);
}

/* --- events of the MQTT connection --------------------------------------------------------------
 */

static void device_list_on_up(void *userdata)
{
    struct device_list *list = userdata;

    if (list->state != DEVICE_LIST_CONNECTING)
        return;
    list->facts.keeps_no_states = !gt_mqtt_has_retained(list->mqtt);
    if (list->settings.device && list->facts.keeps_no_states)
        device_list_finish(list);
    else if (list->is_all_asked)
        device_list_ask_names(list);
    else
        device_list_ask_all(list);
}

/* A broker may close the connection in place of a refusal, as AWS IoT Core does. */
static bool device_list_is_refused_by_end(const struct device_list *list)
{
    return list->state == DEVICE_LIST_ALL && !list->settings.device && list->n_outstanding > 0 &&
           list->settling.n_markers == 0 && list->n_retained == 0 && list->has_names;
}

static void device_list_on_down(void *userdata, const char *why, unsigned retry_ms)
{
    struct device_list *list = userdata;

    if (list->state == DEVICE_LIST_DONE)
        return;
    if (device_list_is_refused_by_end(list)) {
        list->facts.is_all_refused = true;
        list->next = list->settings.table->rows;
        device_list_reconnect(list);
        return;
    }
    device_list_lose(list, why);
}

static void device_list_on_suback(void *userdata, int id, unsigned n_refused, const char *why)
{
    struct device_list *list = userdata;
    bool is_all = list->state == DEVICE_LIST_ALL && id == list->all_id;

    if (list->state == DEVICE_LIST_DONE || list->n_outstanding == 0)
        return;
    if (is_all && n_refused && !list->has_names) {
        mqtt_connect_failure_of_states(list->settings.settings, why, &list->failure);
        device_list_fail(list);
        return;
    }
    list->facts.is_all_refused |= is_all && n_refused;
    if (list->state == DEVICE_LIST_NAMES)
        list->facts.n_refused += n_refused;
    if (--list->n_outstanding == 0)
        settling_answered(&list->settling, gt_clock());
    device_list_step(list);
}

static void device_list_on_subscribed(void *userdata)
{
}

/* --- the end ------------------------------------------------------------------------------------
 */

static void device_list_notify_owner(struct device_list *list)
{
    struct list_verdict verdict;

    print_clear_progress(list->settings.print);
    device_table_sort(list->settings.table);
    list->facts.n_dropped = list->settings.table->n_dropped;
    if (list->facts
            .is_all_refused) /* also those that another connection of this program has asked */
        list->facts.n_by_name = list->settings.table->n_authentic;
    list_verdict_of(&list->facts, &verdict);
    if (list->is_failed)
        list->events.on_end(list->userdata, NULL, &list->failure);
    else
        list->events.on_end(list->userdata, &verdict, NULL);
}

static void device_list_on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct device_list *list = timer->data;

    switch (list->state) {
    case DEVICE_LIST_CONNECTING: device_list_lose(list, "no answer in time"); return;
    case DEVICE_LIST_ALL:
    case DEVICE_LIST_NAMES: device_list_step(list); return;
    case DEVICE_LIST_DONE: device_list_notify_owner(list); return;
    }
}

/* --- creation and end ---------------------------------------------------------------------------
 */

static int device_list_connect(struct device_list *list, struct failure *ret_failure)
{
    static const struct gt_mqtt_events mqtt_events = {
        .on_up = device_list_on_up,
        .on_down = device_list_on_down,
        .on_subscribed = device_list_on_subscribed,
        .on_suback = device_list_on_suback,
        .on_message = device_list_on_message,
    };

    device_list_enter(list, DEVICE_LIST_CONNECTING);
    device_list_set_timer(list, UP_S);
    return mqtt_connect(list->settings.loop, list->settings.settings, list->settings.identity,
                        list->settings.print, &mqtt_events, list, &list->mqtt, ret_failure);
}

static bool has_declared(const struct device_table *table)
{
    for (const struct device_row *row = table->rows; row; row = row->hh.next)
        if (row->is_declared)
            return true;
    return false;
}

int device_list_new(const struct device_list_settings *settings,
                    const struct device_list_events *events, void *userdata,
                    struct device_list **ret, struct failure *ret_failure)
{
    struct device_list *list = calloc(1, sizeof(*list));
    const char *prefix = settings->settings->mqtt_prefix;

    if (!list)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "out of memory");
    list->settings = *settings;
    list->events = *events;
    list->userdata = userdata;
    list->began_at = list->shown_at = gt_clock();
    list->facts.is_declared = has_declared(settings->table);
    list->has_names = settings->table->rows != NULL;
    ev_init(&list->timer, device_list_on_timer);
    list->timer.data = list;
    int r = gt_topic_state(prefix, settings->device ? settings->device : "+", list->topic);
    if (r == 0)
        r = gt_topic_state(prefix, MARKER, list->marker);
    if (r != 0)
        failure_set(ret_failure, FAILURE_CONFIG, NULL, "cannot form the topic of that device");
    else
        r = device_list_connect(list, ret_failure);
    if (r != 0) {
        device_list_free(list);
        return 1;
    }
    *ret = list;
    return 0;
}

struct device_list *device_list_free(struct device_list *list)
{
    if (!list)
        return NULL;
    ev_timer_stop(list->settings.loop, &list->timer);
    gt_mqtt_free(list->mqtt);
    free(list);
    return NULL;
}
