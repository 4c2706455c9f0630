/* SPDX-License-Identifier: ISC */
/*
 * Sockets and their addresses. Every descriptor is non-blocking and close-on-exec from the call
 * that creates it: no fork between two calls can leak one, and no call can block. A tuning option
 * that fails must never fail the connection.
 */
#include "gotthard/net/sock.h"

#include <arpa/inet.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define DEFER_ACCEPT_S 3 /* a longer wait would fill the queue of SYNs under a flood */

#ifndef TCP_RTO_MAX_MS
#define TCP_RTO_MAX_MS 44 /* Linux 6.15; older kernels reject it */
#endif

int gt_addr_parse(const char *host, uint16_t port, struct gt_addr *ret)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    struct gt_addr addr = {0};

    /* Not getaddrinfo() for IPv4, because it accepts "127.1". It knows the zones of IPv6. */
    if (inet_pton(AF_INET, host, &addr.v4.sin_addr) == 1) {
        addr.v4.sin_family = AF_INET;
        addr.n = sizeof(addr.v4);
    } else if (inet_pton(AF_INET6, host, &addr.v6.sin6_addr) == 1) {
        addr.v6.sin6_family = AF_INET6;
        addr.n = sizeof(addr.v6);
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

/* The IPv4 address in @addr, plain or mapped (RFC 4291 section 2.5.5.2), or NULL. */
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

static const struct sock_option {
    int level, name;
} tuned_options[] = {
    {IPPROTO_TCP, TCP_NODELAY},
    {SOL_SOCKET, SO_KEEPALIVE},
    {SOL_SOCKET, SO_OOBINLINE},
};

/* Pacing (bbr) is for a route with a bottleneck. Within this machine it only costs a timer for
 * every few packets. Reno is in every kernel and needs no privilege. */
#define UNPACED "reno"

static void sock_set(int fd, struct sock_option option, int value)
{
    setsockopt(fd, option.level, option.name, &value, sizeof(value));
}

static void sock_tune(int fd, const struct gt_addr *peer, struct gt_sock_inherited has)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(tuned_options) && !has.is_tuned; i++)
        sock_set(fd, tuned_options[i], 1);
    if (!has.is_unpaced && gt_addr_is_loopback(peer))
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, UNPACED, strlen(UNPACED));
}

void gt_sock_tune(int fd, const struct gt_addr *peer)
{
    sock_tune(fd, peer, (struct gt_sock_inherited){0});
}

static bool sock_is_set(int fd, struct sock_option option)
{
    int value = 0;
    socklen_t n = sizeof(value);

    return getsockopt(fd, option.level, option.name, &value, &n) == 0 && value != 0;
}

struct gt_sock_inherited gt_sock_inherited(int listener)
{
    struct gt_sock_inherited inherited = {.is_tuned = true};
    char congestion[16] = "";
    socklen_t n = sizeof(congestion) - 1;

    /* A Unix socket has none of the options, and needs none. */
    if (getsockopt(listener, IPPROTO_TCP, TCP_CONGESTION, congestion, &n) < 0)
        return (struct gt_sock_inherited){true, true};
    for (size_t i = 0; i < GT_ARRAY_SIZE(tuned_options); i++)
        inherited.is_tuned &= sock_is_set(listener, tuned_options[i]);
    inherited.is_unpaced = strcmp(congestion, UNPACED) == 0;
    return inherited;
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
    /* Without it a restarted relay could not bind its ports while old connections are in TIME_WAIT.
     */
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    gt_sock_tune(fd, addr); /* inherited; also, an urgent byte may precede accept(2) */
    if (addr->any.sa_family == AF_INET6) {
        int is_v6_only = !IN6_IS_ADDR_UNSPECIFIED(&addr->v6.sin6_addr);

        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &is_v6_only, sizeof(is_v6_only));
    }
    if (bind(fd, &addr->any, addr->n) < 0 || listen(fd, backlog) < 0)
        return -errno;
    return gt_steal_fd(&fd);
}

void gt_sock_set_defer_accept(int listener)
{
    setsockopt(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, &(int){DEFER_ACCEPT_S}, sizeof(int));
}

int gt_sock_connect(const struct gt_addr *addr)
{
    return gt_sock_connect_segmented(addr, 0);
}

int gt_sock_connect_segmented(const struct gt_addr *addr, uint16_t segment)
{
    gt_cleanup(gt_close) int fd = sock_new(addr);

    if (fd < 0)
        return fd;
    gt_sock_tune(fd, addr);
    if (segment > 0)
        setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &(int){segment}, sizeof(int));
    if (connect(fd, &addr->any, addr->n) < 0 && errno != EINPROGRESS)
        return -errno;
    return gt_steal_fd(&fd);
}

/* The kernel reports EINPROGRESS before it has looked at the answer, which within this machine has
 * arrived by then. */
int gt_sock_connect_again(int fd, const struct gt_addr *addr)
{
    return connect(fd, &addr->any, addr->n) < 0 && errno != EISCONN ? -errno : 0;
}

static int udp_new(const struct gt_addr *addr)
{
    int fd = socket(addr->any.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    return fd < 0 ? -errno : fd;
}

int gt_sock_connect_udp(const struct gt_addr *addr)
{
    gt_cleanup(gt_close) int fd = udp_new(addr);

    if (fd < 0)
        return fd;
    return connect(fd, &addr->any, addr->n) < 0 ? -errno : gt_steal_fd(&fd);
}

int gt_sock_bind_udp(const struct gt_addr *addr)
{
    gt_cleanup(gt_close) int fd = udp_new(addr);
    bool is_any = addr->any.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&addr->v6.sin6_addr);

    if (fd < 0)
        return fd;
    if (addr->any.sa_family == AF_INET6 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){!is_any}, sizeof(int)) < 0)
        return -errno;
    return bind(fd, &addr->any, addr->n) < 0 ? -errno : gt_steal_fd(&fd);
}

int gt_sock_accept(int listener, struct gt_addr *ret)
{
    return gt_sock_accept_inheriting(listener, (struct gt_sock_inherited){0}, ret);
}

int gt_sock_accept_inheriting(int listener, struct gt_sock_inherited inherited, struct gt_addr *ret)
{
    struct gt_addr addr = {.n = sizeof(addr.storage)};
    int fd = accept4(listener, &addr.any, &addr.n, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0)
        return -errno;
    sock_tune(fd, &addr, inherited);
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
    struct linger linger = {.l_onoff = is_abortive, .l_linger = 0};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

void gt_sock_set_timeout(int fd, double seconds)
{
    unsigned ms = (unsigned)(seconds * 1000);

    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
}

void gt_sock_set_unsent_max(int fd, int n)
{
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &n, sizeof(n));
}

static void sock_set_time(int fd, int option, double value)
{
    sock_set(fd, (struct sock_option){IPPROTO_TCP, option}, GT_MAX((int)value, 1));
}

/* By default the kernel waits up to 120 s between two probes of a closed window: too long to
 * distinguish a peer that has vanished from one that does not read. */
void gt_sock_set_keepalive(int fd, double seconds)
{
    double idle = GT_MAX(seconds / 2, 1.), interval = GT_MAX(seconds / 8, 1.);

    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int));
    sock_set_time(fd, TCP_KEEPIDLE, idle);
    sock_set_time(fd, TCP_KEEPINTVL, interval);
    sock_set_time(fd, TCP_KEEPCNT, (seconds - idle) / interval);
    sock_set_time(fd, TCP_RTO_MAX_MS, GT_MAX(seconds / 4, 1.) * 1000);
}

int gt_sock_get_answers(int fd, struct gt_sock_answers *ret)
{
    struct tcp_info info;
    socklen_t n = sizeof(info);
    int n_unsent = 0;

    memset(&info, 0, sizeof(info));
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n) < 0 || ioctl(fd, SIOCOUTQ, &n_unsent) < 0)
        return -errno;
    *ret = (struct gt_sock_answers){
        .is_in_flight = info.tcpi_state != TCP_CLOSE && (info.tcpi_unacked > 0 || n_unsent > 0),
        .silent_s = info.tcpi_last_ack_recv / 1000.,
        .n_repeats = info.tcpi_retransmits,
        .n_probes = info.tcpi_probes,
    };
    return 0;
}

double gt_sock_rtt(int fd)
{
    struct tcp_info info;
    socklen_t n = sizeof(info);

    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n) < 0 ? 0 : info.tcpi_rtt / 1e6;
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
