/* SPDX-License-Identifier: ISC */
/*
 * Looks once a second at a channel whose data is not acknowledged, and acts on the verdict of
 * stall.h. The timer stops when everything is acknowledged: an idle stream costs nothing. Must
 * never end a stream: it only replaces the data connection.
 */
#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "gotthard/tunnel/channel-internal.h"

#define LOOK_S 1.

static bool is_watched(const struct gt_channel *channel)
{
    bool is_joined = channel->state == CHANNEL_HELLO || channel->state == CHANNEL_UP;

    return is_joined && channel->connection && channel->stream.tx.head < channel->stream.tx_sent;
}

/* The operator decides about the size of packets, with its next OPEN. */
static void channel_on_black_hole(struct gt_channel *channel)
{
    if (channel->settings.role == GT_ROLE_OPERATOR)
        gt_path_on_black_hole(channel->settings.path, channel->segment);
    else
        channel->is_black_hole = true;
}

static void channel_replace_connection(struct gt_channel *channel)
{
    bool was_up = channel->state >= CHANNEL_UP;

    gt_debug("stream=%u attempt=%u no data arrives, using another data connection",
             channel->stream.number, channel->attempts.attempt);
    gt_channel_lose_connection(channel);
    if (was_up)
        gt_channel_resume(channel);
}

static void channel_ask(struct gt_channel *channel)
{
    channel->events->on_ask(channel, channel->userdata);
    gt_stream_ping(&channel->stream, 0);
}

static void channel_on_look(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct gt_channel *channel = watcher->data;
    struct gt_stall_facts facts = {
        .now = gt_clock(),
        .acked = channel->stream.tx.head,
        .sent = channel->stream.tx_sent,
        .rtt_s = channel->settings.path->rtt_s,
        .relay_at = channel->events->relay_at(channel, channel->userdata),
    };

    if (!is_watched(channel)) {
        ev_timer_stop(loop, watcher);
        return;
    }
    switch (gt_stall_judge(&channel->stall, &facts)) {
    case GT_STALL_NONE: return;
    case GT_STALL_ASK: channel_ask(channel); break;
    case GT_STALL_BLACK_HOLE: channel_on_black_hole(channel); /* fall through */
    case GT_STALL_BLOCKED: channel_replace_connection(channel); break;
    }
    gt_channel_update(channel);
}

void gt_channel_init_stall(struct gt_channel *channel)
{
    ev_timer_init(&channel->look, channel_on_look, LOOK_S, LOOK_S);
    channel->look.data = channel;
}

void gt_channel_watch_stall(struct gt_channel *channel)
{
    if (!is_watched(channel) || ev_is_active(&channel->look))
        return;
    gt_stall_restart(&channel->stall, gt_clock(), channel->stream.tx.head);
    ev_timer_again(channel->settings.loop, &channel->look);
}
