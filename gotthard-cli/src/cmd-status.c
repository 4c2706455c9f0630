/* SPDX-License-Identifier: ISC */
/*
 * `status [DEVICE]` and `devices`: the state of devices as a table for people or as JSON objects
 * for programs. The exit status of `status DEVICE` is 0 only if the device is online, for scripts.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "commands.h"
#include "device-list.h"

struct status {
    struct context *context;
    const char *device; /* NULL: all */
    int code;
};

static const char *state_text(const struct device_list_entry *entry)
{
    if (!entry->is_authentic)
        return "unknown";
    return entry->is_online ? "online" : "offline";
}

/* Writes an empty text if the time is unknown. */
static void format_time(uint64_t unix_time, bool is_iso, char *ret, size_t cap)
{
    struct tm fields;
    time_t at = (time_t)unix_time;

    *ret = 0;
    if (unix_time == 0 || at < 0 || !(is_iso ? gmtime_r(&at, &fields) : localtime_r(&at, &fields)))
        return;
    if (is_iso)
        strftime(ret, cap, "%Y-%m-%dT%H:%M:%SZ", &fields);
    else
        strftime(ret, cap, "%Y-%m-%d %H:%M:%S", &fields);
}

static json_t *json_of_entry(const struct device_list_entry *entry)
{
    char since[40];

    format_time(entry->since, true, since, sizeof(since));
    json_t *services = json_array();
    char list[sizeof(entry->services)], *at = NULL;
    strcpy(list, entry->services);
    for (char *name = strtok_r(list, " ", &at); name; name = strtok_r(NULL, " ", &at))
        json_array_append_new(services, print_json_text(gt_span_text(name)));
    json_t *online = entry->is_authentic ? json_boolean(entry->is_online) : json_null();
    return json_pack("{s:s, s:o, s:s, s:s, s:o, s:i}", "device", entry->name, "online", online,
                     "since", since, "version", entry->version, "services", services, "sessions",
                     (int)entry->n_sessions);
}

static void print_row(struct print *print, const struct device_list_entry *entry, int width)
{
    char since[40];

    format_time(entry->since, false, since, sizeof(since));
    print_data(print, "%-*s  %-8s  %-19s  %8u  %-8s  %s\n", width, entry->name, state_text(entry),
               *since ? since : "-", entry->n_sessions, *entry->version ? entry->version : "-",
               entry->is_authentic ? entry->services : "(encrypted with another key)");
}

static void print_table(struct print *print, const struct device_list_entry *entries, size_t n)
{
    int width = (int)strlen("DEVICE");

    for (size_t i = 0; i < n; i++)
        width = GT_MAX(width, (int)strlen(entries[i].name));
    print_data(print, "%-*s  %-8s  %-19s  %8s  %-8s  %s\n", width, "DEVICE", "STATE", "SINCE",
               "SESSIONS", "VERSION", "SERVICES");
    for (size_t i = 0; i < n; i++)
        print_row(print, &entries[i], width);
}

/* One device, one property a line. */
static void print_one(struct print *print, const struct device_list_entry *entry)
{
    char since[40];

    format_time(entry->since, false, since, sizeof(since));
    print_data(print, "%s is %s\n", entry->name, state_text(entry));
    if (!entry->is_authentic)
        return;
    print_data(print, "  %-9s %s\n", entry->is_online ? "since" : "last seen",
               *since ? since : "unknown");
    print_data(print, "  %-9s %s\n", "version", *entry->version ? entry->version : "unknown");
    print_data(print, "  %-9s %s\n", "services", *entry->services ? entry->services : "none");
    print_data(print, "  %-9s %u\n", "sessions", entry->n_sessions);
}

/* Sets the exit status by the state of the one device that was requested. */
static void status_set_code(struct status *status, const struct device_list_entry *entries,
                            size_t n)
{
    struct failure failure;

    if (!status->device || (n > 0 && entries[0].is_authentic && entries[0].is_online))
        return;
    if (n == 0)
        failure_set(&failure, FAILURE_UNKNOWN_DEVICE, NULL,
                    "no device named %s has ever connected to this broker", status->device);
    else if (!entries[0].is_authentic)
        failure_set(&failure, FAILURE_NO_ANSWER,
                    "use the same GOTTHARD_CRYPT_KEY and GOTTHARD_CRYPT_IV on all sides",
                    "the state message of %s is encrypted with another key", status->device);
    else
        failure_set(&failure, FAILURE_OFFLINE, NULL, "%s is offline", status->device);
    status->code = print_failure(&status->context->print, &failure);
}

static void status_report(struct status *status, const struct device_list_entry *entries, size_t n)
{
    struct print *print = &status->context->print;

    if (print->is_json)
        for (size_t i = 0; i < n; i++)
            print_json(print, json_of_entry(&entries[i]));
    else if (n > 0 && status->device)
        print_one(print, &entries[0]);
    else if (n > 0)
        print_table(print, entries, n);
    else if (!status->device)
        print_note(print, "No device has connected to this broker under %s.",
                   status->context->settings->mqtt_prefix);
    status_set_code(status, entries, n);
}

static void status_on_end(void *userdata, const struct device_list_entry *entries, size_t n,
                          const struct failure *failure)
{
    struct status *status = userdata;

    if (failure)
        status->code = print_failure(&status->context->print, failure);
    else
        status_report(status, entries, n);
    ev_break(status->context->loop, EVBREAK_ALL);
}

static void status_on_signal(void *userdata, int number)
{
    struct status *status = userdata;

    status->code = GT_EXIT_INTERRUPTED;
    ev_break(status->context->loop, EVBREAK_ALL);
}

static int status_run(struct context *context, const char *device)
{
    static const struct device_list_events events = {
        .on_end = status_on_end,
    };
    struct status status = {.context = context, .device = device};
    struct identity identity = {0};
    struct device_list *list = NULL;
    struct failure failure;
    struct command_signals signals;
    struct device_list_settings settings = {
        .loop = context->loop,
        .settings = context->settings,
        .identity = &identity,
        .print = &context->print,
        .device = device,
    };

    if (identity_load_key(context->settings, &context->print, &identity, &failure) != 0 ||
        identity_load_signer(context->settings, &identity, &failure) != 0 ||
        device_list_new(&settings, &events, &status, &list, &failure) != 0) {
        status.code = print_failure(&context->print, &failure);
    } else {
        command_signals_start(&signals, context->loop, status_on_signal, &status);
        ev_run(context->loop, 0);
        command_signals_stop(&signals);
    }
    device_list_free(list);
    identity_deinit(&identity);
    return status.code;
}

int cmd_status(struct context *context)
{
    const char *device = context->n_arguments > 0 ? context->arguments[0] : NULL;

    if (device && !command_check_device(context, device))
        return GT_EXIT_USAGE;
    return status_run(context, device);
}

int cmd_devices(struct context *context)
{
    return status_run(context, NULL);
}
