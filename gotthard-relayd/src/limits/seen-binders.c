/* SPDX-License-Identifier: ISC */
/*
 * A table of rings. The row follows from the binder itself, an HMAC: only those who have a key can
 * influence it.
 */
#include "limits/seen-binders.h"

static const struct seen_binder none;

static bool is_same(const struct seen_binder *a, const struct seen_binder *b)
{
    return memcmp(a->bytes, b->bytes, SEEN_BINDER_SIZE) == 0;
}

static struct seen_row *seen_binders_row(struct seen_binders *seen, const uint8_t *binder)
{
    return &seen->rows[((size_t)binder[0] << 8 | binder[1]) % GT_ARRAY_SIZE(seen->rows)];
}

bool seen_binders_add(struct seen_binders *seen, const uint8_t binder[static SEEN_BINDER_SIZE])
{
    struct seen_row *row = seen_binders_row(seen, binder);
    struct seen_binder new;

    memcpy(new.bytes, binder, SEEN_BINDER_SIZE);
    for (size_t i = 0; i < SEEN_BINDERS_N_WAYS; i++)
        if (is_same(&row->ways[i], &new))
            return false;
    row->ways[row->next] = new;
    row->next = (row->next + 1) % SEEN_BINDERS_N_WAYS;
    return true;
}

/* --- snapshot --------------------------------------------------------------------------------- */

static const struct gt_field binder_fields[] = {
    GT_FIELD_BYTES(struct seen_binder, bytes, SEEN_BINDER_SIZE),
};

const struct saved_layout seen_binder_layout = {SAVED_LAYOUT(BINDER, binder_fields)};

/* The oldest of each row first, so that their order is kept. */
static void save_row(const struct seen_row *row, struct gt_writer *writer)
{
    for (size_t i = 0; i < SEEN_BINDERS_N_WAYS; i++) {
        const struct seen_binder *binder = &row->ways[(row->next + i) % SEEN_BINDERS_N_WAYS];

        if (!is_same(binder, &none))
            saved_layout_write(&seen_binder_layout, writer, binder);
    }
}

void seen_binders_save(const struct seen_binders *seen, struct gt_writer *writer)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(seen->rows); i++)
        save_row(&seen->rows[i], writer);
}
