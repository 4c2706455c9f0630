/* SPDX-License-Identifier: ISC */
/*
 * The path to the target: through a listener on a local port, or through gotthard-relayd itself,
 * without the ends of a tunnel. In the second case the device's side of each pair is passed to the
 * target over its Unix socket. A dial blocks (except
 * path_dial_start()), and exits the program on failure: half a measurement
 * is of no use.
 */
#pragma once

#include "relay-client.h"

struct path {
    uint16_t port;        /* of a listener, or the relay's with ->target */
    const char *target;   /* path of the target's Unix socket; NULL: a listener */
    unsigned per_session; /* streams */

    int handover_fd; /* socket connected to ->target */
    struct relay_client *relay_client;
    struct relay_client_session *session;
    unsigned n_streams;
};

void path_init(struct path *path);
/* Returns a connection on which @mode was sent. */
int path_dial(struct path *path, char mode);
/* Returns a non-blocking connection that is being established; a listener's port only. */
int path_dial_start(struct path *path);
/* Blocks until @fd is readable. */
void path_wait(struct path *path, int fd);
