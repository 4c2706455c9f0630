/* SPDX-License-Identifier: ISC */
/*
 * The devices of a list: one row for each name, with the latest state that opened with the fleet's
 * key. States that do not open have a smaller limit of their own and never replace one that does:
 * any client of the broker may invent them. A row costs about 350 bytes.
 */
#pragma once

#include <uthash.h>

#include "gotthard/signaling/state-order.h"

#define DEVICE_TABLE_MAX         131072 /* devices */
#define DEVICE_TABLE_FOREIGN_MAX 1024   /* and rows with states that do not open */

enum device_knowledge {
    DEVICE_UNKNOWN,   /* a known name without a state at this broker */
    DEVICE_FOREIGN,   /* its state is encrypted with another key */
    DEVICE_AUTHENTIC, /* the other members of the row are set */
};

struct device_row {
    char name[GT_NAME_MAX + 1];
    enum device_knowledge knowledge;
    bool is_declared; /* the operator named it: pins, settings, arguments */
    bool is_asked;    /* by its exact topic */
    unsigned pass;    /* in which the last state came */
    bool is_online;
    uint16_t n_sessions;
    uint64_t access_serial; /* of the access list, as it states itself; 0: none */
    uint64_t since;         /* unix time, 0: unknown */
    bool is_will;           /* ->since is when the device came online, before it was lost */
    uint64_t seen;          /* unix time of the last state before this list, 0: never */
    const char *version;    /* printable, "" if unknown */
    const char *services;   /* "ssh web", printable */
    const char *tags;       /* "role=gateway site=zurich", well-formed, sorted */
    struct gt_state_order order;
    char *text;       /* owned: ->version, ->services and ->tags */
    char *remembered; /* owned: services and tags of an earlier state (remembered.h), or NULL */
    UT_hash_handle hh;
};

struct device_table {
    struct device_row *rows; /* a uthash by name; owned */
    unsigned pass;           /* the current one */
    size_t n_in_pass;        /* devices with an authentic state in it */
    size_t n_authentic, n_foreign, n_unknown, n_online;
    size_t n_dropped, n_foreign_dropped; /* beyond the limits, or without memory */
};

/* Adds a known name, unless it is there. Returns its row, or NULL beyond the limit. */
struct device_row *device_table_expect(struct device_table *table, const char *name);
/* Adds a state; @state NULL: it did not open. Returns the row if the name had no state so far, or
 * only ones that did not open and this one did; otherwise NULL. */
const struct device_row *device_table_add(struct device_table *table, const char *name,
                                          const struct gt_state *state, bool is_retained);
/* Begins the next pass: another reading of all states. */
void device_table_begin_pass(struct device_table *table);
/* Returns the row of @name, or NULL. */
struct device_row *device_table_find(const struct device_table *table, const char *name);
void device_table_sort(struct device_table *table); /* by name */
/* Frees the rows. */
void device_table_deinit(struct device_table *table);
