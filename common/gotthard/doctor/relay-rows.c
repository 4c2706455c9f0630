/* SPDX-License-Identifier: ISC */
/* See the header. */
#include "gotthard/doctor/relay-rows.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#define SAFE_MTU 1280 /* RFC 8200: every link of IPv6 carries it, and nearly every one of IPv4 */

/* --- the interface of a route ----------------------------------------------------------------- */

static bool has_address(const struct ifaddrs *interface, const struct gt_addr *addr)
{
    struct gt_addr own = {.n = addr->n};

    if (!interface->ifa_addr || interface->ifa_addr->sa_family != addr->any.sa_family)
        return false;
    memcpy(&own.storage, interface->ifa_addr, addr->n);
    if (addr->any.sa_family == AF_INET)
        return own.v4.sin_addr.s_addr == addr->v4.sin_addr.s_addr;
    return memcmp(&own.v6.sin6_addr, &addr->v6.sin6_addr, sizeof(own.v6.sin6_addr)) == 0;
}

/* Connecting a datagram socket sends nothing. */
static int find_source(const struct gt_addr *addr, struct gt_addr *ret)
{
    gt_cleanup(gt_close) int fd = socket(addr->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, &addr->any, addr->n) < 0)
        return -errno;
    return gt_sock_local(fd, ret);
}

const char *gt_interface_to(const struct gt_addr *addr, char *ret)
{
    struct ifaddrs *all = NULL;
    struct gt_addr source;

    snprintf(ret, IF_NAMESIZE, "INTERFACE");
    if (find_source(addr, &source) != 0 || getifaddrs(&all) < 0)
        return ret;
    for (const struct ifaddrs *one = all; one; one = one->ifa_next)
        if (has_address(one, &source)) {
            snprintf(ret, IF_NAMESIZE, "%s", one->ifa_name);
            break;
        }
    freeifaddrs(all);
    return ret;
}

/* --- rows ------------------------------------------------------------------------------------- */

void gt_relay_skip_rows(struct gt_checkup *checkup, const char *first, const char *why)
{
    static const char *const names[] = {GT_RELAY_ROW_KEY, GT_RELAY_ROW_PORTS, GT_RELAY_ROW_LARGE};
    bool is_due = false;

    for (size_t i = 0; i < GT_ARRAY_SIZE(names); i++) {
        is_due |= strcmp(names[i], first) == 0;
        if (is_due)
            gt_checkup_skip(checkup, names[i], why);
    }
}

static void add_ports_row(const struct gt_relay_facts *facts, const struct gt_host_port *relay,
                          bool is_single_port, struct gt_checkup *checkup)
{
    const char *why = facts->session_err == ETIMEDOUT ? "no answer" : strerror(facts->session_err);

    if (is_single_port)
        gt_checkup_ok(checkup, GT_RELAY_ROW_PORTS,
                      "data uses the main port %u (server.single_port)", relay->port);
    else if (facts->has_proxy)
        gt_checkup_ok(checkup, GT_RELAY_ROW_PORTS,
                      "data uses the session's port, else the main port %u, through the proxy",
                      relay->port);
    else if (facts->session_err == 0)
        gt_checkup_ok(checkup, GT_RELAY_ROW_PORTS, "port %u of the range answers",
                      facts->session_port);
    else
        gt_checkup_warn(
            checkup, GT_RELAY_ROW_PORTS,
            "set {+server.single_port} to true, which saves up to 2 s for each tunnel; or "
            "open the relay's range of ports in the firewalls",
            "port %u of the range: %s: a firewall lets only the main port %u out; data "
            "uses that port",
            facts->session_port, why, relay->port);
}

static void add_large_row(const struct gt_relay_facts *facts, struct gt_checkup *checkup)
{
    char interface[IF_NAMESIZE], remedy[GT_CHECK_REMEDY];

    switch (facts->large) {
    case GT_RELAY_LARGE_OK:
        gt_checkup_ok(checkup, GT_RELAY_ROW_LARGE, "arrive at the relay");
        return;
    case GT_RELAY_LARGE_LOST:
        snprintf(remedy, sizeof(remedy),
                 "lower the MTU of this machine: ip link set dev %s mtu %d; tunnels find small "
                 "packets by themselves, after some seconds",
                 gt_interface_to(&facts->addr, interface), SAFE_MTU);
        gt_checkup_warn(checkup, GT_RELAY_ROW_LARGE, remedy,
                        "large packets to the relay are lost, and small ones arrive: a link (VPN, "
                        "LTE, PPPoE) has a smaller MTU, and its ICMP messages are filtered");
        return;
    case GT_RELAY_LARGE_UNKNOWN:
        gt_checkup_skip(checkup, GT_RELAY_ROW_LARGE, "the relay closed the connection before");
        return;
    }
}

void gt_relay_add_rows(const struct gt_relay_facts *facts, const struct gt_host_port *relay,
                       bool is_single_port, struct gt_checkup *checkup)
{
    gt_checkup_ok(checkup, GT_RELAY_ROW_KEY, "accepted in %.1f s, protocol version %d",
                  facts->took_s, GT_CONTROL_VERSION);
    add_ports_row(facts, relay, is_single_port, checkup);
    if (facts->has_proxy)
        gt_checkup_skip(checkup, GT_RELAY_ROW_LARGE, "the proxy answers in place of the relay");
    else
        add_large_row(facts, checkup);
}
