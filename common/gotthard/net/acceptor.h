/* SPDX-License-Identifier: ISC */
/*
 * Accepts connections on one listening socket. Accepting never blocks and never spins: one turn of
 * the loop accepts at most 64 connections, and an error that would repeat at once pauses for
 * 100 ms. It also never ends by itself: after the pause it tries again.
 *
 * When descriptors run out (EMFILE, ENFILE), an acceptor with a reserve descriptor closes it,
 * accepts one connection with it, and closes that connection: a daemon's peers learn at once that
 * there is no place for them. An acceptor without a reserve pauses and leaves the connections in
 * the backlog, which suits a user's own local port. This is the only difference between its users.
 * Both log a warning at most once a second, and both skip a connection that failed before it was
 * accepted (ECONNABORTED and the network errors of accept(2)) within the same turn.
 */
#pragma once

#include <ev.h>

#include "gotthard/net/sock.h"

/* A descriptor kept open for the moment when there is no other. One per thread, shared by its
 * acceptors. Not to be used from two threads. */
struct gt_reserve_fd {
    int fd; /* owned; -1: none could be opened */
};
/* Opens /dev/null. A failure is tolerated: acceptors then pause, and try to open it again. */
void gt_reserve_fd_init(struct gt_reserve_fd *reserve);
/* Closes it. May be called twice. */
void gt_reserve_fd_deinit(struct gt_reserve_fd *reserve);

/*
 * A connection was accepted. Takes @fd, which is non-blocking, close-on-exec and tuned
 * (gt_sock_tune). May call gt_acceptor_stop, _pause and _deinit; the struct itself must stay valid
 * until the callback has returned.
 */
typedef void (*gt_acceptor_fn)(void *userdata, int fd, const struct gt_addr *peer);

struct gt_acceptor { /* embedded in its owner; a zeroed one may be passed to _deinit */
    struct ev_loop *loop;
    int fd;                             /* owned; -1 after _deinit */
    bool is_started;                    /* by its owner; a pause may still be in progress */
    ev_io io;                           /* active when started and not paused */
    ev_timer pause;                     /* active during a pause */
    struct gt_sock_inherited inherited; /* by its connections */
    struct gt_reserve_fd *reserve;
    gt_acceptor_fn on_accept;
    void *userdata;
};

/*
 * Prepares to accept on @fd, a non-blocking listening socket (gt_sock_listen). Takes @fd; keeps
 * @loop and @reserve (NULL: none). Accepts nothing before gt_acceptor_start: connections wait in
 * the backlog.
 */
void gt_acceptor_init(struct gt_acceptor *acceptor, struct ev_loop *loop, int fd,
                      struct gt_reserve_fd *reserve, gt_acceptor_fn on_accept, void *userdata);
/* Starts accepting. During a pause: when the pause ends. No effect if started. */
void gt_acceptor_start(struct gt_acceptor *acceptor);
/* Stops accepting until the next gt_acceptor_start; connections wait in the backlog. No effect if
 * stopped. */
void gt_acceptor_stop(struct gt_acceptor *acceptor);
/* Stops accepting for 100 ms from now. A stopped acceptor stays stopped after it. */
void gt_acceptor_pause(struct gt_acceptor *acceptor);
/* Stops accepting and closes the socket. May be called twice. */
void gt_acceptor_deinit(struct gt_acceptor *acceptor);
