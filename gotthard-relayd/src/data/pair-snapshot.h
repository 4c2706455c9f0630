/* SPDX-License-Identifier: ISC */
/*
 * A pair in a snapshot: its sockets, and the bytes that are between them. The data thread must be
 * paused, because bytes that move after the snapshot would be lost or sent twice.
 */
#pragma once

#include "data/pair.h"
#include "snapshot/saved-layout.h"

struct saved_pipe {
    enum saved_pipe_kind { SAVED_NO_PIPE, SAVED_SPLICED, SAVED_COPIED } kind;
    int fds[2];           /* SPLICED: read end, write end; else -1 */
    uint32_t n, capacity; /* SPLICED; else 0 */
    struct gt_span bytes; /* COPIED; borrows; else empty */
};

struct saved_side {
    int fd; /* -1: has not joined */
    uint8_t source[QUOTA_SOURCE];
    enum flow_state flow;
    uint64_t n_bytes;
    struct saved_pipe pipe;
};

struct saved_pair {
    enum pair_state state;
    uint32_t stream, attempt;
    uint64_t deadline; /* by gt_clock_ms; GT_CLOCK_NEVER: none */
    uint64_t n_moved_at_deadline;
    struct saved_side sides[2];
};

extern const struct saved_layout pair_layout;

void pair_save(struct pair *pair, struct gt_writer *writer);
/* Gives a new pair the state of @saved, takes its descriptors, charges them to @quota and resumes
 * the transfer. -ENOMEM: some descriptors were taken. */
int pair_restore(struct pair *pair, const struct saved_pair *saved,
                 struct quota *quota) GT_MUST_CHECK;
