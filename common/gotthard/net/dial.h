/* SPDX-License-Identifier: ISC */
/*
 * Connects to a server by its name: resolves the name, then connects to its addresses until one
 * accepts, within one time limit and without blocking the loop. Clients use it for the relay, the
 * agent for its services.
 *
 * The addresses are raced (RFC 8305): each starts 0.25 s after the one before it, or at once when
 * that fails, and the first to accept wins. A host with a broken IPv6 stays reachable. The reason
 * of a failure is that of the first address: the resolver sorts them by preference (RFC 6724), and
 * addresses of a family that this machine lacks come last.
 */
#pragma once

#include <ev.h>

#include "gotthard/net/host-port.h"
#include "gotthard/net/sock.h"

struct gt_dial;

/*
 * The result. @fd >= 0: connected to @addr, and taken by the callee; @why is NULL. Else a negative
 * errno, @addr is NULL, and @why is the reason as text: -ENXIO if the name has no address, -EAGAIN
 * if the resolver failed or did not answer, -ETIMEDOUT if the address did not answer. Both pointers
 * are valid until the dial is freed: by its owner, inside this callback or later.
 */
typedef void (*gt_dial_fn)(void *userdata, int fd, const struct gt_addr *addr, const char *why);

/*
 * Starts to connect to @to (copied) within @timeout_ms. The callback comes from the loop, never
 * inside this call. -ENOMEM, or as gt_resolve_new.
 */
int gt_dial_new(struct ev_loop *loop, const struct gt_host_port *to, unsigned timeout_ms,
                gt_dial_fn on_done, void *userdata, struct gt_dial **ret) GT_MUST_CHECK;
/* TCP segments of at most @segment bytes, for the connections that follow; right after gt_dial_new.
 */
void gt_dial_set_segment(struct gt_dial *dial, uint16_t segment);
/* UDP: the first address to which there is a route is connected at once, IPv4 before IPv6; right
 * after gt_dial_new. */
void gt_dial_set_udp(struct gt_dial *dial);
/* The network has changed: gives up an address whose route is gone. The callback may come from
 * inside. No effect after the result. */
void gt_dial_check(struct gt_dial *dial);
/* Returns true if @addr may be dialed; @userdata as of gt_dial_new. */
typedef bool (*gt_dial_filter_fn)(void *userdata, const struct gt_addr *addr);
/* Only addresses for which @filter returns true are dialed; right after gt_dial_new. There is one
 * lookup, so that no address is dialed that was not checked. Without any the result is -EACCES. */
void gt_dial_set_filter(struct gt_dial *dial, gt_dial_filter_fn filter);
/* Connects now, without waiting for the loop, if the name of @to needs no lookup (resolve.h); after
 * the functions above. The callback may come from inside: a target on this machine accepts or
 * refuses at once. */
void gt_dial_try_now(struct gt_dial *dial);
/* Frees the dial; without a result so far, the callback will not be called. Takes NULL; returns
 * NULL. */
struct gt_dial *gt_dial_free(struct gt_dial *dial);
