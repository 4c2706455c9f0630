/* SPDX-License-Identifier: ISC */
/*
 * One direction of a connection: reads at one socket, holds each piece until the weather lets it
 * arrive, and writes it to the other. Order is kept, nothing is lost but by an order to do so, and
 * a full way stops the sender. Delay does not bound the throughput: pieces are in flight side by
 * side.
 */
#pragma once

#include <ev.h>

#include "canary.h"
#include "weather.h"

struct flow;
struct flow_piece;

enum flow_event {
    FLOW_DELIVERED,   /* everything, and the end of file after it */
    FLOW_SOURCE_LOST, /* the source is reset; the news is on its way to the sink */
    FLOW_SINK_LOST,
    FLOW_RESET,     /* the news of a reset has come to the sink */
    FLOW_FORGOTTEN, /* a byte came after too long a silence; it is swallowed */
    FLOW_DRAINED,
};

/* The last of what a flow does in its turn: the connection may then be over, but is freed later. */
typedef void flow_event_fn(struct flow *flow, enum flow_event event);
/* As it is passed on. */
typedef void flow_data_fn(struct flow *flow, const uint8_t *data, size_t n);

struct flow {
    struct ev_loop *loop;
    void *owner;
    flow_event_fn *on_event; /* these three are set before flow_start() */
    flow_data_fn *on_data;
    int source, sink; /* borrowed */
    struct weather weather;
    struct flow_piece *first, **last;
    size_t n_queued;
    double opens_at;  /* the handshake's time has passed then */
    double free_at;   /* the line has done with the piece before */
    double *heard_at; /* the last byte of either direction: the connection's */
    bool is_forgotten, is_ended, is_over, is_draining;
    uint64_t n_in, n_out, n_flipped;
    struct canary_tail tail;
    int timer;
    ev_io readable, writable, alarm;
};

/* -errno when there is no timer to be had. */
int flow_init(struct flow *flow, struct ev_loop *loop, int source, int sink,
              const struct weather *weather, double *heard_at) GT_MUST_CHECK;
void flow_start(struct flow *flow, double opens_at);
void flow_deinit(struct flow *flow);
/* The weather has changed. */
void flow_update(struct flow *flow);
/* Black from now on, whatever the weather. */
void flow_forget(struct flow *flow);
/* Nothing more of it: its sink is gone. */
void flow_abandon(struct flow *flow);
/* Its source is gone without an end of file: the sink will be told with the next delivery. */
void flow_break(struct flow *flow);
/* Reads to the end for nothing, so that a close() does not reset. */
void flow_drain(struct flow *flow);
