/* SPDX-License-Identifier: ISC */
/*
 * Two sockets joined for good: what comes in at one goes out at the other, both ways, until both
 * have ended. A FIN is passed on after the last byte before it, a reset as a reset, and no byte is
 * looked at. A pair lives in the loop of its plane; it tells its dock when it is complete and when
 * it is over.
 */
#pragma once

#include <ev.h>

#include "gotthard/control.h"
#include "pipe.h"
#include "quota.h"

enum pair_state {
    PAIR_ONE_JOINED, /* waits for the second */
    PAIR_SPLICING,
    PAIR_HALF_CLOSED, /* one direction has ended */
    PAIR_CLOSED,      /* over: to be buried */
};

/* One direction. */
enum flow_state {
    FLOW_OPEN,
    FLOW_SHUT, /* its source ended, and the FIN was passed on after the last byte */
};

struct pair_side {
    struct pair *pair;
    int fd;
    ev_io io;
    struct quota_charge charge;
    enum flow_state flow; /* of what comes in at this side and goes out at the other */
    struct pipe *pipe;    /* NULL: nothing under way */
    uint64_t n_bytes;
};

struct pair_limits {
    uint64_t second_ms;      /* for the second to come */
    uint64_t half_closed_ms; /* without a byte, once one direction has ended */
    size_t budget;           /* bytes per direction and turn */
    char congestion[16];     /* TCP_CONGESTION, or "" */
};

struct pair_events {
    void (*on_complete)(void *userdata, struct pair *pair);
    /* It is CLOSED: free it, but not from inside. Not called by pair_close. */
    void (*on_closed)(void *userdata, struct pair *pair, enum gt_code code);
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
    uint64_t n_moved_at_deadline; /* how much had moved when the deadline was set */
    struct gt_list of_dock;
};

/* Keeps @limits and @events. The pair waits for its first side; NULL when there is no memory. */
struct pair *pair_new(struct ev_loop *loop, struct pipe_pool *pool,
                      const struct pair_limits *limits, const struct pair_events *events,
                      void *userdata);
struct pair *pair_free(struct pair *pair);

/* Takes @fd and what @charge holds. The first starts the deadline, the second the splicing. */
void pair_join(struct pair *pair, unsigned side, int fd, struct quota_charge *charge);
/* Its sides are as another image of the relay left them: goes on from there. @deadline_ms: of
 * ->state, from now on, or NEVER. */
void pair_go_on(struct pair *pair, uint64_t deadline_ms);
/* What is left of the deadline of its state, or NEVER. */
uint64_t pair_deadline_left_ms(struct pair *pair);
/* Ends it now, with a reset towards both; no callback. */
void pair_close(struct pair *pair);
