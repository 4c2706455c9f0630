/* SPDX-License-Identifier: ISC */
/*
 * Local connections that speak SOCKS5 (socks.h), from their acceptance until their stream carries
 * them. A request opens a stream without a local socket. When the device has connected the target,
 * the client gets the reply and the stream gets the connection. If the stream ends before that, the
 * reply has the reason.
 *
 * NEGOTIATING (10 s) -> CONNECTING (120 s) -> the stream; or REPLIED (5 s, for the client to read
 * the refusal) -> closed. Beyond the limit of streams NEGOTIATING -> WAITING (120 s) -> CONNECTING.
 */
#pragma once

#include <ev.h>

#include "gotthard/base/list.h"
#include "gotthard/proto/frame.h"
#include "local-queue.h"

#define SOCKS_CLIENTS_MAX 256 /* further connections are not accepted meanwhile, or are reset */

struct socks_clients_events {
    /* Opens a stream to @target ("10.0.0.5:80"), without a local socket. Returns 0 with its number,
     * GT_TUNNEL_E_FULL if there is no room for it now, or a failure. */
    int (*open)(void *userdata, const char *target, const struct local_peer *peer,
                uint32_t *ret_stream);
    /* Gives the stream its local socket. Takes @fd. */
    void (*serve)(void *userdata, uint32_t stream, int fd);
    /* The client has gone: resets the stream. */
    void (*cancel)(void *userdata, uint32_t stream);
    /* No longer full. */
    void (*on_room)(void *userdata);
};

struct socks_clients {
    struct ev_loop *loop;
    const struct socks_clients_events *events; /* keeps */
    void *userdata;
    struct gt_list all;
    unsigned n;
    ev_timer retry; /* active while socks_clients_retry() is to be acted upon */
};

void socks_clients_init(struct socks_clients *clients, struct ev_loop *loop,
                        const struct socks_clients_events *events, void *userdata);
/* Resets all connections; cancels no stream. */
void socks_clients_deinit(struct socks_clients *clients);
/* Returns true if a further connection would be reset. */
bool socks_clients_is_full(const struct socks_clients *clients);
/* A local connection; takes @fd. */
void socks_clients_add(struct socks_clients *clients, int fd, const struct local_peer *peer);
/* The target of @stream is connected. No effect for a stream of another kind. */
void socks_clients_connected(struct socks_clients *clients, uint32_t stream);
/* @stream has ended. Likewise. */
void socks_clients_ended(struct socks_clients *clients, uint32_t stream, enum gt_rst code);
/* A stream has ended: opens those of waiting clients, in the order of their arrival, from the next
 * loop iteration on, when the tunnel no longer counts the one that ended. */
void socks_clients_retry(struct socks_clients *clients);
