/* SPDX-License-Identifier: ISC */
/*
 * A name to a connected socket: resolve it, then try one address after another until one answers,
 * all within one time limit and never stopping the loop.
 */
#pragma once

#include <ev.h>

#include "gotthard/sock.h"

struct gt_dial;

/* @fd (the callee takes) and the address that answered; or -1, NULL, and for people why not: what
 * the first address said. The dial frees itself after. */
typedef void (*gt_dial_fn)(void *userdata, int fd, const struct gt_addr *addr, const char *why);

/* The callback comes from the loop, never inside this call. */
int gt_dial_new(struct ev_loop *loop, const char *host, uint16_t port, unsigned timeout_ms,
                gt_dial_fn done, void *userdata, struct gt_dial **ret) GT_MUST_CHECK;
/* The network has changed: an address whose way is gone is waited for no longer. The callback may
 * come from inside. */
void gt_dial_check(struct gt_dial *dial);
/* Gives up; the callback will not be called. Takes NULL. */
struct gt_dial *gt_dial_cancel(struct gt_dial *dial);
