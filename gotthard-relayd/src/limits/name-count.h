/* SPDX-License-Identifier: ISC */
/*
 * Counts objects by name, for limits per identity. The cost of a walk over all objects would grow
 * with their number. Pure.
 */
#pragma once

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "gotthard/base/base.h"

struct name_count {
    size_t n;
    UT_hash_handle hh;
    char name[];
};

struct name_counts { /* zero-initialize; nothing to free once all counts are released */
    struct name_count *by_name;
};

/* Adds 1 to the count of @name. Returns it for name_count_release, or NULL if out of memory. */
struct name_count *name_count_acquire(struct name_counts *name_counts, const char *name);
/* Subtracts 1. Accepts NULL; returns NULL. */
struct name_count *name_count_release(struct name_counts *name_counts,
                                      struct name_count *name_count);
/* Returns the count of @name, 0 for an unknown name. */
size_t name_count_of(const struct name_counts *name_counts, const char *name);
