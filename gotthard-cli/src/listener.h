/* SPDX-License-Identifier: ISC */
/*
 * A local port: bound once and kept, so that nobody else can take it between the question and the
 * answer. Loopback only, on 127.0.0.1 and, where there is one, ::1 alike (`localhost` means both),
 * unless another address is asked for.
 */
#pragma once

#include <ev.h>

#include "gotthard/sock.h"

struct listener;

struct listener_settings {
    struct ev_loop *loop; /* keeps */
    const char *bind;     /* a numeric address, "*" for all; NULL: loopback */
    uint16_t port;        /* 0: a free one */
};

enum {
    LISTENER_E_BUSY = 1, /* somebody else has that port */
    LISTENER_E_DENIED,   /* ports below 1024 */
    LISTENER_E_ADDRESS,  /* not numeric, or not one of this machine */
};

/* @fd is the callback's. */
typedef void (*listener_accept_fn)(void *userdata, int fd, const struct gt_addr *peer);

/* Listening at once: connections wait in the queue until listener_start(). */
int listener_new(const struct listener_settings *settings, listener_accept_fn on_accept,
                 void *userdata, struct listener **ret) GT_MUST_CHECK;
struct listener *listener_free(struct listener *listener);
/* Accepting, or leaving connections in the queue. Both may be said twice, and inside on_accept. */
void listener_start(struct listener *listener);
void listener_stop(struct listener *listener);

uint16_t listener_port(const struct listener *listener);
const struct gt_addr *listener_addr(const struct listener *listener);
