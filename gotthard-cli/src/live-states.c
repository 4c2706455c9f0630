/* SPDX-License-Identifier: ISC */
/* See the header. The connection itself returns by mqtt.c. */
#include "live-states.h"

#include <stdio.h>
#include <string.h>

#include "device-state.h"
#include "gotthard/signaling/topic.h"
#include "mqtt-connect.h"

#define NAMES_MAX 48 /* AWS IoT Core permits 50 subscriptions on a connection */

enum live_states_mode {
    LIVE_STATES_ALL,   /* one subscription to all devices */
    LIVE_STATES_NAMES, /* one for each known name */
};

struct live_states {
    struct live_states_settings settings;
    const struct live_states_events *events; /* keeps */
    void *userdata;                          /* keeps */
    struct gt_mqtt *mqtt;                    /* owned */
    enum live_states_mode mode;
    bool is_over, is_granted;
    int all_id; /* of the subscription to all, without an answer; otherwise -1 */
    size_t n_outstanding, n_refused, n_names, n_not_watched;
};

static void live_states_fail(struct live_states *live, const struct failure *failure)
{
    live->is_over = true;
    live->events->on_failed(live->userdata, failure);
}

static void live_states_fail_refused(struct live_states *live, const char *why)
{
    struct failure failure;

    mqtt_connect_failure_of_states(live->settings.settings, why, &failure);
    live_states_fail(live, &failure);
}

static void live_states_fail_down(struct live_states *live, const char *why)
{
    struct failure failure;

    mqtt_connect_failure(live->settings.settings, gt_mqtt_last_outcome(live->mqtt), why, &failure);
    live_states_fail(live, &failure);
}

static void live_states_fail_topic(struct live_states *live)
{
    struct failure failure;

    failure_set(&failure, FAILURE_CONFIG, "shorten {mqtt.prefix}",
                "cannot form the topic of all devices");
    live_states_fail(live, &failure);
}

/* -ENOTCONN: on_down follows. */
static bool live_states_subscribe(struct live_states *live, const char *const *filters, size_t n,
                                  int *ret_id)
{
    int r = gt_mqtt_subscribe_all(live->mqtt, filters, n, 0, ret_id);

    live->n_outstanding += r == 0;
    return r == 0;
}

static void live_states_ask_all(struct live_states *live)
{
    char topic[GT_TOPIC_MAX + 1];
    const char *filter = topic;

    live->all_id = -1;
    if (gt_topic_state(live->settings.settings->mqtt_prefix, "+", topic) != 0)
        live_states_fail_topic(live);
    else
        (void)live_states_subscribe(live, &filter, 1, &live->all_id);
}

/* Subscribes to the topics that were collected. */
static void live_states_flush(struct live_states *live,
                              char topics[static GT_MQTT_FILTERS_MAX][GT_TOPIC_MAX + 1], size_t n)
{
    const char *filters[GT_MQTT_FILTERS_MAX];
    int id;

    for (size_t i = 0; i < n; i++)
        filters[i] = topics[i];
    if (n > 0 && live_states_subscribe(live, filters, n, &id))
        live->n_names += n;
}

static void live_states_ask_names(struct live_states *live)
{
    const struct device_table *table = live->events->names(live->userdata);
    char topics[GT_MQTT_FILTERS_MAX][GT_TOPIC_MAX + 1];
    size_t n = 0, n_asked = 0;

    live->n_not_watched = live->n_names = live->n_refused = 0;
    for (const struct device_row *row = table->rows; row; row = row->hh.next) {
        if (n_asked == NAMES_MAX) {
            live->n_not_watched++;
            continue;
        }
        if (gt_topic_state(live->settings.settings->mqtt_prefix, row->name, topics[n]) != 0)
            continue;
        n_asked++;
        if (++n == GT_MQTT_FILTERS_MAX) {
            live_states_flush(live, topics, n);
            n = 0;
        }
    }
    live_states_flush(live, topics, n);
}

static void live_states_on_up(void *userdata)
{
    struct live_states *live = userdata;

    if (live->is_over)
        return;
    live->n_outstanding = 0;
    if (live->mode == LIVE_STATES_ALL)
        live_states_ask_all(live);
    else
        live_states_ask_names(live);
}

/* A broker may close the connection in place of a refusal, as AWS IoT Core does. */
static bool live_states_is_refused_by_end(const struct live_states *live)
{
    return live->mode == LIVE_STATES_ALL && live->all_id >= 0 && !live->is_granted &&
           live->events->names(live->userdata)->rows;
}

static void live_states_on_down(void *userdata, const char *why, unsigned retry_ms)
{
    struct live_states *live = userdata;

    if (live->is_over)
        return;
    if (live_states_is_refused_by_end(live))
        live->mode = LIVE_STATES_NAMES;
    live->all_id = -1;
    if (retry_ms == 0)
        live_states_fail_down(live, why);
    else
        live->events->on_lost(live->userdata, why, retry_ms);
}

static void live_states_on_all_answered(struct live_states *live, unsigned n_refused,
                                        const char *why)
{
    live->all_id = -1;
    if (n_refused == 0) {
        live->is_granted = true;
        live->events->on_ready(live->userdata, 0);
        return;
    }
    live->mode = LIVE_STATES_NAMES;
    if (live->events->names(live->userdata)->rows)
        live_states_ask_names(live);
    else
        live_states_fail_refused(live, why);
}

static void live_states_on_suback(void *userdata, int id, unsigned n_refused, const char *why)
{
    struct live_states *live = userdata;

    if (live->is_over || live->n_outstanding == 0)
        return;
    live->n_outstanding--;
    if (live->mode == LIVE_STATES_ALL) {
        if (id == live->all_id)
            live_states_on_all_answered(live, n_refused, why);
        return;
    }
    live->n_refused += n_refused;
    if (live->n_outstanding > 0)
        return;
    if (live->n_refused >= live->n_names)
        live_states_fail_refused(live, why);
    else
        live->events->on_ready(live->userdata, live->n_not_watched + live->n_refused);
}

static void live_states_on_message(void *userdata, const char *topic, bool is_retained,
                                   struct gt_span payload)
{
    struct live_states *live = userdata;
    char name[GT_NAME_MAX + 1];
    uint8_t buffer[GT_MESSAGE_MAX];
    struct gt_state state;

    if (!live->is_over && payload.n > 0 &&
        gt_topic_device(live->settings.settings->mqtt_prefix, topic, name) == 0 &&
        device_state_decode(live->settings.identity, name, topic, payload, &state, buffer))
        live->events->on_state(live->userdata, name, &state, is_retained);
}

static void live_states_on_subscribed(void *userdata)
{
}

int live_states_new(const struct live_states_settings *settings,
                    const struct live_states_events *events, void *userdata,
                    struct live_states **ret, struct failure *ret_failure)
{
    static const struct gt_mqtt_events mqtt_events = {
        .on_up = live_states_on_up,
        .on_down = live_states_on_down,
        .on_subscribed = live_states_on_subscribed,
        .on_suback = live_states_on_suback,
        .on_message = live_states_on_message,
    };
    struct live_states *live = calloc(1, sizeof(*live));

    if (!live)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "out of memory");
    live->settings = *settings;
    live->events = events;
    live->userdata = userdata;
    live->all_id = -1;
    if (mqtt_connect(settings->loop, settings->settings, settings->identity, settings->print,
                     &mqtt_events, live, &live->mqtt, ret_failure) != 0) {
        live_states_free(live);
        return 1;
    }
    *ret = live;
    return 0;
}

struct live_states *live_states_free(struct live_states *live)
{
    if (!live)
        return NULL;
    gt_mqtt_free(live->mqtt);
    free(live);
    return NULL;
}
