/* SPDX-License-Identifier: ISC */
/*
 * Which devices an operator means: names and patterns of a shell, of which one must match, and
 * conditions on tags, which must all hold. Borrows the words of the command line.
 */
#pragma once

#include "device-table.h"

#define SELECTION_MAX 64 /* words of each kind */

struct selection_tag {
    const char *word; /* "KEY=PATTERN" or "KEY!=PATTERN" */
    size_t n_key;
    const char *pattern; /* of a shell; "*" for "KEY=" */
    bool is_negated;
};

struct selection {
    const char *patterns[SELECTION_MAX];
    size_t n_patterns; /* 0: every name */
    struct selection_tag tags[SELECTION_MAX];
    size_t n_tags;
    bool is_online_only;
};

/* Adds a word of the command line: one with a '=' is a condition, any other a pattern. Returns NULL
 * or the reason why it is neither, which is a static text. */
const char *selection_add(struct selection *selection, const char *word) GT_MUST_CHECK;
/* Returns true if the row is selected. A device whose state is not known meets no condition on
 * tags; a device without a tag meets only the negated ones. */
bool selection_accepts(const struct selection *selection, const struct device_row *row);
/* Returns true if the name alone is selected. */
bool selection_accepts_name(const struct selection *selection, const char *name);
