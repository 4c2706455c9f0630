/* SPDX-License-Identifier: ISC */
/*
 * The relay as a client sees it: the handshake with the identity's key, the protocol's version, a
 * session of its own for which the relay allocates a port, that port, and large packets. No other
 * side can join that session: its rendezvous id is random. It is closed at the end.
 */
#pragma once

#include <ev.h>

#include "gotthard/base/proxy.h"
#include "gotthard/net/host-port.h"
#include "gotthard/net/sock.h"
#include "gotthard/proto/control.h"
#include "gotthard/relay/end-reason.h"

struct gt_relay_check {
    const struct gt_host_port *relay;
    const struct gt_proxy *proxy; /* on the way to it; NULL: none */
    enum gt_role role;
    const char *name;          /* operator or device */
    const uint8_t *client_key; /* GT_KEY_SIZE */
};

struct gt_relay_facts {
    bool is_registered; /* false: the next three have the reason */
    enum gt_end_reason reason;
    enum gt_code code;
    char why[160];

    double took_s;         /* until it was registered */
    struct gt_addr addr;   /* of the relay */
    uint16_t session_port; /* that it has allocated */
    bool has_proxy;        /* that port is not tried: a proxy need not permit it */
    int session_err;       /* of a connection to that port: 0, or a positive errno */
    enum { GT_RELAY_LARGE_OK, GT_RELAY_LARGE_LOST, GT_RELAY_LARGE_UNKNOWN } large;
};

/* Takes at most 30 s. */
void gt_relay_check(struct ev_loop *loop, const struct gt_relay_check *check,
                    struct gt_relay_facts *ret);
