/* SPDX-License-Identifier: ISC */
/* Durations in microseconds, and their median, percentiles and maximum. */
#pragma once

#include <stddef.h>

#define SAMPLES_MAX (1 << 20)

struct samples {
    size_t n;
    float us[SAMPLES_MAX]; /* static storage only */
};

/* Seconds of the monotonic clock. */
double now(void);
/* Samples beyond SAMPLES_MAX are ignored. */
void samples_add(struct samples *samples, double seconds);
/* Sorts them. There must be one at least. */
void samples_sort(struct samples *samples);
/* The percentile @percent, 0 to 100; sorted samples. */
double samples_at(const struct samples *samples, unsigned percent);
