/* SPDX-License-Identifier: ISC */
/*
 * Accepted local connections that wait for the tunnel, first in, first out. Their programs may send
 * and close meanwhile: the bytes stay in the kernel's buffers.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "gotthard/net/sock.h"

#define LOCAL_QUEUE_MAX 64

struct local_peer {
    struct gt_addr addr;
    bool is_uid_known;
    uid_t uid; /* of its program, if known */
};

struct local_queue { /* a zeroed one is empty */
    struct {
        int fd; /* owned */
        struct local_peer peer;
    } items[LOCAL_QUEUE_MAX];
    size_t first, n;
};

bool local_queue_is_empty(const struct local_queue *queue);
bool local_queue_is_full(const struct local_queue *queue);
/* Takes @fd, copies @peer. The queue is not full. */
void local_queue_push(struct local_queue *queue, int fd, const struct local_peer *peer);
/* Removes the first connection: its descriptor, owned by the caller, or -1 if the queue is empty.
 */
int local_queue_pop(struct local_queue *queue, struct local_peer *ret_peer);
/* Resets all connections. */
void local_queue_deinit(struct local_queue *queue);
