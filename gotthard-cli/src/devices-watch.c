/* SPDX-License-Identifier: ISC */
/*
 * One connection keeps the subscription (live-states.h). As soon as it is granted a list is read by
 * another (device-list.h), so that no change falls between list and subscription. The same happens
 * after each loss of the broker, with a new table: the differences are the changes meanwhile.
 */
#include "devices-watch.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "device-changes.h"
#include "device-list.h"
#include "device-memory.h"
#include "device-output.h"
#include "device-report.h"
#include "known-devices.h"
#include "live-states.h"

#define RETRY_S 5. /* to the next list, if one failed while the subscription lasts */

struct watch {
    struct context *context;
    const struct selection *selection;
    struct identity identity;
    struct device_table table;
    struct device_changes *changes; /* owned */
    struct live_states *live;       /* owned */
    struct device_list *list;       /* owned; NULL: none is being read */
    ev_timer retry;
    ev_io reader;  /* of standard output, if that is a pipe */
    bool is_shown; /* the first list */
    bool is_lost;
    int code;
};

static void watch_end(struct watch *watch, int code)
{
    watch->code = code;
    ev_break(watch->context->loop, EVBREAK_ALL);
}

/* --- a change ------------------------------------------------------------------------------- */

static void add_part(char *text, size_t cap, const char *word, const char *value)
{
    size_t n = strlen(text);

    snprintf(text + n, cap - n, "%s%s%s%s", n > 0 ? ", " : "", word, *value ? " " : "", value);
}

static const char *describe(const struct watch *watch, const struct device_row *row,
                            unsigned changes, char *ret, size_t cap)
{
    char number[8];

    *ret = 0;
    if (changes & DEVICE_CHANGE_APPEARED)
        add_part(ret, cap, "appeared,", row->is_online ? "online" : "offline");
    if (changes & DEVICE_CHANGE_ONLINE)
        add_part(ret, cap, row->is_online ? "came online" : "went offline", "");
    snprintf(number, sizeof(number), "%u", (unsigned)row->n_sessions);
    if (changes & DEVICE_CHANGE_SESSIONS)
        add_part(ret, cap, "sessions", number);
    if (changes & (DEVICE_CHANGE_TAGS | DEVICE_CHANGE_APPEARED) && *row->tags)
        add_part(ret, cap, "tags", row->tags);
    else if (changes & DEVICE_CHANGE_TAGS)
        add_part(ret, cap, "no tags", "");
    if (changes & DEVICE_CHANGE_SERVICES)
        add_part(ret, cap, "services", *row->services ? row->services : "none");
    if (changes & DEVICE_CHANGE_VERSION)
        add_part(ret, cap, "version", row->version);
    if (changes & DEVICE_CHANGE_SELECTED && !(changes & DEVICE_CHANGE_ONLINE))
        add_part(ret, cap,
                 selection_accepts(watch->selection, row) ? "selected now" : "no longer selected",
                 "");
    return ret;
}

static json_t *names_of(unsigned changes)
{
    static const struct {
        unsigned bit;
        const char *name;
    } all[] = {
        {DEVICE_CHANGE_APPEARED, "appeared"}, {DEVICE_CHANGE_ONLINE, "online"},
        {DEVICE_CHANGE_SESSIONS, "sessions"}, {DEVICE_CHANGE_SERVICES, "services"},
        {DEVICE_CHANGE_TAGS, "tags"},         {DEVICE_CHANGE_VERSION, "version"},
        {DEVICE_CHANGE_SELECTED, "selected"},
    };
    json_t *names = json_array();

    for (size_t i = 0; i < GT_ARRAY_SIZE(all); i++)
        if (changes & all[i].bit)
            json_array_append_new(names, json_string(all[i].name));
    return names;
}

static void watch_print_change(struct watch *watch, const struct device_row *row, unsigned changes)
{
    struct print *print = &watch->context->print;
    char time_text[40], text[2 * GT_MESSAGE_MAX];

    if (print->is_json) {
        json_t *device = device_output_json(row);

        json_object_set_new(device, "changes", names_of(changes));
        print_json_event(print, "changed", device);
        return;
    }
    device_output_time((uint64_t)time(NULL), false, time_text, sizeof(time_text));
    print_clear_progress(print);
    print_data(print, "%s  %s  %s\n", time_text, row->name,
               describe(watch, row, changes, text, sizeof(text)));
}

static void watch_look(struct watch *watch, const struct device_row *row)
{
    unsigned changes = device_changes_take(watch->changes, row);

    if (changes)
        watch_print_change(watch, row, changes);
    if (watch->context->print.stdout_errno != 0)
        watch_end(watch, 0);
}

/* --- lists ---------------------------------------------------------------------------------- */

/* The rows and their sum as events, without the end that a list has. */
static void watch_print_events(struct watch *watch, const struct list_verdict *verdict)
{
    struct print *print = &watch->context->print;
    size_t n = 0;

    for (const struct device_row *row = watch->table.rows; row; row = row->hh.next) {
        if (!selection_accepts(watch->selection, row))
            continue;
        n++;
        print_json_event(print, "device", device_output_json(row));
    }
    print_json_event(print, "listed",
                     json_pack("{s:I, s:b}", "devices", (json_int_t)n, "whole", verdict->is_whole));
}

static void watch_show(struct watch *watch, const struct list_verdict *verdict)
{
    const struct context *context = watch->context;
    struct device_report report = {&watch->context->print, &watch->table, watch->selection,
                                   verdict};

    if (report.print->is_json)
        watch_print_events(watch, verdict);
    else
        (void)device_report(&report, false);
    if (report.print->is_json && !verdict->is_whole)
        print_warning(report.print, "the list is not whole: %s", verdict->why);
    device_memory_save(context->settings, &watch->identity, &watch->table, (uint64_t)time(NULL));
    for (const struct device_row *row = watch->table.rows; row; row = row->hh.next)
        (void)device_changes_take(watch->changes, row);
    watch->is_shown = true;
    print_note(report.print, "Watching for changes. Press Ctrl+C to end.");
}

static void watch_on_list_failed(struct watch *watch, const struct failure *failure)
{
    if (!watch->is_shown) {
        watch_end(watch, print_failure(&watch->context->print, failure));
        return;
    }
    print_warning(&watch->context->print, "the list cannot be read again: %s", failure->message);
    ev_timer_set(&watch->retry, RETRY_S, 0.);
    ev_timer_start(watch->context->loop, &watch->retry);
}

static void watch_on_listed(void *userdata, const struct list_verdict *verdict,
                            const struct failure *failure)
{
    struct watch *watch = userdata;
    struct failure copy;

    if (failure)
        copy = *failure;
    watch->list = device_list_free(watch->list);
    if (failure) {
        watch_on_list_failed(watch, &copy);
        return;
    }
    if (!watch->is_shown) {
        watch_show(watch, verdict);
        return;
    }
    for (const struct device_row *row = watch->table.rows; row; row = row->hh.next)
        watch_look(watch, row);
    if (!verdict->is_whole)
        print_warning(&watch->context->print, "the list is not whole: %s", verdict->why);
}

/* A new table with the names of the one before: its states are read again. */
static void watch_renew_table(struct watch *watch)
{
    struct device_table before = watch->table;

    watch->table = (struct device_table){0};
    for (const struct device_row *row = before.rows; row; row = row->hh.next) {
        struct device_row *now = device_table_expect(&watch->table, row->name);

        if (now)
            now->is_declared = row->is_declared;
    }
    device_table_deinit(&before);
}

static void watch_read(struct watch *watch)
{
    static const struct device_list_events events = {.on_end = watch_on_listed};
    struct context *context = watch->context;
    struct failure failure;
    struct device_list_settings settings = {
        .loop = context->loop,
        .settings = context->settings,
        .identity = &watch->identity,
        .print = &context->print,
        .table = &watch->table,
    };

    ev_timer_stop(context->loop, &watch->retry);
    watch->list = device_list_free(watch->list);
    if (watch->is_shown)
        watch_renew_table(watch);
    if (device_list_new(&settings, &events, watch, &watch->list, &failure) != 0)
        watch_on_list_failed(watch, &failure);
}

static void watch_on_retry(struct ev_loop *loop, ev_timer *timer, int revents)
{
    watch_read(timer->data);
}

/* --- the subscription ----------------------------------------------------------------------- */

static void watch_on_ready(void *userdata, size_t n_not_watched)
{
    struct watch *watch = userdata;
    struct print *print = &watch->context->print;

    if (watch->is_lost) {
        print_note(print, "Connected to the broker again.");
        print_event(print, "broker-connected", "{}");
    }
    watch->is_lost = false;
    if (n_not_watched > 0)
        print_warning(print,
                      "the broker permits subscriptions to single devices only: changes of %zu "
                      "devices are not seen",
                      n_not_watched);
    watch_read(watch);
}

static void watch_on_state(void *userdata, const char *device, const struct gt_state *state,
                           bool is_retained)
{
    struct watch *watch = userdata;

    (void)device_table_add(&watch->table, device, state, is_retained);
    if (watch->is_shown && !watch->list) {
        const struct device_row *row = device_table_find(&watch->table, device);

        if (row)
            watch_look(watch, row);
    }
}

static void watch_on_lost(void *userdata, const char *why, unsigned retry_ms)
{
    struct watch *watch = userdata;
    struct print *print = &watch->context->print;

    ev_timer_stop(watch->context->loop, &watch->retry);
    watch->list = device_list_free(watch->list);
    if (!watch->is_lost)
        print_warning(print, "The broker was lost (%s). Connecting again.", why);
    print_event(print, "broker-lost", "{s:s, s:f}", "reason", why, "retry_s",
                (double)retry_ms / 1000.);
    watch->is_lost = true;
}

static void watch_on_failed(void *userdata, const struct failure *failure)
{
    struct watch *watch = userdata;

    watch_end(watch, print_failure(&watch->context->print, failure));
}

static const struct device_table *watch_names(void *userdata)
{
    struct watch *watch = userdata;

    return &watch->table;
}

static void watch_on_signal(void *userdata, int number)
{
    struct watch *watch = userdata;

    watch_end(watch, watch->is_shown ? 0 : GT_EXIT_INTERRUPTED);
}

/* The reader of the changes has closed the pipe. A pipe that is also open for reading is not
 * watched. */
static void watch_on_reader(struct ev_loop *loop, ev_io *io, int revents)
{
    struct pollfd output = {.fd = STDOUT_FILENO};

    if (poll(&output, 1, 0) == 1 && (output.revents & POLLERR))
        watch_end(io->data, 0);
    else
        ev_io_stop(loop, io);
}

static void watch_start_reader(struct watch *watch)
{
    struct stat status;

    ev_io_init(&watch->reader, watch_on_reader, STDOUT_FILENO, EV_READ);
    watch->reader.data = watch;
    if (fstat(STDOUT_FILENO, &status) == 0 && S_ISFIFO(status.st_mode))
        ev_io_start(watch->context->loop, &watch->reader);
}

/* --- beginning and end ---------------------------------------------------------------------- */

static int watch_start(struct watch *watch, struct failure *ret_failure)
{
    static const struct live_states_events events = {
        .on_ready = watch_on_ready,
        .on_state = watch_on_state,
        .on_lost = watch_on_lost,
        .on_failed = watch_on_failed,
        .names = watch_names,
    };
    struct context *context = watch->context;
    struct live_states_settings settings = {
        .loop = context->loop,
        .settings = context->settings,
        .identity = &watch->identity,
        .print = &context->print,
    };

    if (identity_load_key(context->settings, &context->print, &watch->identity, ret_failure) != 0 ||
        identity_load_signer(context->settings, &watch->identity, ret_failure) != 0)
        return 1;
    watch->changes = device_changes_new(watch->selection);
    if (!watch->changes)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "out of memory");
    known_devices_load(context->config, &watch->identity, &context->print, &watch->table);
    known_devices_declare_all(&watch->table, watch->selection);
    return live_states_new(&settings, &events, watch, &watch->live, ret_failure);
}

int devices_watch(struct context *context, const struct selection *selection)
{
    struct watch watch = {.context = context, .selection = selection};
    struct command_signals signals;
    struct failure failure;

    ev_timer_init(&watch.retry, watch_on_retry, 0., 0.);
    watch.retry.data = &watch;
    if (watch_start(&watch, &failure) != 0) {
        watch.code = print_failure(&context->print, &failure);
    } else {
        command_signals_start(&signals, context->loop, watch_on_signal, &watch);
        watch_start_reader(&watch);
        ev_run(context->loop, 0);
        ev_io_stop(context->loop, &watch.reader);
        command_signals_stop(&signals);
    }
    ev_timer_stop(context->loop, &watch.retry);
    device_list_free(watch.list);
    live_states_free(watch.live);
    device_changes_free(watch.changes);
    device_table_deinit(&watch.table);
    identity_deinit(&watch.identity);
    return watch.code;
}
