/* SPDX-License-Identifier: ISC */
/*
 * A listening port, and where those who come to it want to go.
 */
#pragma once

#include "connection.h"

struct door {
    struct gt_list element; /* of the proxy's doors */
    struct proxy *proxy;
    int listener;
    struct gt_addr at, to;
    ev_io readable;
};

/* @at with port 0 takes any; *ret_port is the one it got. -errno. */
int door_open(struct proxy *proxy, const struct gt_addr *at, const struct gt_addr *to,
              uint16_t *ret_port) GT_MUST_CHECK;
void door_close(struct door *door);
