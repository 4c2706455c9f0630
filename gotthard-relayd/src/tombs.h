/* SPDX-License-Identifier: ISC */
/*
 * Sessions that a side ended on purpose while the other was, or may have been, away: whoever comes
 * back to one is told, instead of waiting for somebody who will not come. A fixed number of them,
 * for a while: what is forgotten too soon costs that wait, and no more.
 */
#pragma once

#include "gotthard/control.h"

#define TOMBS_N 1024

struct tomb {
    uint8_t rid[GT_RID_SIZE];
    uint64_t until; /* 0: empty */
    enum gt_code code;
};

struct tombs { /* zero-initialise */
    struct tomb all[TOMBS_N];
    size_t next;
};

/* In place of the oldest. */
void tombs_add(struct tombs *tombs, const uint8_t rid[static GT_RID_SIZE], enum gt_code code,
               uint64_t until);
/* How session @rid ended; GT_CODE_NONE: nothing is known of that. */
enum gt_code tombs_find(const struct tombs *tombs, const uint8_t rid[static GT_RID_SIZE],
                        uint64_t now);
