/* SPDX-License-Identifier: ISC */
/*
 * `disconnect DEVICE`, from any machine: requests that the device closes this operator's sessions,
 * with --all every session that it may close, and prints their number. No open session is a
 * success.
 */
#include <string.h>

#include "commands.h"
#include "connect-progress.h"
#include "request.h"

struct disconnect {
    struct context *context;
    const char *device;
    struct connect_progress progress;
    int code;
};

static void disconnect_on_broker(void *userdata)
{
    struct disconnect *disconnect = userdata;

    print_fact(&disconnect->context->print, "connected to MQTT, requesting %s to close %s",
               disconnect->device,
               disconnect->context->is_all ? "all sessions" : "this operator's sessions");
    connect_progress_step(&disconnect->progress, "waiting for %s to answer", disconnect->device);
}

static void disconnect_report(struct disconnect *disconnect, const struct gt_answer *answer)
{
    struct print *print = &disconnect->context->print;

    if (answer->n_closed == 0)
        print_note(print, "%s had no open session%s.", disconnect->device,
                   disconnect->context->is_all ? "" : " of yours");
    else
        print_note(print, "%s closed %u session%s.", disconnect->device, answer->n_closed,
                   answer->n_closed == 1 ? "" : "s");
    print_event(print, "disconnected", "{s:s, s:i}", "device", disconnect->device, "sessions",
                (int)answer->n_closed);
}

static void disconnect_on_end(void *userdata, const struct gt_answer *answer,
                              const struct failure *failure)
{
    struct disconnect *disconnect = userdata;

    connect_progress_stop(&disconnect->progress);
    if (failure)
        disconnect->code = print_failure(&disconnect->context->print, failure);
    else
        disconnect_report(disconnect, answer);
    ev_break(disconnect->context->loop, EVBREAK_ALL);
}

static void disconnect_on_signal(void *userdata, int number)
{
    struct disconnect *disconnect = userdata;

    disconnect->code = GT_EXIT_INTERRUPTED;
    ev_break(disconnect->context->loop, EVBREAK_ALL);
}

int cmd_disconnect(struct context *context)
{
    static const struct request_events events = {
        .on_broker = disconnect_on_broker,
        .on_end = disconnect_on_end,
    };

    if (!command_cut_device(context, 0) || !command_check_purpose(context))
        return GT_EXIT_USAGE;
    struct disconnect disconnect = {.context = context, .device = context->arguments[0]};
    struct identity identity = {0};
    struct request *request = NULL;
    struct failure failure;
    struct command_signals signals;
    struct request_settings settings = {
        .loop = context->loop,
        .settings = context->settings,
        .identity = &identity,
        .print = &context->print,
        .device = disconnect.device,
        .scope = context->is_all ? GT_CLOSE_ALL : GT_CLOSE_OWN,
        .purpose = context->purpose,
    };

    connect_progress_init(&disconnect.progress, context->loop, &context->print);
    if (identity_load(context->config, &context->print, &identity, &failure) != 0 ||
        request_new(&settings, &events, &disconnect, &request, &failure) != 0) {
        disconnect.code = print_failure(&context->print, &failure);
    } else {
        connect_progress_step(&disconnect.progress, "connecting to the broker");
        command_signals_start(&signals, context->loop, disconnect_on_signal, &disconnect);
        ev_run(context->loop, 0);
        command_signals_stop(&signals);
        connect_progress_stop(&disconnect.progress);
    }
    request_free(request);
    identity_deinit(&identity);
    return disconnect.code;
}
