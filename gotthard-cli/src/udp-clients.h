/* SPDX-License-Identifier: ISC */
/*
 * The local side of a forward of UDP: each sender at its port has a stream of its own, which
 * carries the datagrams of both directions (tunnel/datagrams.h), and ends after a minute without
 * any. When there is no room for a new sender, the client that was unused longest loses its stream,
 * and the new one waits for it. A sender that returns gets another stream.
 */
#pragma once

#include <ev.h>

#include "gotthard/base/list.h"
#include "gotthard/net/sock.h"

#define UDP_CLIENTS_MAX 128 /* those without a stream included */
#define UDP_SOCKETS_MAX 2

struct udp_clients {
    struct ev_loop *loop;
    /* Opens a stream with the local socket @fd. Returns 0, GT_TUNNEL_E_FULL if there is no room, or
     * a failure. Takes @fd, except after E_FULL. */
    int (*open)(void *userdata, int fd, const struct gt_addr *peer);
    void *userdata;
    ev_io readable[UDP_SOCKETS_MAX];
    size_t n_sockets;
    struct gt_list all; /* the one that was unused longest first */
    unsigned n;
    ev_timer room;       /* active while clients wait for a stream */
    ev_tstamp failed_at; /* of the last failure to open a stream; 0: none */
    bool is_paused;
};

/* @fds: bound sockets of UDP, borrowed until udp_clients_deinit(). */
void udp_clients_init(struct udp_clients *clients, struct ev_loop *loop, const int *fds, size_t n,
                      int (*open)(void *userdata, int fd, const struct gt_addr *peer),
                      void *userdata);
void udp_clients_deinit(struct udp_clients *clients);
/* Reads the sockets from now on, and opens streams for waiting clients after the current callback,
 * when the tunnel no longer counts a stream that ends in it. To be called repeatedly, when there is
 * room for a stream. */
void udp_clients_start(struct udp_clients *clients);
/* While paused, all datagrams of senders are dropped. */
void udp_clients_pause(struct udp_clients *clients, bool is_paused);
