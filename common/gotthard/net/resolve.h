/* SPDX-License-Identifier: ISC */
/*
 * Resolves names without blocking the loop: getaddrinfo(3) runs in a thread of its own, here or in
 * another process. A resolver that blocks for 40 s, as one without a server does, costs a detached
 * thread and nothing else. A numeric address needs no lookup.
 */
#pragma once

#include <ev.h>

#include "gotthard/net/lookup.h"

#define GT_RESOLVE_MAX GT_LOOKUP_MAX /* addresses of a result */

struct gt_resolve;

/*
 * The result. @err 0: at least one of @addrs, in the order of preference with alternating families,
 * borrowed until the query is freed; else an EAI_* code of getaddrinfo(3). The owner frees the
 * query inside this callback or later.
 */
typedef void (*gt_resolve_fn)(void *userdata, int err, const struct gt_addr *addrs, size_t n_addrs);

/*
 * Starts to resolve @host (copied), which may be numeric. @on_done is called from the loop, never
 * inside this call. -ENOMEM, -EAGAIN if no thread could be started, or the errno of socketpair(2).
 * A resolver process that cannot be asked is EAI_AGAIN; for the first name that it has found, the
 * result is then its last answer.
 */
int gt_resolve_new(struct ev_loop *loop, const char *host, uint16_t port, gt_resolve_fn on_done,
                   void *userdata, struct gt_resolve **ret) GT_MUST_CHECK;
/* If the result is known already, because @host is numeric, calls on_done from inside. */
void gt_resolve_report_known(struct gt_resolve *resolve);
/* Frees the query; without a result so far, the callback will not be called. Takes NULL; returns
 * NULL. */
struct gt_resolve *gt_resolve_free(struct gt_resolve *resolve);

/* From now on lookups run in the process behind @fd (takes), which calls gt_resolver_serve. */
void gt_resolve_use_process(int fd);
