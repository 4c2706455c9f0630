/* SPDX-License-Identifier: ISC */
/*
 * Sockets: made non-blocking and close-on-exec from birth, with the options that every connection
 * of Gotthard has (gt_sock_tune; buffers are left to the kernel's autotuning).
 */
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "gotthard/base.h"

struct gt_addr {
    socklen_t n;
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_storage storage;
    };
};

/* A numeric address only ("127.0.0.1", "::", "[::1]" not). 0 or 1 (not numeric). */
int gt_addr_parse(const char *host, uint16_t port, struct gt_addr *ret) GT_MUST_CHECK;
uint16_t gt_addr_port(const struct gt_addr *addr);
void gt_addr_set_port(struct gt_addr *addr, uint16_t port);
bool gt_addr_is_loopback(const struct gt_addr *addr);
/* "127.0.0.1:4444", "[::1]:4444". Returns @ret (GT_ADDR_TEXT). */
#define GT_ADDR_TEXT 72 /* "[address%zone]:port" and its NUL */
const char *gt_addr_text(const struct gt_addr *addr, char ret[static GT_ADDR_TEXT]);
/* What a source is counted by: the IPv4 address, or the IPv6 /64 (v4-mapped is IPv4). 16 bytes. */
void gt_addr_source(const struct gt_addr *addr, uint8_t ret[static 16]);

/* Each returns a descriptor, or a negative errno that the caller may well expect (-EADDRINUSE,
 * -EACCES, ...). */
int gt_sock_listen(const struct gt_addr *addr,
                   int backlog) GT_MUST_CHECK; /* SO_REUSEADDR; v6 any is dual-stack */
int gt_sock_connect(const struct gt_addr *addr)
    GT_MUST_CHECK; /* begun, not done: wait for writable */
int gt_sock_accept(int listener, struct gt_addr *ret) GT_MUST_CHECK; /* accept4 */
int gt_sock_error(int fd) GT_MUST_CHECK; /* SO_ERROR, as 0 or a negative errno */
int gt_sock_local(int fd, struct gt_addr *ret) GT_MUST_CHECK;
int gt_sock_peer(int fd, struct gt_addr *ret) GT_MUST_CHECK;

/* TCP_NODELAY, SO_KEEPALIVE, and on a way to this machine itself TCP_CONGESTION; best effort. What
 * connects or accepts here has it. */
void gt_sock_tune(int fd, const struct gt_addr *peer);
/* Whether its end is a RST instead of a FIN (SO_LINGER 0) from now on, whoever closes it: also the
 * kernel, when the process is killed. */
void gt_sock_set_abortive(int fd, bool is_abortive);
/*
 * TCP_USER_TIMEOUT: the connection breaks when nothing of what was sent is acknowledged, or the
 * peer's window is shut, for this long; best effort. The second is a trap: a peer that lives and
 * reads slowly shuts its window, too. So it is only for connections whose peer always reads.
 */
void gt_sock_set_timeout(int fd, double seconds);

/* Closes with RST. */
void gt_sock_reset(int fd);
/* A connected pair, AF_UNIX stream, non-blocking. */
int gt_sock_pair(int ret[2]) GT_MUST_CHECK;
