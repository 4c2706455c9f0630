/* SPDX-License-Identifier: ISC */
/*
 * The record of a network's manners, its dice and its clock. The dice are splitmix64 (Steele, Lea,
 * Flood 2014): a few lines, any seed will do, and nobody's life depends on them.
 */
#include "weather.h"

#include <time.h>

#define WEATHER_MTU   1448u
#define WEATHER_SLICE 0.005 /* seconds that one piece occupies a slow line */

const struct weather weather_fair = {.queue = WEATHER_QUEUE};

static uint64_t weather_state = 1;

size_t weather_room(const struct weather *weather)
{
    return weather->delay + weather->jitter > 0 ? weather->queue : WEATHER_BUFFER;
}

size_t weather_bite(const struct weather *weather, size_t max)
{
    double slice = weather->rate * WEATHER_SLICE;

    if (weather->rate <= 0)
        return max;
    if (weather->chunk)
        max = GT_MIN(max, weather->chunk);
    if (slice >= (double)max || max < WEATHER_MTU)
        return max;
    return slice < WEATHER_MTU ? WEATHER_MTU : (size_t)slice;
}

void weather_seed(uint64_t seed)
{
    weather_state = seed;
}

uint64_t weather_random(void)
{
    uint64_t z = weather_state += 0x9e3779b97f4a7c15ull;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

double weather_luck(void)
{
    return (double)(weather_random() >> 11) / (double)(1ull << 53);
}

double weather_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}
