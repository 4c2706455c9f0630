/* SPDX-License-Identifier: ISC */
/*
 * Sockets and their addresses. Every descriptor is non-blocking and close-on-exec from the call
 * that makes it, so that no fork between two calls can leak one and no path can ever wait in the
 * kernel. What cannot be tuned is left as it is: a tuning option never fails a connection.
 */
#include "gotthard/sock.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

int gt_addr_parse(const char *host, uint16_t port, struct gt_addr *ret)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    struct gt_addr addr = {0};
    /* inet_pton() for IPv4, since getaddrinfo() also takes "127.1"; the latter for zones. */
    if (inet_pton(AF_INET, host, &addr.v4.sin_addr) == 1) {
        addr.v4.sin_family = AF_INET;
        addr.n = sizeof(addr.v4);
    } else {
        if (!strchr(host, ':') || getaddrinfo(host, NULL, &hints, &found) != 0)
            return 1;
        memcpy(&addr.storage, found->ai_addr, found->ai_addrlen);
        addr.n = found->ai_addrlen;
        freeaddrinfo(found);
    }
    gt_addr_set_port(&addr, port);
    *ret = addr;
    return 0;
}

uint16_t gt_addr_port(const struct gt_addr *addr)
{
    if (addr->any.sa_family == AF_INET)
        return ntohs(addr->v4.sin_port);
    return addr->any.sa_family == AF_INET6 ? ntohs(addr->v6.sin6_port) : 0;
}

void gt_addr_set_port(struct gt_addr *addr, uint16_t port)
{
    if (addr->any.sa_family == AF_INET)
        addr->v4.sin_port = htons(port);
    else if (addr->any.sa_family == AF_INET6)
        addr->v6.sin6_port = htons(port);
}

/* The IPv4 address in @addr, plain or mapped (RFC 4291 section 2.5.5.2); NULL if there is none. */
static const uint8_t *addr_v4(const struct gt_addr *addr)
{
    if (addr->any.sa_family == AF_INET)
        return (const uint8_t *)&addr->v4.sin_addr;
    if (addr->any.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&addr->v6.sin6_addr))
        return addr->v6.sin6_addr.s6_addr + 12;
    return NULL;
}

bool gt_addr_is_loopback(const struct gt_addr *addr)
{
    const uint8_t *v4 = addr_v4(addr);
    if (v4)
        return v4[0] == 127;
    return addr->any.sa_family == AF_UNIX ||
           (addr->any.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&addr->v6.sin6_addr));
}

const char *gt_addr_text(const struct gt_addr *addr, char ret[static GT_ADDR_TEXT])
{
    char host[INET6_ADDRSTRLEN], zone[IF_NAMESIZE + 1] = "";
    const uint8_t *v4 = addr_v4(addr);
    if (v4) {
        inet_ntop(AF_INET, v4, host, sizeof(host));
        snprintf(ret, GT_ADDR_TEXT, "%s:%u", host, gt_addr_port(addr));
    } else if (addr->any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &addr->v6.sin6_addr, host, sizeof(host));
        if (addr->v6.sin6_scope_id)
            snprintf(zone, sizeof(zone), "%%%u", addr->v6.sin6_scope_id);
        snprintf(ret, GT_ADDR_TEXT, "[%s%s]:%u", host, zone, gt_addr_port(addr));
    } else {
        snprintf(ret, GT_ADDR_TEXT, "%s", addr->any.sa_family == AF_UNIX ? "local" : "unknown");
    }
    return ret;
}

void gt_addr_source(const struct gt_addr *addr, uint8_t ret[static 16])
{
    const uint8_t *v4 = addr_v4(addr);
    memset(ret, 0, 16);
    if (v4) {
        ret[10] = ret[11] = 0xff;
        memcpy(ret + 12, v4, 4);
    } else if (addr->any.sa_family == AF_INET6) {
        memcpy(ret, addr->v6.sin6_addr.s6_addr, 8);
    }
}

/*
 * Pacing (bbr) is for a way with a bottleneck in it: on one that stays in this machine it only
 * costs a timer for every few packets. Reno is in every kernel, and for everybody.
 */
void gt_sock_tune(int fd, const struct gt_addr *peer)
{
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int));
    if (gt_addr_is_loopback(peer))
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
}

static int sock_new(const struct gt_addr *addr)
{
    int fd = socket(addr->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

int gt_sock_listen(const struct gt_addr *addr, int backlog)
{
    gt_cleanup(gt_close) int fd = sock_new(addr);
    if (fd < 0)
        return fd;
    /* Without it a restarted relay could not have its port back while old pairs rest. */
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (addr->any.sa_family == AF_INET6) {
        int is_v6_only = !IN6_IS_ADDR_UNSPECIFIED(&addr->v6.sin6_addr);
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &is_v6_only, sizeof(is_v6_only));
    }
    if (bind(fd, &addr->any, addr->n) < 0 || listen(fd, backlog) < 0)
        return -errno;
    return gt_steal_fd(&fd);
}

int gt_sock_connect(const struct gt_addr *addr)
{
    gt_cleanup(gt_close) int fd = sock_new(addr);
    if (fd < 0)
        return fd;
    gt_sock_tune(fd, addr);
    if (connect(fd, &addr->any, addr->n) < 0 && errno != EINPROGRESS)
        return -errno;
    return gt_steal_fd(&fd);
}

int gt_sock_accept(int listener, struct gt_addr *ret)
{
    struct gt_addr addr = {.n = sizeof(addr.storage)};
    int fd = accept4(listener, &addr.any, &addr.n, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return -errno;
    gt_sock_tune(fd, &addr);
    *ret = addr;
    return fd;
}

int gt_sock_error(int fd)
{
    int err = 0;
    socklen_t n = sizeof(err);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &n) < 0)
        return -errno;
    return -err;
}

int gt_sock_local(int fd, struct gt_addr *ret)
{
    struct gt_addr addr = {.n = sizeof(addr.storage)};
    if (getsockname(fd, &addr.any, &addr.n) < 0)
        return -errno;
    *ret = addr;
    return 0;
}

int gt_sock_peer(int fd, struct gt_addr *ret)
{
    struct gt_addr addr = {.n = sizeof(addr.storage)};
    if (getpeername(fd, &addr.any, &addr.n) < 0)
        return -errno;
    *ret = addr;
    return 0;
}

void gt_sock_set_abortive(int fd, bool is_abortive)
{
    struct linger at_once = {.l_onoff = is_abortive, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}

void gt_sock_set_timeout(int fd, double seconds)
{
    unsigned ms = (unsigned)(seconds * 1000);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
}

void gt_sock_reset(int fd)
{
    gt_sock_set_abortive(fd, true);
    close(fd);
}

int gt_sock_pair(int ret[2])
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
        return -errno;
    ret[0] = fds[0];
    ret[1] = fds[1];
    return 0;
}
