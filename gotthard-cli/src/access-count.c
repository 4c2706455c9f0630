/* SPDX-License-Identifier: ISC */
/*
 * The devices are found by their states (device-list.h). Then those that are online are queried, a
 * few at a time, and asked again until they have the list: the broker may deliver the query first.
 */
#include "access-count.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "access-text.h"
#include "device-list.h"
#include "device-output.h"
#include "gotthard/base/clock.h"
#include "known-devices.h"
#include "request.h"

#define QUERIES     8   /* at a time: each has a connection to the broker */
#define AGAIN_S     1.  /* until a device is asked again */
#define LIMIT_S     20. /* for a few devices */
#define PER_DEVICE  .25 /* s more for each */
#define NAMED_MAX   20  /* devices that the result names */
#define REASON_SIZE 96

struct target {
    struct access_count *count;
    const struct device_row *row;
    struct request *query; /* owned */
    double again_at;       /* when it is queried next */
    bool is_asked;         /* it is online, and answers this operator */
    bool has_list;
    char why[REASON_SIZE]; /* why it does not count */
};

struct access_count {
    struct context *context;
    const struct authority *authority;
    struct identity *identity;
    struct device_table table;
    struct device_list *list;
    struct target *targets; /* owned */
    size_t n_targets, n_running, n_confirmed;
    ev_timer timer;
    struct list_verdict verdict; /* whether all devices with a state were found */
    double until;
    int code;
};

static void count_step(struct access_count *count);

static void count_end(struct access_count *count)
{
    ev_break(count->context->loop, EVBREAK_ALL);
}

/* --- queries ---------------------------------------------------------------------------------- */

static bool is_online(const struct target *target)
{
    return target->row->knowledge == DEVICE_AUTHENTIC && target->row->is_online;
}

/* A device with the list answers only operators that it grants something there. */
static bool is_granted(const struct access_count *count, const char *device)
{
    const struct gt_signer *signer = count->identity->signer;
    uint8_t fingerprint[GT_KEY_SIZE];

    if (!signer)
        return false;
    gt_signer_fingerprint(signer, fingerprint);
    return gt_access_list_operator(count->authority->list, count->context->settings->client_name,
                                   fingerprint, device, time(NULL)) != NULL;
}

static void target_judge(struct target *target, uint64_t serial)
{
    target->has_list = serial >= authority_serial(target->count->authority);
    if (target->has_list)
        target->count->n_confirmed++;
    else if (serial > 0)
        snprintf(target->why, sizeof(target->why), "has the list %llu", (unsigned long long)serial);
    else {
        snprintf(target->why, sizeof(target->why), "uses no access list");
        target->is_asked = false; /* by its policy, which asking does not change */
    }
}

static void query_on_nothing(void *userdata)
{
}

static void query_on_report(void *userdata, const struct gt_report *report)
{
}

static void query_on_agreed(void *userdata, const struct gt_answer *answer)
{
}

static void query_on_wait(void *userdata, const struct failure *why)
{
}

static void query_on_end(void *userdata, const struct gt_answer *answer,
                         const struct failure *failure)
{
    struct target *target = userdata;
    struct access_count *count = target->count;

    if (answer)
        target_judge(target, answer->ack.extensions.access_serial);
    else if (failure->id == FAILURE_UNTRUSTED)
        snprintf(target->why, sizeof(target->why),
                 "its answer is not signed by a key that the list has for it");
    else
        snprintf(target->why, sizeof(target->why), "no answer");
    target->query = request_free(target->query);
    target->again_at = gt_clock() + AGAIN_S;
    count->n_running--;
    count_step(count);
}

static void target_query(struct target *target)
{
    static const struct request_events events = {
        .on_broker = query_on_nothing,
        .on_agreed = query_on_agreed,
        .on_report = query_on_report,
        .on_offline = query_on_nothing,
        .on_wait = query_on_wait,
        .on_end = query_on_end,
    };
    struct access_count *count = target->count;
    struct failure failure;
    struct request_settings settings = {
        .loop = count->context->loop,
        .settings = count->context->settings,
        .identity = count->identity,
        .print = &count->context->print,
        .device = target->row->name,
        .service = "",
        .is_query = true,
    };

    if (request_new(&settings, &events, target, &target->query, &failure) == 0) {
        count->n_running++;
        return;
    }
    snprintf(target->why, sizeof(target->why), "%.90s", failure.message);
    target->again_at = gt_clock() + AGAIN_S;
}

/* Begins queries that are due. Returns the number of online devices that do not count yet. */
static size_t count_query(struct access_count *count, double now)
{
    size_t n_open = 0;

    for (size_t i = 0; i < count->n_targets; i++) {
        struct target *target = &count->targets[i];

        if (target->has_list || !target->is_asked)
            continue;
        n_open++;
        if (!target->query && now >= target->again_at && count->n_running < QUERIES)
            target_query(target);
    }
    return n_open;
}

static void count_step(struct access_count *count)
{
    double now = gt_clock();

    if (now >= count->until || count_query(count, now) == 0) {
        count_end(count);
        return;
    }
    print_progress(&count->context->print, "%zu of %zu devices have it", count->n_confirmed,
                   count->n_targets);
    ev_timer_stop(count->context->loop, &count->timer);
    ev_now_update(count->context->loop);
    ev_timer_set(&count->timer, GT_MIN(AGAIN_S, count->until - now), 0.);
    ev_timer_start(count->context->loop, &count->timer);
}

static void count_on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
    count_step(timer->data);
}

/* --- devices ---------------------------------------------------------------------------------- */

static void explain_state(struct target *target)
{
    const struct device_row *row = target->row;
    char time[40];

    if (row->knowledge == DEVICE_UNKNOWN)
        snprintf(target->why, sizeof(target->why), "the broker has no state of it");
    else if (row->knowledge == DEVICE_FOREIGN)
        snprintf(target->why, sizeof(target->why), "has another key");
    else if (row->is_online)
        snprintf(target->why, sizeof(target->why), "%s",
                 target->is_asked ? "no answer" : "the list does not let this operator ask it");
    else if (row->since == 0)
        snprintf(target->why, sizeof(target->why), "offline");
    else {
        device_output_time(row->since, false, time, sizeof(time));
        snprintf(target->why, sizeof(target->why), "offline%s %s",
                 row->is_will ? ", online until after" : " since", time);
    }
}

/* A revoked device is none of them. */
static bool count_make_targets(struct access_count *count)
{
    count->targets = calloc(HASH_COUNT(count->table.rows) + 1, sizeof(*count->targets));
    if (!count->targets)
        return false;
    for (const struct device_row *row = count->table.rows; row; row = row->hh.next) {
        struct target *target = &count->targets[count->n_targets];

        if (gt_access_list_is_revoked(count->authority->list, false, row->name))
            continue;
        *target = (struct target){.count = count, .row = row};
        target->is_asked = is_online(target) && is_granted(count, row->name);
        explain_state(target);
        count->n_targets++;
    }
    return true;
}

static void count_on_devices(void *userdata, const struct list_verdict *verdict,
                             const struct failure *failure)
{
    struct access_count *count = userdata;

    if (failure) {
        count->code = print_failure(&count->context->print, failure);
        count_end(count);
        return;
    }
    count->verdict = *verdict;
    if (!count_make_targets(count)) {
        count_end(count);
        return;
    }
    count->until = gt_clock() + LIMIT_S + PER_DEVICE * (double)count->n_targets;
    count_step(count);
}

static void count_expect(void *userdata, const char *name)
{
    known_devices_declare(userdata, name);
}

/* --- the result ------------------------------------------------------------------------------- */

static json_t *count_json(const struct access_count *count)
{
    json_t *missing = json_array();

    for (size_t i = 0; i < count->n_targets; i++)
        if (!count->targets[i].has_list)
            json_array_append_new(missing,
                                  json_pack("{s:s, s:s}", "device", count->targets[i].row->name,
                                            "reason", count->targets[i].why));
    return json_pack("{s:I, s:b, s:I, s:I, s:o}", "serial",
                     (json_int_t)authority_serial(count->authority), "whole",
                     count->verdict.is_whole, "devices", (json_int_t)count->n_targets, "confirmed",
                     (json_int_t)count->n_confirmed, "missing", missing);
}

/* Writes "plant-3 (offline since ...), plant-4 (no answer) and 7 more". */
static void count_name_missing(const struct access_count *count, char *ret, size_t cap)
{
    size_t n = 0, n_named = 0;

    *ret = 0;
    for (size_t i = 0; i < count->n_targets; i++) {
        const struct target *target = &count->targets[i];
        size_t n_needed = strlen(target->row->name) + strlen(target->why) + sizeof(" (), ");

        if (target->has_list)
            continue;
        if (n_named >= NAMED_MAX || n + n_needed + sizeof(" and 131072 more") > cap)
            break;
        n += (size_t)snprintf(ret + n, cap - n, "%s%s (%s)", n_named > 0 ? ", " : "",
                              target->row->name, target->why);
        n_named++;
    }
    size_t n_more = count->n_targets - count->n_confirmed - n_named;
    if (n_more > 0)
        snprintf(ret + n, cap - n, " and %zu more", n_more);
}

static int count_report(struct access_count *count)
{
    struct print *print = &count->context->print;
    struct failure failure;

    print_clear_progress(print);
    print_json_event(print, "confirmed", count_json(count));
    if (count->n_confirmed == count->n_targets && !count->verdict.is_whole) {
        failure_set(&failure, FAILURE_LIST_NOT_WHOLE, count->verdict.hint,
                    "%zu devices have the access list, but there may be more: %s", count->n_targets,
                    count->verdict.why);
        return print_failure(print, &failure);
    }
    if (count->n_confirmed == count->n_targets) {
        print_note(print, "All devices have the access list (%zu).", count->n_targets);
        return 0;
    }
    failure_set(&failure, FAILURE_LIST_NOT_EVERYWHERE, NULL,
                "%zu of %zu devices have the access list", count->n_confirmed, count->n_targets);
    size_t n = strlen(failure.message);
    n += (size_t)snprintf(failure.message + n, sizeof(failure.message) - n, "; not yet: ");
    count_name_missing(count, failure.message + n, sizeof(failure.message) - n);
    return print_failure(print, &failure);
}

/* --- the whole -------------------------------------------------------------------------------- */

/* Answers are judged by the list itself if it has devices. */
static int count_load_trust(struct access_count *count, struct failure *ret_failure)
{
    struct identity *identity = count->identity;
    const char *body = count->authority->text;
    size_t n_devices = HASH_COUNT(count->table.rows);

    access_text_each_device(body, count_expect, &count->table);
    if (HASH_COUNT(count->table.rows) == n_devices) {
        print_warning(&count->context->print,
                      "the access list names no devices: their answers are judged by trust.policy "
                      "of this operator");
        return identity_load_trust(count->context->config, identity, ret_failure);
    }
    gt_trust_init_list(&identity->trust, NULL, 0);
    identity->trust.list = count->authority->list;
    return 0;
}

static void count_on_signal(void *userdata, int number)
{
    struct access_count *count = userdata;

    count->code = GT_EXIT_INTERRUPTED;
    count_end(count);
}

static void count_run(struct access_count *count)
{
    static const struct device_list_events events = {.on_end = count_on_devices};
    struct command_signals signals;
    struct failure failure;
    struct device_list_settings settings = {
        .loop = count->context->loop,
        .settings = count->context->settings,
        .identity = count->identity,
        .print = &count->context->print,
        .table = &count->table,
    };

    if (count_load_trust(count, &failure) != 0 ||
        device_list_new(&settings, &events, count, &count->list, &failure) != 0) {
        count->code = print_failure(&count->context->print, &failure);
        return;
    }
    command_signals_start(&signals, count->context->loop, count_on_signal, count);
    ev_run(count->context->loop, 0);
    command_signals_stop(&signals);
    if (count->code == 0)
        count->code = count->targets ? count_report(count) : GT_EXIT_INTERNAL;
}

int access_count(struct context *context, const struct authority *authority,
                 struct identity *identity)
{
    struct access_count count = {.context = context, .authority = authority, .identity = identity};

    ev_init(&count.timer, count_on_timer);
    count.timer.data = &count;
    count_run(&count);
    ev_timer_stop(context->loop, &count.timer);
    for (size_t i = 0; i < count.n_targets; i++)
        request_free(count.targets[i].query);
    free(count.targets);
    device_list_free(count.list);
    device_table_deinit(&count.table);
    return count.code;
}
