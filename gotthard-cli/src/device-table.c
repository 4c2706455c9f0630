/* SPDX-License-Identifier: ISC */
/* A hash of rows, with a count for each kind; see the header. */
#include "device-table.h"

#include <stdio.h>
#include <string.h>

/* --- the text of a row --------------------------------------------------------------------------
 */

#define VERSION_SIZE 64

/* Returns version NUL services NUL, or NULL without memory. */
static char *text_of_state(const struct gt_extensions *extensions, const char **ret_services)
{
    char text[VERSION_SIZE + GT_SERVICES_MAX * (GT_SERVICE_MAX + 1) + 1];
    size_t n, start;

    gt_text_escape(extensions->version, text, VERSION_SIZE);
    n = start = strlen(text) + 1;
    text[n] = 0;
    for (size_t i = 0; i < extensions->n_services; i++) {
        char name[GT_SERVICE_MAX + 1];

        gt_text_escape(extensions->services[i], name, sizeof(name));
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s", i ? " " : "", name);
    }
    char *copy = malloc(n + 1);
    if (!copy)
        return NULL;
    memcpy(copy, text, n + 1);
    *ret_services = copy + start;
    return copy;
}

static bool row_set(struct device_row *row, const struct gt_state *state)
{
    const char *services;
    char *text = text_of_state(&state->extensions, &services);

    if (!text)
        return false;
    free(row->text);
    row->text = text;
    row->version = text;
    row->services = services;
    row->is_online = state->is_online;
    row->n_sessions = state->extensions.n_sessions;
    row->since = state->extensions.since;
    return true;
}

/* --- the table ----------------------------------------------------------------------------------
 */

static size_t *count_of(struct device_table *table, enum device_knowledge knowledge)
{
    switch (knowledge) {
    case DEVICE_UNKNOWN: return &table->n_unknown;
    case DEVICE_FOREIGN: return &table->n_foreign;
    case DEVICE_AUTHENTIC: return &table->n_authentic;
    }
    abort();
}

static bool has_room(const struct device_table *table, enum device_knowledge knowledge)
{
    if (knowledge == DEVICE_FOREIGN)
        return table->n_foreign < DEVICE_TABLE_FOREIGN_MAX;
    return table->n_authentic + table->n_unknown < DEVICE_TABLE_MAX;
}

static void row_know(struct device_table *table, struct device_row *row,
                     enum device_knowledge knowledge)
{
    --*count_of(table, row->knowledge);
    ++*count_of(table, knowledge);
    row->knowledge = knowledge;
}

/* Returns the row of @name, a new one if there is room for one of this kind, or NULL. */
static struct device_row *find_or_add(struct device_table *table, const char *name,
                                      enum device_knowledge knowledge)
{
    struct device_row *row;

    HASH_FIND_STR(table->rows, name, row);
    if (row)
        return row;
    row = has_room(table, knowledge) ? calloc(1, sizeof(*row)) : NULL;
    if (!row) {
        ++*(knowledge == DEVICE_FOREIGN ? &table->n_foreign_dropped : &table->n_dropped);
        return NULL;
    }
    snprintf(row->name, sizeof(row->name), "%s", name);
    row->version = row->services = "";
    row->knowledge = DEVICE_UNKNOWN;
    table->n_unknown++;
    HASH_ADD_STR(table->rows, name, row);
    return row;
}

struct device_row *device_table_expect(struct device_table *table, const char *name)
{
    return find_or_add(table, name, DEVICE_UNKNOWN);
}

const struct device_row *device_table_add(struct device_table *table, const char *name,
                                          const struct gt_state *state, bool is_retained)
{
    enum device_knowledge knowledge = state ? DEVICE_AUTHENTIC : DEVICE_FOREIGN;
    struct device_row *row = find_or_add(table, name, knowledge);

    if (!row)
        return NULL;
    if (state && row->pass != table->pass) {
        row->pass = table->pass;
        table->n_in_pass++;
    }
    bool is_first = row->knowledge < knowledge;
    if (is_first)
        row_know(table, row, knowledge);
    if (state && gt_state_order_accept(&row->order, state, is_retained)) {
        table->n_online -= row->is_online;
        if (!row_set(row, state))
            table->n_dropped++;
        table->n_online += row->is_online;
    }
    return is_first ? row : NULL;
}

void device_table_begin_pass(struct device_table *table)
{
    table->pass++;
    table->n_in_pass = 0;
}

static int compare_rows(const struct device_row *a, const struct device_row *b)
{
    return strcmp(a->name, b->name);
}

void device_table_sort(struct device_table *table)
{
    HASH_SORT(table->rows, compare_rows);
}

void device_table_deinit(struct device_table *table)
{
    struct device_row *row, *next;

    HASH_ITER (hh, table->rows, row, next) {
        HASH_DEL(table->rows, row);
        free(row->text);
        free(row);
    }
    *table = (struct device_table){0};
}
