/* SPDX-License-Identifier: ISC */
/*
 * Polls the kernel, which does not report that sent data was acknowledged. On loopback the first
 * look suffices. Must never reset an endpoint that still takes bytes.
 */
#include "gotthard/tunnel/linger.h"

#include "gotthard/base/clock.h"

#define AGAIN_MIN_S .001
#define AGAIN_MAX_S .5

void gt_linger_init(struct gt_linger *linger, struct ev_loop *loop, struct gt_stream *stream,
                    struct gt_endpoint *endpoint, double limit_s,
                    void (*on_again)(struct ev_loop *loop, ev_timer *watcher, int revents),
                    void *userdata)
{
    *linger = (struct gt_linger){.loop = loop, .stream = stream, .endpoint = endpoint};
    linger->limit_s = limit_s > 0 ? limit_s : GT_LINGER_S;
    ev_init(&linger->again, on_again);
    linger->again.data = userdata;
}

void gt_linger_deinit(struct gt_linger *linger)
{
    ev_timer_stop(linger->loop, &linger->again);
}

/* Neither direction of the local socket moves any more bytes. */
static bool is_local_gone(const struct gt_stream *stream)
{
    return stream->rx_stop != GT_RST_NONE && stream->is_tx_finished;
}

static void linger_reset(struct gt_linger *linger)
{
    ev_timer_stop(linger->loop, &linger->again);
    gt_endpoint_close(linger->endpoint, false);
}

/* Returns true if the application made no progress for too long. */
static bool linger_is_expired(struct gt_linger *linger, uint64_t n_taken)
{
    double now = gt_clock();

    if (linger->pause_s == 0 || n_taken != linger->n_taken)
        linger->since = now;
    linger->n_taken = n_taken;
    return now - linger->since >= linger->limit_s;
}

/* The pauses double. The longest ones of all endpoints end together: few wake-ups while many
 * applications do not read. */
static void linger_wait(struct gt_linger *linger)
{
    double now = gt_clock();

    if (ev_is_active(&linger->again))
        return;
    linger->pause_s = GT_MIN(GT_MAX(2 * linger->pause_s, AGAIN_MIN_S), AGAIN_MAX_S);
    double at = now + linger->pause_s;
    if (linger->pause_s == AGAIN_MAX_S)
        at = gt_clock_grid(at, AGAIN_MAX_S);
    ev_timer_set(&linger->again, GT_MAX(at - now, AGAIN_MIN_S), 0);
    ev_timer_start(linger->loop, &linger->again);
}

/* The peer's local socket was reset: delivers its last bytes, then the reset. */
static void linger_deliver(struct gt_linger *linger)
{
    struct gt_stream *stream = linger->stream;
    size_t n_unsent = gt_endpoint_unsent(linger->endpoint);

    if (gt_ring_used(&stream->rx) + n_unsent > 0) {
        if (!linger_is_expired(linger, stream->rx.head - n_unsent)) {
            linger_wait(linger);
            return;
        }
        linger_reset(linger);
        gt_stream_local_stop(stream, GT_RST_LOCAL);
        return;
    }
    linger->pause_s = 0;
    if (!gt_stream_is_received(stream))
        return;
    linger_reset(linger);
    if (gt_stream_is_end_due(stream))
        gt_stream_end_delivered(stream);
}

void gt_linger_update(struct gt_linger *linger)
{
    if (!gt_endpoint_is_open(linger->endpoint) || gt_stream_is_over(linger->stream))
        return;
    if (is_local_gone(linger->stream))
        linger_reset(linger);
    else if (gt_stream_is_peer_gone(linger->stream))
        linger_deliver(linger);
}
