/* SPDX-License-Identifier: ISC */
/* A hash of rows, with a count for each kind; see the header. */
#include "device-table.h"

#include <stdio.h>
#include <string.h>

/* --- the text of a row --------------------------------------------------------------------------
 */

#define VERSION_SIZE 64
#define TAGS_SIZE    (GT_TAGS_MAX * (GT_TAG_KEY_MAX + GT_TAG_VALUE_MAX + 2))

/* Appends the names, separated by blanks. */
static void write_services(const struct gt_extensions *extensions, struct gt_writer *w)
{
    char name[GT_SERVICE_MAX + 1];

    for (size_t i = 0; i < extensions->n_services; i++) {
        if (i > 0)
            gt_write_u8(w, ' ');
        gt_write_span(w, gt_span_text(gt_text_escape(extensions->services[i], name, sizeof(name))));
    }
}

static int compare_tags(const void *a, const void *b)
{
    const struct gt_span *x = a, *y = b;
    int r = memcmp(x->data, y->data, GT_MIN(x->n, y->n));

    return r ? r : x->n < y->n ? -1 : x->n > y->n;
}

/* Appends the well-formed tags in order, each key once. */
static void write_tags(const struct gt_extensions *extensions, struct gt_writer *w)
{
    struct gt_span tags[GT_TAGS_MAX], key, value, before = {0};
    size_t n = 0;

    for (size_t i = 0; i < extensions->n_tags; i++)
        if (gt_tag_split(extensions->tags[i], &key, &value))
            tags[n++] = extensions->tags[i];
    qsort(tags, n, sizeof(tags[0]), compare_tags);
    for (size_t i = 0; i < n; i++) {
        if (!gt_tag_split(tags[i], &key, &value) || gt_span_equals(key, before))
            continue;
        if (before.n > 0)
            gt_write_u8(w, ' ');
        gt_write_span(w, tags[i]);
        before = key;
    }
}

static bool row_set(struct device_row *row, const struct gt_state *state)
{
    char text[VERSION_SIZE + GT_SERVICES_MAX * (GT_SERVICE_MAX + 1) + TAGS_SIZE];
    struct gt_writer w = gt_writer(text, sizeof(text));
    const struct gt_extensions *extensions = &state->extensions;
    char version[VERSION_SIZE];

    gt_write_span(&w, gt_span_text(gt_text_escape(extensions->version, version, VERSION_SIZE)));
    gt_write_u8(&w, 0);
    size_t services = w.n;
    write_services(extensions, &w);
    gt_write_u8(&w, 0);
    size_t tags = w.n;
    write_tags(extensions, &w);
    gt_write_u8(&w, 0);
    char *copy = w.failed ? NULL : malloc(w.n);
    if (!copy)
        return false;
    memcpy(copy, text, w.n);
    free(row->text);
    row->text = copy;
    row->version = copy;
    row->services = copy + services;
    row->tags = copy + tags;
    row->is_online = state->is_online;
    row->n_sessions = extensions->n_sessions;
    row->access_serial = extensions->access_serial;
    row->since = extensions->since;
    row->is_will = gt_state_is_will(state);
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
    row->version = row->services = row->tags = "";
    row->knowledge = DEVICE_UNKNOWN;
    table->n_unknown++;
    HASH_ADD_STR(table->rows, name, row);
    return row;
}

struct device_row *device_table_find(const struct device_table *table, const char *name)
{
    struct device_row *row;

    HASH_FIND_STR(table->rows, name, row);
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
        free(row->remembered);
        free(row);
    }
    *table = (struct device_table){0};
}
