/* SPDX-License-Identifier: ISC */
/*
 * The record of the impairments, with the random generator and the clock of the proxy. The
 * generator is splitmix64 (Steele, Lea, Flood 2014): short, and any seed will do. It is not
 * suitable for cryptography.
 */
#include "impairments.h"

#include <time.h>

#define IMPAIRMENTS_MTU   1448u
#define IMPAIRMENTS_SLICE 0.005 /* seconds that one piece occupies a slow line */

const struct impairments impairments_none = {.queue = IMPAIRMENTS_QUEUE};

static uint64_t impairments_state = 1;

size_t impairments_room(const struct impairments *impairments)
{
    return impairments->delay + impairments->jitter > 0 ? impairments->queue : IMPAIRMENTS_BUFFER;
}

size_t impairments_read_size(const struct impairments *impairments, size_t max)
{
    double slice = impairments->rate * IMPAIRMENTS_SLICE;

    if (impairments->rate <= 0)
        return max;
    if (impairments->chunk)
        max = GT_MIN(max, impairments->chunk);
    if (slice >= (double)max || max < IMPAIRMENTS_MTU)
        return max;
    return slice < IMPAIRMENTS_MTU ? IMPAIRMENTS_MTU : (size_t)slice;
}

void impairments_seed(uint64_t seed)
{
    impairments_state = seed;
}

uint64_t impairments_random(void)
{
    uint64_t z = impairments_state += 0x9e3779b97f4a7c15ull;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

double impairments_random_fraction(void)
{
    return (double)(impairments_random() >> 11) / (double)(1ull << 53);
}

double impairments_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}
