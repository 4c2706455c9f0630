/* SPDX-License-Identifier: ISC */
/*
 * A client's side of SOCKS5 (RFC 1928, RFC 1929) up to the answer to CONNECT. The proxy resolves
 * the name. Pure: bytes in, bytes out. It reports how many of the received bytes belong to the
 * exchange, because the next one belongs to the tunnel.
 */
#pragma once

#include "gotthard/base/bytes.h"
#include "gotthard/base/proxy.h"

#define GT_SOCKS5_MESSAGE_MAX                                          \
    (3 + 2 * (1 + GT_PROXY_USER_MAX)) /* bytes of what this side sends \
                                       */

enum gt_socks5_state {
    GT_SOCKS5_METHOD,  /* the greeting is to be sent; the proxy chooses a method */
    GT_SOCKS5_AUTH,    /* user and password */
    GT_SOCKS5_CONNECT, /* the request */
    GT_SOCKS5_DONE,
    GT_SOCKS5_FAILED, /* ->why */
};

struct gt_socks5 { /* initialize by gt_socks5_init */
    enum gt_socks5_state state;
    const struct gt_proxy *proxy; /* borrowed */
    char host[GT_HOST_MAX + 1];   /* to connect to */
    uint16_t port;
    const char *why; /* static: completes "the proxy ..." */
    bool is_denied;  /* FAILED: the proxy does not permit it */
    uint8_t reply[4 + 1 + 255 + 2];
    size_t n_reply;
};

/* @host: a name or a numeric address, copied. Keeps @proxy. */
void gt_socks5_init(struct gt_socks5 *socks5, const struct gt_proxy *proxy, const char *host,
                    uint16_t port);
/* Writes the message to send in the present state: at its beginning, and after each change of it.
 * Returns its size; 0: none. */
size_t gt_socks5_message(const struct gt_socks5 *socks5, uint8_t ret[static GT_SOCKS5_MESSAGE_MAX]);
/* Takes bytes of the present answer. Returns how many of @bytes belong to it; the state changes
 * with the last one. */
size_t gt_socks5_feed(struct gt_socks5 *socks5, struct gt_span bytes);
