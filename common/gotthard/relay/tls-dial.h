/* SPDX-License-Identifier: ISC */
/*
 * Connects to a relay, or through a proxy to it: net/dial, with a proxy net/proxy-handshake, then
 * the TLS handshake with the identity's PSK, by which the relay proves that it knows the key. It
 * has one result. Its owner (control-connection.h) decides about another attempt.
 */
#pragma once

#include <ev.h>

#include "gotthard/net/host-port.h"
#include "gotthard/net/proxy-handshake.h"
#include "gotthard/net/sock.h"
#include "gotthard/relay/end-reason.h"
#include "gotthard/tls/tls.h"

struct gt_dial;

enum gt_tls_dial_state {
    GT_TLS_DIAL_CONNECTING,
    GT_TLS_DIAL_PROXY, /* the proxy connects to the relay */
    GT_TLS_DIAL_HANDSHAKE,
    GT_TLS_DIAL_DONE, /* connected, failed or cancelled */
};

struct gt_tls_dial_events {
    /* Connected to @addr, or through a proxy, whose address it is with the relay's port. Takes @fd
     * and @tls, whose handshake is complete. */
    void (*on_connected)(void *userdata, int fd, struct gt_tls *tls, const struct gt_addr *addr);
    /* @why is a text for people, valid during the call. */
    void (*on_failed)(void *userdata, enum gt_end_reason reason, const char *why);
};

struct gt_tls_dial { /* embedded in its owner; a zeroed one may be passed to _deinit */
    struct ev_loop *loop;
    enum gt_tls_dial_state state;
    struct gt_tls_dial_events events;
    void *userdata;
    const char *identity;         /* borrowed */
    uint8_t psk[GT_KEY_SIZE];     /* wiped with the result */
    ev_tstamp give_up_at;         /* by gt_clock() */
    const struct gt_proxy *proxy; /* borrowed; NULL: none */
    struct gt_host_port to;       /* the relay */
    struct gt_proxy_handshake proxy_handshake;
    struct gt_dial *dial;
    struct gt_addr addr; /* of the connection */
    int fd;
    struct gt_tls_context *context;
    struct gt_tls *tls;
    ev_io io;
    ev_timer deadline;
};

struct gt_tls_dial_settings {
    const struct gt_host_port *to; /* the relay; copied */
    const struct gt_proxy *proxy;  /* kept; NULL: none. Without it the name is resolved here */
    const char *identity;          /* kept */
    const uint8_t *psk;            /* GT_KEY_SIZE bytes; copied */
    unsigned timeout_ms;           /* of the whole */
};

/*
 * Starts to connect. The result comes from the loop. Errors as gt_tls_context_new and gt_dial_new;
 * call _deinit after an error as well.
 */
int gt_tls_dial_init(struct gt_tls_dial *tls_dial, struct ev_loop *loop,
                     const struct gt_tls_dial_settings *settings,
                     const struct gt_tls_dial_events *events, void *userdata) GT_MUST_CHECK;
/* TCP segments of any size instead of small ones, which pass any link; right after _init. For a
 * probe of large packets. */
void gt_tls_dial_permit_large_segments(struct gt_tls_dial *tls_dial);
/* Cancels, and frees the TLS context: only after the connection that came from it is closed. */
void gt_tls_dial_deinit(struct gt_tls_dial *tls_dial);
/* Cancels: there will be no result. */
void gt_tls_dial_cancel(struct gt_tls_dial *tls_dial);
/* The network has changed: fails if the route in use is gone. The result may come from inside. */
void gt_tls_dial_check(struct gt_tls_dial *tls_dial);
