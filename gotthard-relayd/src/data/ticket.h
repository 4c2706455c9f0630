/* SPDX-License-Identifier: ISC */
/*
 * The tickets that one data thread accepts, by id. A ticket is valid once for each of the two
 * roles, at the port of its session or at the main port, until it expires. A side whose JOIN at the
 * session's port gets no answer may repeat it at the main port while the other side has not joined.
 * Pure.
 */
#pragma once

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "gotthard/base/list.h"
#include "gotthard/proto/join.h"
#include "snapshot/saved-layout.h"

/* The roles that have used a ticket. */
enum ticket_state { TICKET_UNUSED, TICKET_BY_OPERATOR, TICKET_BY_DEVICE, TICKET_BY_BOTH };

struct ticket {
    enum ticket_state state;
    struct gt_ticket given;
    uint64_t expires_at;
    void *session_port; /* borrowed; the port where it is valid */
    void *pair;         /* borrowed; created by the first JOIN */
    struct gt_list of_session_port;
    UT_hash_handle hh;
};

struct tickets { /* zero-initialize */
    struct ticket *by_id;
};

enum { TICKET_E_BAD = 1 }; /* invalid; the reason is never disclosed */

/* Adds a copy of @given, valid until @expires_at (gt_clock_ms). Keeps @session_port. Sets *@ret to
 * the ticket, which @tickets owns. -ENOMEM. */
int tickets_add(struct tickets *tickets, const struct gt_ticket *given, uint64_t expires_at,
                void *session_port, struct ticket **ret) GT_MUST_CHECK;
/*
 * Finds the ticket of a JOIN received at @session_port (NULL: the main port), checks all of it, and
 * marks it as used by this role before the JOIN has any other effect. E_BAD.
 */
int tickets_spend(struct tickets *tickets, const struct gt_join *join, const void *session_port,
                  uint64_t now, struct ticket **ret) GT_MUST_CHECK;
/* Removes and frees @ticket and wipes its secret. Accepts NULL; returns NULL. */
struct ticket *ticket_free(struct tickets *tickets, struct ticket *ticket);

/* --- snapshot --------------------------------------------------------------------------------- */

struct saved_ticket {
    enum ticket_state state;
    struct gt_ticket given;
    uint64_t expires_at;
};

extern const struct saved_layout ticket_layout;

void ticket_save(const struct ticket *ticket, struct gt_writer *writer);
