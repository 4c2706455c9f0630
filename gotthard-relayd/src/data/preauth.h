/* SPDX-License-Identifier: ISC */
/*
 * An accepted connection that has not authenticated yet. On a session's port it must send a
 * complete JOIN. On the main port its first byte selects JOIN or TLS. A ClientHello is examined as
 * a whole while it stays in the socket, and only a connection whose ClientHello proves a key is
 * passed on. A connection that sends anything else, nothing, or too slowly is read for up to 64
 * bytes or a few seconds and is then closed.
 *
 * Bytes that arrive together with the connection are handled first, without regard to limits. Only
 * a connection that must wait is charged to its source (limits/quota.h), and is closed when it is
 * evicted. The struct is all the memory of such a connection. Its host's callbacks decide about a
 * JOIN and a ClientHello.
 */
#pragma once

#include <ev.h>

#include "gotthard/base/clock.h"
#include "gotthard/net/sock.h"
#include "gotthard/proto/join.h"
#include "gotthard/tls/client-hello.h"
#include "limits/quota.h"

enum preauth_state {
    PREAUTH_NEW,      /* main port: the first byte, or a part of a ClientHello, is missing */
    PREAUTH_JOINING,  /* bytes of a JOIN are missing */
    PREAUTH_DRAINING, /* rejected: reads the remaining bytes before it closes */
    PREAUTH_DONE,     /* passed on or closed; freed by preauth_host_reap */
};

struct preauth;

struct preauth_host {
    struct ev_loop *loop;
    int epoll_fd; /* owned; watches the waiting connections, because libev cannot hand a
                   * descriptor to another thread */
    ev_io io;
    struct quota *quota;
    struct gt_list open, closed;
    uint64_t first_ms; /* time for the first byte (main port) */
    uint64_t join_ms;  /* time for a complete JOIN */
    /* A complete JOIN is in ->bytes. The callback calls preauth_release, _reject or _close and
     * returns false; or it passes the connection to another thread and returns true. */
    bool (*on_join)(void *userdata, struct preauth *preauth);
    /* A complete ClientHello waits in the socket, unread. The callback calls preauth_prove and
     * _release, or _reject, or _refuse. NULL on ports without TLS. */
    void (*on_hello)(void *userdata, struct preauth *preauth, const struct gt_client_hello *hello);
    void *userdata;
};

struct preauth {
    enum preauth_state state;
    struct preauth_host *host;
    void *session_port; /* borrowed; the port where it arrived; NULL: the main port */
    int fd;
    struct quota_charge charge;
    struct gt_addr addr;
    uint64_t created_at, deadline;
    ev_timer timer;  /* active: the connection waits and is watched */
    bool is_ended;   /* by its peer: no more bytes of a ClientHello can be read */
    bool is_started; /* it has sent something */
    size_t n_bytes;
    uint8_t bytes[GT_JOIN_SIZE];
    struct gt_list of_host;
};

/* Keeps @loop and @quota. Clears the settings and callbacks, which the caller sets afterwards. A
 * negative errno of epoll_create1(2). */
int preauth_host_init(struct preauth_host *host, struct ev_loop *loop,
                      struct quota *quota) GT_MUST_CHECK;
/* Closes and frees all connections. */
void preauth_host_deinit(struct preauth_host *host);
/* Frees the DONE connections. Once per turn of the loop; never within a callback. */
void preauth_host_reap(struct preauth_host *host);

/* Handles an accepted connection. Takes @fd; closes it at once if there is no descriptor for it,
 * and reads the bytes that have arrived. May call the host's callbacks. */
void preauth_accept(struct preauth_host *host, int fd, const struct gt_addr *addr,
                    void *session_port);
/* Detaches a connection that is not DONE from its host, before a move to another thread. */
void preauth_detach(struct preauth *preauth);
/* Attaches a detached connection to the host of the calling thread and handles its JOIN. */
void preauth_attach(struct preauth *preauth, struct preauth_host *host);
/* Its ClientHello proves the key of @identity: charges it as a handshake. Returns false if there is
 * no descriptor for it; it is then closed. */
bool preauth_prove(struct preauth *preauth, const char *identity);
/* Ends a connection that has proved itself. Returns its descriptor and moves its charge to
 * *@ret_charge. */
int preauth_release(struct preauth *preauth, struct quota_charge *ret_charge) GT_MUST_CHECK;
/* Rejects a connection: reads the remaining bytes and closes it. */
void preauth_reject(struct preauth *preauth);
/* Refuses a ClientHello: reads it, sends @alert and closes the connection. */
void preauth_refuse(struct preauth *preauth, struct gt_span alert);
/* Closes a connection. */
void preauth_close(struct preauth *preauth);
/* Closes the connections that wait at @session_port. */
void preauth_close_of_port(struct preauth_host *host, const void *session_port);
