/* SPDX-License-Identifier: ISC */
/*
 * `status [DEVICE]` and `devices [TAG=VALUE|PATTERN]...`: the state of devices. The exit status of
 * `status DEVICE` is 0 only if the device is online, that of a list only if the list is whole.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "commands.h"
#include "connect-progress.h"
#include "device-list.h"
#include "device-memory.h"
#include "device-output.h"
#include "device-question.h"
#include "device-report.h"
#include "devices-watch.h"
#include "known-devices.h"
#include "request.h"
#include "status-output.h"

struct status {
    struct context *context;
    const char *device; /* NULL: all */
    struct selection selection;
    struct identity identity;
    struct device_table table;
    struct request *query;            /* owned; the question to a device that is online */
    struct device_question *question; /* owned; to a device of which the broker has no state */
    struct list_verdict verdict;      /* of the list before the question */
    struct connect_progress progress; /* of one device */
    int code;
};

/* --- one device ---------------------------------------------------------------------------------
 */

/* Sets the exit status by the state of the device. @row: NULL without a state. */
static void status_set_code(struct status *status, const struct device_row *row,
                            const struct list_verdict *verdict)
{
    struct failure failure;

    if (row && row->knowledge == DEVICE_AUTHENTIC && row->is_online)
        return;
    if (!row)
        failure_set_unknown(&failure, status->device,
                            verdict->keeps_no_states ? "keeps no retained messages"
                                                     : "has no state of it");
    else if (row->knowledge != DEVICE_AUTHENTIC)
        failure_set_of(&failure, status->device, FAILURE_NO_ANSWER, FAILURE_HINT_OTHER_KEY,
                       "the state message of %s is encrypted with another key", status->device);
    else
        failure_set(&failure, FAILURE_OFFLINE, NULL, "%s is offline", status->device);
    status->code = print_failure(&status->context->print, &failure);
}

static void status_report_one(struct status *status, const struct list_verdict *verdict,
                              const struct status_answer *answer)
{
    const struct device_row *row = status->table.rows;

    connect_progress_stop(&status->progress);
    if (row)
        status_output(&status->context->print, row, answer);
    if (row && row->knowledge == DEVICE_AUTHENTIC)
        device_memory_note(status->context->settings, &status->identity, row->name, row->services,
                           (uint64_t)time(NULL));
    status_set_code(status, row, verdict);
    ev_break(status->context->loop, EVBREAK_ALL);
}

/* --- the query of a device that is online by its state ------------------------------------------
 */

static void status_on_nothing(void *userdata)
{
}

static void status_on_no_report(void *userdata, const struct gt_report *report)
{
}

static void status_on_no_session(void *userdata, const struct gt_answer *answer)
{
}

/* Returns false if @answer has no status. */
static bool status_read_answer(const struct status *status, const struct gt_answer *answer,
                               struct status_answer *ret)
{
    const struct gt_extensions *extensions = &answer->ack.extensions;

    if (gt_device_status_decode(extensions->status, &ret->status) != 0)
        return false;
    snprintf(ret->fault, sizeof(ret->fault), "%.*s", (int)extensions->fault.n,
             extensions->fault.data);
    ret->round_trip_s = request_round_trip_s(status->query);
    return true;
}

/* A device that is online without an answer stays online: its agent may be of an earlier version.
 */
static void status_on_query_end(void *userdata, const struct gt_answer *answer,
                                const struct failure *failure)
{
    struct status *status = userdata;
    struct status_answer decoded;
    bool is_decoded = answer && status_read_answer(status, answer, &decoded);

    if (failure)
        print_warning(&status->context->print, "no answer to the query: %s", failure->message);
    else if (!is_decoded)
        print_warning(&status->context->print, "the answer of %s has no status", status->device);
    status_report_one(status, &status->verdict, is_decoded ? &decoded : NULL);
}

static void status_query(struct status *status)
{
    static const struct request_events events = {
        .on_broker = status_on_nothing,
        .on_agreed = status_on_no_session,
        .on_report = status_on_no_report,
        .on_offline = status_on_nothing,
        .on_end = status_on_query_end,
    };
    struct context *context = status->context;
    struct failure failure;
    struct request_settings settings = {
        .loop = context->loop,
        .settings = context->settings,
        .identity = &status->identity,
        .print = &context->print,
        .device = status->device,
        .service = "",
        .is_query = true,
    };

    connect_progress_step(&status->progress, "waiting for %s to answer", status->device);
    if (request_new(&settings, &events, status, &status->query, &failure) != 0)
        status_on_query_end(status, NULL, &failure);
}

/* The state of the device is known, if there is any. */
static void status_on_state(struct status *status, const struct list_verdict *verdict)
{
    const struct device_row *row = status->table.rows;

    status->verdict = *verdict;
    if (row && row->knowledge == DEVICE_AUTHENTIC && row->is_online)
        status_query(status);
    else
        status_report_one(status, verdict, NULL);
}

static void status_on_answer(void *userdata, const struct gt_state *state,
                             const struct failure *failure)
{
    struct status *status = userdata;

    if (state)
        device_table_add(&status->table, status->device, state, false);
    if (!failure) {
        status_on_state(status, &status->verdict);
        return;
    }
    status->code = print_failure(&status->context->print, failure);
    ev_break(status->context->loop, EVBREAK_ALL);
}

/* The broker has no state of the device: asks the device itself. */
static void status_ask(struct status *status, const struct list_verdict *verdict)
{
    static const struct device_question_events events = {.on_end = status_on_answer};
    struct context *context = status->context;
    struct failure failure;
    struct device_question_settings settings = {
        .loop = context->loop,
        .settings = context->settings,
        .identity = &status->identity,
        .print = &context->print,
        .device = status->device,
    };

    status->verdict = *verdict;
    connect_progress_step(&status->progress, "waiting for %s to answer", status->device);
    if (device_question_new(&settings, &events, status, &status->question, &failure) != 0)
        status_on_answer(status, NULL, &failure);
}

/* --- a list -------------------------------------------------------------------------------------
 */

static void status_report_list(struct status *status, const struct list_verdict *verdict)
{
    struct device_report report = {&status->context->print, &status->table, &status->selection,
                                   verdict};

    status->code = device_report(&report, status->context->is_inventory);
    device_memory_save(status->context->settings, &status->identity, &status->table,
                       (uint64_t)time(NULL));
}

static void status_on_end(void *userdata, const struct list_verdict *verdict,
                          const struct failure *failure)
{
    struct status *status = userdata;

    if (!failure && status->device) {
        if (status->table.rows)
            status_on_state(status, verdict);
        else
            status_ask(status, verdict);
        return;
    }
    if (failure)
        status->code = print_failure(&status->context->print, failure);
    else
        status_report_list(status, verdict);
    ev_break(status->context->loop, EVBREAK_ALL);
}

static void status_on_signal(void *userdata, int number)
{
    struct status *status = userdata;

    status->code = GT_EXIT_INTERRUPTED;
    ev_break(status->context->loop, EVBREAK_ALL);
}

/* --- the commands -------------------------------------------------------------------------------
 */

static void status_load_names(struct status *status)
{
    struct context *context = status->context;

    if (status->device)
        return;
    known_devices_load(context->config, &status->identity, &context->print, &status->table);
    known_devices_declare_all(&status->table, &status->selection);
}

static int status_run(struct status *status)
{
    static const struct device_list_events events = {
        .on_end = status_on_end,
    };
    struct context *context = status->context;
    struct device_list *list = NULL;
    struct failure failure;
    struct command_signals signals;
    struct device_list_settings settings = {
        .loop = context->loop,
        .settings = context->settings,
        .identity = &status->identity,
        .print = &context->print,
        .device = status->device,
        .table = &status->table,
    };

    connect_progress_init(&status->progress, context->loop, &context->print);
    int r = identity_load_key(context->settings, &context->print, &status->identity, &failure);

    if (r == 0 && status->device)
        r = identity_check_device(&status->identity, status->device, &failure);
    if (r == 0)
        r = identity_load_signer(context->settings, &status->identity, &failure);
    if (r == 0 && status->device) /* a list of devices asks none of them */
        r = identity_load_trust(context->config, &status->identity, &failure);
    if (r == 0) {
        status_load_names(status);
        r = device_list_new(&settings, &events, status, &list, &failure);
    }
    if (r != 0) {
        status->code = print_failure(&context->print, &failure);
    } else {
        if (status->device)
            connect_progress_step(&status->progress, "reading the state of %s", status->device);
        command_signals_start(&signals, context->loop, status_on_signal, status);
        ev_run(context->loop, 0);
        command_signals_stop(&signals);
    }
    connect_progress_stop(&status->progress);
    device_list_free(list);
    request_free(status->query);
    device_question_free(status->question);
    device_table_deinit(&status->table);
    identity_deinit(&status->identity);
    return status->code;
}

int cmd_status(struct context *context)
{
    struct status status = {.context = context};

    if (context->n_arguments > 0)
        status.device = context->arguments[0];
    if (status.device && !command_cut_device(context, 0))
        return GT_EXIT_USAGE;
    return status_run(&status);
}

int cmd_devices(struct context *context)
{
    struct status status = {
        .context = context,
        .selection = {.is_online_only = context->is_online_only},
    };

    for (size_t i = 0; i < context->n_arguments; i++) {
        const char *why = selection_add(&status.selection, context->arguments[i]);

        if (why)
            return command_misused(context, "'%s': %s", context->arguments[i], why);
    }
    if (context->is_watching && context->is_inventory)
        return command_misused(context, "--inventory is printed once, without --watch");
    if (context->is_watching)
        return devices_watch(context, &status.selection);
    return status_run(&status);
}
