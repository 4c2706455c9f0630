/* SPDX-License-Identifier: ISC */
/* See the header. */
#include "device-output.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "table.h"

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

void device_output_time(uint64_t unix_time, bool is_iso, char *ret, size_t cap)
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

static json_t *json_of_tags(const char *tags)
{
    json_t *object = json_object();

    for (const char *at = tags; *at; at += strspn(at, " ")) {
        size_t n = strcspn(at, " "), n_key = strcspn(at, "=");
        char key[GT_TAG_KEY_MAX + 1];

        snprintf(key, sizeof(key), "%.*s", (int)n_key, at);
        json_object_set_new(object, key, print_json_text(gt_span(at + n_key + 1, n - n_key - 1)));
        at += n;
    }
    return object;
}

json_t *device_output_json(const struct device_row *row)
{
    char since[40];

    device_output_time(row->since, true, since, sizeof(since));
    json_t *online =
        row->knowledge == DEVICE_AUTHENTIC ? json_boolean(row->is_online) : json_null();
    json_t *object = json_pack("{s:s, s:o, s:s, s:s, s:o, s:i, s:o}", "device", row->name, "online",
                               online, "since", since, "version", row->version, "services",
                               json_of_services(row->services), "sessions", (int)row->n_sessions,
                               "tags", json_of_tags(row->tags));
    if (row->access_serial > 0)
        json_object_set_new(object, "access_serial", json_integer((json_int_t)row->access_serial));
    return object;
}

/* --- text ---------------------------------------------------------------------------------------
 */

#define LINE_SIZE (2 * GT_MESSAGE_MAX)

enum column { DEVICE, STATE, SINCE, SESSIONS, VERSION, LIST, TAGS, SERVICES, N_COLUMNS };

/* A narrow terminal shows name and state to the end. */
static const struct table_column all_columns[N_COLUMNS] = {
    [DEVICE] = {.title = "DEVICE", .min = 12},
    [STATE] = {.title = "STATE", .width = 7},
    [SINCE] = {.title = "SINCE", .width = 19, .priority = 4},
    [SESSIONS] = {.title = "SESSIONS", .priority = 6},
    [VERSION] = {.title = "VERSION", .priority = 5},
    [LIST] = {.title = "LIST", .priority = 2},
    [TAGS] = {.title = "TAGS", .min = 14, .priority = 1},
    [SERVICES] = {.title = "SERVICES", .min = 12, .priority = 3},
};

struct cells {
    char since[40], sessions[8], list[40];
    const char *texts[N_COLUMNS];
};

/* Returns the greatest serial of an access list, 0 if no device has one. */
static uint64_t newest_list(const struct device_table *table)
{
    uint64_t serial = 0;

    for (const struct device_row *row = table->rows; row; row = row->hh.next)
        serial = GT_MAX(serial, row->access_serial);
    return serial;
}

static void format_list(const struct device_row *row, uint64_t newest, char *ret, size_t cap)
{
    if (row->access_serial == 0)
        snprintf(ret, cap, "-");
    else
        snprintf(ret, cap, "%llu%s", (unsigned long long)row->access_serial,
                 row->access_serial < newest ? " old" : "");
}

/* @newest: the serial of the newest access list of all devices. */
static void cells_of_row(const struct device_row *row, uint64_t newest, struct cells *ret)
{
    format_list(row, newest, ret->list, sizeof(ret->list));
    ret->texts[LIST] = ret->list;
    device_output_time(row->since, false, ret->since, sizeof(ret->since));
    snprintf(ret->sessions, sizeof(ret->sessions), "%u", (unsigned)row->n_sessions);
    ret->texts[DEVICE] = row->name;
    ret->texts[STATE] = state_text(row);
    ret->texts[SINCE] = *ret->since ? ret->since : "-";
    ret->texts[SESSIONS] = ret->sessions;
    ret->texts[VERSION] = *row->version ? row->version : "-";
    ret->texts[TAGS] = *row->tags ? row->tags : "-";
    ret->texts[SERVICES] = services_text(row);
}

/* Returns the number of selected rows. */
static size_t measure_columns(const struct device_table *table, const struct selection *selection,
                              struct table_column ret[static N_COLUMNS])
{
    size_t n = 0;
    bool has_tags = false;
    uint64_t newest = newest_list(table);

    memcpy(ret, all_columns, sizeof(all_columns));
    for (size_t i = 0; i < N_COLUMNS; i++)
        ret[i].width = GT_MAX(ret[i].width, (int)strlen(ret[i].title));
    for (const struct device_row *row = table->rows; row; row = row->hh.next) {
        struct cells cells;

        if (!selection_accepts(selection, row))
            continue;
        n++;
        has_tags |= *row->tags != 0;
        cells_of_row(row, newest, &cells);
        for (size_t i = 0; i < N_COLUMNS; i++)
            ret[i].width = GT_MAX(ret[i].width, (int)strlen(cells.texts[i]));
    }
    if (!has_tags)
        ret[TAGS].width = 0;
    if (newest == 0)
        ret[LIST].width = 0;
    return n;
}

static void print_line(struct print *print, const struct table_column *columns,
                       const char *const *texts)
{
    char cell[LINE_SIZE], line[LINE_SIZE];
    size_t n = 0;

    for (size_t i = 0; i < N_COLUMNS; i++) {
        int width = columns[i].width;

        if (width == 0)
            continue;
        table_cell(texts[i], width, cell, sizeof(cell));
        n += (size_t)snprintf(line + n, sizeof(line) - n, "%*s%*s", n > 0 ? TABLE_GAP : 0, "",
                              i == SESSIONS ? width : -width, cell);
        n = GT_MIN(n, sizeof(line) - 1);
    }
    while (n > 0 && line[n - 1] == ' ')
        n--;
    print_data(print, "%.*s\n", (int)n, line);
}

static void print_table(struct print *print, const struct device_table *table,
                        const struct selection *selection)
{
    struct table_column columns[N_COLUMNS];
    const char *titles[N_COLUMNS];
    uint64_t newest = newest_list(table);

    if (measure_columns(table, selection, columns) == 0)
        return;
    table_fit(columns, N_COLUMNS, table_terminal_width());
    for (size_t i = 0; i < N_COLUMNS; i++)
        titles[i] = columns[i].title;
    print_line(print, columns, titles);
    for (const struct device_row *row = table->rows; row; row = row->hh.next) {
        struct cells cells;

        if (!selection_accepts(selection, row))
            continue;
        cells_of_row(row, newest, &cells);
        print_line(print, columns, cells.texts);
    }
}

void device_output_list(struct print *print, const struct device_table *table,
                        const struct selection *selection, bool is_whole)
{
    if (!print->is_json) {
        print_table(print, table, selection);
        return;
    }
    for (const struct device_row *row = table->rows; row; row = row->hh.next) {
        if (!selection_accepts(selection, row))
            continue;
        json_t *object = device_output_json(row);
        json_object_set_new(object, "whole", json_boolean(is_whole));
        print_json(print, object);
    }
}

void device_output_one(struct print *print, const struct device_row *row)
{
    char since[40];

    if (print->is_json) {
        print_json(print, device_output_json(row));
        return;
    }
    device_output_time(row->since, false, since, sizeof(since));
    print_data(print, "%s is %s\n", row->name, state_text(row));
    if (row->knowledge != DEVICE_AUTHENTIC)
        return;
    print_data(print, "  %-9s %s%s\n", "since",
               row->is_will && *since ? "the device last came online " : "",
               *since ? since : "unknown");
    print_data(print, "  %-9s %s\n", "version", *row->version ? row->version : "unknown");
    print_data(print, "  %-9s %s\n", "services", *row->services ? row->services : "none");
    print_data(print, "  %-9s %s\n", "tags", *row->tags ? row->tags : "none");
    print_data(print, "  %-9s %u\n", "sessions", (unsigned)row->n_sessions);
    if (row->access_serial > 0)
        print_data(print, "  %-9s access list %llu\n", "list",
                   (unsigned long long)row->access_serial);
}
