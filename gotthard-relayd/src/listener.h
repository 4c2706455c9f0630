/* SPDX-License-Identifier: ISC */
/*
 * A listening socket in a loop. Accepting never waits, never spins and never ends: when there is no
 * descriptor for a new connection, a spare one is spent to turn it away, and when even that fails
 * the listener pauses for 100 ms.
 */
#pragma once

#include <ev.h>

#include "gotthard/sock.h"

/* One per thread, shared by its listeners. */
struct spare {
    int fd;
};
void spare_init(struct spare *spare);
void spare_deinit(struct spare *spare);

/* Takes @fd. */
typedef void (*listener_fn)(void *userdata, int fd, const struct gt_addr *addr);

struct listener {
    struct ev_loop *loop;
    int fd;
    ev_io io;
    ev_timer pause;
    struct spare *spare;
    listener_fn on_accept;
    void *userdata;
};

/* Takes @fd; keeps @spare. */
void listener_start(struct listener *listener, struct ev_loop *loop, int fd, struct spare *spare,
                    listener_fn on_accept, void *userdata);
/* Lets nobody in for 100 ms: the kernel keeps them waiting. */
void listener_pause(struct listener *listener);
/* Closes it. Twice is fine, and so is a zeroed one that was never started. */
void listener_stop(struct listener *listener);
