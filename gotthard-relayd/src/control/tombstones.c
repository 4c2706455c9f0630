/* SPDX-License-Identifier: ISC */
/*
 * A ring, searched from one end to the other: once for each new session.
 */
#include "control/tombstones.h"

void tombstones_add(struct tombstones *tombstones, const uint8_t rid[static GT_RID_SIZE],
                    enum gt_code code, uint64_t until)
{
    struct tombstone *tombstone = &tombstones->all[tombstones->next++ % TOMBSTONES_N];

    *tombstone = (struct tombstone){.until = until, .code = code};
    memcpy(tombstone->rid, rid, GT_RID_SIZE);
}

enum gt_code tombstones_find(const struct tombstones *tombstones,
                             const uint8_t rid[static GT_RID_SIZE], uint64_t now)
{
    for (size_t i = 0; i < TOMBSTONES_N; i++) {
        const struct tombstone *tombstone = &tombstones->all[i];

        if (now < tombstone->until && memcmp(tombstone->rid, rid, GT_RID_SIZE) == 0)
            return tombstone->code;
    }
    return GT_CODE_NONE;
}

/* --- snapshot --------------------------------------------------------------------------------- */

static bool tombstone_is_valid(const void *record)
{
    const struct tombstone *tombstone = record;

    return tombstone->code >= GT_CODE_BYE && tombstone->code <= GT_CODE_WITHDRAWN;
}

static const struct gt_field tombstone_fields[] = {
    GT_FIELD_BYTES(struct tombstone, rid, GT_RID_SIZE),
    GT_FIELD_U64(struct tombstone, until),
    GT_FIELD_U32(struct tombstone, code),
};

const struct saved_layout tombstone_layout = {SAVED_LAYOUT(TOMBSTONE, tombstone_fields),
                                              .is_valid = tombstone_is_valid};

void tombstones_save(const struct tombstones *tombstones, uint64_t now, struct gt_writer *writer)
{
    for (size_t i = 0; i < TOMBSTONES_N; i++) {
        const struct tombstone *tombstone = &tombstones->all[(tombstones->next + i) % TOMBSTONES_N];

        if (tombstone->until > now)
            saved_layout_write(&tombstone_layout, writer, tombstone);
    }
}

void tombstones_restore(struct tombstones *tombstones, const struct tombstone *saved)
{
    tombstones_add(tombstones, saved->rid, saved->code, saved->until);
}
