/* SPDX-License-Identifier: ISC */
/*
 * A name to a connection on which a relay has proved that it knows our key: dial (dial.h), then the
 * handshake of TLS with the identity's PSK. A call is made once and comes to one result; what is
 * said over the connection, and whether another call is worth it, is its whole's business (link.h).
 */
#pragma once

#include <ev.h>

#include "gotthard/down.h"
#include "gotthard/sock.h"
#include "gotthard/tls.h"

struct gt_dial;

enum gt_call_state {
    GT_CALL_DIALLING,
    GT_CALL_HANDSHAKE,
    GT_CALL_OVER, /* answered, failed, or cancelled */
};

struct gt_call_events {
    /* Takes @fd and @tls, which is done with its handshake; @addr is the address that worked. */
    void (*on_answered)(void *userdata, int fd, struct gt_tls *tls, const struct gt_addr *addr);
    /* @why for people. */
    void (*on_failed)(void *userdata, enum gt_down cause, const char *why);
};

struct gt_call { /* a part of its whole */
    struct ev_loop *loop;
    enum gt_call_state state;
    struct gt_call_events events;
    void *userdata;
    const char *identity;
    uint8_t psk[GT_KEY_SIZE]; /* wiped when it is over */
    ev_tstamp give_up_at;     /* as a whole, by gt_clock() */
    struct gt_dial *dial;
    struct gt_addr addr; /* that took the connection */
    int fd;
    struct gt_tls_context *context;
    struct gt_tls *tls;
    ev_io io;
    ev_timer deadline;
};

/* Begins to dial: one result comes from the loop. Keeps @identity, copies @psk (GT_KEY_SIZE);
 * @timeout_ms is for all of it. As gt_tls_context_new and gt_dial_new; deinit it also on failure.
 */
int gt_call_init(struct gt_call *call, struct ev_loop *loop, const char *host, uint16_t port,
                 const char *identity, const uint8_t *psk, unsigned timeout_ms,
                 const struct gt_call_events *events, void *userdata) GT_MUST_CHECK;
/* Cancels it. Not before the connection it brought is closed: the TLS context is the call's. Takes
 * a zeroed one. */
void gt_call_deinit(struct gt_call *call);
/* No result any more, if there was none yet. */
void gt_call_cancel(struct gt_call *call);
/* The network has changed: what is waited for on a way that is gone has failed. The result may come
 * from inside. */
void gt_call_check(struct gt_call *call);
