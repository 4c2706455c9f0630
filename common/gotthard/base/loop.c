/* SPDX-License-Identifier: ISC */
/* The allocator of libev; see the header. It must not return NULL, except for a size of 0. */
#include "gotthard/base/loop.h"

#include <ev.h>
#include <malloc.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gotthard/base/exit-status.h"
#include "gotthard/base/log.h"

/* Costs nothing until it is used: the kernel provides its pages when they are written. */
static alignas(max_align_t) unsigned char reserve[GT_LOOP_RESERVE];
static atomic_size_t reserve_used; /* more than there is: exhausted */

/* Returns how much of the reserve follows from @p on, 0 if @p is of the heap. */
static size_t in_reserve(const unsigned char *p)
{
    return p >= reserve && p < reserve + sizeof(reserve) ? (size_t)(reserve + sizeof(reserve) - p)
                                                         : 0;
}

/* Returns NULL if the reserve is exhausted. Several threads may call it. */
static void *take_reserve(size_t n)
{
    size_t size = (n + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    size_t at = size < n ? sizeof(reserve) : atomic_fetch_add(&reserve_used, size);

    return at < sizeof(reserve) && size <= sizeof(reserve) - at ? reserve + at : NULL;
}

/* Blocks of the reserve are never freed. */
static void release(void *old)
{
    if (in_reserve(old) == 0)
        free(old);
}

/* Moves @old, which may be NULL, to @data of @n bytes. */
static void *moved(void *data, void *old, size_t n)
{
    size_t old_max = in_reserve(old) > 0 ? in_reserve(old) : malloc_usable_size(old);

    if (old)
        memcpy(data, old, n < old_max ? n : old_max);
    release(old);
    return data;
}

static void *loop_allocate(void *old, long n)
{
    if (n == 0) {
        release(old);
        return NULL;
    }
    void *data = malloc((size_t)n);

    if (!data)
        data = take_reserve((size_t)n);
    if (data)
        return moved(data, old, (size_t)n);
    gt_error("event loop failed reason=\"out of memory\"");
    _exit(GT_EXIT_INTERNAL);
}

void gt_loop_set_allocator(void)
{
    ev_set_allocator(loop_allocate);
}
