/* SPDX-License-Identifier: ISC */
/*
 * The byte queue of a stream. Offsets are absolute and only ever grow; where a byte lies in memory
 * is its distance from the base, modulo the capacity. Must never move a byte once it was written
 * (but to another memory, all at once), never give out room that a reader may still be looking at,
 * and never hold on to what is lent beyond gt_ring_keep.
 */
#include "gotthard/ring.h"

#include <assert.h>
#include <sys/mman.h>

#define MAPPED_MIN ((size_t)128 * 1024)

static size_t ring_rounded(size_t capacity)
{
    size_t rounded = GT_RING_MIN;
    while (rounded < capacity && rounded <= SIZE_MAX / 4)
        rounded *= 2;
    return rounded;
}

void gt_ring_init(struct gt_ring *ring, size_t capacity)
{
    *ring = (struct gt_ring){.capacity = ring_rounded(capacity)};
}

static bool is_mapped(const struct gt_ring *ring)
{
    return ring->capacity >= MAPPED_MIN;
}

void gt_ring_deinit(struct gt_ring *ring)
{
    if (ring->data && is_mapped(ring))
        munmap(ring->data, ring->capacity);
    else
        free(ring->data);
    ring->data = NULL;
}

void gt_ring_release(struct gt_ring *ring)
{
    if (gt_ring_used(ring) == 0)
        gt_ring_deinit(ring);
}

/* Of what lies in the ring's own memory. */
static uint64_t ring_end(const struct gt_ring *ring)
{
    return ring->tail - gt_ring_n_lent(ring);
}

/* The run of @n bytes from @offset as one or two iovecs. */
static int ring_runs(const struct gt_ring *ring, uint64_t offset, size_t n, struct iovec ret[2])
{
    if (n == 0)
        return 0;
    size_t at = (size_t)(offset - ring->base) & (ring->capacity - 1);
    size_t first = GT_MIN(n, ring->capacity - at);
    ret[0] = (struct iovec){ring->data + at, first};
    if (first == n)
        return 1;
    ret[1] = (struct iovec){ring->data, n - first};
    return 2;
}

/*
 * Large ones are mapped: only pages that were written to cost anything, and what is given back is
 * gone at once. A huge page would cost 2 MiB for the first byte.
 */
static uint8_t *ring_map(size_t n)
{
    void *data = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
        return NULL;
    madvise(data, n, MADV_NOHUGEPAGE);
    return data;
}

static int ring_allocate(struct gt_ring *ring)
{
    if (!ring->data)
        ring->data = is_mapped(ring) ? ring_map(ring->capacity) : malloc(ring->capacity);
    return ring->data ? 0 : -ENOMEM;
}

int gt_ring_room(struct gt_ring *ring, size_t max, struct iovec ret[2], int *ret_n)
{
    int r = ring_allocate(ring);
    if (r < 0)
        return r;
    if (gt_ring_used(ring) == 0)
        ring->base = ring->tail;
    *ret_n = ring_runs(ring, ring->tail, GT_MIN(max, gt_ring_free(ring)), ret);
    return 0;
}

void gt_ring_fill(struct gt_ring *ring, size_t n)
{
    assert(n <= gt_ring_free(ring));
    ring->tail += n;
}

int gt_ring_view(const struct gt_ring *ring, uint64_t from, size_t max, struct iovec ret[2])
{
    assert(from >= ring->head && from <= ring_end(ring));
    return ring_runs(ring, from, GT_MIN(max, (size_t)(ring_end(ring) - from)), ret);
}

int gt_ring_view_lent(const struct gt_ring *ring, struct iovec ret[GT_RING_LENT])
{
    size_t n = ring->lent ? ring->lent->n_spans : 0;
    for (size_t i = 0; i < n; i++)
        ret[i] = (struct iovec){(void *)ring->lent->spans[i].data, ring->lent->spans[i].n};
    return (int)n;
}

/* The oldest @n of them. */
static void lent_drop(struct gt_lent *lent, size_t n)
{
    size_t i = 0;
    lent->n_bytes -= n;
    for (; i < lent->n_spans && n >= lent->spans[i].n; i++)
        n -= lent->spans[i].n;
    lent->n_spans -= i;
    memmove(lent->spans, lent->spans + i, lent->n_spans * sizeof lent->spans[0]);
    if (n > 0)
        lent->spans[0] = gt_span(lent->spans[0].data + n, lent->spans[0].n - n);
}

void gt_ring_drop(struct gt_ring *ring, size_t n)
{
    size_t own = (size_t)(ring_end(ring) - ring->head);
    assert(n <= gt_ring_used(ring));
    if (n > own)
        lent_drop(ring->lent, n - own);
    ring->head += n;
}

/* There is memory. */
static void ring_append(struct gt_ring *ring, struct gt_span bytes)
{
    struct iovec room[2];
    const uint8_t *from = bytes.data;
    if (gt_ring_used(ring) == 0)
        ring->base = ring->tail;
    int n_room = ring_runs(ring, ring->tail, bytes.n, room);
    for (int i = 0; i < n_room; from += room[i].iov_len, i++)
        memcpy(room[i].iov_base, from, room[i].iov_len);
    gt_ring_fill(ring, bytes.n);
}

void gt_ring_keep(struct gt_ring *ring)
{
    if (gt_ring_n_lent(ring) == 0)
        return;
    struct gt_lent lent = *ring->lent;
    ring->tail = ring_end(ring);
    ring->lent->n_spans = ring->lent->n_bytes = 0;
    for (size_t i = 0; i < lent.n_spans; i++)
        ring_append(ring, lent.spans[i]);
}

int gt_ring_write(struct gt_ring *ring, const void *data, size_t n)
{
    struct gt_lent *lent = ring->lent;
    int r = ring_allocate(ring);
    if (r < 0)
        return r;
    if (!lent || n == 0) {
        ring_append(ring, gt_span(data, n));
        return 0;
    }
    if (lent->n_spans == GT_RING_LENT)
        gt_ring_keep(ring);
    lent->spans[lent->n_spans++] = gt_span(data, n);
    lent->n_bytes += n;
    gt_ring_fill(ring, n);
    return 0;
}

size_t gt_ring_copy(const struct gt_ring *ring, uint64_t from, void *ret, size_t n)
{
    struct iovec view[2];
    int n_view = gt_ring_view(ring, from, n, view);
    uint8_t *to = ret;
    for (int i = 0; i < n_view; to += view[i].iov_len, i++)
        memcpy(to, view[i].iov_base, view[i].iov_len);
    return (size_t)(to - (uint8_t *)ret);
}

int gt_ring_resize(struct gt_ring *ring, size_t capacity)
{
    size_t n = (size_t)(ring_end(ring) - ring->head);
    struct gt_ring other = {.head = ring->head, .base = ring->head, .lent = ring->lent};
    other.capacity = ring_rounded(capacity);
    assert(gt_ring_used(ring) <= other.capacity);
    if (other.capacity == ring->capacity)
        return 0;
    if (ring->data && ring_allocate(&other) < 0) /* also an empty one: never less than it had */
        return -ENOMEM;
    if (n > 0)
        gt_ring_copy(ring, ring->head, other.data, n);
    other.tail = ring->tail;
    gt_ring_deinit(ring);
    *ring = other;
    return 0;
}
