/* SPDX-License-Identifier: ISC */
/*
 * The local side of a tunnel: the forwards of the command line, each with its listener. A required
 * local port must be free; a preferred port is replaced by a free one if it is in use.
 */
#pragma once

#include "failure.h"
#include "forward-spec.h"
#include "local-listener.h"
#include "udp-clients.h"

#define FORWARDS_MAX 63 /* the command line is rejected if it has more */

struct forwards;

struct forward {
    struct forwards *forwards; /* the set that it belongs to */
    struct forward_spec spec;
    struct local_listener *listener; /* owned */
    struct udp_clients udp;          /* of a forward of UDP */
    bool is_moved; /* the preferred port was in use or needs a privilege; it got another one */
};

/* Everything but @fd, which the callback takes, is borrowed. */
struct forwards_events {
    /* A local connection. */
    void (*on_connection)(void *userdata, const struct forward *forward, int fd,
                          const struct local_peer *peer);
    /* A new sender of UDP; as the open function of udp_clients. */
    int (*on_udp)(void *userdata, const struct forward *forward, int fd,
                  const struct local_peer *peer);
    /* A local connection was reset. */
    void (*on_refused)(void *userdata, const struct forward *forward, const struct local_peer *peer,
                       enum local_refusal why);
};

struct forwards_settings {
    struct ev_loop *loop;
    const char *bind;         /* a numeric address, "*" for all, NULL: loopback */
    uint16_t default_port;    /* preferred by forwards without LOCAL or an unprivileged PORT */
    bool is_default_required; /* it was configured: required by the first such forward */
    bool is_shared;           /* every user of this machine may connect */
    double vanished_s;        /* as in local_listener_settings */
};

struct forwards {
    struct forward items[FORWARDS_MAX];
    size_t n_items;
    const struct forwards_events *events; /* keeps */
    void *userdata;
};

/* Binds a listener for each of @specs; @default_port was used to parse them. Returns 0, or 1 with
 * @ret_failure and nothing bound. Nothing is accepted before forwards_start(). */
int forwards_open(const struct forwards_settings *settings, const struct forward_spec *specs,
                  size_t n_specs, const struct forwards_events *events, void *userdata,
                  struct forwards *ret, struct failure *ret_failure) GT_MUST_CHECK;
/* Accepts connections. Both may be called repeatedly, and from on_connection. */
void forwards_start(struct forwards *forwards);
/* Accepts no more: connections wait in the kernel's queue. */
void forwards_stop(struct forwards *forwards);
/* The same for those of SOCKS only. */
void forwards_stop_socks(struct forwards *forwards);
/* While paused, forwards of UDP drop their datagrams: these would arrive late. */
void forwards_pause_udp(struct forwards *forwards, bool is_paused);
/* Closes all listeners. Takes a zeroed struct and a closed one. */
void forwards_close(struct forwards *forwards);
