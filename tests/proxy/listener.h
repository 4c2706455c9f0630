/* SPDX-License-Identifier: ISC */
/*
 * A listening port and the target that its connections are forwarded to.
 */
#pragma once

#include "connection.h"

struct listener {
    struct gt_list element; /* of the proxy's listeners */
    struct proxy *proxy;
    int fd;
    struct gt_addr at, to;
    ev_io readable;
};

/* @at with port 0: any port. *ret_port is the port in use. -errno. */
int listener_open(struct proxy *proxy, const struct gt_addr *at, const struct gt_addr *to,
                  uint16_t *ret_port) GT_MUST_CHECK;
void listener_close(struct listener *listener);
