/* SPDX-License-Identifier: ISC */
/*
 * Questions about the way from an address of this machine to another one, which the kernel answers
 * from its tables: no packet is sent, and nothing is waited for. What the network beyond does,
 * nobody here knows; a way that is good may lead nowhere.
 */
#pragma once

#include "gotthard/sock.h"

enum gt_way {
    GT_WAY_GOOD,     /* as it was, or nobody can tell */
    GT_WAY_DOUBTFUL, /* it still is, but a new connection would go another, or the cable is out */
    GT_WAY_GONE,     /* the address is no more ours, or no route leads there */
};

/* Of a connection, from its own address to its peer's. */
enum gt_way gt_way_check(const struct gt_addr *from, const struct gt_addr *to);
/* The same of a socket that was connected to @to, or is being. */
enum gt_way gt_way_of(int fd, const struct gt_addr *to);
/* Does any lead there? */
bool gt_way_is_there(const struct gt_addr *to);
