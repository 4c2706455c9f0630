/* SPDX-License-Identifier: ISC */
/*
 * The tickets that one plane will honour, by id. A ticket is good once for each of the two roles,
 * at its own session's port (or the main port), and until it expires. One that ends before both
 * came is remembered for a while: who comes with it then is late, and no stranger. Pure.
 */
#pragma once

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "gotthard/join.h"
#include "gotthard/list.h"

/* What of a ticket was spent. */
enum ticket_state { TICKET_UNUSED, TICKET_BY_OPERATOR, TICKET_BY_DEVICE, TICKET_BY_BOTH };

struct ticket {
    enum ticket_state state;
    struct gt_ticket given;
    uint64_t expires_at;
    void *dock;             /* borrows: whose port it is good for; NULL: it has ended */
    void *pair;             /* borrows: what the first JOIN made */
    struct gt_list of_dock; /* or of the late ones */
    UT_hash_handle hh;
};

struct tickets {
    struct ticket *by_id;
    struct gt_list late; /* those that have ended, the first first */
    size_t n_late;
};

enum { TICKET_E_BAD = 1 }; /* wrong in any way, and nobody is told which */

#define TICKETS_LATE_MAX 256
#define TICKETS_LATE_MS  10000 /* at least; else until it would have expired */

void tickets_init(struct tickets *tickets);
/* All but the late ones were freed or ended. */
void tickets_deinit(struct tickets *tickets);

/* -ENOMEM. @given is copied. */
int tickets_add(struct tickets *tickets, const struct gt_ticket *given, uint64_t expires_at,
                void *dock, struct ticket **ret) GT_MUST_CHECK;
/*
 * Finds the ticket of a JOIN that came in at @dock (NULL: at the main port), checks all of it, and
 * marks this role's half as used before anybody acts on it.
 */
int tickets_spend(struct tickets *tickets, const struct gt_join *join, const void *dock,
                  uint64_t now, struct ticket **ret) GT_MUST_CHECK;
/* Would tickets_spend do it? */
bool tickets_is_good(const struct tickets *tickets, const struct gt_join *join, const void *dock,
                     uint64_t now);
/* Would it have, had the ticket not ended? */
bool tickets_is_late(const struct tickets *tickets, const struct gt_join *join, uint64_t now);
/* Nobody is let in with it any more; it leaves its dock. */
struct ticket *ticket_end(struct tickets *tickets, struct ticket *ticket, uint64_t now);
/* Forgets it and wipes its secret. */
struct ticket *ticket_free(struct tickets *tickets, struct ticket *ticket);
