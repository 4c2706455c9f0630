/* SPDX-License-Identifier: ISC */
/*
 * A ring, walked: it is asked once for each session that begins.
 */
#include "tombs.h"

void tombs_add(struct tombs *tombs, const uint8_t rid[static GT_RID_SIZE], enum gt_code code,
               uint64_t until)
{
    struct tomb *tomb = &tombs->all[tombs->next++ % TOMBS_N];

    *tomb = (struct tomb){.until = until, .code = code};
    memcpy(tomb->rid, rid, GT_RID_SIZE);
}

enum gt_code tombs_find(const struct tombs *tombs, const uint8_t rid[static GT_RID_SIZE],
                        uint64_t now)
{
    for (size_t i = 0; i < TOMBS_N; i++) {
        const struct tomb *tomb = &tombs->all[i];
        if (now < tomb->until && !memcmp(tomb->rid, rid, GT_RID_SIZE))
            return tomb->code;
    }
    return GT_CODE_NONE;
}
