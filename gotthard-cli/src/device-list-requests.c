/* SPDX-License-Identifier: ISC */
/*
 * The subscriptions of a list. AWS IoT Core permits 8 filters in a packet and 50 on a connection;
 * 48 names leave room for all devices and the marker.
 */
#include "device-list-internal.h"

#include <math.h>
#include <string.h>

#include "gotthard/base/clock.h"
#include "gotthard/signaling/topic.h"

#define ROUND_NAMES 48 /* names asked on a connection */
#define DEVICE_S    5. /* shortest silence for one device: the broker may be slow */

/* Returns true, or false after the end of the list. */
static bool device_list_subscribe(struct device_list *list, const char *const *filters, size_t n,
                                  int *ret_id)
{
    int r = gt_mqtt_subscribe_all(list->mqtt, filters, n, 0, ret_id);

    if (r == 0) {
        list->n_outstanding++;
        list->asked_at = gt_clock();
        return true;
    }
    if (r == -ENOTCONN) { /* closed by the broker, and not yet reported to the loop */
        device_list_lose(list, "the connection was lost");
        return false;
    }
    failure_set(&list->failure, FAILURE_INTERNAL, NULL, "subscribe: %s", strerror(abs(r)));
    device_list_fail(list);
    return false;
}

void device_list_mark(struct device_list *list)
{
    const char *filter = list->settings.device ? list->topic : list->marker;
    int id;

    if (device_list_subscribe(list, &filter, 1, &id))
        settling_marked(&list->settling, gt_clock());
}

double device_list_keep_alive(struct device_list *list, double now)
{
    double interval_s = (double)list->settings.settings->mqtt_keepalive_ms / 2000;
    const char *filter = list->settings.device ? list->topic : list->marker;
    int id;

    if (list->n_outstanding == 0)
        return INFINITY;
    if (now >= list->asked_at + interval_s)
        (void)device_list_subscribe(list, &filter, 1, &id);
    return list->asked_at + interval_s;
}

void device_list_ask_all(struct device_list *list)
{
    const char *filter = list->topic;

    if (list->state != DEVICE_LIST_ALL)
        device_list_enter(list, DEVICE_LIST_ALL);
    list->is_all_asked = true;
    device_table_begin_pass(list->settings.table);
    list->n_before = list->settings.table->n_authentic;
    if (!device_list_subscribe(list, &filter, 1, &list->all_id))
        return;
    settling_begin(&list->settling, list->settings.device ? DEVICE_S : DEVICE_LIST_PATIENCE_S,
                   gt_clock());
    device_list_step(list);
}

/* Takes the next names that are to be asked. */
static size_t device_list_take_batch(struct device_list *list, size_t max,
                                     char ret[static GT_MQTT_FILTERS_MAX][GT_TOPIC_MAX + 1])
{
    size_t n = 0;

    for (; list->next && n < max; list->next = list->next->hh.next) {
        struct device_row *row = list->next;

        if (row->knowledge != DEVICE_UNKNOWN || row->is_asked)
            continue;
        row->is_asked = true;
        if (gt_topic_state(list->settings.settings->mqtt_prefix, row->name, ret[n]) == 0)
            n++;
    }
    return n;
}

/* Asks for as many names as one connection may. The marker becomes one of their topics, which the
 * broker permits if it permits any. */
void device_list_ask_names(struct device_list *list)
{
    char topics[GT_MQTT_FILTERS_MAX][GT_TOPIC_MAX + 1];
    const char *filters[GT_MQTT_FILTERS_MAX];
    int id;

    device_list_enter(list, DEVICE_LIST_NAMES);
    list->n_awaited = list->n_found = 0;
    for (size_t i = 0; i < GT_MQTT_FILTERS_MAX; i++)
        filters[i] = topics[i];
    while (list->n_awaited < ROUND_NAMES) {
        size_t n = device_list_take_batch(list, GT_MQTT_FILTERS_MAX, topics);

        if (n == 0)
            break;
        strcpy(list->marker, topics[n - 1]);
        if (!device_list_subscribe(list, filters, n, &id))
            return;
        list->n_awaited += n;
    }
    settling_begin(&list->settling,
                   list->facts.n_by_all > 0 ? DEVICE_LIST_SILENCE_S : DEVICE_LIST_PATIENCE_S,
                   gt_clock());
    device_list_step(list);
}

size_t device_list_count_unasked(const struct device_list *list)
{
    size_t n = 0;

    for (const struct device_row *row = list->next; row; row = row->hh.next)
        n += row->knowledge == DEVICE_UNKNOWN && !row->is_asked;
    return n;
}
