/* SPDX-License-Identifier: ISC */
/*
 * Memory that runs out at a test's word: link with -Wl,--wrap=malloc,--wrap=calloc. A test arms it
 * with how many allocations still succeed, from 0 on, until what it tests does.
 */
#pragma once

#include <stdatomic.h>
#include <stddef.h>

#define MEMORY_ENDLESS 1000000

static atomic_int memory_left = MEMORY_ENDLESS;

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
