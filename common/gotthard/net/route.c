/* SPDX-License-Identifier: ISC */
/*
 * connect(2) on a UDP socket sends nothing: the kernel looks up the route and the local address,
 * and fails as it would for TCP. A failure for lack of resources (descriptors, a sandbox) counts as
 * GT_ROUTE_OK: only a definite answer may end a connection.
 */
#include "gotthard/net/route.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <string.h>

/* Returns true if @err is about this process, not about the route. */
static bool is_local_failure(int err)
{
    return err == EMFILE || err == ENFILE || err == ENOBUFS || err == ENOMEM || err == EPERM ||
           err == EAFNOSUPPORT || err == EINTR;
}

/* Looks up the route to @to from the address @from (NULL: any). *ret is the local address. Returns
 * 0 or the negative errno of bind(2) or connect(2). */
static int route_look_up(const struct gt_addr *from, const struct gt_addr *to, struct gt_addr *ret)
{
    gt_cleanup(gt_close) int fd = socket(to->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    if (from) {
        struct gt_addr any_port = *from;

        gt_addr_set_port(&any_port, 0);
        if (bind(fd, &any_port.any, any_port.n) < 0)
            return -errno;
    }
    if (connect(fd, &to->any, to->n) < 0)
        return -errno;
    return gt_sock_local(fd, ret);
}

static bool is_same_host(const struct sockaddr *a, const struct sockaddr *b)
{
    if (a->sa_family != b->sa_family)
        return false;
    if (a->sa_family == AF_INET)
        return memcmp(&((const struct sockaddr_in *)(const void *)a)->sin_addr,
                      &((const struct sockaddr_in *)(const void *)b)->sin_addr, 4) == 0;
    return a->sa_family == AF_INET6 &&
           memcmp(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr,
                  &((const struct sockaddr_in6 *)(const void *)b)->sin6_addr, 16) == 0;
}

/* Returns true if the cable of the interface that has this address is unplugged. */
static bool is_unplugged(const struct gt_addr *addr)
{
    struct ifaddrs *all;
    bool is_found = false, is_running = false;

    if (getifaddrs(&all) < 0)
        return false;
    for (const struct ifaddrs *at = all; at; at = at->ifa_next) {
        if (!at->ifa_addr || !is_same_host(at->ifa_addr, &addr->any))
            continue;
        is_found = true;
        is_running |= (at->ifa_flags & IFF_RUNNING) != 0;
    }
    freeifaddrs(all);
    return is_found && !is_running;
}

enum gt_route gt_route_check(const struct gt_addr *from, const struct gt_addr *to)
{
    struct gt_addr current;

    if (gt_addr_is_loopback(from))
        return GT_ROUTE_OK;
    int r = route_look_up(from, to, &current);
    if (r != 0)
        return is_local_failure(-r) ? GT_ROUTE_OK : GT_ROUTE_GONE;
    if (is_unplugged(from))
        return GT_ROUTE_CHANGED;
    if (route_look_up(NULL, to, &current) == 0 && !is_same_host(&current.any, &from->any))
        return GT_ROUTE_CHANGED;
    return GT_ROUTE_OK;
}

enum gt_route gt_route_check_socket(int fd, const struct gt_addr *to)
{
    struct gt_addr from;

    return gt_sock_local(fd, &from) ? GT_ROUTE_OK : gt_route_check(&from, to);
}

bool gt_route_exists(const struct gt_addr *to)
{
    struct gt_addr from;
    int r = route_look_up(NULL, to, &from);

    return r == 0 || is_local_failure(-r);
}
