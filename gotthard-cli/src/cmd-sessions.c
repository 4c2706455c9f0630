/* SPDX-License-Identifier: ISC */
/*
 * `sessions`: the tunnels of this user on this machine, shared ones and those of `connect`, from
 * their control sockets. It reads no settings and asks no network. The sockets of killed processes
 * are removed.
 */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "holder-path.h"
#include "holder-reach.h"
#include "table.h"

struct list {
    struct holder_status *items; /* owned */
    size_t n;
};

static const char *const kinds[] = {
    [HOLDER_KIND_SHARED] = "shared",
    [HOLDER_KIND_CONNECT] = "connect",
};

static const char *const states[] = {
    [HOLDER_STATE_CONNECTING] = "connecting",
    [HOLDER_STATE_UP] = "up",
    [HOLDER_STATE_AWAY] = "away",
    [HOLDER_STATE_CLOSING] = "closing",
};

/* --- the sockets --------------------------------------------------------------------------------
 */

static bool has_suffix(const char *name, const char *suffix)
{
    size_t n = strlen(name), n_suffix = strlen(suffix);

    return n > n_suffix && strcmp(name + n - n_suffix, suffix) == 0;
}

static int list_add(struct list *list, const struct holder_status *status)
{
    struct holder_status *items = realloc(list->items, (list->n + 1) * sizeof(*items));

    if (!items)
        return -ENOMEM;
    items[list->n++] = *status;
    list->items = items;
    return 0;
}

static int query(struct print *print, const char *path, struct list *list)
{
    static struct holder_message answer;
    char why[LOCAL_SOCKET_WHY];
    bool is_unused;

    if (holder_query(path, HOLDER_STATUS_QUERY, HOLDER_STATUS, &answer, &is_unused) == 0)
        return list_add(list, &answer.status);
    if (is_unused)
        (void)!local_socket_clear(path, why); /* unless a new process has replaced it meanwhile */
    else if (access(path, F_OK) == 0)         /* it has not ended meanwhile */
        print_warning(print, "no answer at %s: its process may be stopped", path);
    return 0;
}

static int read_folder(struct print *print, const char *folder, struct list *ret)
{
    char path[LOCAL_SOCKET_PATH_MAX + 1];
    DIR *entries = opendir(folder);
    int r = 0;

    if (!entries)
        return -errno;
    for (const struct dirent *entry; r == 0 && (entry = readdir(entries));) {
        int n = snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);

        if ((has_suffix(entry->d_name, HOLDER_SUFFIX_SHARED) ||
             has_suffix(entry->d_name, HOLDER_SUFFIX_CONNECT)) &&
            n > 0 && (size_t)n < sizeof(path))
            r = query(print, path, ret);
    }
    closedir(entries);
    return r;
}

static int compare(const void *a, const void *b)
{
    const struct holder_status *first = a, *second = b;
    int order = strcmp(first->device, second->device);

    if (order != 0)
        return order;
    return first->age_ms < second->age_ms ? 1 : -1;
}

/* --- output -------------------------------------------------------------------------------------
 */

static void print_objects(struct print *print, const struct list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        const struct holder_status *item = &list->items[i];

        print_json(print, json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:f, s:i, s:I, s:I, s:o}",
                                    "device", item->device, "operator", item->operator_, "relay",
                                    item->relay, "kind", kinds[item->kind], "state",
                                    states[item->state], "pid", (int)item->pid, "seconds",
                                    (double)item->age_ms / 1000., "streams", (int)item->n_streams,
                                    "up", (json_int_t)item->n_up, "down", (json_int_t)item->n_down,
                                    "forwards", print_json_text(gt_span_text(item->forwards))));
    }
}

enum column { DEVICE, KIND, STATE, AGE, STREAMS, UP, DOWN, FORWARDS, N_COLUMNS };

static const struct table_column all_columns[N_COLUMNS] = {
    [DEVICE] = {.title = "DEVICE", .min = 12},
    [KIND] = {.title = "KIND", .priority = 2},
    [STATE] = {.title = "STATE"},
    [AGE] = {.title = "AGE", .priority = 3},
    [STREAMS] = {.title = "STREAMS", .priority = 5},
    [UP] = {.title = "UP", .priority = 6},
    [DOWN] = {.title = "DOWN", .priority = 7},
    [FORWARDS] = {.title = "FORWARDS", .min = 12, .priority = 4},
};

struct cells {
    char age[24], streams[8], up[24], down[24];
    const char *texts[N_COLUMNS];
};

/* "1.5 MiB" */
static void format_bytes(uint64_t n, char *ret, size_t cap)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)n;
    size_t unit = 0;

    while (value >= 1024 && unit + 1 < GT_ARRAY_SIZE(units)) {
        value /= 1024;
        unit++;
    }
    snprintf(ret, cap, unit == 0 || value >= 100 ? "%.0f %s" : "%.1f %s", value, units[unit]);
}

static void cells_of(const struct holder_status *item, struct cells *ret)
{
    gt_text_ago(item->age_ms, ret->age, sizeof(ret->age));
    snprintf(ret->streams, sizeof(ret->streams), "%u", item->n_streams);
    format_bytes(item->n_up, ret->up, sizeof(ret->up));
    format_bytes(item->n_down, ret->down, sizeof(ret->down));
    ret->texts[DEVICE] = item->device;
    ret->texts[KIND] = kinds[item->kind];
    ret->texts[STATE] = states[item->state];
    ret->texts[AGE] = ret->age;
    ret->texts[STREAMS] = ret->streams;
    ret->texts[UP] = ret->up;
    ret->texts[DOWN] = ret->down;
    ret->texts[FORWARDS] = item->forwards[0] ? item->forwards : "-";
}

static void print_line(struct print *print, const struct table_column *columns,
                       const char *const *texts)
{
    char line[4096], cell[2100];
    size_t n = 0;

    for (size_t i = 0; i < N_COLUMNS; i++) {
        int width = columns[i].width;

        if (width == 0)
            continue;
        table_cell(texts[i], width, cell, sizeof(cell));
        n += (size_t)snprintf(line + n, sizeof(line) - n, "%s%-*s", n > 0 ? "  " : "", width, cell);
    }
    while (n > 0 && line[n - 1] == ' ')
        n--;
    print_data(print, "%.*s\n", (int)n, line);
}

static void print_table(struct print *print, const struct list *list)
{
    struct table_column columns[N_COLUMNS];
    const char *titles[N_COLUMNS];
    struct cells cells;

    memcpy(columns, all_columns, sizeof(columns));
    for (size_t i = 0; i < N_COLUMNS; i++) {
        titles[i] = columns[i].title;
        columns[i].width = (int)strlen(titles[i]);
    }
    for (size_t i = 0; i < list->n; i++) {
        cells_of(&list->items[i], &cells);
        for (size_t j = 0; j < N_COLUMNS; j++)
            columns[j].width = GT_MAX(columns[j].width, (int)strlen(cells.texts[j]));
    }
    table_fit(columns, N_COLUMNS, table_terminal_width());
    print_line(print, columns, titles);
    for (size_t i = 0; i < list->n; i++) {
        cells_of(&list->items[i], &cells);
        print_line(print, columns, cells.texts);
    }
}

int cmd_sessions(struct context *context)
{
    char folder[RUNTIME_FOLDER_MAX + 1], why[RUNTIME_FOLDER_WHY];
    struct print *print = &context->print;
    struct list list = {NULL, 0};
    struct failure failure;
    int r;

    if (runtime_folder_find(folder, why) != 0) {
        failure_set(&failure, FAILURE_CONFIG, "set XDG_RUNTIME_DIR to a folder of your own",
                    "no folder for control sockets: %s", why);
        return print_failure(print, &failure);
    }
    r = read_folder(print, folder, &list);
    if (r < 0) {
        failure_set(&failure, FAILURE_INTERNAL, NULL, "%s: %s", folder, strerror(-r));
        free(list.items);
        return print_failure(print, &failure);
    }
    if (list.n > 0)
        qsort(list.items, list.n, sizeof(*list.items), compare);
    if (print->is_json)
        print_objects(print, &list);
    else if (list.n > 0)
        print_table(print, &list);
    else
        print_note(print, "No session is open.");
    free(list.items);
    return 0;
}
