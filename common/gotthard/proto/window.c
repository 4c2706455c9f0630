/* SPDX-License-Identifier: ISC */
/*
 * The flow control policy; see the header. The limits below were measured: larger windows gain
 * nothing there, and smaller ones cost throughput.
 */
#include "gotthard/proto/window.h"

#include "gotthard/base/ring.h"

#define ACK_EVERY   (256 * 1024)         /* bytes received until an ACK is due at the latest */
#define RATE_MAX    (512. * 1024 * 1024) /* bytes per second that need no larger window */
#define STRETCH     2.                   /* a round trip this much longer than the shortest ... */
#define ROUND_MIN_S 0.1                  /* ... or than this, in seconds, waited in a queue */

#define N_RINGS       16 /* rings that all streams together may have */
#define N_LARGE_RINGS 2  /* for both directions of a stream, or for two streams */
#define PHYSICAL_MIN  ((uint64_t)800 << 20) /* what remains of a GB beside a kernel and graphics */

static size_t initial_size(const struct gt_window *window)
{
    return GT_MIN(window->max, (size_t)(window->is_shared ? GT_WINDOW_SHARED : GT_WINDOW_INITIAL));
}

void gt_window_init(struct gt_window *window, size_t max, uint64_t early)
{
    *window = (struct gt_window){.is_shared = true, .max = max, .limit = early};
    window->size = initial_size(window);
}

bool gt_window_set_shared(struct gt_window *window, bool is_shared)
{
    if (window->is_shared == is_shared)
        return false;
    window->is_shared = is_shared;
    window->size = initial_size(window);
    return true;
}

uint64_t gt_window_limit(const struct gt_window *window, uint64_t head)
{
    return GT_MAX(window->limit, head + window->size);
}

bool gt_window_is_ack_due(const struct gt_window *window, uint64_t tail)
{
    return tail - window->acked >= GT_MIN(window->size / 4, (size_t)ACK_EVERY);
}

bool gt_window_is_update_due(const struct gt_window *window, uint64_t head)
{
    return gt_window_limit(window, head) - window->limit >= window->size / 4;
}

void gt_window_announced(struct gt_window *window, uint64_t offset, uint64_t head)
{
    window->acked = offset;
    window->limit = gt_window_limit(window, head);
}

void gt_window_shrink(struct gt_window *window)
{
    window->size = GT_MIN(window->size, initial_size(window));
}

bool gt_window_may_grow(const struct gt_window *window)
{
    return !window->is_shared && window->size < window->max;
}

size_t gt_window_ring_first(const struct gt_window *window)
{
    return GT_MIN(window->max, (size_t)(window->is_shared ? GT_WINDOW_RING_FIRST : GT_WINDOW_RING));
}

size_t gt_window_ring_size(const struct gt_window *window, uint64_t head)
{
    size_t granted = (size_t)(window->limit - head);

    if (window->is_shared && granted <= GT_WINDOW_SHARED)
        granted = 0;
    return GT_MAX(gt_window_ring_first(window), granted);
}

bool gt_window_is_send_ring_short(const struct gt_window *window, size_t n_used, size_t capacity,
                                  size_t peer_window)
{
    size_t max = window->is_shared ? initial_size(window) : window->max;

    return n_used >= capacity / 2 && peer_window >= capacity && capacity < max;
}

bool gt_window_probe_end(const struct gt_window *window, struct gt_window_probe *probe, double now,
                         uint64_t tail, size_t n_unread)
{
    double took = now - probe->began;
    uint64_t n = tail - probe->from;

    if (probe->shortest == 0 || took < probe->shortest)
        probe->shortest = took;
    bool is_used = n >= window->size / 2;
    bool is_read = n_unread <= window->size / 2;
    bool is_slow = window->size < GT_WINDOW_RING || (double)n < took * RATE_MAX;
    bool is_saturated = took > STRETCH * GT_MAX(probe->shortest, ROUND_MIN_S);
    return gt_window_may_grow(window) && is_used && is_read && is_slow && !is_saturated;
}

bool gt_window_is_idle(struct gt_window_idle *idle, double now, uint64_t rx, uint64_t tx)
{
    bool is_busy = rx - idle->rx + tx - idle->tx >= GT_WINDOW_INITIAL;

    if (!is_busy && now - idle->since < GT_WINDOW_IDLE_S)
        return false;
    *idle = (struct gt_window_idle){now, rx, tx};
    return !is_busy;
}

/* Returns the part of a ring's capacity that is charged to the memory for all streams. */
static size_t charge_of(size_t capacity)
{
    capacity = GT_MIN(capacity, GT_WINDOW_LARGE);
    return capacity > GT_WINDOW_RING ? capacity - GT_WINDOW_RING : 0;
}

/* Returns the part that is charged to the memory of large rings. */
static size_t large_charge_of(size_t capacity)
{
    return capacity > GT_WINDOW_LARGE ? capacity - GT_WINDOW_LARGE : 0;
}

size_t gt_window_default_max(uint64_t physical)
{
    return physical < PHYSICAL_MIN ? GT_WINDOW_LARGE : GT_WINDOW_DEFAULT_MAX;
}

void gt_window_memory_init(struct gt_window_memory *memory, size_t ring_max)
{
    struct gt_ring largest;

    gt_ring_init(&largest, ring_max);
    *memory = (struct gt_window_memory){
        .max = N_RINGS * GT_MIN(largest.capacity, GT_WINDOW_LARGE),
        .large_max = N_LARGE_RINGS * large_charge_of(largest.capacity),
    };
}

bool gt_window_memory_allows(const struct gt_window_memory *memory, size_t before, size_t after)
{
    if (!memory || after <= before)
        return true;
    return memory->n_used - charge_of(before) + charge_of(after) <= memory->max &&
           memory->n_large - large_charge_of(before) + large_charge_of(after) <= memory->large_max;
}

void gt_window_memory_charge(struct gt_window_memory *memory, size_t before, size_t after)
{
    if (!memory)
        return;
    memory->n_used += charge_of(after) - charge_of(before);
    memory->n_large += large_charge_of(after) - large_charge_of(before);
}
