/* SPDX-License-Identifier: ISC */
/*
 * For the tests of mqtt.c: a client that records its events, and waiting for them in the loop. A
 * guard timer fails a test whose event does not arrive.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs these before it */
#include <cmocka.h>
#include <ev.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "gotthard/mqtt/mqtt.h"
#include "gotthard/signaling/topic.h"

static struct ev_loop *loop;

/* --- waiting ---------------------------------------------------------------------------------- */

static bool is_late;

static inline void guard_on_timer(struct ev_loop *l, ev_timer *timer, int revents)
{
    is_late = true;
}

/* Runs the loop until *@counter is @at_least; fails the test after @seconds. */
static inline void wait_for(const unsigned *counter, unsigned at_least, double seconds)
{
    ev_timer guard;

    is_late = false;
    ev_now_update(loop);
    ev_timer_init(&guard, guard_on_timer, seconds, 0);
    ev_timer_start(loop, &guard);
    while (*counter < at_least && !is_late)
        ev_run(loop, EVRUN_ONCE);
    ev_timer_stop(loop, &guard);
    assert_true(*counter >= at_least);
}

static inline void run_for(double seconds)
{
    ev_timer guard;

    is_late = false;
    ev_now_update(loop);
    ev_timer_init(&guard, guard_on_timer, seconds, 0);
    ev_timer_start(loop, &guard);
    while (!is_late)
        ev_run(loop, EVRUN_ONCE);
}

static inline double now(void)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

/* --- a client that records its events --------------------------------------------------------- */

struct client {
    struct gt_mqtt *mqtt;
    struct gt_mqtt_settings settings;
    struct gt_mqtt_events events;
    unsigned n_up, n_down, n_subscribed, n_messages, n_published, n_refused, n_subacks;
    unsigned n_refused_filters, n_messages_at_suback;
    int suback_id;
    unsigned retry_ms;
    bool has_no_subscribers, is_retained;
    int id;
    char why[256], topic[GT_TOPIC_MAX + 1], refusal[64];
    char payload[GT_MESSAGE_MAX + 1];
    size_t n;
    const char *will_topic; /* NULL: none */
    double used_s;          /* of an attempt, before its connection begins */
    bool must_free_on_up, must_free_on_down;
};

static inline void client_on_up(void *userdata)
{
    struct client *client = userdata;

    client->n_up++;
    if (client->must_free_on_up)
        client->mqtt = gt_mqtt_free(client->mqtt);
}

static inline void client_on_down(void *userdata, const char *why, unsigned retry_ms)
{
    struct client *client = userdata;

    client->n_down++;
    client->retry_ms = retry_ms;
    snprintf(client->why, sizeof(client->why), "%s", why);
    if (client->must_free_on_down)
        client->mqtt = gt_mqtt_free(client->mqtt);
}

static inline void client_on_subscribed(void *userdata)
{
    ((struct client *)userdata)->n_subscribed++;
}

static inline void client_on_message(void *userdata, const char *topic, bool is_retained,
                                     struct gt_span payload)
{
    struct client *client = userdata;

    client->n_messages++;
    client->is_retained = is_retained;
    client->n = payload.n;
    snprintf(client->topic, sizeof(client->topic), "%s", topic);
    memcpy(client->payload, payload.data, payload.n);
    client->payload[payload.n] = 0;
}

static inline void client_on_published(void *userdata, int id, bool has_no_subscribers)
{
    struct client *client = userdata;

    client->n_published++;
    client->id = id;
    client->has_no_subscribers = has_no_subscribers;
}

static inline void client_on_refused(void *userdata, int id, const char *why)
{
    struct client *client = userdata;

    client->n_refused++;
    snprintf(client->refusal, sizeof(client->refusal), "%s", why);
}

static inline void client_on_suback(void *userdata, int id, unsigned n_refused, const char *why)
{
    struct client *client = userdata;

    client->n_subacks++;
    client->suback_id = id;
    client->n_refused_filters = n_refused;
    client->n_messages_at_suback = client->n_messages;
    snprintf(client->refusal, sizeof(client->refusal), "%s", n_refused ? why : "");
}

static inline bool client_make_will(void *userdata, char *ret_topic, uint8_t *ret, size_t *ret_n)
{
    struct client *client = userdata;

    strcpy(ret_topic, client->will_topic);
    memcpy(ret, "gone", 4);
    *ret_n = 4;
    return true;
}

static inline void client_init(struct client *client, uint16_t port, const char *id)
{
    *client = (struct client){
        .settings = {.host = "127.0.0.1", .port = port, .client_id = id, .keepalive_s = 60},
        .events = {.on_up = client_on_up,
                   .on_down = client_on_down,
                   .on_subscribed = client_on_subscribed,
                   .on_message = client_on_message,
                   .on_published = client_on_published,
                   .make_will = client_make_will,
                   .on_refused = client_on_refused},
    };
}

static inline void client_begin(struct client *client)
{
    if (!client->will_topic)
        client->events.make_will = NULL;
    assert_int_equal(gt_mqtt_new(loop, &client->settings, &client->events, client, &client->mqtt),
                     0);
}

static inline void client_up(struct client *client, uint16_t port, const char *id)
{
    client_init(client, port, id);
    client_begin(client);
    wait_for(&client->n_up, 1, 10);
    assert_true(gt_mqtt_is_up(client->mqtt));
}

static inline void client_subscribe(struct client *client, const char *filter)
{
    unsigned n = client->n_subscribed;

    assert_int_equal(gt_mqtt_subscribe(client->mqtt, filter), 0);
    wait_for(&client->n_subscribed, n + 1, 10);
}

static inline int client_publish(struct client *client, const char *topic, const char *text,
                                 bool is_retained)
{
    int id = 0;

    assert_int_equal(gt_mqtt_publish(client->mqtt, topic, gt_span_text(text), is_retained, 20, &id),
                     0);
    return id;
}
