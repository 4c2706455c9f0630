/* SPDX-License-Identifier: ISC */
/*
 * Two sockets and the two flows between them, from accept() until the two parties or a command end
 * the connection. A held connection is accepted and not forwarded: its client waits.
 */
#pragma once

#include "flow.h"
#include "gotthard/net/sock.h"
#include "proxy.h"

#define CONNECTION_FLIGHT 4096

enum connection_state {
    CONNECTION_HELD,
    CONNECTION_DIALING,
    CONNECTION_OPEN,
    CONNECTION_ENDING, /* cut: both got a FIN, and later bytes are discarded */
    CONNECTION_ENDED,
};

struct connection {
    struct gt_list element; /* of the proxy's connections, then of its ended ones */
    struct proxy *proxy;
    enum connection_state state;
    unsigned id;
    uint16_t port; /* that it was accepted on */
    struct gt_addr from,
        to; /* @from: the address it was accepted on is the source of the forwarded one */
    int here, there;
    struct flow flows[PROXY_DIRECTIONS];
    struct impairments impairments[PROXY_DIRECTIONS]; /* until the flows exist */
    double created_at, received_at;
    int n_drained;
    size_t n_flight; /* bytes of the client before the first answer */
    uint8_t flight[CONNECTION_FLIGHT];
    ev_io dialing;
    ev_timer ending;
};

/* Takes @here. */
void connection_new(struct proxy *proxy, int here, const struct gt_addr *at,
                    const struct gt_addr *to);
/* Starts to connect, as gt_sock_connect(). */
int connection_dial(const struct connection *connection) GT_MUST_CHECK;
void connection_forward(struct connection *connection);
/* Both sockets get a FIN, or a reset, whatever is in flight. */
void connection_cut(struct connection *connection);
void connection_reset(struct connection *connection);
struct impairments *connection_impairments(struct connection *connection,
                                           enum proxy_direction direction);
void connection_update(struct connection *connection);
uint64_t connection_n_bytes(const struct connection *connection, enum proxy_direction direction);
const char *connection_state_name(enum connection_state state);
/* Frees ended connections. Never from one of their callbacks. */
void connection_reap(struct proxy *proxy);
