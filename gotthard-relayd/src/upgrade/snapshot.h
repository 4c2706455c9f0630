/* SPDX-License-Identifier: ISC */
/*
 * The state of a relay that outlives its program image: listening sockets, sessions with their
 * streams and tickets, pairs with their sockets and the bytes between them, ports, the binders that
 * were admitted, and the access list. Each module saves and restores its own records; this one
 * calls them in order. The data threads are paused, or have not been started.
 *
 * Control connections are not part of it, because the state of TLS cannot be saved: both slots of a
 * session are as after a loss. Nor are unauthenticated connections, which simply try again.
 */
#pragma once

#include "control/main-listener.h"
#include "control/registry.h"
#include "limits/access.h"

struct snapshot { /* all borrowed */
    struct ev_loop *loop;
    struct registry *registry;
    struct client_host *clients;
    struct quota *quota;
    struct access *access;
    struct seen_binders *seen_binders;
    struct data_thread *const *data_threads;
    size_t n_data_threads;
    struct main_listener *main_listener;
    gt_acceptor_fn on_accept; /* for the main listener */
    void *userdata;
};

/* Fails only as @writer does. */
void snapshot_write(const struct snapshot *snapshot, struct gt_writer *writer);

struct snapshot_counts {
    size_t n_sessions, n_pairs, n_tickets;
    uint64_t stopped_at; /* by gt_clock_ms */
};
/* Restores a checked snapshot into parts that are empty and have their limits, and takes its
 * descriptors. On failure the state is incomplete and some descriptors are lost, so the caller
 * exits: -ENOMEM, or another negative errno. */
int snapshot_restore(const struct snapshot *snapshot, struct gt_span state,
                     struct snapshot_counts *ret) GT_MUST_CHECK;
