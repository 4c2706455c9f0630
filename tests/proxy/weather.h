/* SPDX-License-Identifier: ISC */
/*
 * What a network does to the bytes of one direction: a plain record, copied from the proxy's own
 * into each new connection, and changed there by orders. How it works upon bytes is flow.c's.
 */
#pragma once

#include "gotthard/base.h"

#define WEATHER_QUEUE  (32u << 20)  /* in flight over a network with a delay, at most */
#define WEATHER_BUFFER (256u << 10) /* and without one */

struct weather {
    double delay, jitter; /* seconds one way; of the jitter each piece gets a share */
    double rate;          /* bytes a second; 0: as fast as it goes */
    size_t queue;         /* bytes in flight when there is a delay */
    size_t chunk;         /* bytes of a write at most, drawn anew for each; 0: as they come.
                             With a rate each takes its own time */
    double idle;          /* seconds of silence after which the way is forgotten; 0: never */
    bool is_black;        /* takes nothing and gives nothing */
    bool is_stopped;      /* reads nothing; what is in flight arrives */
    bool is_flipping;     /* one byte, once */
    uint64_t flip_at;     /* counted from the connection's first */
    uint8_t flip_mask;
};

extern const struct weather weather_fair;

/* Bytes that may be in flight before the sender is stopped. */
size_t weather_room(const struct weather *weather);
/* How much is read at once: what takes long on the way goes in small pieces. */
size_t weather_bite(const struct weather *weather, size_t max);

/* The proxy's dice: the same seed, the same network. */
void weather_seed(uint64_t seed);
uint64_t weather_random(void);
double weather_luck(void); /* in [0, 1) */

/* Seconds of CLOCK_MONOTONIC, the timers' clock. */
double weather_clock(void);
