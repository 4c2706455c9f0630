/* SPDX-License-Identifier: ISC */
/*
 * What a relay has that outlives its process: listeners, sessions with their streams and tickets,
 * pairs with their sockets and the bytes between them, ports and penalties. From the parts to a
 * hand-over and back; the planes are still in both.
 *
 * Control connections are not in it, because a state of TLS cannot be told: both slots of each
 * session are as after a loss. Nor are strangers: they have said next to nothing, and say it again.
 */
#pragma once

#include "door.h"
#include "handover.h"
#include "registry.h"

struct estate { /* all borrowed */
    struct ev_loop *loop;
    struct registry *registry;
    struct member_host *members;
    struct quota *quota;
    struct plane *const *planes;
    size_t n_planes;
    struct door *door;
    listener_fn on_accept; /* of the door */
    void *userdata;
};

/* Fails only as a writer does. */
void estate_write(const struct estate *estate, struct gt_writer *writer);

struct estate_counts {
    size_t n_sessions, n_pairs, n_tickets;
    uint64_t stopped_at;
};
/* Into empty parts, all limits set; the descriptors are those of the record. On failure some of it
 * is there and the rest is lost: -ENOMEM, or a negative errno. */
int estate_take(const struct estate *estate, struct gt_span state,
                struct estate_counts *ret) GT_MUST_CHECK;
