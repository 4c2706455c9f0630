/* SPDX-License-Identifier: ISC */
/*
 * Seconds of CLOCK_BOOTTIME: the clock for whatever is a distance between two moments. Nobody sets
 * it, and it goes on while the machine sleeps. ev_now() is the wall clock and jumps by years when a
 * device without a battery hears from its time server: never for deadlines.
 */
#pragma once

#include <stdint.h>
#include <time.h>

static inline double gt_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* The last moment at or before @at (>= 0) that is a whole multiple of @step: whoever puts what need
 * not be exact on such a grid does it in one turn with everybody else, and the machine sleeps on in
 * between. */
static inline double gt_clock_grid(double at, double step)
{
    return (double)(uint64_t)(at / step) * step;
}
