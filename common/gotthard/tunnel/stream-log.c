/* SPDX-License-Identifier: ISC */
/*
 * Two token buckets decide, and a timer reports the remainder.
 */
#include "gotthard/tunnel/stream-log.h"

#include "gotthard/base/clock.h"

#define LINES_A_SECOND    20 /* as many at once */
#define FAILURES_A_SECOND 5
#define SUM_S             1.

bool gt_stream_log_is_failure(enum gt_rst code)
{
    return code != GT_RST_NONE && code != GT_RST_LOCAL && code != GT_RST_CLOSED;
}

void gt_stream_log_flush(struct gt_stream_log *log)
{
    struct gt_stream_sum sum = log->sum;

    ev_timer_stop(log->loop, &log->due);
    log->sum = (struct gt_stream_sum){0};
    if (sum.n_streams > 0)
        log->on_sum(log->userdata, &sum);
}

static void stream_log_on_due(struct ev_loop *loop, ev_timer *timer, int revents)
{
    gt_stream_log_flush(timer->data);
}

static void stream_log_add(struct gt_stream_log *log, bool is_failure, uint64_t n_up,
                           uint64_t n_down)
{
    log->sum.n_streams++;
    log->sum.n_failed += is_failure;
    log->sum.n_up += n_up;
    log->sum.n_down += n_down;
    if (ev_is_active(&log->due))
        return;
    ev_timer_set(&log->due, SUM_S, 0);
    ev_timer_start(log->loop, &log->due);
}

bool gt_stream_log_end(struct gt_stream_log *log, enum gt_rst code, uint64_t n_up, uint64_t n_down)
{
    bool is_failure = gt_stream_log_is_failure(code);
    bool is_summing = ev_is_active(&log->due) && !is_failure; /* until the end of that second */

    if (!is_summing &&
        gt_token_bucket_take(is_failure ? &log->failures : &log->ends, 1, gt_clock_ms()))
        return true;
    stream_log_add(log, is_failure, n_up, n_down);
    return false;
}

void gt_stream_log_init(struct gt_stream_log *log, struct ev_loop *loop,
                        void (*on_sum)(void *userdata, const struct gt_stream_sum *sum),
                        void *userdata)
{
    uint64_t now = gt_clock_ms();

    *log = (struct gt_stream_log){.loop = loop, .on_sum = on_sum, .userdata = userdata};
    gt_token_bucket_init(&log->ends, LINES_A_SECOND, LINES_A_SECOND, now);
    gt_token_bucket_init(&log->failures, FAILURES_A_SECOND, FAILURES_A_SECOND, now);
    ev_init(&log->due, stream_log_on_due);
    log->due.data = log;
}
