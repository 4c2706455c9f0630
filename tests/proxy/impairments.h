/* SPDX-License-Identifier: ISC */
/*
 * The impairments that a network applies to the bytes of one direction. A plain record: copied from
 * the proxy into each new connection, and changed there by commands. flow.c applies it.
 */
#pragma once

#include "gotthard/base/base.h"

#define IMPAIRMENTS_QUEUE  (32u << 20)  /* in flight over a network with a delay, at most */
#define IMPAIRMENTS_BUFFER (256u << 10) /* and without one */

struct impairments {
    double delay, jitter; /* seconds one way; each piece gets a random share of the jitter */
    double rate;          /* bytes per second; 0: no limit */
    size_t queue;         /* bytes in flight when there is a delay */
    size_t chunk;         /* bytes of one write at most, at random for each; 0: unchanged.
                             With a rate each takes its own time */
    double idle;          /* seconds of silence after which the direction turns black; 0: never */
    bool is_black;        /* moves nothing */
    bool is_stopped;      /* reads nothing; bytes in flight arrive */
    bool is_flipping;     /* one byte, once */
    uint64_t flip_at;     /* counted from the connection's first */
    uint8_t flip_mask;
};

extern const struct impairments impairments_none;

/* Bytes that may be in flight before the sender is stopped. */
size_t impairments_room(const struct impairments *impairments);
/* Bytes of one read: small on a slow line, so that pieces arrive one by one. */
size_t impairments_read_size(const struct impairments *impairments, size_t max);

/* The random generator: the same seed gives the same network. */
void impairments_seed(uint64_t seed);
uint64_t impairments_random(void);
double impairments_random_fraction(void); /* in [0, 1) */

/* Seconds of CLOCK_MONOTONIC, the timers' clock. */
double impairments_clock(void);
