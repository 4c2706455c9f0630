/* SPDX-License-Identifier: ISC */
/*
 * `doctor [DEVICE]`: each hop between this operator and a device, one row each, in the order in
 * which a connection needs them. It reads and connects, and changes nothing. The exit status is
 * that of the first failure.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "doctor.h"
#include "gotthard/config/config-mention.h"
#include "gotthard/doctor/fault-id.h"
#include "gotthard/doctor/wait.h"

#define ROW_MAX (4 * GT_CHECK_TEXT)

#define IS_SAME(name) static_assert((int)GT_FAULT_##name == (int)FAILURE_##name, #name)
IS_SAME(CONFIG);
IS_SAME(BROKER_UNREACHABLE);
IS_SAME(BROKER_REFUSED);
IS_SAME(BROKER_UNTRUSTED);
IS_SAME(BROKER_FOREIGN);
IS_SAME(CLOCK);
IS_SAME(CERTIFICATE);
IS_SAME(TARGET);
IS_SAME(RELAY_UNREACHABLE);
IS_SAME(RELAY_REFUSED);
IS_SAME(RELAY_FULL);
IS_SAME(RELAY_ERROR);
IS_SAME(RELAY_LIMIT);
IS_SAME(PROXY);
IS_SAME(INTERNAL);

/* Settings in a remedy are named with their origins, as in every hint. */
static void doctor_on_row(void *userdata, const struct gt_check_row *found)
{
    struct doctor *doctor = userdata;
    struct print *print = &doctor->context->print;
    struct gt_check_row complete = *found, *row = &complete;
    struct gt_check_style style = gt_check_style_of_stdout(!print->has_color);
    bool is_fault = row->result == GT_CHECK_WARNING || row->result == GT_CHECK_FAILURE;
    char text[ROW_MAX], id[24];

    gt_config_mention_all(doctor->context->config, found->remedy, row->remedy, sizeof(row->remedy));
    snprintf(id, sizeof(id), "GTD-E%d", row->id);
    print_event(print, "check", "{s:s, s:s, s:s, s:o*, s:o*}", "check", row->name, "result",
                gt_check_result_text(row->result), "text", row->text, "hint",
                *row->remedy ? print_json_text(gt_span_text(row->remedy)) : NULL, "id",
                row->id > 0 ? json_string(id) : NULL);
    if (print->is_json || (print->is_quiet && !is_fault))
        return;
    gt_check_format(row, &style, text, sizeof(text));
    print_clear_progress(print);
    print_bytes(print, text, strlen(text));
}

static void doctor_on_signal(void *userdata, int number)
{
    struct doctor *doctor = userdata;

    doctor->checkup.is_interrupted = true;
    gt_check_wake(doctor->context->loop);
}

void doctor_fail(struct doctor *doctor, const char *name, const struct failure *failure)
{
    struct gt_check_fault fault = {
        .id = (int)failure->id,
        .exit = failure_exit(failure->id),
        .remedy = failure->hint,
    };

    gt_checkup_fail(&doctor->checkup, name, &fault, "%s", failure->message);
}

struct gt_check_fault doctor_fault(enum failure_id id, struct failure *failure)
{
    failure_set(failure, id, NULL, "%s", "");
    return (struct gt_check_fault){
        .id = (int)id, .exit = failure_exit(id), .remedy = failure->hint};
}

static void doctor_finish(struct doctor *doctor)
{
    struct print *print = &doctor->context->print;
    char text[128];

    print_event(print, "checked", "{s:i, s:i, s:i}", "failures",
                (int)doctor->checkup.n[GT_CHECK_FAILURE], "warnings",
                (int)doctor->checkup.n[GT_CHECK_WARNING], "exit", doctor->checkup.exit);
    if (print->is_json || print->is_quiet)
        return;
    gt_checkup_format(&doctor->checkup, text, sizeof(text));
    print_bytes(print, text, strlen(text));
}

static void doctor_init(struct doctor *doctor, struct context *context)
{
    *doctor = (struct doctor){
        .context = context,
        .device = context->n_arguments > 0 ? context->arguments[0] : NULL,
        .silence = {.style = PRINT_LINES, .is_quiet = true},
        .checkup = {.on_row = doctor_on_row, .userdata = doctor},
    };
    connect_progress_init(&doctor->progress, context->loop, &context->print);
}

int cmd_doctor(struct context *context)
{
    static const struct {
        const char *what;
        void (*check)(struct doctor *doctor);
    } parts[] = {
        {"this machine", doctor_check_local},
        {"the broker", doctor_check_broker},
        {"the relay", doctor_check_relay},
        {"the device", doctor_check_device},
    };
    struct command_signals signals;
    struct doctor doctor;

    doctor_init(&doctor, context);
    if (doctor.device && !command_cut_device(context, 0))
        return GT_EXIT_USAGE;
    command_signals_start(&signals, context->loop, doctor_on_signal, &doctor);
    for (size_t i = 0; i < GT_ARRAY_SIZE(parts) && !doctor.checkup.is_interrupted; i++) {
        connect_progress_step(&doctor.progress, "checking %s", parts[i].what);
        parts[i].check(&doctor);
    }
    connect_progress_stop(&doctor.progress);
    command_signals_stop(&signals);
    identity_deinit(&doctor.identity);
    if (doctor.checkup.is_interrupted)
        return GT_EXIT_INTERRUPTED;
    doctor_finish(&doctor);
    return doctor.checkup.exit;
}

int cmd_doctor_misconfigured(struct context *context, const struct failure *failure)
{
    struct doctor doctor;

    doctor_init(&doctor, context);
    doctor_fail(&doctor, "configuration", failure);
    doctor_finish(&doctor);
    return doctor.checkup.exit;
}
