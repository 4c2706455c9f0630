/* SPDX-License-Identifier: ISC */
/*
 * Two joined sockets. The bytes received from one are sent to the other, in both directions, until
 * both directions have ended. A FIN is forwarded after the last byte before it, a reset is
 * forwarded as a reset, and payload is never inspected. A pair lives in the loop of its data thread
 * and notifies its session port when it is complete and when it has closed.
 */
#pragma once

#include <ev.h>
#include <stdatomic.h>

#include "data/pipe.h"
#include "gotthard/proto/control.h"
#include "limits/quota.h"

enum pair_state {
    PAIR_ONE_JOINED, /* waits for the second side */
    PAIR_SPLICING,
    PAIR_HALF_CLOSED, /* one direction has ended */
    PAIR_CLOSED,      /* both sockets closed */
};

/* One direction. */
enum flow_state {
    FLOW_OPEN,
    FLOW_SHUT, /* the FIN was forwarded after the last byte */
};

struct pair_side {
    struct pair *pair;
    int fd;
    ev_io io;
    struct quota_charge charge;
    enum flow_state flow;    /* direction from this side to the other */
    struct pipe *pipe;       /* bytes in transit in that direction; NULL: none */
    uint64_t n_bytes;        /* received from this side */
    _Atomic uint64_t *total; /* borrowed, written by this thread only: they are added; NULL: none */
};

struct pair_limits {
    uint64_t join_peer_ms;   /* time for the second side to join */
    uint64_t half_closed_ms; /* time without a byte after one direction has ended */
    size_t turn_budget;      /* bytes per direction and turn of the loop */
    char congestion[16];     /* TCP_CONGESTION (tcp(7)), or "" */
};

struct pair_events {
    /* Both sides have joined. */
    void (*on_complete)(void *userdata, struct pair *pair);
    /* The last callback: the pair is CLOSED, its owner frees it after this turn of the loop. Not
     * called by pair_close. @code: GT_CODE_NONE, _LOST or _EXPIRED. */
    void (*on_end)(void *userdata, struct pair *pair, enum gt_code code);
};

struct pair {
    enum pair_state state;
    uint32_t stream, attempt;
    struct pair_side sides[2]; /* operator, device */
    struct ev_loop *loop;
    struct pipe_pool *pool;
    const struct pair_limits *limits;
    const struct pair_events *events;
    void *userdata;
    ev_timer deadline;
    uint64_t n_moved_at_deadline; /* pair_n_moved when the deadline was set */
    struct gt_list of_session_port;
};

/* Keeps @loop, @pool, @limits, @events and @userdata. The pair waits for its first side. Returns
 * NULL if out of memory. */
struct pair *pair_new(struct ev_loop *loop, struct pipe_pool *pool,
                      const struct pair_limits *limits, const struct pair_events *events,
                      void *userdata);
/* Closes and frees @pair, without a callback. Accepts NULL; returns NULL. */
struct pair *pair_free(struct pair *pair);

/* Adds side 0 (operator) or 1 (device). Takes @fd and the content of @charge. The first side gets a
 * receipt and starts the deadline join_peer_ms; if the same side is added again, the new socket
 * replaces the old one. The second side starts the transfer or, on an error, closes the pair:
 * on_complete or on_end is called before this returns. */
void pair_join(struct pair *pair, unsigned side, int fd, struct quota_charge *charge);
/* Continues after an upgrade; the caller has filled in the state and the sides. @deadline_ms: time
 * left for ->state, or GT_CLOCK_NEVER. */
void pair_resume(struct pair *pair, uint64_t deadline_ms);
/* Returns the time left until the deadline of the state (ms), or GT_CLOCK_NEVER. */
uint64_t pair_deadline_left_ms(struct pair *pair);
/* Closes @pair now with a reset towards both sides, without a callback. No effect if CLOSED. */
void pair_close(struct pair *pair);
