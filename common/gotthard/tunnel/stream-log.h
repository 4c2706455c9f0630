/* SPDX-License-Identifier: ISC */
/*
 * Which ends of streams get a log line of their own: up to 20 a second. The others are added
 * up and reported once a second, so that no connection is missing from the log. Failures have a
 * share of their own: a target that is down shows among thousands of good connections.
 */
#pragma once

#include <ev.h>

#include "gotthard/base/token-bucket.h"
#include "gotthard/proto/frame.h"

struct gt_stream_sum { /* of streams without a line of their own */
    unsigned n_streams, n_failed;
    uint64_t n_up, n_down; /* bytes */
};

struct gt_stream_log { /* fields are private */
    struct ev_loop *loop;
    ev_timer due; /* active while there is something to report */
    struct gt_token_bucket ends, failures;
    struct gt_stream_sum sum;
    void (*on_sum)(void *userdata, const struct gt_stream_sum *sum);
    void *userdata;
};

/* @on_sum: logs the sum of about a second; called from the loop and by gt_stream_log_flush. Keeps
 * @loop and @userdata. */
void gt_stream_log_init(struct gt_stream_log *log, struct ev_loop *loop,
                        void (*on_sum)(void *userdata, const struct gt_stream_sum *sum),
                        void *userdata);
/* Returns true if the end of a stream gets a line of its own now; otherwise it was added to the
 * sum. @n_up, @n_down: its bytes. */
bool gt_stream_log_end(struct gt_stream_log *log, enum gt_rst code, uint64_t n_up,
                       uint64_t n_down) GT_MUST_CHECK;
/* Reports the pending sum, if there is one. Before the owner ends. May be called again. */
void gt_stream_log_flush(struct gt_stream_log *log);

/* Returns true if @code is a failure, and not an end that one of the two programs wanted. */
bool gt_stream_log_is_failure(enum gt_rst code);
