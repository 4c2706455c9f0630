/* SPDX-License-Identifier: ISC */
/*
 * The one monotonic clock of the library and the programs: CLOCK_BOOTTIME, which cannot be set and
 * which continues while the machine sleeps. All deadlines and intervals use it. Never use the wall
 * clock or ev_now() for them: on a device without a battery, time synchronisation makes those jump
 * by years.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* A deadline in milliseconds that never expires. */
#define GT_CLOCK_NEVER UINT64_MAX

/* Returns true if the wall clock @now is before this program was made (2026-11-27), so that it is
 * wrong: it was not set since a boot without a battery. */
static inline bool gt_clock_is_wrong(time_t now)
{
    return now < 1795737600;
}

/* Returns the time since boot in seconds. */
static inline double gt_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Returns the time since boot in whole milliseconds. */
static inline uint64_t gt_clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Returns the seconds from @now_ms to @at_ms for a timer of the event loop, at least 0.001. */
static inline double gt_clock_seconds_until(uint64_t now_ms, uint64_t at_ms)
{
    return at_ms > now_ms ? (double)(at_ms - now_ms) / 1000 : 0.001;
}

/* Returns the last whole multiple of @step (seconds, > 0) at or before @at (seconds, >= 0). Timers
 * that need not be exact expire together on such a grid, so that the machine wakes up less often.
 */
static inline double gt_clock_grid(double at, double step)
{
    return (double)(uint64_t)(at / step) * step;
}
