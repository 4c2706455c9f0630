/* SPDX-License-Identifier: ISC */
/* See the header. */
#include "device-output.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

bool device_filter_accepts(const struct device_filter *filter, const struct device_row *row)
{
    if (filter->is_online_only && !(row->knowledge == DEVICE_AUTHENTIC && row->is_online))
        return false;
    return !filter->pattern || fnmatch(filter->pattern, row->name, 0) == 0;
}

static const char *state_text(const struct device_row *row)
{
    if (row->knowledge != DEVICE_AUTHENTIC)
        return "unknown";
    return row->is_online ? "online" : "offline";
}

/* The last column, or the reason why there is nothing to show. */
static const char *services_text(const struct device_row *row)
{
    switch (row->knowledge) {
    case DEVICE_UNKNOWN: return "(no state came from this broker)";
    case DEVICE_FOREIGN: return "(encrypted with another key)";
    case DEVICE_AUTHENTIC: return row->services;
    }
    return "";
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

/* --- JSON ---------------------------------------------------------------------------------------
 */

static json_t *json_of_services(const char *services)
{
    json_t *list = json_array();

    for (const char *at = services; *at; at += strspn(at, " ")) {
        size_t n = strcspn(at, " ");

        json_array_append_new(list, print_json_text(gt_span(at, n)));
        at += n;
    }
    return list;
}

static json_t *json_of_row(const struct device_row *row)
{
    char since[40];

    format_time(row->since, true, since, sizeof(since));
    json_t *online =
        row->knowledge == DEVICE_AUTHENTIC ? json_boolean(row->is_online) : json_null();
    return json_pack("{s:s, s:o, s:s, s:s, s:o, s:i}", "device", row->name, "online", online,
                     "since", since, "version", row->version, "services",
                     json_of_services(row->services), "sessions", (int)row->n_sessions);
}

/* --- text ---------------------------------------------------------------------------------------
 */

static void print_row(struct print *print, const struct device_row *row, int width)
{
    char since[40];

    format_time(row->since, false, since, sizeof(since));
    print_data(print, "%-*s  %-8s  %-19s  %8u  %-8s  %s\n", width, row->name, state_text(row),
               *since ? since : "-", (unsigned)row->n_sessions, *row->version ? row->version : "-",
               services_text(row));
}

static int name_width(const struct device_table *table, const struct device_filter *filter)
{
    int width = 0;

    for (const struct device_row *row = table->rows; row; row = row->hh.next)
        if (device_filter_accepts(filter, row))
            width = GT_MAX(width, (int)strlen(row->name));
    return width;
}

void device_output_list(struct print *print, const struct device_table *table,
                        const struct device_filter *filter, bool is_whole)
{
    int width = name_width(table, filter);

    if (!print->is_json && width > 0) {
        width = GT_MAX(width, (int)strlen("DEVICE"));
        print_data(print, "%-*s  %-8s  %-19s  %8s  %-8s  %s\n", width, "DEVICE", "STATE", "SINCE",
                   "SESSIONS", "VERSION", "SERVICES");
    }
    for (const struct device_row *row = table->rows; row; row = row->hh.next) {
        if (!device_filter_accepts(filter, row))
            continue;
        if (!print->is_json) {
            print_row(print, row, width);
            continue;
        }
        json_t *object = json_of_row(row);
        json_object_set_new(object, "whole", json_boolean(is_whole));
        print_json(print, object);
    }
}

void device_output_one(struct print *print, const struct device_row *row)
{
    char since[40];

    if (print->is_json) {
        print_json(print, json_of_row(row));
        return;
    }
    format_time(row->since, false, since, sizeof(since));
    print_data(print, "%s is %s\n", row->name, state_text(row));
    if (row->knowledge != DEVICE_AUTHENTIC)
        return;
    print_data(print, "  %-9s %s\n", row->is_online ? "since" : "last seen",
               *since ? since : "unknown");
    print_data(print, "  %-9s %s\n", "version", *row->version ? row->version : "unknown");
    print_data(print, "  %-9s %s\n", "services", *row->services ? row->services : "none");
    print_data(print, "  %-9s %u\n", "sessions", (unsigned)row->n_sessions);
}
