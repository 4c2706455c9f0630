/* SPDX-License-Identifier: ISC */
/*
 * The streams of a worker: authorizes the service of each, dials its target, connects the two, and
 * logs and counts the streams that ended. Only services and permitted targets of the operator's
 * grant are dialed.
 *
 * A connection has one log line, at its end (tunnel/stream-log.h). It has the local source port:
 * the service sees only 127.0.0.1, so that this line alone connects a login to an operator.
 */
#pragma once

#include <ev.h>

#include "gotthard/tunnel/stream-log.h"
#include "gotthard/tunnel/tunnel.h"
#include "worker-events.h"
#include "worker-grant.h"

struct worker_stream;

struct worker_streams {
    struct ev_loop *loop;
    const char *log_prefix;           /* keeps */
    const struct worker_grant *grant; /* keeps */
    struct worker_events *events;     /* keeps; of the audit */
    int audit;                        /* owned; the audit's bytes, for one stream; -1: none */
    unsigned dial_timeout_ms;
    struct worker_stream *open;       /* streams with a target, by number, until their end */
    uint64_t n_streams, n_up, n_down; /* streams and bytes since the beginning */
    struct gt_stream_log log;
};

/* @log_prefix: "session=7f3a9c21 operator=alice". ->audit is -1 afterwards. */
void worker_streams_init(struct worker_streams *streams, struct ev_loop *loop,
                         const char *log_prefix, const struct worker_grant *grant,
                         struct worker_events *events, unsigned dial_timeout_ms);
/* Cancels all dials; before the tunnel is freed. */
void worker_streams_deinit(struct worker_streams *streams);
/* A stream was opened for @service: dials its target, or refuses @channel. */
void worker_streams_open(struct worker_streams *streams, struct gt_channel *channel,
                         const char *service);
/* The grant has changed: aborts the streams that it no longer has. */
void worker_streams_recheck(struct worker_streams *streams);
/* A stream has ended, its channel is about to be freed. @n_up, @n_down: its bytes. */
void worker_streams_end(struct worker_streams *streams, const char *service, uint32_t stream,
                        enum gt_rst code, uint64_t n_up, uint64_t n_down);
/* The last stream has ended: logs the sums of those without a line of their own. */
void worker_streams_flush_log(struct worker_streams *streams);
