/* SPDX-License-Identifier: ISC */
/*
 * A table of names, with those in it that there is at least one of.
 */
#include "tally.h"

#include <string.h>

static struct tally *tally_find(const struct tallies *tallies, const char *name)
{
    struct tally *tally;

    HASH_FIND_STR(tallies->by_name, name, tally);
    return tally;
}

static struct tally *tally_new(struct tallies *tallies, const char *name)
{
    size_t n_name = strlen(name);
    struct tally *tally = calloc(1, sizeof(*tally) + n_name + 1);

    if (!tally)
        return NULL;
    memcpy(tally->name, name, n_name);
    HASH_ADD_KEYPTR(hh, tallies->by_name, tally->name, n_name, tally);
    if (!tally->hh.tbl) {
        free(tally);
        return NULL;
    }
    return tally;
}

struct tally *tally_take(struct tallies *tallies, const char *name)
{
    struct tally *tally = tally_find(tallies, name);

    if (!tally)
        tally = tally_new(tallies, name);
    if (tally)
        tally->n++;
    return tally;
}

struct tally *tally_give(struct tallies *tallies, struct tally *tally)
{
    if (tally && --tally->n == 0) {
        HASH_DEL(tallies->by_name, tally);
        free(tally);
    }
    return NULL;
}

size_t tally_count(const struct tallies *tallies, const char *name)
{
    const struct tally *tally = tally_find(tallies, name);

    return tally ? tally->n : 0;
}
