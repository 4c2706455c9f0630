/* SPDX-License-Identifier: ISC */
/*
 * The way to the target: through whatever listens at a local port, or through gotthard-relayd
 * itself, without the ends of a tunnel. In the second case the device's side of each pair is handed
 * to the target over its Unix socket. A dial is blocking, and exits when it fails: a benchmark has
 * no use for half a measurement.
 */
#pragma once

#include "relaying.h"

struct way {
    uint16_t port;        /* of a listener; or, with ->target, the relay's */
    const char *target;   /* the target's socket; NULL: there is a listener */
    unsigned per_session; /* streams */

    int door; /* to ->target */
    struct relaying *relaying;
    struct relaying_session *session;
    unsigned n_streams;
};

void way_init(struct way *way);
/* A connection on which the target was told its @mode. */
int way_dial(struct way *way, char mode);
/* Blocks until @fd is readable. */
void way_wait(struct way *way, int fd);
