/* SPDX-License-Identifier: ISC */
/*
 * Looks once a second at a channel that holds something: data that is not acknowledged, memory of
 * its rings, or a move in progress. Data without progress is judged by stall.h, and memory of empty
 * rings is given back. Must never end a stream: it only replaces data connections.
 */
#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "gotthard/tunnel/channel-internal.h"

/* --- unacknowledged data ---------------------------------------------------------------------- */

static bool has_unacknowledged(const struct gt_channel *channel)
{
    bool is_attached = channel->state == CHANNEL_HELLO || channel->state == CHANNEL_UP;

    return is_attached && channel->stream.tx.head < channel->stream.tx_sent;
}

/* The operator decides about the size of packets, with its next OPEN. */
static void own_on_black_hole(struct gt_channel *channel)
{
    if (channel->settings->role == GT_ROLE_OPERATOR)
        gt_path_on_black_hole(channel->settings->path, channel->own.segment);
    else
        channel->own.is_black_hole = true;
}

static void channel_on_blocked(struct gt_channel *channel, bool is_black_hole)
{
    gt_debug("stream=%u attempt=%u no data arrives", channel->stream.number, channel->attempt);
    if (gt_channel_is_shared(channel)) {
        gt_shared_connection_blocked(channel->settings->shared, is_black_hole);
        return;
    }
    if (is_black_hole)
        own_on_black_hole(channel);
    bool was_up = channel->state >= CHANNEL_UP;
    gt_channel_return(channel);
    if (was_up)
        gt_channel_resume(channel);
}

static struct gt_stall_facts stall_facts(struct gt_channel *channel)
{
    const struct gt_shared_connection *shared = channel->settings->shared;
    bool is_shared = gt_channel_is_shared(channel);

    return (struct gt_stall_facts){
        .now = gt_clock(),
        .acked = channel->stream.tx.head,
        .sent = channel->stream.tx_sent,
        .acked_at = is_shared ? gt_shared_connection_acked_at(shared) : 0,
        .connected_at = is_shared ? gt_shared_connection_up_at(shared) : channel->own.at,
        .rtt_s = channel->settings->path->rtt_s,
        .relay_at = channel->events->relay_at(channel, channel->userdata),
    };
}

/* A stream whose own connection is blocked returns to the shared one, which may be blocked as well:
 * that is found out before. */
static void channel_look_at_stall(struct gt_channel *channel)
{
    const struct gt_stall_facts facts = stall_facts(channel);
    enum gt_stall_verdict verdict = gt_stall_judge(&channel->stall, &facts);

    if (gt_channel_is_own(channel) && gt_stall_is_suspect(&channel->stall, &facts))
        gt_shared_connection_probe(channel->settings->shared);
    switch (verdict) {
    case GT_STALL_NONE: break;
    case GT_STALL_ASK:
        channel->events->on_ask(channel, channel->userdata);
        gt_stream_ping(&channel->stream, 0);
        break;
    case GT_STALL_BLOCKED: channel_on_blocked(channel, false); break;
    case GT_STALL_BLACK_HOLE: channel_on_blocked(channel, true); break;
    }
}

/* --- memory and resets ------------------------------------------------------------------------ */

static bool has_memory(const struct gt_channel *channel)
{
    return !gt_channel_is_own(channel) && (channel->stream.tx.data || channel->stream.rx.data);
}

/* A stream without a heartbeat of its own gives its memory back when nothing moved since the last
 * look. */
static void channel_look_at_memory(struct gt_channel *channel)
{
    uint64_t n_moved = gt_channel_n_moved(channel);

    if (has_memory(channel) && n_moved == channel->n_moved_at_look)
        gt_stream_trim(&channel->stream);
    channel->n_moved_at_look = n_moved;
}

/* On its own data connection, that connection's heartbeat does it. */
bool gt_channel_detect_reset(struct gt_channel *channel)
{
    if (gt_channel_is_own(channel) || !gt_endpoint_is_open(&channel->endpoint) ||
        gt_endpoint_is_read_watched(&channel->endpoint))
        return false;
    gt_pump_detect_reset(&channel->pump);
    return true;
}

/* --- the look --------------------------------------------------------------------------------- */

static bool channel_on_look(struct gt_sweep_item *item)
{
    struct gt_channel *channel = gt_container_of(item, struct gt_channel, held);

    gt_channel_look_at_move(channel);
    if (has_unacknowledged(channel))
        channel_look_at_stall(channel);
    (void)gt_channel_detect_reset(channel);
    channel_look_at_memory(channel);
    gt_channel_update(channel); /* may request a move */
    return gt_channel_is_moving(channel) || has_unacknowledged(channel) || has_memory(channel);
}

void gt_channel_init_look(struct gt_channel *channel)
{
    gt_sweep_item_init(&channel->held, channel_on_look);
}

void gt_channel_hold(struct gt_channel *channel)
{
    if (gt_sweep_is_active(&channel->held))
        return;
    gt_stall_restart(&channel->stall, gt_clock(), channel->stream.tx.head);
    channel->n_moved_at_look = gt_channel_n_moved(channel);
    gt_sweep_start(channel->settings->sweep, &channel->held);
}
