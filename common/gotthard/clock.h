/* SPDX-License-Identifier: ISC */
/*
 * Seconds of CLOCK_BOOTTIME: the clock for whatever is a distance between two moments. Nobody sets
 * it, and it goes on while the machine sleeps. ev_now() is the wall clock and jumps by years when a
 * device without a battery hears from its time server: never for deadlines.
 */
#pragma once

#include <time.h>

static inline double gt_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}
