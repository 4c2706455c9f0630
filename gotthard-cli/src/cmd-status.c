/* SPDX-License-Identifier: ISC */
/*
 * `status [DEVICE]` and `devices`: presence as a table for people, as objects for programs. status
 * of one device exits with 0 only when it is online, so that scripts can ask.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "commands.h"
#include "presence.h"

struct status {
    struct context *context;
    const char *device; /* NULL: all */
    int code;
};

static const char *word_of(const struct presence_device *device)
{
    if (!device->is_authentic)
        return "unknown";
    return device->is_online ? "online" : "offline";
}

/* Empty when not told. */
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

static json_t *json_of(const struct presence_device *device)
{
    char since[40];
    format_time(device->since, true, since, sizeof(since));
    json_t *services = json_array();
    char list[sizeof(device->services)], *at = NULL;
    strcpy(list, device->services);
    for (char *name = strtok_r(list, " ", &at); name; name = strtok_r(NULL, " ", &at))
        json_array_append_new(services, json_string(name));
    json_t *online = device->is_authentic ? json_boolean(device->is_online) : json_null();
    return json_pack("{s:s, s:o, s:s, s:s, s:o, s:i}", "device", device->name, "online", online,
                     "since", since, "version", device->version, "services", services, "sessions",
                     (int)device->n_sessions);
}

static void print_row(struct print *print, const struct presence_device *device, int width)
{
    char since[40];
    format_time(device->since, false, since, sizeof(since));
    print_data(print, "%-*s  %-8s  %-19s  %8u  %-8s  %s\n", width, device->name, word_of(device),
               *since ? since : "-", device->n_sessions, *device->version ? device->version : "-",
               device->is_authentic ? device->services : "(sealed with another key)");
}

static void print_table(struct print *print, const struct presence_device *devices, size_t n)
{
    int width = (int)strlen("DEVICE");
    for (size_t i = 0; i < n; i++)
        width = GT_MAX(width, (int)strlen(devices[i].name));
    print_data(print, "%-*s  %-8s  %-19s  %8s  %-8s  %s\n", width, "DEVICE", "STATE", "SINCE",
               "SESSIONS", "VERSION", "SERVICES");
    for (size_t i = 0; i < n; i++)
        print_row(print, &devices[i], width);
}

/* One device: a line for each thing known. */
static void print_one(struct print *print, const struct presence_device *device)
{
    char since[40];
    format_time(device->since, false, since, sizeof(since));
    print_data(print, "%s is %s\n", device->name, word_of(device));
    if (!device->is_authentic)
        return;
    print_data(print, "  %-9s %s\n", device->is_online ? "since" : "last seen",
               *since ? since : "not told");
    print_data(print, "  %-9s %s\n", "version", *device->version ? device->version : "not told");
    print_data(print, "  %-9s %s\n", "services",
               *device->services ? device->services : "none told");
    print_data(print, "  %-9s %u\n", "sessions", device->n_sessions);
}

static void status_on_failure(void *userdata, const struct failure *failure)
{
    struct status *status = userdata;
    status->code = print_failure(&status->context->print, failure);
    ev_break(status->context->loop, EVBREAK_ALL);
}

/* One device's state is the exit code too. */
static void judge(struct status *status, const struct presence_device *devices, size_t n)
{
    struct failure failure;
    if (!status->device || (n > 0 && devices[0].is_authentic && devices[0].is_online))
        return;
    if (n == 0)
        failure_set(&failure, FAILURE_UNKNOWN_DEVICE, NULL,
                    "no device named %s has ever been at this broker", status->device);
    else if (!devices[0].is_authentic)
        failure_set(&failure, FAILURE_NO_ANSWER,
                    "the same GOTTHARD_CRYPT_KEY and _IV belong on all sides",
                    "what %s says of itself is sealed with another key", status->device);
    else
        failure_set(&failure, FAILURE_OFFLINE, NULL, "%s is offline", status->device);
    status->code = print_failure(&status->context->print, &failure);
}

static void status_on_devices(void *userdata, const struct presence_device *devices, size_t n)
{
    struct status *status = userdata;
    struct print *print = &status->context->print;
    if (print->is_json)
        for (size_t i = 0; i < n; i++)
            print_json(print, json_of(&devices[i]));
    else if (n > 0 && status->device)
        print_one(print, &devices[0]);
    else if (n > 0)
        print_table(print, devices, n);
    else if (!status->device)
        print_note(print, "No device has been at this broker under %s.",
                   status->context->settings->mqtt_prefix);
    judge(status, devices, n);
    ev_break(status->context->loop, EVBREAK_ALL);
}

static void status_on_signal(void *userdata, int number)
{
    struct status *status = userdata;
    status->code = EXIT_INTERRUPTED;
    ev_break(status->context->loop, EVBREAK_ALL);
}

static int status_run(struct context *context, const char *device)
{
    static const struct presence_events events = {
        .on_devices = status_on_devices,
        .on_failure = status_on_failure,
    };
    struct status status = {.context = context, .device = device};
    struct identity identity = {0};
    struct presence *presence = NULL;
    struct failure failure;
    struct command_signals signals;
    struct presence_settings settings = {
        .loop = context->loop,
        .settings = context->settings,
        .identity = &identity,
        .print = &context->print,
        .device = device,
    };
    if (identity_load_key(context->settings, &context->print, &identity, &failure) != 0 ||
        presence_new(&settings, &events, &status, &presence, &failure) != 0) {
        status.code = print_failure(&context->print, &failure);
    } else {
        command_signals_start(&signals, context->loop, status_on_signal, &status);
        ev_run(context->loop, 0);
        command_signals_stop(&signals);
    }
    presence_free(presence);
    identity_deinit(&identity);
    return status.code;
}

int cmd_status(struct context *context)
{
    const char *device = context->n_words > 0 ? context->words[0] : NULL;
    if (device && !command_takes_device(context, device))
        return EXIT_USAGE;
    return status_run(context, device);
}

int cmd_devices(struct context *context)
{
    return status_run(context, NULL);
}
