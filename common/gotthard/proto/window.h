/* SPDX-License-Identifier: ISC */
/*
 * Flow control policy of a stream: how far the peer may send, when that is announced, when the
 * receive window and the rings grow, and when they shrink again. Pure decisions on numbers; the
 * time is a parameter. It owns no memory and never touches payload.
 *
 * The window is small at first, so that a slow reader holds little memory. While data flows, PING
 * and PONG measure how much arrives within one round trip. The window doubles when the peer used at
 * least half of it and the local socket keeps up. A path with a large product of bandwidth and
 * delay then gets the window that it needs, and a short path fewer wake-ups. The window does not
 * grow when the round trip took much longer than the shortest one: the path is saturated, and more
 * data would only wait in its queues.
 *
 * On the shared connection, other streams wait behind the data of this one. Its window is smaller
 * there and does not grow: a stream that needs more moves to a connection of its own.
 */
#pragma once

#include "gotthard/base/base.h"

#define GT_WINDOW_SHARED     (128 * 1024) /* bytes, on the shared connection */
#define GT_WINDOW_INITIAL    (256 * 1024) /* bytes; also the limit of unsent data in the send ring */
#define GT_WINDOW_RING_FIRST (64 * 1024)  /* first capacity of a ring, whose memory is kept */
#define GT_WINDOW_RING \
    (1024 * 1024) /* the same on a connection of its own; unused pages cost nothing */
#define GT_WINDOW_LARGE \
    ((size_t)4 << 20) /* a larger ring takes part of it from memory of its own kind */
#define GT_WINDOW_DEFAULT_MAX ((size_t)16 << 20)
#define GT_WINDOW_IDLE_S      15.0 /* seconds with little traffic, after which memory is freed */

/* The receive window of one stream. */
struct gt_window {
    bool is_shared; /* on the shared connection, also at first */
    size_t size;    /* bytes wanted in flight or in the ring */
    size_t max;     /* limit of the size, and of the capacity of either ring */
    uint64_t acked; /* last receive offset that was sent to the peer */
    uint64_t limit; /* greatest offset granted to the peer; never withdrawn */
};

/* @max: bytes. @early: number of bytes that the peer may send without a grant. */
void gt_window_init(struct gt_window *window, size_t max, uint64_t early);
/* Returns the offset up to which the peer may send, when @head is the offset of the first byte that
 * was not written to the local socket. */
uint64_t gt_window_limit(const struct gt_window *window, uint64_t head);
/* Returns true if the data received up to offset @tail should be acknowledged now. */
bool gt_window_is_ack_due(const struct gt_window *window, uint64_t tail);
/* Returns true if enough room has become free, with the local socket at @head, to announce it. */
bool gt_window_is_update_due(const struct gt_window *window, uint64_t head);
/* Records that an ACK or HELLO with @offset and the current limit was sent. */
void gt_window_announced(struct gt_window *window, uint64_t offset, uint64_t head);
/* The stream continues on the shared connection or on one of its own. Returns true if that is a
 * change: the window has its initial size then. What the peer was granted remains granted. */
bool gt_window_set_shared(struct gt_window *window, bool is_shared);
/* Returns the window to its initial size at most. What the peer was granted remains granted. */
void gt_window_shrink(struct gt_window *window);
/* Returns true if the window may grow beyond its present size. */
bool gt_window_may_grow(const struct gt_window *window);
/* Returns the first capacity of a ring in bytes. */
size_t gt_window_ring_first(const struct gt_window *window);
/* Returns the capacity in bytes that a receive ring with this head keeps at least. It may be less
 * than the granted window: a ring of GT_WINDOW_RING_FIRST grows when the bytes arrive. */
size_t gt_window_ring_size(const struct gt_window *window, uint64_t head);
/* Returns true if the send ring should double: @n_used of its @capacity bytes were kept when the
 * peer announced @peer_window, which is larger than the ring. */
bool gt_window_is_send_ring_short(const struct gt_window *window, size_t n_used, size_t capacity,
                                  size_t peer_window);

/* The measurement of round trips on one data connection. Zero-initialize. */
struct gt_window_probe {
    uint64_t from;   /* receive offset at which the current round trip begins */
    double began;    /* time of the last PING, in seconds */
    double shortest; /* shortest round trip so far, in seconds; 0: none */
};

/* Ends a round trip at the time @now (seconds) with the PONG. @tail: offset received so far;
 * @n_unread: bytes that wait for the local socket. Returns true if the window limited the peer and
 * should double. */
bool gt_window_probe_end(const struct gt_window *window, struct gt_window_probe *probe, double now,
                         uint64_t tail, size_t n_unread);

/* Detection of streams with little traffic, which hold no large memory. Zero-initialize. */
struct gt_window_idle {
    double since;    /* beginning of the observed period, in seconds */
    uint64_t rx, tx; /* offsets received and read at its beginning */
};

/* Returns true, once per period, if little was transferred for GT_WINDOW_IDLE_S. */
bool gt_window_is_idle(struct gt_window_idle *idle, double now, uint64_t rx, uint64_t tx);

/*
 * The memory that the rings of several streams share, beyond the first GT_WINDOW_RING of each. What
 * a ring has beyond GT_WINDOW_LARGE counts separately: few streams need that much, and those that
 * have it take nothing from the others.
 */
struct gt_window_memory {
    size_t max, n_used;        /* bytes up to GT_WINDOW_LARGE of each ring */
    size_t large_max, n_large; /* bytes beyond */
};

/* @ring_max: bytes, the limit of one ring. Enough for 16 rings of that size or of GT_WINDOW_LARGE,
 * of which two may be larger. */
void gt_window_memory_init(struct gt_window_memory *memory, size_t ring_max);
/* Returns the default limit of one ring, on a machine with @physical bytes of memory. */
size_t gt_window_default_max(uint64_t physical);

/* Returns true if a ring may change its capacity from @before to @after. @memory: NULL: no limit.
 */
bool gt_window_memory_allows(const struct gt_window_memory *memory, size_t before, size_t after);
/* Records the change. @memory may be NULL. */
void gt_window_memory_charge(struct gt_window_memory *memory, size_t before, size_t after);
