/* SPDX-License-Identifier: ISC */
/* CONNECTING -> READING -> READY, then PUBLISHING -> READING -> READY or FETCHING -> READY; any ->
 * FAILED. */
#include <string.h>

#include "access-broker-internal.h"
#include "gotthard/base/clock.h"
#include "gotthard/signaling/topic.h"

#define CONNECTED_S 25. /* for the connection */

/* --- states ----------------------------------------------------------------------------------- */

void access_broker_set_timer(struct access_broker *broker, double seconds)
{
    struct ev_loop *loop = broker->context->loop;

    ev_timer_stop(loop, &broker->timer);
    ev_now_update(loop);
    ev_timer_set(&broker->timer, GT_MAX(seconds, 0.), 0.);
    ev_timer_start(loop, &broker->timer);
}

void access_broker_enter(struct access_broker *broker, enum access_broker_state state)
{
    broker->state = state;
    if (state != ACCESS_BROKER_READY && state != ACCESS_BROKER_FAILED)
        return;
    ev_timer_stop(broker->context->loop, &broker->timer);
    ev_break(broker->context->loop, EVBREAK_ALL);
}

void access_broker_fail_mqtt(struct access_broker *broker, const char *why)
{
    mqtt_connect_failure(broker->context->settings,
                         broker->mqtt ? gt_mqtt_last_outcome(broker->mqtt) : NULL, why,
                         &broker->failure);
    access_broker_enter(broker, ACCESS_BROKER_FAILED);
}

void access_broker_fail_refused(struct access_broker *broker, const char *why)
{
    failure_set(&broker->failure, FAILURE_BROKER_REFUSED, ACCESS_BROKER_HINT,
                "the access list is signed and stored, but not at the broker: %s", why);
    access_broker_enter(broker, ACCESS_BROKER_FAILED);
}

static void broker_on_signal(void *userdata, int number)
{
    struct access_broker *broker = userdata;

    broker->is_interrupted = true;
    ev_break(broker->context->loop, EVBREAK_ALL);
}

int access_broker_run(struct access_broker *broker, struct failure *ret_failure)
{
    struct command_signals signals;

    command_signals_start(&signals, broker->context->loop, broker_on_signal, broker);
    if (broker->state != ACCESS_BROKER_FAILED)
        ev_run(broker->context->loop, 0);
    command_signals_stop(&signals);
    if (broker->is_interrupted)
        return ACCESS_BROKER_E_INTERRUPTED;
    if (broker->state == ACCESS_BROKER_READY)
        return 0;
    *ret_failure = broker->failure;
    return 1;
}

/* --- messages --------------------------------------------------------------------------------- */

static void broker_on_message(void *userdata, const char *topic, bool is_retained,
                              struct gt_span payload)
{
    struct access_broker *broker = userdata;

    if (payload.n == 0)
        return;
    if (broker->state == ACCESS_BROKER_READING && is_retained && strcmp(topic, broker->topic) == 0)
        access_broker_read_part(broker, payload);
    else if (broker->state == ACCESS_BROKER_FETCHING)
        access_broker_fetch_part(broker, payload);
}

static void broker_on_suback(void *userdata, int id, unsigned n_refused, const char *why)
{
    struct access_broker *broker = userdata;

    if (broker->state != ACCESS_BROKER_READING)
        return;
    if (n_refused > 0) {
        failure_set(&broker->failure, FAILURE_BROKER_REFUSED, ACCESS_BROKER_HINT,
                    "the broker refuses to show the access list: %s", why);
        access_broker_enter(broker, ACCESS_BROKER_FAILED);
        return;
    }
    settling_answered(&broker->settling, gt_clock());
    access_broker_read_step(broker);
}

static void broker_on_subscribed(void *userdata)
{
}

/* --- the connection --------------------------------------------------------------------------- */

static void broker_on_up(void *userdata)
{
    struct access_broker *broker = userdata;

    if (broker->state == ACCESS_BROKER_CONNECTING)
        access_broker_read(broker);
}

static void broker_on_down(void *userdata, const char *why, unsigned retry_ms)
{
    struct access_broker *broker = userdata;

    if (broker->state != ACCESS_BROKER_FAILED)
        access_broker_fail_mqtt(broker, why);
}

static void broker_on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct access_broker *broker = timer->data;

    if (broker->state == ACCESS_BROKER_READING)
        access_broker_read_step(broker);
    else
        access_broker_fail_mqtt(broker, "no answer in time");
}

int access_broker_open(struct context *context, const struct authority *authority,
                       struct identity *identity, struct access_broker *ret,
                       struct failure *ret_failure)
{
    static const struct gt_mqtt_events events = {
        .on_up = broker_on_up,
        .on_down = broker_on_down,
        .on_subscribed = broker_on_subscribed,
        .on_suback = broker_on_suback,
        .on_message = broker_on_message,
        .on_published = access_broker_on_published,
        .on_refused = access_broker_on_refused,
    };

    *ret = (struct access_broker){.context = context, .authority = authority, .identity = identity};
    ev_init(&ret->timer, broker_on_timer);
    ret->timer.data = ret;
    gt_access_assembly_init(&ret->assembly);
    if (gt_topic_access(context->settings->mqtt_prefix, 0, ret->topic) != 0)
        return failure_set(ret_failure, FAILURE_CONFIG, "shorten {mqtt.prefix}",
                           "cannot form the topic of the access list");
    if (mqtt_connect(context->loop, context->settings, identity, &context->print, &events, ret,
                     &ret->mqtt, ret_failure) != 0)
        return 1;
    access_broker_set_timer(ret, CONNECTED_S);
    return access_broker_run(ret, ret_failure);
}

void access_broker_close(struct access_broker *broker)
{
    if (!broker->context)
        return;
    ev_timer_stop(broker->context->loop, &broker->timer);
    broker->mqtt = gt_mqtt_free(broker->mqtt);
    gt_access_assembly_deinit(&broker->assembly);
    free(gt_steal(&broker->text));
    broker->context = NULL;
}
