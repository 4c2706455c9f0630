/* SPDX-License-Identifier: ISC */
/*
 * `disconnect DEVICE`, from anywhere: asks the device to close every session that this operator
 * may close, and says how many there were. None is no error: that is what was wanted.
 */
#include <string.h>

#include "commands.h"
#include "request.h"

struct disconnect {
    struct context *context;
    const char *device;
    int code;
};

static void disconnect_on_broker(void *userdata)
{
    struct disconnect *disconnect = userdata;
    print_fact(&disconnect->context->print, "connected to MQTT, asking %s to close",
               disconnect->device);
}

static void disconnect_on_answer(void *userdata, const struct gt_answer *answer)
{
    struct disconnect *disconnect = userdata;
    struct print *print = &disconnect->context->print;
    if (answer->n_closed == 0)
        print_note(print, "%s had no session open.", disconnect->device);
    else
        print_note(print, "%s closed %u session%s.", disconnect->device, answer->n_closed,
                   answer->n_closed == 1 ? "" : "s");
    print_event(print, "disconnected", "{s:s, s:i}", "device", disconnect->device, "sessions",
                (int)answer->n_closed);
    ev_break(disconnect->context->loop, EVBREAK_ALL);
}

static void disconnect_on_failure(void *userdata, const struct failure *failure)
{
    struct disconnect *disconnect = userdata;
    disconnect->code = print_failure(&disconnect->context->print, failure);
    ev_break(disconnect->context->loop, EVBREAK_ALL);
}

static void disconnect_on_signal(void *userdata, int number)
{
    struct disconnect *disconnect = userdata;
    disconnect->code = EXIT_INTERRUPTED;
    ev_break(disconnect->context->loop, EVBREAK_ALL);
}

int cmd_disconnect(struct context *context)
{
    static const struct request_events events = {
        .on_broker = disconnect_on_broker,
        .on_answer = disconnect_on_answer,
        .on_failure = disconnect_on_failure,
    };
    if (!command_takes_device(context, context->words[0]))
        return EXIT_USAGE;
    struct disconnect disconnect = {.context = context, .device = context->words[0]};
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
    };
    if (identity_load(context->config, &context->print, &identity, &failure) != 0 ||
        request_new(&settings, &events, &disconnect, &request, &failure) != 0) {
        disconnect.code = print_failure(&context->print, &failure);
    } else {
        command_signals_start(&signals, context->loop, disconnect_on_signal, &disconnect);
        ev_run(context->loop, 0);
        command_signals_stop(&signals);
    }
    request_free(request);
    identity_deinit(&identity);
    return disconnect.code;
}
