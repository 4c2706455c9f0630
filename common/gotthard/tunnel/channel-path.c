/* SPDX-License-Identifier: ISC */
/*
 * The path of a channel to the peer: its states, and the data connections, one after another. The
 * state of the stream is proto/stream.h's, and whether to try another data connection is
 * attempt-policy.h's. Must never end a stream that may still be resumed.
 */
#include "gotthard/tunnel/channel-internal.h"

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"

#define REQUEST_AGAIN_S 10. /* after a ticket that did not arrive */

static const struct channel_state_row {
    const char *name;
    ev_tstamp deadline_s; /* < 0: the data connection's own deadlines suffice */
    void (*on_deadline)(struct gt_channel *channel);
} states[CHANNEL_ENDED + 1]; /* defined below its handlers */

/* The states before UP share give_up_at. @after: seconds; < 0: never. */
static void channel_arm(struct gt_channel *channel, ev_tstamp after)
{
    struct ev_loop *loop = channel->settings.loop;

    ev_timer_stop(loop, &channel->deadline);
    if (after < 0)
        return;
    if (channel->state < CHANNEL_UP)
        after = GT_MIN(after, channel->attempts.give_up_at - gt_clock());
    ev_timer_set(&channel->deadline, GT_MAX(after, 0.), 0);
    ev_timer_start(loop, &channel->deadline);
}

void gt_channel_enter(struct gt_channel *channel, enum channel_state state)
{
    gt_debug("stream=%u %s -> %s", channel->stream.number, states[channel->state].name,
             states[state].name);
    channel->state = state;
    channel_arm(channel, states[state].deadline_s);
}

static struct gt_attempt_stream channel_attempt_stream(const struct gt_channel *channel)
{
    return (struct gt_attempt_stream){
        .is_over = gt_stream_is_over(&channel->stream),
        .is_reset_by_peer = channel->stream.is_reset_by_peer,
        .is_spare = channel->settings.role == GT_ROLE_OPERATOR && gt_channel_is_spare(channel),
    };
}

bool gt_channel_may_retry(const struct gt_channel *channel)
{
    struct gt_attempt_stream stream = channel_attempt_stream(channel);

    return gt_attempt_policy_may_retry(&channel->attempts, &stream, gt_clock());
}

/* The operator requests a ticket. The device can only report the loss of a connection that was up;
 * an attempt that never was up has deadlines on both sides. */
static void channel_request_connection(struct gt_channel *channel)
{
    struct gt_attempt_policy *attempts = &channel->attempts;

    if (channel->settings.role == GT_ROLE_OPERATOR)
        channel->events->on_ticket_needed(channel, channel->userdata,
                                          gt_attempt_policy_request(attempts));
    else if (gt_attempt_policy_was_up(attempts))
        channel->events->on_connection_lost(channel, channel->userdata, attempts->attempt,
                                            channel->is_black_hole);
}

/* The stream is parked for another data connection, or its end is final. */
void gt_channel_lose_connection(struct gt_channel *channel)
{
    if (channel->state >= CHANNEL_UP)
        gt_attempt_policy_wait(&channel->attempts, gt_clock());
    channel->connection = gt_data_connection_free(channel->connection);
    gt_stream_park(&channel->stream);
    if (gt_channel_may_retry(channel)) {
        gt_channel_enter(channel, CHANNEL_WAITING);
        channel_arm(channel, gt_backoff_next(&channel->attempts.backoff));
        return;
    }
    gt_attempt_policy_stop(&channel->attempts);
    gt_stream_reset(&channel->stream, GT_RST_LOST);
    if (channel->state == CHANNEL_CLOSING)
        gt_channel_enter(channel, CHANNEL_ENDED);
}

static void channel_on_waited(struct gt_channel *channel)
{
    if (gt_clock() < channel->attempts.give_up_at) {
        channel_arm(channel, REQUEST_AGAIN_S);
        channel_request_connection(channel);
    } else {
        gt_attempt_policy_stop(&channel->attempts);
        gt_stream_reset(&channel->stream, GT_RST_EXPIRED);
    }
    gt_channel_update(channel);
}

static void channel_on_connection_overdue(struct gt_channel *channel)
{
    gt_channel_lose_connection(channel);
    gt_channel_update(channel);
}

static void channel_end(struct gt_channel *channel)
{
    ev_timer_stop(channel->settings.loop, &channel->update);
    gt_linger_deinit(&channel->linger);
    channel->events->on_end(channel, channel->userdata, channel->stream.code);
}

static const struct channel_state_row states[CHANNEL_ENDED + 1] = {
    [CHANNEL_WAITING] = {"waiting", REQUEST_AGAIN_S, channel_on_waited},
    [CHANNEL_CONNECTING] = {"connecting", 60, channel_on_connection_overdue},
    [CHANNEL_HELLO] = {"hello", 10, channel_on_connection_overdue},
    [CHANNEL_UP] = {"up", -1, NULL},
    [CHANNEL_CLOSING] = {"closing", 10, channel_on_connection_overdue},
    [CHANNEL_ENDED] = {"ended", 0, channel_end},
};

void gt_channel_on_deadline(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct gt_channel *channel = watcher->data;

    states[channel->state].on_deadline(channel);
}

static int channel_dial(struct gt_channel *channel, const struct gt_addr *relay,
                        const struct gt_ticket *ticket, struct gt_data_connection **ret)
{
    const struct gt_data_connection_settings settings = {
        .loop = channel->settings.loop,
        .role = channel->settings.role,
        .session_key = channel->settings.session_key,
        .tls = channel->settings.tls,
        .path = channel->settings.path,
        .heartbeat_s = channel->settings.heartbeat_s,
        .timeout_s = channel->settings.timeout_s,
    };

    return gt_data_connection_new(&settings, relay, ticket, &gt_channel_connection_events, channel,
                                  ret);
}

int gt_channel_connect(struct gt_channel *channel, const struct gt_addr *relay,
                       const struct gt_ticket *ticket)
{
    struct gt_attempt_stream stream = channel_attempt_stream(channel);
    struct gt_data_connection *connection;

    if (ticket->stream != channel->stream.number || channel->state == CHANNEL_ENDED ||
        !gt_attempt_policy_accepts(&channel->attempts, ticket->attempt) ||
        !gt_attempt_policy_is_useful(&channel->attempts, &stream))
        return GT_CHANNEL_E_STALE;
    if (channel->state >= CHANNEL_UP)
        gt_attempt_policy_wait(&channel->attempts, gt_clock());
    gt_path_limit_segment(channel->settings.path, ticket->segment);
    int r = channel_dial(channel, relay, ticket, &connection);
    if (r)
        return r;
    gt_stream_park(&channel->stream);
    gt_data_connection_free(channel->connection);
    channel->connection = connection;
    channel->segment = channel->settings.path->segment;
    channel->is_black_hole = false;
    gt_stall_restart(&channel->stall, gt_clock(), channel->stream.tx.head);
    gt_attempt_policy_dialed(&channel->attempts, ticket->attempt);
    gt_channel_enter(channel, CHANNEL_CONNECTING);
    return 0;
}

void gt_channel_resume(struct gt_channel *channel)
{
    if (channel->state != CHANNEL_WAITING)
        return;
    channel->attempts.backoff = (struct gt_backoff){0};
    channel_arm(channel, REQUEST_AGAIN_S);
    channel_request_connection(channel);
}

void gt_channel_drop_connection(struct gt_channel *channel, uint32_t attempt)
{
    if (attempt != channel->attempts.attempt || !gt_channel_is_connected(channel))
        return;
    gt_channel_lose_connection(channel);
    gt_channel_resume(channel);
    gt_channel_schedule_update(channel);
}

void gt_channel_check(struct gt_channel *channel, bool has_slept)
{
    if (channel->connection)
        gt_data_connection_check(channel->connection, has_slept);
}
