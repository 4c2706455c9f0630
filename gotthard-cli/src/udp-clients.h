/* SPDX-License-Identifier: ISC */
/*
 * The local side of a forward of UDP: each sender at its port has a stream of its own, which
 * carries the datagrams of both directions (tunnel/datagrams.h), and ends after a minute without
 * any.
 */
#pragma once

#include <ev.h>

#include "gotthard/base/list.h"
#include "gotthard/net/sock.h"

#define UDP_CLIENTS_MAX 64 /* further senders are not served until one ends */
#define UDP_SOCKETS_MAX 2

struct udp_clients {
    struct ev_loop *loop;
    /* Opens a stream with the local socket @fd (takes). Returns 0, or the reason why there is none.
     */
    int (*open)(void *userdata, int fd, const struct gt_addr *peer);
    void *userdata;
    ev_io readable[UDP_SOCKETS_MAX];
    size_t n_sockets;
    struct gt_list all;
    unsigned n;
    bool is_started;
};

/* @fds: bound sockets of UDP, borrowed until udp_clients_deinit(). */
void udp_clients_init(struct udp_clients *clients, struct ev_loop *loop, const int *fds, size_t n,
                      int (*open)(void *userdata, int fd, const struct gt_addr *peer),
                      void *userdata);
void udp_clients_deinit(struct udp_clients *clients);
/* Reads the sockets from now on. May be called repeatedly. */
void udp_clients_start(struct udp_clients *clients);
