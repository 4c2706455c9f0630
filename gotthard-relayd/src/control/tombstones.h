/* SPDX-License-Identifier: ISC */
/*
 * Sessions that one side ended with a BYE while the other side was, or may have been, absent. A
 * client that returns to such a session gets that BYE, and does not wait for a peer that will not
 * come. Their number and their lifetime are limited. A tombstone that is dropped too early costs
 * that wait and nothing else.
 */
#pragma once

#include "gotthard/proto/control.h"
#include "snapshot/saved-layout.h"

#define TOMBSTONES_N 1024

struct tombstone {
    uint8_t rid[GT_RID_SIZE];
    uint64_t until; /* gt_clock_ms; 0: empty */
    enum gt_code code;
};

struct tombstones { /* zero-initialize */
    struct tombstone all[TOMBSTONES_N];
    size_t next;
};

/* Adds a tombstone in place of the oldest. */
void tombstones_add(struct tombstones *tombstones, const uint8_t rid[static GT_RID_SIZE],
                    enum gt_code code, uint64_t until);
/* Returns the code with which session @rid ended, or GT_CODE_NONE if there is no tombstone. */
enum gt_code tombstones_find(const struct tombstones *tombstones,
                             const uint8_t rid[static GT_RID_SIZE], uint64_t now);

/* --- snapshot --------------------------------------------------------------------------------- */

extern const struct saved_layout tombstone_layout; /* of a struct tombstone */

/* Writes those that have not expired, the oldest first. */
void tombstones_save(const struct tombstones *tombstones, uint64_t now, struct gt_writer *writer);
void tombstones_restore(struct tombstones *tombstones, const struct tombstone *saved);
