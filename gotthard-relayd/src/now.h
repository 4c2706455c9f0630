/* SPDX-License-Identifier: ISC */
/*
 * The one clock of the relay: milliseconds of CLOCK_BOOTTIME, which no operator sets and which goes
 * on while the machine sleeps. Never the wall clock: a jump of ten years must move nothing here.
 */
#pragma once

#include <time.h>

#include "gotthard/base.h"

#define NEVER UINT64_MAX

static inline uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Seconds from @now to @at for a timer of the loop, never less than a millisecond. */
static inline double now_seconds_to(uint64_t now, uint64_t at)
{
    return at > now ? (double)(at - now) / 1000 : 0.001;
}
