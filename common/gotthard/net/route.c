/* SPDX-License-Identifier: ISC */
/*
 * A UDP socket that is connected and never written to: the kernel looks for the route, and for the
 * address that it would come from, and says no as it would to TCP. Whatever goes wrong for want of
 * means (descriptors, a sandbox) counts as good: only what is known ends a connection.
 */
#include "gotthard/way.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <string.h>

static bool is_about_us(int err)
{
    return err == EMFILE || err == ENFILE || err == ENOBUFS || err == ENOMEM || err == EPERM ||
           err == EAFNOSUPPORT || err == EINTR;
}

/* Asks for a route to @to, from @from when it is given. 0, or the kernel's no; *ret: the address it
 * leaves from. */
static int way_ask(const struct gt_addr *from, const struct gt_addr *to, struct gt_addr *ret)
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
        return !memcmp(&((const struct sockaddr_in *)(const void *)a)->sin_addr,
                       &((const struct sockaddr_in *)(const void *)b)->sin_addr, 4);
    return a->sa_family == AF_INET6 &&
           !memcmp(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr,
                   &((const struct sockaddr_in6 *)(const void *)b)->sin6_addr, 16);
}

/* Is the interface that has this address connected to nothing? */
static bool is_unplugged(const struct gt_addr *addr)
{
    struct ifaddrs *all;
    bool is_known = false, runs = false;
    if (getifaddrs(&all) < 0)
        return false;
    for (const struct ifaddrs *at = all; at; at = at->ifa_next) {
        if (!at->ifa_addr || !is_same_host(at->ifa_addr, &addr->any))
            continue;
        is_known = true;
        runs |= (at->ifa_flags & IFF_RUNNING) != 0;
    }
    freeifaddrs(all);
    return is_known && !runs;
}

enum gt_way gt_way_check(const struct gt_addr *from, const struct gt_addr *to)
{
    struct gt_addr now;
    if (gt_addr_is_loopback(from))
        return GT_WAY_GOOD;
    int r = way_ask(from, to, &now);
    if (r)
        return is_about_us(-r) ? GT_WAY_GOOD : GT_WAY_GONE;
    if (is_unplugged(from))
        return GT_WAY_DOUBTFUL;
    if (way_ask(NULL, to, &now) == 0 && !is_same_host(&now.any, &from->any))
        return GT_WAY_DOUBTFUL;
    return GT_WAY_GOOD;
}

enum gt_way gt_way_of(int fd, const struct gt_addr *to)
{
    struct gt_addr from;
    return gt_sock_local(fd, &from) ? GT_WAY_GOOD : gt_way_check(&from, to);
}

bool gt_way_is_there(const struct gt_addr *to)
{
    struct gt_addr from;
    int r = way_ask(NULL, to, &from);
    return r == 0 || is_about_us(-r);
}
