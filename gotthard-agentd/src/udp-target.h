/* SPDX-License-Identifier: ISC */
/*
 * A target of UDP: a connected socket on one side, the datagrams of a stream on the other
 * (tunnel/datagrams.h). The kernel accepts datagrams of the target's address only.
 */
#pragma once

#include <ev.h>

#include "gotthard/base/base.h"

struct udp_target;

/* The end: @is_refused: the target's machine has no such port (ICMP). The last callback: free the
 * target inside it or later. */
typedef void (*udp_target_fn)(void *userdata, bool is_refused);

/* Takes @fd, a connected socket of UDP. *ret_stream is the socket for the stream, the caller's. A
 * negative errno. */
int udp_target_new(struct ev_loop *loop, int fd, udp_target_fn on_end, void *userdata,
                   struct udp_target **ret, int *ret_stream) GT_MUST_CHECK;
/* Takes NULL; returns NULL. */
struct udp_target *udp_target_free(struct udp_target *target);
