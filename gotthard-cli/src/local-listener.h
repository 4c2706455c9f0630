/* SPDX-License-Identifier: ISC */
/*
 * A local port or Unix socket: bound once and kept, so that no other program can take it while the
 * device answers. Without an address it is loopback only, on 127.0.0.1 and on ::1 where that
 * exists, because `localhost` stands for both.
 *
 * It belongs to its user: a connection of another user of the machine is reset, unless the listener
 * is shared. root is admitted, since it can take over this process anyway. A
 * connection whose user cannot be determined is refused. Any other address is shared by its nature.
 */
#pragma once

#include <ev.h>

#include "gotthard/net/sock.h"
#include "local-queue.h"
#include "local-socket.h"

struct local_listener;

struct local_listener_settings {
    struct ev_loop *loop; /* keeps */
    const char *bind;     /* a numeric address, "*" for all; NULL: loopback */
    uint16_t port;        /* 0: a free one */
    bool is_shared;       /* every user of this machine is admitted */
    bool is_udp;          /* sockets of UDP, which the owner reads: local_listener_udp() */
    double vanished_s;    /* as in gt_endpoint_init, for connections that become endpoints */
};

enum local_refusal {
    LOCAL_REFUSED_USER,   /* another user's */
    LOCAL_REFUSED_UID,    /* the system does not report its user */
    LOCAL_REFUSED_CLOSED, /* closed by its program before its user was known; no byte was sent */
    LOCAL_REFUSED_LATE,   /* the same, and the bytes that it sent are lost */
};

enum {
    LOCAL_LISTENER_E_BUSY = 1, /* the port is in use */
    LOCAL_LISTENER_E_DENIED,   /* ports below 1024 need a privilege */
    LOCAL_LISTENER_E_ADDRESS,  /* not numeric, or not an address of this machine */
};

struct local_listener_events {
    /* Takes @fd, for gt_endpoint_fds_accepted(): its close sends RST. @peer is borrowed. */
    void (*on_accept)(void *userdata, int fd, const struct local_peer *peer);
    /* A connection was reset. */
    void (*on_refused)(void *userdata, const struct local_peer *peer, enum local_refusal why);
};

/* Binds and listens; keeps @events. Until local_listener_start() connections are accepted or
 * refused, but not handed on. */
int local_listener_new(const struct local_listener_settings *settings,
                       const struct local_listener_events *events, void *userdata,
                       struct local_listener **ret) GT_MUST_CHECK;
/* The same with a Unix socket at @path (local-socket.h), which is removed by local_listener_free().
 * E_BUSY, or E_ADDRESS for another fault; both with a text in @ret_why. */
int local_listener_new_at_path(const struct local_listener_settings *settings, const char *path,
                               const struct local_listener_events *events, void *userdata,
                               struct local_listener **ret,
                               char ret_why[static LOCAL_SOCKET_WHY]) GT_MUST_CHECK;
/* Closes its sockets. Takes NULL; returns NULL. */
struct local_listener *local_listener_free(struct local_listener *listener);
/* Hand connections on, or let them wait. Both may be called repeatedly, and from on_accept.
 * Connections that have waited are handed on in the next turn of the loop. */
void local_listener_start(struct local_listener *listener);
void local_listener_stop(struct local_listener *listener);

/* Returns the sockets of UDP, borrowed, and their number. */
size_t local_listener_udp(const struct local_listener *listener, const int **ret);
/* Returns true if it admits every user, also as it is not on loopback. */
bool local_listener_is_shared(const struct local_listener *listener);
uint16_t local_listener_port(const struct local_listener *listener);
/* The path of a Unix socket, or NULL. */
const char *local_listener_path(const struct local_listener *listener);
/* The address of its first socket, with the port. */
const struct gt_addr *local_listener_addr(const struct local_listener *listener);
