/* SPDX-License-Identifier: ISC */
/*
 * CONNECT, SUBSCRIBE, PUBLISH, and the message to this side itself, in this order: a broker that
 * closes the connection at the first refused message (AWS IoT Core) has then answered the rest.
 */
#include "gotthard/doctor/broker-check.h"

#include <stdio.h>
#include <string.h>

#include "gotthard/base/clock.h"
#include "gotthard/crypto/crypto.h"
#include "gotthard/doctor/wait.h"

#define UP_S     25. /* mqtt.c gives up before */
#define ANSWER_S 5.
#define STATES_S 1. /* retained messages come behind the SUBACK */
#define ECHO     4000

struct run {
    struct ev_loop *loop;
    const struct gt_broker_check *check;
    struct gt_broker_facts *facts;
    struct gt_mqtt *mqtt;
    int publish_id, echo_id, echo_filter_id;
    bool is_echo_subscribed, is_echo_acknowledged, is_echo_refused;
    uint8_t echo[ECHO];
};

static bool run_is_usable(const struct run *run)
{
    return run->facts->is_up && !run->facts->is_lost;
}

/* --- events ----------------------------------------------------------------------------------- */

static void on_up(void *userdata)
{
    struct run *run = userdata;

    run->facts->is_up = true;
    gt_check_wake(run->loop);
}

/* A second connection, which mqtt.c may make after a loss, is not this check's. */
static void on_down(void *userdata, const char *why, unsigned retry_ms)
{
    struct run *run = userdata;

    run->facts->is_lost = run->facts->is_up;
    run->facts->outcome = run->mqtt ? gt_mqtt_last_outcome(run->mqtt) : NULL;
    snprintf(run->facts->why, sizeof(run->facts->why), "%s", why);
    gt_check_wake(run->loop);
}

static void on_subscribed(void *userdata)
{
}

static void on_suback(void *userdata, int id, unsigned n_refused, const char *why)
{
    struct run *run = userdata;

    if (id == run->echo_filter_id) {
        run->is_echo_subscribed = n_refused == 0;
        run->is_echo_refused = n_refused > 0;
    } else {
        run->facts->subscribe = n_refused > 0 ? GT_BROKER_REFUSED : GT_BROKER_GRANTED;
        snprintf(run->facts->subscribe_why, sizeof(run->facts->subscribe_why), "%s", why);
    }
    gt_check_wake(run->loop);
}

static void on_message(void *userdata, const char *topic, bool is_retained, struct gt_span payload)
{
    struct run *run = userdata;

    if (payload.n == ECHO && memcmp(payload.data, run->echo, ECHO) == 0) {
        run->facts->echo = GT_BROKER_ECHO_RECEIVED;
        gt_check_wake(run->loop);
    } else {
        run->facts->n_messages++;
        if (run->check->on_message)
            run->check->on_message(run->check->userdata, topic, payload);
    }
}

static void on_published(void *userdata, int id, bool has_no_subscribers)
{
    struct run *run = userdata;

    if (id == run->publish_id)
        run->facts->publish = GT_BROKER_GRANTED;
    else if (id == run->echo_id)
        run->is_echo_acknowledged = true;
    gt_check_wake(run->loop);
}

static void on_refused(void *userdata, int id, const char *why)
{
    struct run *run = userdata;

    if (id == run->publish_id) {
        run->facts->publish = GT_BROKER_REFUSED;
        snprintf(run->facts->publish_why, sizeof(run->facts->publish_why), "%s", why);
    } else if (id == run->echo_id) {
        run->is_echo_refused = true;
    }
    gt_check_wake(run->loop);
}

static const struct gt_mqtt_events events = {
    .on_up = on_up,
    .on_down = on_down,
    .on_subscribed = on_subscribed,
    .on_message = on_message,
    .on_published = on_published,
    .on_refused = on_refused,
    .on_suback = on_suback,
};

/* --- steps ------------------------------------------------------------------------------------ */

/* Runs the loop until @is_done is true, the connection is lost, or @limit_s have passed. */
static void run_until(struct run *run, bool (*is_done)(const struct run *run), double limit_s)
{
    double end = gt_clock() + limit_s, left;

    while (run_is_usable(run) && !(is_done && is_done(run)) && (left = end - gt_clock()) > 0)
        gt_check_wait(run->loop, left);
}

static bool is_subscribed(const struct run *run)
{
    return run->facts->subscribe != GT_BROKER_UNKNOWN;
}

static bool is_published(const struct run *run)
{
    return run->facts->publish != GT_BROKER_UNKNOWN;
}

static bool is_echo_granted(const struct run *run)
{
    return run->is_echo_subscribed || run->is_echo_refused;
}

static bool is_echo_done(const struct run *run)
{
    return run->is_echo_refused || run->facts->echo == GT_BROKER_ECHO_RECEIVED;
}

static void run_subscribe(struct run *run)
{
    const char *filters[GT_BROKER_CHECK_FILTERS];
    size_t n = 0;
    int id;

    for (size_t i = 0; i < GT_BROKER_CHECK_FILTERS; i++)
        if (run->check->filters[i])
            filters[n++] = run->check->filters[i];
    if (n > 0 && gt_mqtt_subscribe_all(run->mqtt, filters, n, 1, &id) == 0)
        run_until(run, is_subscribed, ANSWER_S);
}

static void run_publish(struct run *run)
{
    if (!run->check->publish_topic ||
        gt_mqtt_publish(run->mqtt, run->check->publish_topic, gt_span("", 1), false, 1,
                        &run->publish_id) != 0)
        return;
    run_until(run, is_published, ANSWER_S);
}

static void run_echo(struct run *run)
{
    if (!run->check->echo_topic || gt_random(run->echo, ECHO) != 0 ||
        gt_mqtt_subscribe_all(run->mqtt, &run->check->echo_topic, 1, 1, &run->echo_filter_id) != 0)
        return;
    run_until(run, is_echo_granted, ANSWER_S);
    if (!run->is_echo_subscribed ||
        gt_mqtt_publish(run->mqtt, run->check->echo_topic, gt_span(run->echo, ECHO), false, 5,
                        &run->echo_id) != 0)
        return;
    run_until(run, is_echo_done, ANSWER_S);
    if (!run_is_usable(run) || is_echo_done(run))
        return;
    run->facts->echo = run->is_echo_acknowledged ? GT_BROKER_ECHO_WITHHELD : GT_BROKER_ECHO_LOST;
}

void gt_broker_check(struct ev_loop *loop, const struct gt_broker_check *check,
                     struct gt_broker_facts *ret)
{
    struct run run = {.loop = loop,
                      .check = check,
                      .facts = ret,
                      .publish_id = -1,
                      .echo_id = -1,
                      .echo_filter_id = -1};
    double began = gt_clock();

    *ret = (struct gt_broker_facts){.why = "no answer in time"};
    if (gt_mqtt_new(loop, &check->mqtt, &events, &run, &run.mqtt) != 0) {
        snprintf(ret->why, sizeof(ret->why), "%s", strerror(ENOMEM));
        return;
    }
    gt_check_wait(loop, UP_S);
    ret->took_s = gt_clock() - began;
    if (run_is_usable(&run))
        run_subscribe(&run);
    if (run_is_usable(&run))
        run_publish(&run);
    run_until(&run, NULL, STATES_S);
    if (run_is_usable(&run))
        run_echo(&run);
    gt_mqtt_free(run.mqtt);
}
