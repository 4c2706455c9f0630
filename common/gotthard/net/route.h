/* SPDX-License-Identifier: ISC */
/*
 * The route from a local address to a remote one, as the kernel's tables have it. No packet is sent
 * and nothing blocks. The state of the network beyond this machine is unknown: GT_ROUTE_OK does not
 * mean that the remote address can be reached.
 */
#pragma once

#include "gotthard/net/sock.h"

enum gt_route {
    GT_ROUTE_OK,      /* unchanged, or unknown */
    GT_ROUTE_CHANGED, /* still usable, but a new connection would use another local address, or the
                         cable of the interface is unplugged */
    GT_ROUTE_GONE,    /* the local address is no longer ours, or there is no route */
};

/* Checks a connection by its local address @from and its peer's @to. */
enum gt_route gt_route_check(const struct gt_addr *from, const struct gt_addr *to);
/* The same for the socket @fd, which is connected or connecting to @to. */
enum gt_route gt_route_check_socket(int fd, const struct gt_addr *to);
/* Returns true if there is a route to @to, or if that is unknown. */
bool gt_route_exists(const struct gt_addr *to);
