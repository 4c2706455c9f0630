/* SPDX-License-Identifier: ISC */
/*
 * A hash table of the names whose count is at least 1.
 */
#include "limits/name-count.h"

#include <string.h>

static struct name_count *name_count_find(const struct name_counts *name_counts, const char *name)
{
    struct name_count *name_count;

    HASH_FIND_STR(name_counts->by_name, name, name_count);
    return name_count;
}

static struct name_count *name_count_new(struct name_counts *name_counts, const char *name)
{
    size_t n_name = strlen(name);
    struct name_count *name_count = calloc(1, sizeof(*name_count) + n_name + 1);

    if (!name_count)
        return NULL;
    memcpy(name_count->name, name, n_name);
    HASH_ADD_KEYPTR(hh, name_counts->by_name, name_count->name, n_name, name_count);
    if (!name_count->hh.tbl) {
        free(name_count);
        return NULL;
    }
    return name_count;
}

struct name_count *name_count_acquire(struct name_counts *name_counts, const char *name)
{
    struct name_count *name_count = name_count_find(name_counts, name);

    if (!name_count)
        name_count = name_count_new(name_counts, name);
    if (name_count)
        name_count->n++;
    return name_count;
}

struct name_count *name_count_release(struct name_counts *name_counts,
                                      struct name_count *name_count)
{
    if (name_count && --name_count->n == 0) {
        HASH_DEL(name_counts->by_name, name_count);
        free(name_count);
    }
    return NULL;
}

size_t name_count_of(const struct name_counts *name_counts, const char *name)
{
    const struct name_count *name_count = name_count_find(name_counts, name);

    return name_count ? name_count->n : 0;
}
