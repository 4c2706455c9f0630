/* SPDX-License-Identifier: ISC */
/*
 * The attachments of a stream, one after another: to the shared connection, to a data connection of
 * its own (channel-move.c), and to nothing in between. The state of the stream is proto/stream.h's.
 * Must never end a stream that may still be resumed, and never attach an older attempt.
 */
#include "gotthard/tunnel/channel-internal.h"

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"

#define FIRST_S        30. /* until a new stream must be attached */
#define REPORT_AGAIN_S 10. /* after a report of a loss that had no effect */
#define FORGET_S       15. /* of a new shared connection: the operator begins its streams at once */

static const struct channel_state_row {
    const char *name;
    /* Seconds; < 0: the deadlines of the connection suffice. What waits in the shared connection
     * may precede an answer there, and its heartbeat detects a loss. */
    ev_tstamp shared_s, own_s;
    void (*on_deadline)(struct gt_channel *channel);
} states[CHANNEL_ENDED + 1]; /* defined below its handlers */

static void channel_arm(struct gt_channel *channel, ev_tstamp after)
{
    struct ev_loop *loop = channel->settings->loop;

    ev_timer_stop(loop, &channel->deadline);
    if (after < 0)
        return;
    ev_timer_set(&channel->deadline, after, 0);
    ev_timer_start(loop, &channel->deadline);
}

/* Until the next report, but not beyond give_up_at. */
static void channel_arm_waiting(struct gt_channel *channel, ev_tstamp report_s)
{
    ev_tstamp left = GT_MAX(channel->give_up_at - gt_clock(), 0.);

    channel_arm(channel, channel->is_report_due ? GT_MIN(left, report_s) : left);
}

void gt_channel_enter(struct gt_channel *channel, enum channel_state state)
{
    const struct channel_state_row *row = &states[state];

    gt_debug("stream=%u attempt=%u %s -> %s", channel->stream.number, channel->attempt,
             states[channel->state].name, row->name);
    channel->state = state;
    if (state == CHANNEL_WAITING)
        channel_arm_waiting(channel, gt_backoff_next(&channel->reports));
    else
        channel_arm(channel, gt_channel_is_own(channel) ? row->own_s : row->shared_s);
}

uint64_t gt_channel_n_moved(const struct gt_channel *channel)
{
    return channel->stream.tx_sent + channel->stream.rx.tail;
}

/* The peer of a stream that it cannot know need not be informed of its end, nor a peer that reset
 * it. */
bool gt_channel_may_attach(const struct gt_channel *channel)
{
    const struct gt_stream *stream = &channel->stream;
    bool has_peer_to_inform = channel->may_peer_know && !stream->is_reset_by_peer;

    return !channel->is_final && channel->settings->resume_s > 0 &&
           (!gt_stream_is_over(stream) || has_peer_to_inform) && gt_clock() < channel->give_up_at;
}

void gt_channel_start(struct gt_channel *channel)
{
    channel->give_up_at = gt_clock() + FIRST_S;
    gt_channel_enter(channel, CHANNEL_WAITING);
}

/* --- attachments ------------------------------------------------------------------------------ */

void gt_channel_attached(struct gt_channel *channel, uint32_t attempt, enum gt_stream_kind kind)
{
    channel->attempt = attempt;
    channel->kind = kind;
    channel->is_report_due = false;
    channel->reports = (struct gt_backoff){0};
    gt_stream_attach(&channel->stream, attempt, kind);
    gt_stall_restart(&channel->stall, gt_clock(), channel->stream.tx.head);
    gt_channel_enter(channel, CHANNEL_HELLO);
}

static void channel_attach_to_shared(struct gt_channel *channel, uint32_t attempt)
{
    gt_channel_drop_own(channel);
    gt_shared_connection_attach(channel->settings->shared, channel->stream.number, attempt,
                                &gt_channel_member_events, &channel->member);
    gt_channel_attached(channel, attempt, GT_STREAM_SHARED);
    gt_shared_member_want_turn(&channel->member);
}

/* Device: a stream that is over, and that the operator does not begin again although it has lost
 * the same connection, is over there as well. */
static void channel_forget_soon(struct gt_channel *channel)
{
    if (!gt_stream_is_over(&channel->stream) || channel->kind != GT_STREAM_SHARED)
        return;
    channel->give_up_at = GT_MIN(channel->give_up_at, gt_clock() + FORGET_S);
    channel_arm_waiting(channel, REPORT_AGAIN_S);
}

void gt_channel_attach(struct gt_channel *channel)
{
    if (channel->state != CHANNEL_WAITING || !gt_shared_connection_is_up(channel->settings->shared))
        return;
    if (channel->settings->role == GT_ROLE_OPERATOR)
        channel_attach_to_shared(channel, channel->attempt + 1);
    else
        channel_forget_soon(channel);
}

struct gt_shared_member *gt_channel_begin(struct gt_channel *channel, uint32_t attempt)
{
    if (channel->state == CHANNEL_ENDED)
        return NULL;
    if (attempt <= channel->attempt) {
        gt_channel_reject(channel, GT_RST_PROTOCOL);
        return NULL;
    }
    channel->may_peer_know = true;
    gt_channel_detach(channel);
    channel_attach_to_shared(channel, attempt);
    return &channel->member;
}

struct gt_shared_member *gt_channel_member(struct gt_channel *channel)
{
    return gt_channel_is_shared(channel) ? &channel->member : NULL;
}

void gt_channel_detach(struct gt_channel *channel)
{
    gt_shared_member_detach(&channel->member);
    if (gt_channel_is_own(channel))
        gt_channel_drop_own(channel);
    gt_stream_park(&channel->stream);
}

void gt_channel_lose(struct gt_channel *channel)
{
    channel->is_report_due |=
        channel->settings->role == GT_ROLE_DEVICE && gt_channel_is_own(channel);
    gt_channel_detach(channel);
    channel->give_up_at = gt_clock() + channel->settings->resume_s;
    if (gt_channel_may_attach(channel)) {
        gt_channel_enter(channel, CHANNEL_WAITING);
        return;
    }
    channel->is_final = true;
    gt_stream_reset(&channel->stream, GT_RST_LOST);
    if (channel->state == CHANNEL_CLOSING)
        gt_channel_enter(channel, CHANNEL_ENDED);
}

void gt_channel_return(struct gt_channel *channel)
{
    gt_channel_lose(channel);
    gt_channel_attach(channel);
}

/* --- deadlines -------------------------------------------------------------------------------- */

/* Device: the operator begins again when it knows of the loss. */
static void channel_report_loss(struct gt_channel *channel)
{
    if (channel->state == CHANNEL_WAITING)
        channel_arm_waiting(channel, REPORT_AGAIN_S);
    if (channel->is_report_due)
        channel->events->on_connection_lost(channel, channel->userdata, channel->attempt,
                                            channel->own.is_black_hole);
}

void gt_channel_report_failed_dial(struct gt_channel *channel)
{
    channel->is_report_due = true;
    channel_report_loss(channel);
}

static void channel_on_waited(struct gt_channel *channel)
{
    if (gt_clock() < channel->give_up_at) {
        channel_report_loss(channel);
    } else {
        channel->is_final = true;
        gt_stream_reset(&channel->stream, GT_RST_EXPIRED);
    }
    gt_channel_update(channel);
}

/* No answer to HELLO. The shared connection itself works: its heartbeat would detect a loss. */
static void channel_on_hello_overdue(struct gt_channel *channel)
{
    if (gt_channel_is_own(channel)) {
        gt_channel_lose_own(channel);
    } else {
        channel->is_final = true;
        gt_stream_reset(&channel->stream, GT_RST_EXPIRED);
    }
    gt_channel_update(channel);
}

static void channel_on_closing_overdue(struct gt_channel *channel)
{
    channel->is_final |= !gt_channel_is_own(channel);
    gt_channel_return(channel);
    gt_channel_update(channel);
}

static void channel_end(struct gt_channel *channel)
{
    ev_timer_stop(channel->settings->loop, &channel->update);
    gt_linger_deinit(&channel->linger);
    gt_sweep_stop(&channel->held);
    channel->events->on_end(channel, channel->userdata, channel->stream.code);
}

static const struct channel_state_row states[CHANNEL_ENDED + 1] = {
    [CHANNEL_WAITING] = {"waiting", -1, -1, channel_on_waited}, /* see channel_arm_waiting */
    [CHANNEL_HELLO] = {"hello", 60, 10, channel_on_hello_overdue},
    [CHANNEL_UP] = {"up", -1, -1, NULL},
    [CHANNEL_CLOSING] = {"closing", 60, 10, channel_on_closing_overdue},
    [CHANNEL_ENDED] = {"ended", 0, 0, channel_end},
};

void gt_channel_on_deadline(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct gt_channel *channel = watcher->data;

    states[channel->state].on_deadline(channel);
}

void gt_channel_resume(struct gt_channel *channel)
{
    if (channel->is_report_due)
        channel_report_loss(channel);
    gt_channel_request_again(channel);
}
