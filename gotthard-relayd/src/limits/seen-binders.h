/* SPDX-License-Identifier: ISC */
/*
 * The binders of the ClientHellos that were admitted. A binder signs the random number of its
 * ClientHello, so that no two clients send the same one: a second use is a replay of recorded
 * bytes. Only binders that prove a key are added, so that others cannot displace them. Pure.
 *
 * The memory is fixed. A binder is forgotten after about SEEN_BINDERS_N others. A replay of it
 * then gets an answer that is useless without the key, and is remembered again.
 */
#pragma once

#include "gotthard/base/bytes.h"
#include "snapshot/saved-layout.h"

#define SEEN_BINDERS_N      16384
#define SEEN_BINDERS_N_WAYS 8
#define SEEN_BINDER_SIZE    16 /* bytes; the beginning of a binder identifies it */

struct seen_binder {
    uint8_t bytes[SEEN_BINDER_SIZE];
};

struct seen_row {
    struct seen_binder ways[SEEN_BINDERS_N_WAYS];
    unsigned next; /* to be replaced: the oldest */
};

struct seen_binders { /* zero-initialize; large */
    struct seen_row rows[SEEN_BINDERS_N / SEEN_BINDERS_N_WAYS];
};

/* Adds @binder, of which SEEN_BINDER_SIZE bytes are used. Returns false if it was there before. */
bool seen_binders_add(struct seen_binders *seen, const uint8_t binder[static SEEN_BINDER_SIZE]);

/* --- snapshot --------------------------------------------------------------------------------- */

extern const struct saved_layout seen_binder_layout; /* of a struct seen_binder */

/* Writes a SAVED_BINDER for each. They are restored by seen_binders_add. */
void seen_binders_save(const struct seen_binders *seen, struct gt_writer *writer);
