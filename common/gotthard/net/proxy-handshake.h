/* SPDX-License-Identifier: ISC */
/*
 * From a connection to a proxy to a tunnel through it: CONNECT of HTTP (net/http-reply.h) or SOCKS5
 * (net/socks5.h) on a socket that is connected to the proxy. Not one byte after the proxy's answer
 * is taken from the socket. The caller waits for the socket and has the deadline.
 */
#pragma once

#include "gotthard/net/host-port.h"
#include "gotthard/net/http-reply.h"
#include "gotthard/net/socks5.h"

#define GT_PROXY_HANDSHAKE_WHY 700
/* "CONNECT host:port", "Host: host:port", and user and password in Base64. */
#define GT_PROXY_HANDSHAKE_OUT (2 * GT_PROXY_NAME + 4 * (2 * GT_PROXY_USER_MAX + 3) / 3 + 160)

struct gt_proxy_handshake {       /* embedded in its owner; initialize by gt_proxy_handshake_init */
    const struct gt_proxy *proxy; /* borrowed */
    struct gt_host_port target;
    struct gt_http_reply http;
    struct gt_socks5 socks5;
    uint8_t out[GT_PROXY_HANDSHAKE_OUT]; /* wiped when it is sent */
    size_t n_out, n_sent;
    bool is_answered, is_denied;      /* FAILED: by an answer; the proxy does not permit it */
    char why[GT_PROXY_HANDSHAKE_WHY]; /* FAILED: a sentence that names the proxy */
};

enum {
    GT_PROXY_HANDSHAKE_E_READ = 1, /* call again when the socket is readable */
    GT_PROXY_HANDSHAKE_E_WRITE,    /* ... writable */
    GT_PROXY_HANDSHAKE_E_FAILED,   /* ->why */
};

/* Keeps @proxy, whose kind is not NONE; copies @target. */
void gt_proxy_handshake_init(struct gt_proxy_handshake *handshake, const struct gt_proxy *proxy,
                             const struct gt_host_port *target);
/* Continues on @fd (non-blocking, borrowed). Returns 0 when the tunnel is up, or one of E_x. */
int gt_proxy_handshake_run(struct gt_proxy_handshake *handshake, int fd) GT_MUST_CHECK;
/* The deadline has passed: sets ->why. */
void gt_proxy_handshake_expire(struct gt_proxy_handshake *handshake);
