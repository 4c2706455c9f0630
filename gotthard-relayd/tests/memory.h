/* SPDX-License-Identifier: ISC */
/*
 * Makes allocations fail: link with -Wl,--wrap=malloc,--wrap=calloc. A test sets memory_left, the
 * number of allocations that still succeed, from 0 upwards until the tested function succeeds.
 */
#pragma once

#include <stdatomic.h>
#include <stddef.h>

#define MEMORY_UNLIMITED 1000000

static atomic_int memory_left = MEMORY_UNLIMITED;

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);

void *__wrap_malloc(size_t n)
{
    return atomic_fetch_sub(&memory_left, 1) > 0 ? __real_malloc(n) : NULL;
}

void *__wrap_calloc(size_t n, size_t size)
{
    return atomic_fetch_sub(&memory_left, 1) > 0 ? __real_calloc(n, size) : NULL;
}
