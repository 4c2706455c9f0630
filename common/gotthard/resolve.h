/* SPDX-License-Identifier: ISC */
/*
 * Names to addresses without stopping the loop: getaddrinfo(3) in a thread of its own, the result
 * through an ev_async. A resolver that hangs for 40 s (a dead one does) costs a detached thread,
 * nothing else.
 */
#pragma once

#include <ev.h>

#include "gotthard/sock.h"

#define GT_RESOLVE_MAX 8 /* addresses kept of an answer */

struct gt_resolve;

/* @err 0: addresses (borrowed during the call), in the order to try them; else an EAI_* code. The
 * query frees itself after; to cancel it from inside is harmless, to keep its pointer is not. */
typedef void (*gt_resolve_fn)(void *userdata, int err, const struct gt_addr *addrs, size_t n_addrs);

/* Numeric hosts are answered too, but always from the loop, never inside this call. */
int gt_resolve_new(struct ev_loop *loop, const char *host, uint16_t port, gt_resolve_fn done,
                   void *userdata, struct gt_resolve **ret) GT_MUST_CHECK;
/* Gives up a query whose answer has not come; the callback will not be called. Takes NULL. */
struct gt_resolve *gt_resolve_cancel(struct gt_resolve *resolve);
