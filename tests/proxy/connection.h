/* SPDX-License-Identifier: ISC */
/*
 * Two sockets and the two flows between them, from the accept() to the end that the two parties, or
 * an order, make of it. A held connection is accepted and not dialled on: its client waits.
 */
#pragma once

#include "flow.h"
#include "gotthard/sock.h"
#include "proxy.h"

#define CONNECTION_FLIGHT 4096

enum connection_state {
    CONNECTION_HELD,
    CONNECTION_DIALLING,
    CONNECTION_OPEN,
    CONNECTION_ENDING, /* cut: both have a FIN, and what they still send is thrown away */
    CONNECTION_DEAD,
};

struct connection {
    struct gt_list element; /* of the proxy's connections, then of its dead */
    struct proxy *proxy;
    enum connection_state state;
    unsigned id;
    uint16_t port;           /* that it came to */
    struct gt_addr from, to; /* the address at which it was found is the one it is seen from */
    int here, there;
    struct flow flows[PROXY_WAYS];
    struct weather weather[PROXY_WAYS]; /* until there are flows */
    double born_at, heard_at;
    int n_drained;
    size_t n_flight; /* what the client said before it was answered */
    uint8_t flight[CONNECTION_FLIGHT];
    ev_io dialling;
    ev_timer ending;
};

/* Takes @here. */
void connection_new(struct proxy *proxy, int here, const struct gt_addr *at,
                    const struct gt_addr *to);
/* Begun, as gt_sock_connect(). */
int connection_dial(const struct connection *connection) GT_MUST_CHECK;
void connection_let_through(struct connection *connection);
/* Both sockets get a FIN, whatever was in flight; or a reset. */
void connection_cut(struct connection *connection);
void connection_reset(struct connection *connection);
struct weather *connection_weather(struct connection *connection, enum proxy_way way);
void connection_update(struct connection *connection);
uint64_t connection_n_bytes(const struct connection *connection, enum proxy_way way);
const char *connection_state_name(enum connection_state state);
/* Frees those that ended. Never from a callback of theirs. */
void connection_bury(struct proxy *proxy);
