/* SPDX-License-Identifier: ISC */
/*
 * One direction of a connection. It reads from one socket, holds each piece until the impairments
 * let it arrive, and writes it to the other socket. Order is kept, and nothing is lost unless a
 * command requires it. A full queue stops the sender. Delay does not limit the throughput: pieces
 * are in flight side by side.
 */
#pragma once

#include <ev.h>

#include "canary.h"
#include "impairments.h"

struct flow;
struct flow_piece;

enum flow_event {
    FLOW_DELIVERED,   /* everything, and the end of file after it */
    FLOW_SOURCE_LOST, /* the source was reset; the reset is in flight to the sink */
    FLOW_SINK_LOST,
    FLOW_RESET,     /* the reset has reached the sink */
    FLOW_FORGOTTEN, /* a byte arrived after too long a silence; it is dropped */
    FLOW_DRAINED,
};

/* A tail call of the flow. The connection may be over afterwards, but it is freed later. */
typedef void flow_event_fn(struct flow *flow, enum flow_event event);
/* The data as it is forwarded. */
typedef void flow_data_fn(struct flow *flow, const uint8_t *data, size_t n);

struct flow {
    struct ev_loop *loop;
    void *owner;
    flow_event_fn *on_event; /* owner and callbacks are set before flow_start() */
    flow_data_fn *on_data;
    int source, sink; /* borrowed */
    struct impairments impairments;
    struct flow_piece *first, **last;
    size_t n_queued;
    double opens_at;     /* end of the simulated handshake */
    double free_at;      /* end of the previous piece on the line */
    double *received_at; /* last byte of either direction; borrowed */
    bool is_forgotten, is_ended, is_over, is_draining;
    uint64_t n_in, n_out, n_flipped;
    struct canary_tail tail;
    int timer;
    ev_io readable, writable, alarm;
};

/* -errno if no timer is available. */
int flow_init(struct flow *flow, struct ev_loop *loop, int source, int sink,
              const struct impairments *impairments, double *received_at) GT_MUST_CHECK;
void flow_start(struct flow *flow, double opens_at);
void flow_deinit(struct flow *flow);
/* The impairments have changed. */
void flow_update(struct flow *flow);
/* Black from now on, whatever the impairments. */
void flow_forget(struct flow *flow);
/* Drops everything: its sink is gone. */
void flow_abandon(struct flow *flow);
/* Its source is gone without an end of file: the sink is reset by the next delivery. */
void flow_break(struct flow *flow);
/* Reads and discards until the end of file, so that close() does not reset. */
void flow_drain(struct flow *flow);
