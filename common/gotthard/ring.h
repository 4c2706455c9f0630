/* SPDX-License-Identifier: ISC */
/*
 * A byte queue of bounded capacity: the I/O buffer of a stream and its replay store in one, so that
 * a byte is kept once. Its ends are counted in absolute offsets (u64, from 0, never wrapping in
 * practice), which are the offsets the stream protocol speaks of:
 *
 *     head           tail
 *      |--- kept ----|--- free ---|        tail - head <= capacity
 *
 * The bytes live in at most two runs; I/O works on them in place (gt_ring_room / gt_ring_view give
 * iovecs for readv and writev). A ring that was emptied begins again at the start of its memory, so
 * that a stream that keeps up touches a few warm pages, whatever the capacity. On a long way it is
 * never empty and goes round through all of its memory: so its capacity is what is needed, and
 * gt_ring_resize makes it more.
 *
 * What comes and can go on at once need not be copied in between: with ->lent set, what is written
 * is counted and lies where it is until gt_ring_keep. There is memory for it all the same: who was
 * let in is never broken later for the want of it.
 */
#pragma once

#include <sys/uio.h>

#include "gotthard/bytes.h"

#define GT_RING_MIN  4096
#define GT_RING_LENT 32

/* The newest bytes of a ring, which lie with somebody else for a moment. */
struct gt_lent {
    struct gt_span spans[GT_RING_LENT];
    size_t n_spans, n_bytes;
};

struct gt_ring {
    uint8_t *data;   /* owned; allocated by the first write, kept until deinit */
    size_t capacity; /* a power of two */
    uint64_t head, tail;
    uint64_t base;        /* the offset that lies at data[0], modulo capacity */
    struct gt_lent *lent; /* borrows; NULL: what is written is copied at once */
};

/* @capacity is rounded up to a power of two, at least GT_RING_MIN. Allocates nothing yet. */
void gt_ring_init(struct gt_ring *ring, size_t capacity);
void gt_ring_deinit(struct gt_ring *ring);
/* Another capacity (rounded up likewise; not less than is used): what is kept is copied once.
 * -ENOMEM, and all is as it was. */
int gt_ring_resize(struct gt_ring *ring, size_t capacity) GT_MUST_CHECK;
/* Gives the memory back while the ring is empty (the next write takes it again). */
void gt_ring_release(struct gt_ring *ring);

static inline size_t gt_ring_used(const struct gt_ring *ring)
{
    return (size_t)(ring->tail - ring->head);
}

static inline size_t gt_ring_free(const struct gt_ring *ring)
{
    return ring->capacity - gt_ring_used(ring);
}

/*
 * The free runs, at most @max bytes together, and their number (0-2). They hold until the next call
 * that takes anything out of the ring. -ENOMEM.
 */
int gt_ring_room(struct gt_ring *ring, size_t max, struct iovec ret[2], int *ret_n) GT_MUST_CHECK;
void gt_ring_fill(struct gt_ring *ring, size_t n); /* @n bytes were put into the room */
/* The kept runs from absolute offset @from (head <= from <= tail), at most @max bytes: 0-2. */
int gt_ring_view(const struct gt_ring *ring, uint64_t from, size_t max, struct iovec ret[2]);
void gt_ring_drop(struct gt_ring *ring, size_t n); /* forget the oldest @n */

/* Copies, or borrows @data where there is ->lent; @n must fit. -ENOMEM. */
int gt_ring_write(struct gt_ring *ring, const void *data, size_t n) GT_MUST_CHECK;
/* What is lent behind what gt_ring_view gives: as many more runs. */
int gt_ring_view_lent(const struct gt_ring *ring, struct iovec ret[GT_RING_LENT]);
/* Copies what is lent: its memory may go. */
void gt_ring_keep(struct gt_ring *ring);
static inline size_t gt_ring_n_lent(const struct gt_ring *ring)
{
    return ring->lent ? ring->lent->n_bytes : 0;
}
/* Copies out up to @n from offset @from without dropping; returns how many. */
size_t gt_ring_copy(const struct gt_ring *ring, uint64_t from, void *ret, size_t n);
