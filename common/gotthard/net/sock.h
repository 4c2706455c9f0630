/* SPDX-License-Identifier: ISC */
/*
 * Sockets, created non-blocking and close-on-exec, with the options that every connection of
 * Gotthard has (gt_sock_tune). Buffer sizes are left to the kernel's autotuning.
 */
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "gotthard/base/base.h"

struct gt_addr { /* an address and a port, numeric */
    socklen_t n;
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_storage storage;
    };
};

/* Parses a numeric address: "127.0.0.1", "::1", "fe80::1%eth0", no brackets. Returns 0, or 1 if it
 * is not numeric. */
int gt_addr_parse(const char *host, uint16_t port, struct gt_addr *ret) GT_MUST_CHECK;
uint16_t gt_addr_port(const struct gt_addr *addr);
void gt_addr_set_port(struct gt_addr *addr, uint16_t port);
bool gt_addr_is_loopback(const struct gt_addr *addr);
/* "127.0.0.1:4444", "[::1]:4444". Returns @ret (GT_ADDR_TEXT). */
#define GT_ADDR_TEXT 72 /* "[address%zone]:port" and its NUL */
const char *gt_addr_text(const struct gt_addr *addr, char ret[static GT_ADDR_TEXT]);
/* The key by which a source is counted: its IPv4 address, also if mapped, or its IPv6 /64. */
void gt_addr_source(const struct gt_addr *addr, uint8_t ret[static 16]);

/* Each of these returns a descriptor (or 0) or a negative errno, which the caller handles
 * (-EADDRINUSE, -EACCES, ...). */
/* For gt_sock_listen: the most that Linux grants by default (net.core.somaxconn lowers it). A full
 * queue costs a client one second, until its SYN is repeated. */
#define GT_SOCK_BACKLOG 4096
/* With SO_REUSEADDR, and with the options that accepted sockets inherit. "::" accepts IPv4 as well,
 * any other IPv6 address only IPv6. */
int gt_sock_listen(const struct gt_addr *addr, int backlog) GT_MUST_CHECK;
/*
 * For a listening socket whose clients speak first (TCP_DEFER_ACCEPT in tcp(7)): a connection is
 * accepted when its first bytes arrive, or without any after about 3 s. Until then it costs only
 * what the kernel keeps of a SYN. Best effort. Under a flood the kernel accepts earlier (SYN
 * cookies).
 */
void gt_sock_set_defer_accept(int listener);
/* Starts to connect: wait until the socket is writable, then call gt_sock_error. */
int gt_sock_connect(const struct gt_addr *addr) GT_MUST_CHECK;
/* The same with TCP segments of at most @segment bytes in both directions (TCP_MAXSEG in tcp(7)):
 * SYN announces the limit to the peer. 0: the kernel decides. */
int gt_sock_connect_segmented(const struct gt_addr *addr, uint16_t segment) GT_MUST_CHECK;
/* Asks again after a gt_sock_connect that has started. Returns 0 if it is connected, -EALREADY
 * while that is in progress, or the reason of its failure. Within this machine neither takes time.
 */
int gt_sock_connect_again(int fd, const struct gt_addr *addr) GT_MUST_CHECK;
/* A socket of UDP that sends to @addr, and receives from it only. */
int gt_sock_connect_udp(const struct gt_addr *addr) GT_MUST_CHECK;
/* A socket of UDP that receives at @addr. "::" as in gt_sock_listen. */
int gt_sock_bind_udp(const struct gt_addr *addr) GT_MUST_CHECK;
/* *ret is the peer's address. */
int gt_sock_accept(int listener, struct gt_addr *ret) GT_MUST_CHECK;

/* The options of gt_sock_tune that accepted connections have from their listener. */
struct gt_sock_inherited {
    bool is_tuned;   /* all but TCP_CONGESTION */
    bool is_unpaced; /* that one */
};
/* Those of @listener: of a socket of gt_sock_listen all, but at an address of other machines as
 * well only the first ones; of a socket that another program has opened maybe none. */
struct gt_sock_inherited gt_sock_inherited(int listener);
/* gt_sock_accept for many connections: leaves out the options that are @inherited. */
int gt_sock_accept_inheriting(int listener, struct gt_sock_inherited inherited,
                              struct gt_addr *ret) GT_MUST_CHECK;
/* SO_ERROR: 0 or a negative errno. */
int gt_sock_error(int fd) GT_MUST_CHECK;
int gt_sock_local(int fd, struct gt_addr *ret) GT_MUST_CHECK;
int gt_sock_peer(int fd, struct gt_addr *ret) GT_MUST_CHECK;

/* Sets TCP_NODELAY, SO_KEEPALIVE, SO_OOBINLINE (an urgent byte is read in its place), and for a
 * peer on this machine TCP_CONGESTION; best effort. gt_sock_connect and gt_sock_accept call it. */
void gt_sock_tune(int fd, const struct gt_addr *peer);
/* From now on the close of @fd sends RST instead of FIN (SO_LINGER 0), also when the kernel closes
 * it because the process was killed. */
void gt_sock_set_abortive(int fd, bool is_abortive);
/*
 * TCP_USER_TIMEOUT (tcp(7)): the connection breaks if sent data is not acknowledged, or the peer's
 * window is zero, for this long; best effort. A healthy peer that reads slowly also has a zero
 * window. Use it only for connections whose peer always reads.
 */
void gt_sock_set_timeout(int fd, double seconds);
/* The socket is writable only while fewer than @n bytes wait in the kernel unsent, so that the data
 * that is sent next can still be decided late (TCP_NOTSENT_LOWAT). */
void gt_sock_set_unsent_max(int fd, int n);
/*
 * Keep-alive probes of an idle connection (tcp(7)): it breaks when the peer's machine has answered
 * nothing for about @seconds. Where the kernel permits it, the repeats of data and the probes of a
 * closed window are also sent often enough for gt_sock_get_answers. Best effort.
 */
void gt_sock_set_keepalive(int fd, double seconds);

struct gt_sock_answers {
    bool is_in_flight;  /* the peer has not acknowledged everything, or its window is closed */
    double silent_s;    /* since the peer's last acknowledgement; suspend does not count */
    unsigned n_repeats; /* of unacknowledged data, without an answer since */
    unsigned n_probes;  /* of a closed window, likewise */
};
/* TCP_INFO. A negative errno if @fd is no TCP socket. */
int gt_sock_get_answers(int fd, struct gt_sock_answers *ret) GT_MUST_CHECK;

/* Returns the smoothed round trip of a TCP connection in seconds; 0: unknown. */
double gt_sock_rtt(int fd);

/* Closes @fd with RST. */
void gt_sock_reset(int fd);
/* A connected pair, AF_UNIX stream, non-blocking. */
int gt_sock_pair(int ret[2]) GT_MUST_CHECK;
