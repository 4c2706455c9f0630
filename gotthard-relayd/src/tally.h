/* SPDX-License-Identifier: ISC */
/*
 * How many there are of each name, counted as they come and go: what one identity may have is
 * limited, and a limit that walks over everybody would cost more the more there are. Pure.
 */
#pragma once

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "gotthard/base.h"

struct tally {
    size_t n;
    UT_hash_handle hh;
    char name[];
};

struct tallies { /* zero-initialise; empty again when all have been given back */
    struct tally *by_name;
};

/* One more of @name. NULL: no memory. */
struct tally *tally_take(struct tallies *tallies, const char *name);
/* One less; NULL is fine. */
struct tally *tally_give(struct tallies *tallies, struct tally *tally);
size_t tally_count(const struct tallies *tallies, const char *name);
