/* SPDX-License-Identifier: ISC */
/*
 * The table of failures: a row for each id. The exit status, the default hint and the section
 * ERRORS of gotthard(7) follow from it (tests/generate). An id, once released, must keep its
 * meaning.
 */
#pragma once

#include "failure.h"

struct failure_row {
    enum failure_id id;
    int exit;          /* GT_EXIT_... */
    const char *title; /* what failed: one sentence */
    const char *cause; /* why, as sentences for the manual page; "" if the title states it */
    /* What to do: clauses without capital and period; the default hint, with braces as for
     * failure_set(). */
    const char *hint;
};

/* Returns all rows in the order of their ids. */
const struct failure_row *failure_table(size_t *ret_n);
/* Returns the row of @id, never NULL. */
const struct failure_row *failure_row(enum failure_id id);
