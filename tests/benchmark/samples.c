/* SPDX-License-Identifier: ISC */
#include "samples.h"

#include <stdlib.h>
#include <time.h>

double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

void samples_add(struct samples *samples, double seconds)
{
    if (samples->n < SAMPLES_MAX)
        samples->us[samples->n++] = (float)(seconds * 1e6);
}

static int samples_compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

void samples_sort(struct samples *samples)
{
    qsort(samples->us, samples->n, sizeof(*samples->us), samples_compare);
}

double samples_at(const struct samples *samples, unsigned percent)
{
    return (double)samples->us[(samples->n - 1) * percent / 100];
}
