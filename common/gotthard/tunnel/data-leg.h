/* SPDX-License-Identifier: ISC */
/*
 * One way of a data connection to the relay: TCP connect to one of its ports, or through a proxy,
 * and the JOIN there (docs/protocol.md, section 3). Ends with a joined socket or with a reason.
 * data-dial.h runs up to two legs at once.
 */
#pragma once

#include <ev.h>

#include "gotthard/net/proxy-handshake.h"
#include "gotthard/net/sock.h"
#include "gotthard/proto/join.h"

struct gt_data_leg;

struct gt_data_leg_events {
    /* The relay has the JOIN, and waits for the other side's. */
    void (*on_received)(struct gt_data_leg *leg);
    /* Both sides have joined. The callee takes ->fd (gt_steal_fd). The last callback. */
    void (*on_joined)(struct gt_data_leg *leg);
    /* The last callback; ->why has the reason. */
    void (*on_failed)(struct gt_data_leg *leg);
};

enum gt_data_leg_state {
    GT_DATA_LEG_IDLE, /* not started, or over */
    GT_DATA_LEG_CONNECTING,
    GT_DATA_LEG_PROXY,   /* the proxy connects to the relay */
    GT_DATA_LEG_JOINING, /* JOIN is sent; no byte of the relay has arrived */
    GT_DATA_LEG_WAITING, /* for the other side */
};

struct gt_data_leg { /* embedded in its owner; zero-initialize, then gt_data_leg_init */
    struct ev_loop *loop;
    const struct gt_data_leg_events *events;
    void *userdata;
    enum gt_data_leg_state state;
    uint16_t port;                /* of the relay; 0: never started */
    const char *why;              /* of the failure; NULL: none. Valid as long as the leg */
    bool is_denied;               /* the proxy's answer was the failure */
    const struct gt_proxy *proxy; /* borrowed; NULL: none */
    struct gt_proxy_handshake proxy_handshake; /* in PROXY, and its ->why after it */
    int fd;
    ev_io reader, writer;
    ev_timer deadline;
    uint8_t join[GT_JOIN_SIZE];
    uint8_t reply[GT_JOIN_REPLY_SIZE];
    size_t n_done; /* bytes of the JOIN sent, then bytes of the reply received */
};

void gt_data_leg_init(struct gt_data_leg *leg, struct ev_loop *loop,
                      const struct gt_data_leg_events *events, void *userdata);
struct gt_data_leg_to {           /* where to connect, and how */
    const struct gt_addr *relay;  /* with a proxy: the proxy's address, and the relay's port */
    const struct gt_proxy *proxy; /* kept; NULL: none */
    const char *host;             /* of the relay, for the proxy */
    uint16_t segment;             /* of TCP, in bytes; 0: the kernel decides */
    double timeout_s;             /* of the socket, see gt_sock_set_timeout */
};
/* Connects and sends @join. No callback comes from inside. */
void gt_data_leg_start(struct gt_data_leg *leg, const struct gt_data_leg_to *to,
                       const struct gt_join *join);
/* Closes the socket; no callback follows. */
void gt_data_leg_stop(struct gt_data_leg *leg);
