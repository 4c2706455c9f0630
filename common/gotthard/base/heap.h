/* SPDX-License-Identifier: ISC */
/*
 * Returns freed memory to the system. glibc keeps it otherwise; other C libraries (musl) return it
 * by themselves and have no such functions.
 */
#pragma once

#include <stdlib.h> /* defines __GLIBC__ */
#ifdef __GLIBC__
#include <malloc.h>
#endif

/* Returns all free memory of the heap, see malloc_trim(3). */
static inline void gt_heap_trim(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

/* Maps each allocation of @n bytes or more by itself, so that freeing it returns it at once. glibc
 * raises its limit otherwise, and allocates the second one from its heap (mallopt(3)). */
static inline void gt_heap_map_from(int n)
{
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, n);
#else
    (void)n;
#endif
}
