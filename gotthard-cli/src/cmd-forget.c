/* SPDX-License-Identifier: ISC */
/*
 * `forget DEVICE`: deletes the state of a device at the broker, and its name in the operator's
 * memory. An empty retained message deletes a retained one. A broker that does not permit it may
 * drop it without an answer (MQTT 3.1.1), so the state is read again afterwards.
 */
#include <string.h>
#include <time.h>

#include "commands.h"
#include "device-memory.h"
#include "epoch-memory.h"
#include "gotthard/base/clock.h"
#include "gotthard/signaling/topic.h"
#include "mqtt-connect.h"
#include "settling.h"

#define SILENCE_S   .3
#define PUBLISHED_S 10. /* for the acknowledgement: a broker may send none */

struct forget {
    struct context *context;
    const char *device;
    char topic[GT_TOPIC_MAX + 1];
    struct identity identity;
    struct gt_mqtt *mqtt;
    struct settling settling;
    ev_timer timer;
    bool is_reading; /* the state is read again */
    bool is_over;    /* later events of the connection have no effect */
    int code;
};

static void forget_end(struct forget *forget, const struct failure *failure)
{
    if (failure && !forget->is_over)
        forget->code = print_failure(&forget->context->print, failure);
    forget->is_over = true;
    ev_break(forget->context->loop, EVBREAK_ALL);
}

static void forget_fail_mqtt(struct forget *forget, const char *why)
{
    struct failure failure;

    mqtt_connect_failure(forget->context->settings, gt_mqtt_last_outcome(forget->mqtt), why,
                         &failure);
    forget_end(forget, &failure);
}

static void forget_fail_refused(struct forget *forget, const char *why)
{
    struct failure failure;

    failure_set(&failure, FAILURE_BROKER_REFUSED,
                "permit this operator to publish to the state of devices at the broker, as "
                "mosquitto-example.acl shows; a device that is online publishes its state again",
                "the state of %s is still at the broker: %s", forget->device, why);
    forget_end(forget, &failure);
}

static void forget_succeed(struct forget *forget)
{
    struct print *print = &forget->context->print;
    struct epoch_memory epochs;

    epoch_memory_init(&epochs, forget->context->settings, &forget->identity);
    epoch_memory_set(&epochs, forget->device, NULL);
    device_memory_forget(forget->context->settings, &forget->identity, print, forget->device,
                         (uint64_t)time(NULL));
    print_note(print, "The broker has no state of %s any more.", forget->device);
    print_event(print, "forgotten", "{s:s}", "device", forget->device);
    forget_end(forget, NULL);
}

/* --- the state is read again --------------------------------------------------------------------
 */

static bool forget_subscribe(struct forget *forget)
{
    const char *filter = forget->topic;
    int id;

    if (gt_mqtt_subscribe_all(forget->mqtt, &filter, 1, 0, &id) == 0)
        return true;
    forget_fail_mqtt(forget, "the connection was lost");
    return false;
}

static void forget_step(struct forget *forget)
{
    double until, now = gt_clock();

    if (forget->is_over)
        return;
    switch (settling_next(&forget->settling, now, &until)) {
    case SETTLING_WAIT:
        ev_timer_stop(forget->context->loop, &forget->timer);
        ev_timer_set(&forget->timer, until - now, 0);
        ev_timer_start(forget->context->loop, &forget->timer);
        return;
    case SETTLING_MARK:
        settling_marked(&forget->settling, now);
        if (forget_subscribe(forget))
            forget_step(forget);
        return;
    case SETTLING_DONE: forget_succeed(forget); return;
    case SETTLING_SILENT:
    case SETTLING_OVERDUE: forget_fail_mqtt(forget, "no answer in time"); return;
    }
}

/* The broker has acknowledged the deletion, or sends no acknowledgement. */
static void forget_read(struct forget *forget)
{
    if (forget->is_over || forget->is_reading)
        return;
    forget->is_reading = true;
    settling_begin(&forget->settling, SILENCE_S, gt_clock());
    if (forget_subscribe(forget))
        forget_step(forget);
}

static void forget_on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct forget *forget = timer->data;

    if (forget->is_reading)
        forget_step(forget);
    else
        forget_read(forget);
}

static void forget_on_message(void *userdata, const char *topic, bool is_retained,
                              struct gt_span payload)
{
    struct forget *forget = userdata;

    if (payload.n > 0 && strcmp(topic, forget->topic) == 0)
        forget_fail_refused(forget, is_retained ? "the broker kept it"
                                                : "the device is online and published it again");
}

static void forget_on_suback(void *userdata, int id, unsigned n_refused, const char *why)
{
    struct forget *forget = userdata;

    if (n_refused > 0) {
        forget_fail_mqtt(forget, "the broker refuses a subscription");
        return;
    }
    settling_answered(&forget->settling, gt_clock());
    forget_step(forget);
}

static void forget_on_subscribed(void *userdata)
{
}

static void forget_on_published(void *userdata, int id, bool has_no_subscribers)
{
    forget_read(userdata);
}

/* --- the connection -----------------------------------------------------------------------------
 */

static void forget_on_refused(void *userdata, int id, const char *why)
{
    forget_fail_refused(userdata, why);
}

static void forget_on_up(void *userdata)
{
    struct forget *forget = userdata;
    int id;

    if (gt_mqtt_publish(forget->mqtt, forget->topic, gt_span("", 0), true, 0, &id) != 0) {
        forget_fail_refused(forget, "the broker does not take the message");
        return;
    }
    ev_timer_set(&forget->timer, PUBLISHED_S, 0.);
    ev_timer_start(forget->context->loop, &forget->timer);
}

static void forget_on_down(void *userdata, const char *why, unsigned retry_ms)
{
    forget_fail_mqtt(userdata, why);
}

static int forget_connect(struct forget *forget, struct failure *ret_failure)
{
    static const struct gt_mqtt_events events = {
        .on_up = forget_on_up,
        .on_down = forget_on_down,
        .on_subscribed = forget_on_subscribed,
        .on_suback = forget_on_suback,
        .on_message = forget_on_message,
        .on_published = forget_on_published,
        .on_refused = forget_on_refused,
    };
    struct context *context = forget->context;

    if (identity_load_key(context->settings, &context->print, &forget->identity, ret_failure) ||
        identity_load_signer(context->settings, &forget->identity, ret_failure))
        return 1;
    if (gt_topic_state(context->settings->mqtt_prefix, forget->device, forget->topic) != 0)
        return failure_set(ret_failure, FAILURE_CONFIG, NULL,
                           "cannot form the topic of that device");
    return mqtt_connect(context->loop, context->settings, &forget->identity, &context->print,
                        &events, forget, &forget->mqtt, ret_failure);
}

static void forget_on_signal(void *userdata, int number)
{
    struct forget *forget = userdata;

    forget->code = GT_EXIT_INTERRUPTED;
    forget_end(forget, NULL);
}

/* --- the command --------------------------------------------------------------------------------
 */

int cmd_forget(struct context *context)
{
    struct forget forget = {.context = context, .device = context->arguments[0]};
    struct failure failure;
    struct command_signals signals;

    if (!command_cut_device(context, 0))
        return GT_EXIT_USAGE;
    if (!context->is_confirmed && !(isatty(STDIN_FILENO) && isatty(STDERR_FILENO)))
        return command_misused(context, "--yes is necessary without a terminal");
    if (!context->is_confirmed &&
        !command_is_agreed("Delete the state of %s at the broker, for all operators? (If it is "
                           "online, lists lack it until it publishes again, up to 75 minutes.)",
                           forget.device))
        return GT_EXIT_INTERRUPTED;
    ev_init(&forget.timer, forget_on_timer);
    forget.timer.data = &forget;
    if (forget_connect(&forget, &failure) != 0) {
        forget.code = print_failure(&context->print, &failure);
    } else {
        command_signals_start(&signals, context->loop, forget_on_signal, &forget);
        ev_run(context->loop, 0);
        command_signals_stop(&signals);
    }
    ev_timer_stop(context->loop, &forget.timer);
    gt_mqtt_free(forget.mqtt);
    identity_deinit(&forget.identity);
    return forget.code;
}
