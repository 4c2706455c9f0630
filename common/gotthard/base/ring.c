/* SPDX-License-Identifier: ISC */
/*
 * The byte queue of a stream. Offsets are absolute and only increase. The position of a byte in
 * memory is its distance from the base, modulo the capacity. Must never move a written byte, except
 * all of them together on a resize. Must never return room that overlaps kept bytes, and never use
 * borrowed memory after gt_ring_copy_borrowed. Freed memory is wiped as far as it was used; that of
 * a mapped ring returns to the kernel, unless the pool of the thread keeps it.
 */
#include "gotthard/base/ring.h"

#include <assert.h>
#include <sys/mman.h>

#define MAPPED_MIN ((size_t)64 * 1024) /* bytes: from here on, rings are mapped */
#define KEPT_MAX   64                  /* memory of rings of MAPPED_MIN bytes, in the pool */

/* The memory of short connections: last in, first out. */
static _Thread_local struct {
    uint8_t *kept[KEPT_MAX];
    size_t n_kept;
} pool;

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

/* The pool wipes what it keeps, and the kernel what it gets. */
static void ring_free(struct gt_ring *ring)
{
    bool is_kept = ring->capacity == MAPPED_MIN && pool.n_kept < KEPT_MAX;

    if (is_kept || !is_mapped(ring))
        explicit_bzero(ring->data, ring->n_used);
    if (is_kept)
        pool.kept[pool.n_kept++] = ring->data;
    else if (is_mapped(ring))
        munmap(ring->data, ring->capacity);
    else
        free(ring->data);
}

void gt_ring_trim(void)
{
    while (pool.n_kept > 0)
        munmap(pool.kept[--pool.n_kept], MAPPED_MIN);
}

void gt_ring_deinit(struct gt_ring *ring)
{
    if (ring->data)
        ring_free(ring);
    ring->data = NULL;
    ring->n_used = 0;
}

void gt_ring_release(struct gt_ring *ring)
{
    if (gt_ring_used(ring) == 0)
        gt_ring_deinit(ring);
}

/* Returns the end of the bytes in the ring's own memory. */
static uint64_t ring_end(const struct gt_ring *ring)
{
    return ring->tail - gt_ring_n_borrowed(ring);
}

/* Returns the @n bytes from @offset on as up to two runs of the ring's own memory. */
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
 * Large rings are mapped: only written pages cost memory, and released memory returns to the system
 * at once. A huge page would cost 2 MiB for the first byte.
 */
static uint8_t *ring_map(size_t n)
{
    void *data = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (data == MAP_FAILED)
        return NULL;
    madvise(data, n, MADV_NOHUGEPAGE);
    return data;
}

static uint8_t *ring_memory(size_t capacity)
{
    if (capacity == MAPPED_MIN && pool.n_kept > 0)
        return pool.kept[--pool.n_kept];
    return capacity >= MAPPED_MIN ? ring_map(capacity) : malloc(capacity);
}

static int ring_allocate(struct gt_ring *ring)
{
    if (!ring->data)
        ring->data = ring_memory(ring->capacity);
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
    ring->n_used = GT_MAX(ring->n_used, (size_t)GT_MIN(ring->tail - ring->base, ring->capacity));
}

int gt_ring_view(const struct gt_ring *ring, uint64_t from, size_t max, struct iovec ret[2])
{
    assert(from >= ring->head && from <= ring_end(ring));
    return ring_runs(ring, from, GT_MIN(max, (size_t)(ring_end(ring) - from)), ret);
}

int gt_ring_view_borrowed(const struct gt_ring *ring, struct iovec ret[GT_RING_BORROWED_MAX])
{
    size_t n = ring->borrowed ? ring->borrowed->n_spans : 0;

    for (size_t i = 0; i < n; i++)
        ret[i] = (struct iovec){(void *)ring->borrowed->spans[i].data, ring->borrowed->spans[i].n};
    return (int)n;
}

/* Removes the oldest @n borrowed bytes. */
static void borrowed_drop(struct gt_borrowed *borrowed, size_t n)
{
    size_t i = 0;

    borrowed->n_bytes -= n;
    for (; i < borrowed->n_spans && n >= borrowed->spans[i].n; i++)
        n -= borrowed->spans[i].n;
    borrowed->n_spans -= i;
    memmove(borrowed->spans, borrowed->spans + i, borrowed->n_spans * sizeof(borrowed->spans[0]));
    if (n > 0)
        borrowed->spans[0] = gt_span(borrowed->spans[0].data + n, borrowed->spans[0].n - n);
}

void gt_ring_drop(struct gt_ring *ring, size_t n)
{
    size_t own = (size_t)(ring_end(ring) - ring->head);

    assert(n <= gt_ring_used(ring));
    if (n > own)
        borrowed_drop(ring->borrowed, n - own);
    ring->head += n;
}

void gt_ring_truncate(struct gt_ring *ring, uint64_t from)
{
    assert(from >= ring->head && from <= ring_end(ring) && gt_ring_n_borrowed(ring) == 0);
    ring->tail = from;
}

/* Copies @bytes into memory that is allocated. */
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

void gt_ring_copy_borrowed(struct gt_ring *ring)
{
    if (gt_ring_n_borrowed(ring) == 0)
        return;
    struct gt_borrowed borrowed = *ring->borrowed;
    ring->tail = ring_end(ring);
    ring->borrowed->n_spans = ring->borrowed->n_bytes = 0;
    for (size_t i = 0; i < borrowed.n_spans; i++)
        ring_append(ring, borrowed.spans[i]);
}

int gt_ring_write(struct gt_ring *ring, const void *data, size_t n)
{
    struct gt_borrowed *borrowed = ring->borrowed;

    int r = ring_allocate(ring);
    if (r < 0)
        return r;
    if (!borrowed || n == 0) {
        ring_append(ring, gt_span(data, n));
        return 0;
    }
    if (borrowed->n_spans == GT_RING_BORROWED_MAX)
        gt_ring_copy_borrowed(ring);
    borrowed->spans[borrowed->n_spans++] = gt_span(data, n);
    borrowed->n_bytes += n;
    assert(n <= gt_ring_free(ring));
    ring->tail += n;
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
    struct gt_ring other = {.head = ring->head, .base = ring->head, .borrowed = ring->borrowed};

    other.capacity = ring_rounded(capacity);
    assert(gt_ring_used(ring) <= other.capacity);
    if (other.capacity == ring->capacity)
        return 0;
    if (ring->data && ring_allocate(&other) < 0) /* also if it is empty */
        return -ENOMEM;
    if (n > 0)
        gt_ring_copy(ring, ring->head, other.data, n);
    other.tail = ring->tail;
    other.n_used = n;
    gt_ring_deinit(ring);
    *ring = other;
    return 0;
}
