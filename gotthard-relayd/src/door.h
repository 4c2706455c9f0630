/* SPDX-License-Identifier: ISC */
/* The main port: its listeners, made here or handed in by the service manager. */
#pragma once

#include "listener.h"

#define DOOR_MAX 8 /* listeners */

struct door {
    struct listener listeners[DOOR_MAX];
    size_t n_listeners;
    struct spare spare;
};

enum { DOOR_E_LISTEN = 1 }; /* it cannot be had; logged */

/*
 * Listens on @bind ("*": every address) and @port, or on what was handed in; *ret_bind is the
 * address (of any port) that sessions' ports are to have.
 */
int door_open(struct door *door, struct ev_loop *loop, const char *bind, uint16_t port,
              listener_fn on_accept, void *userdata, struct gt_addr *ret_bind) GT_MUST_CHECK;
/* Takes @fd, a listener that another image of the relay had here; E_LISTEN: one too many. */
int door_adopt(struct door *door, struct ev_loop *loop, int fd, listener_fn on_accept,
               void *userdata) GT_MUST_CHECK;
/* The port of the first listener; @fallback where that cannot be known. */
uint16_t door_port(const struct door *door, uint16_t fallback);
/* For 100 ms. */
void door_pause(struct door *door);
/* Twice is fine, and so is one that was never opened. */
void door_close(struct door *door);
