/* SPDX-License-Identifier: ISC */
/*
 * The first two hops to a server: its name, and a TCP connection to each of its addresses. Clients
 * race the addresses and use the first that answers; a diagnosis tries all of them, because one
 * that does not answer costs each connection time, or is the next one that is used.
 */
#pragma once

#include <ev.h>

#include "gotthard/base/proxy.h"
#include "gotthard/doctor/checkup.h"
#include "gotthard/net/host-port.h"
#include "gotthard/net/resolve.h"

enum gt_network_name { /* what the name servers answered */
                       GT_NETWORK_NAME_FOUND,
                       GT_NETWORK_NAME_ABSENT, /* there is no such name, or it has no address */
                       GT_NETWORK_NAME_FAILED, /* they answered with an error */
                       GT_NETWORK_NAME_SILENT, /* they did not answer */
};

struct gt_network_attempt {
    struct gt_addr addr;
    int err; /* 0: connected; else a positive errno: ETIMEDOUT if there was no answer */
};

struct gt_network {
    enum gt_network_name name;
    bool is_numeric; /* no name server was asked */
    size_t n_attempts, n_connected;
    bool is_alive; /* none is connected, and the first machine answers at another port, 443 */
    struct gt_network_attempt attempts[GT_RESOLVE_MAX];
};

/* Takes at most 8 s for the name and 5 s for all addresses, and 3 s for port 443. Without memory or
 * threads, the result is NAME_FAILED. */
void gt_network_check(struct ev_loop *loop, const struct gt_host_port *to, struct gt_network *ret);
/* Connects to one address, within @limit_s. Returns 0 or a positive errno. */
int gt_network_check_address(struct ev_loop *loop, const struct gt_addr *addr, double limit_s);

struct gt_network_words {        /* valid as long as the rows are added */
    const char *name, *tcp;      /* of the two rows; static */
    struct gt_check_fault fault; /* of both; its remedy is for an address that does not answer */
    const char *blocked;         /* remedy if only the port is blocked; */
    const char *refused;         /* remedy if the machine answers, but no program */
    const char *setting;         /* that contains the host */
};
/* Adds the two rows. Returns true if a connection is possible. */
bool gt_network_add_rows(const struct gt_network *network, const struct gt_host_port *to,
                         const struct gt_network_words *words, struct gt_checkup *checkup);
/* Checks the way to a proxy and adds its two rows. Only the proxy knows the server's name and
 * addresses. @setting: static, the path of the setting, "mqtt.proxy"; @fault: its remedy is
 * replaced. Returns true if a connection is possible. */
bool gt_network_check_proxy(struct ev_loop *loop, const struct gt_proxy *proxy, const char *setting,
                            struct gt_check_fault fault, struct gt_checkup *checkup);
/* Writes the remedy for a name that has no address. */
void gt_network_remedy_of_name(enum gt_network_name name, const char *host, const char *setting,
                               char *ret, size_t cap);
