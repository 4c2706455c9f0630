/* SPDX-License-Identifier: ISC */
/*
 * A byte queue of bounded capacity: I/O buffer and replay store of a stream in one, so that each
 * byte is kept once. Its ends are absolute offsets (u64, from 0, practically never wrapping), the
 * offsets of the stream protocol:
 *
 *     head           tail
 *      |--- kept ----|--- free ---|        tail - head <= capacity
 *
 * The bytes are in at most two runs of memory, and I/O works on them in place: gt_ring_room and
 * gt_ring_view return iovecs for readv and writev. An empty ring starts again at the beginning of
 * its memory, so that a stream that keeps up touches only a few cached pages, whatever the
 * capacity. On a path with a large delay it is never empty and uses all of its memory. Its capacity
 * is then what the path needs, and gt_ring_resize increases it.
 *
 * Bytes that can be forwarded at once need not be copied. While ->borrowed is set, written bytes
 * are counted and stay in the caller's memory until gt_ring_copy_borrowed. Memory for them is
 * allocated in any case, so that accepted bytes can never fail later without memory.
 */
#pragma once

#include <sys/uio.h>

#include "gotthard/base/bytes.h"

#define GT_RING_MIN          4096 /* bytes: the smallest capacity */
#define GT_RING_BORROWED_MAX 32   /* spans */

/* The newest bytes of a ring, which are in the memory of the writer. */
struct gt_borrowed {
    struct gt_span spans[GT_RING_BORROWED_MAX];
    size_t n_spans, n_bytes;
};

static inline void gt_borrowed_init(struct gt_borrowed *borrowed)
{
    borrowed->n_spans = borrowed->n_bytes = 0;
}

struct gt_ring {
    uint8_t *data;   /* owned; allocated by the first write, kept until it is released */
    size_t capacity; /* bytes; a power of two */
    uint64_t head, tail;
    uint64_t base;                /* the offset of data[0], modulo the capacity */
    size_t n_used;                /* bytes of data, from its beginning, that were written */
    struct gt_borrowed *borrowed; /* borrows; NULL: written bytes are copied at once */
};

/* @capacity is rounded up to a power of two, at least GT_RING_MIN. Allocates nothing. */
void gt_ring_init(struct gt_ring *ring, size_t capacity);
/* Wipes and frees the memory. */
void gt_ring_deinit(struct gt_ring *ring);
/* Changes the capacity, rounded up likewise, which must not be less than the used bytes. Copies the
 * kept bytes once. Returns 0, or -ENOMEM with nothing changed. */
int gt_ring_resize(struct gt_ring *ring, size_t capacity) GT_MUST_CHECK;
/* Frees the memory of an empty ring, until the next write. */
void gt_ring_release(struct gt_ring *ring);
/* Frees the memory that this thread keeps for later rings. For a thread that ends or is idle. */
void gt_ring_trim(void);

static inline size_t gt_ring_used(const struct gt_ring *ring)
{
    return (size_t)(ring->tail - ring->head);
}

static inline size_t gt_ring_free(const struct gt_ring *ring)
{
    return ring->capacity - gt_ring_used(ring);
}

/*
 * Returns the free runs, of at most @max bytes together, and their number, 0 to 2. They are valid
 * until bytes are dropped or the memory changes. Returns 0 or -ENOMEM.
 */
int gt_ring_room(struct gt_ring *ring, size_t max, struct iovec ret[2], int *ret_n) GT_MUST_CHECK;
/* Appends @n bytes that were put into the room. */
void gt_ring_fill(struct gt_ring *ring, size_t n);
/* Returns the number of kept runs (0 to 2) from the offset @from on (head <= from <= tail), of at
 * most @max bytes, without borrowed bytes. */
int gt_ring_view(const struct gt_ring *ring, uint64_t from, size_t max, struct iovec ret[2]);
/* Removes the oldest @n bytes. */
void gt_ring_drop(struct gt_ring *ring, size_t n);
/* Removes the bytes from the offset @from on (head <= from <= tail). Only without borrowed bytes.
 */
void gt_ring_truncate(struct gt_ring *ring, uint64_t from);

/* Appends @n bytes, which must fit: copied, or borrowed if ->borrowed is set. Returns 0 or -ENOMEM.
 */
int gt_ring_write(struct gt_ring *ring, const void *data, size_t n) GT_MUST_CHECK;
/* Returns the number of borrowed runs, which follow those of gt_ring_view. */
int gt_ring_view_borrowed(const struct gt_ring *ring, struct iovec ret[GT_RING_BORROWED_MAX]);
/* Copies the borrowed bytes. The memory of the writer is no longer used. */
void gt_ring_copy_borrowed(struct gt_ring *ring);
static inline size_t gt_ring_n_borrowed(const struct gt_ring *ring)
{
    return ring->borrowed ? ring->borrowed->n_bytes : 0;
}
/* Copies up to @n bytes from the offset @from on, without removing them. Returns their number. */
size_t gt_ring_copy(const struct gt_ring *ring, uint64_t from, void *ret, size_t n);
