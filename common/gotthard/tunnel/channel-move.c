/* SPDX-License-Identifier: ISC */
/*
 * The data connection of a stream's own, which a bulk transfer gets, so that it delays no other
 * stream and has a window that grows. The operator's end decides: it requests a ticket while the
 * stream continues where it is, and both ends move the stream when the connection is handshaken.
 * Must never detach a stream before that.
 *
 * If no data connection comes about, the stream stays where it is. If one is lost, or carries
 * nothing for a while, the operator begins the stream on the shared connection again.
 */
#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "gotthard/tunnel/channel-internal.h"

#define MOVE_BYTES  (256 * 1024) /* of payload, in the shared connection, before a move */
#define AGAIN_S     10.          /* after a move that failed, doubled each time ... */
#define AGAIN_MAX_S 300.         /* ... to this */
#define LOST_S      1.  /* after the loss of a connection that was up, doubled each time ... */
#define LOST_MAX_S  60. /* ... to this, while each one lasts for less than SHORT_S */
#define SHORT_S     10.
#define IDLE_S      60. /* without payload, until a stream moves back */

static const struct {
    const char *name;
    double limit_s; /* 0: none, those of the data connection suffice */
} states[] = {
    [OWN_NONE] = {"none", 0},
    [OWN_REQUESTED] = {"requested", 10},
    [OWN_DIALING] = {"dialing", 60},
    [OWN_ATTACHED] = {"attached", 0},
};

static void own_enter(struct gt_channel *channel, enum own_state state)
{
    struct channel_own *own = &channel->own;

    gt_debug("stream=%u attempt=%u own connection %s -> %s", channel->stream.number, own->attempt,
             states[own->state].name, states[state].name);
    own->state = state;
    own->at = state == OWN_NONE ? 0 : gt_clock() + states[state].limit_s;
    gt_channel_hold(channel);
}

void gt_channel_drop_own(struct gt_channel *channel)
{
    if (channel->own.state == OWN_NONE)
        return;
    channel->own.connection = gt_data_connection_free(channel->own.connection);
    own_enter(channel, OWN_NONE);
}

/* --- when ------------------------------------------------------------------------------------- */

/* A stream that is about to end is not worth a connection. */
static bool is_move_needed(const struct gt_channel *channel)
{
    const struct gt_stream *stream = &channel->stream;
    bool is_finishing = stream->is_end_received && stream->is_tx_finished;

    return channel->settings->role == GT_ROLE_OPERATOR && channel->state == CHANNEL_UP &&
           gt_channel_is_shared(channel) && channel->own.state == OWN_NONE && !is_finishing &&
           (gt_stream_n_moved(stream) > MOVE_BYTES || gt_stream_is_held_up(stream));
}

/* Delays the next move by @first seconds, doubled for each failure before. Counts the failure. */
static void move_delay(struct channel_own *own, double first, double max)
{
    double after = first * (double)(1u << GT_MIN(own->n_failed, 6u));

    own->n_failed++;
    own->at = gt_clock() + GT_MIN(after, max);
}

void gt_channel_move_if_needed(struct gt_channel *channel)
{
    struct channel_own *own = &channel->own;

    if (!is_move_needed(channel) || gt_clock() < own->at)
        return;
    if (!channel->events->on_ticket_needed(channel, channel->userdata, channel->attempt + 1)) {
        own->at = gt_clock() + 1; /* or gt_channel_resume */
        return;
    }
    own->attempt = ++channel->attempt;
    own->is_known_to_relay = true;
    own_enter(channel, OWN_REQUESTED);
}

void gt_channel_request_again(struct gt_channel *channel)
{
    if (channel->own.state == OWN_REQUESTED)
        own_enter(channel, OWN_NONE);
    if (channel->own.state == OWN_NONE)
        channel->own.at = 0;
    gt_channel_schedule_update(channel);
}

static bool is_idle(struct gt_channel *channel)
{
    struct channel_own *own = &channel->own;
    uint64_t n_moved = gt_channel_n_moved(channel);

    if (n_moved != own->n_moved || channel->stream.tx.head != channel->stream.tx.tail) {
        own->n_moved = n_moved;
        own->moved_at = gt_clock();
    }
    return gt_clock() - own->moved_at >= IDLE_S;
}

/* --- the data connection ---------------------------------------------------------------------- */

static void own_on_ready(void *userdata)
{
    struct gt_channel *channel = userdata;
    struct channel_own *own = &channel->own;

    gt_channel_detach(channel);
    own_enter(channel, OWN_ATTACHED);
    own->moved_at = own->at;
    gt_channel_attached(channel, own->attempt, GT_STREAM_OWN);
    gt_channel_update(channel);
}

static void own_on_readable(void *userdata)
{
    struct gt_channel *channel = userdata;

    gt_pump_receive(&channel->pump, channel->own.connection, gt_channel_batch(channel));
    gt_channel_update(channel);
}

static void own_on_writable(void *userdata)
{
    gt_channel_update(userdata);
}

/* Of two idle ends only the one whose heartbeat is due first probes (liveness.h). */
static void own_on_heartbeat(void *userdata, bool is_quiet)
{
    struct gt_channel *channel = userdata;
    uint64_t n_moved = gt_channel_n_moved(channel);

    if (is_quiet || n_moved == channel->own.n_moved)
        gt_stream_trim(&channel->stream);
    if (is_idle(channel))
        gt_channel_hold(channel); /* the look moves it back: not inside this callback */
    gt_pump_detect_reset(&channel->pump);
    if (is_quiet)
        gt_stream_ping(&channel->stream, 0);
    gt_channel_update(channel);
    if (is_quiet)
        gt_iobuf_trim();
}

/* A connection over which no HELLO arrived counts as a move that failed. One that was up is
 * replaced soon, unless each breaks off early. */
void gt_channel_lose_own(struct gt_channel *channel)
{
    struct channel_own *own = &channel->own;
    bool was_up = channel->state >= CHANNEL_UP;

    if (was_up && gt_clock() - own->at >= SHORT_S)
        own->n_failed = 0;
    gt_channel_return(channel);
    if (was_up)
        move_delay(own, LOST_S, LOST_MAX_S);
    else
        move_delay(own, AGAIN_S, AGAIN_MAX_S);
}

static void own_failed(struct gt_channel *channel)
{
    gt_channel_drop_own(channel);
    move_delay(&channel->own, AGAIN_S, AGAIN_MAX_S);
}

/* The peer sends close_notify only after its last frame: a stream that is not over by then never
 * ends well. */
static void own_on_gone(void *userdata, bool is_closed_by_peer)
{
    struct gt_channel *channel = userdata;

    if (!gt_channel_is_own(channel)) {
        own_failed(channel);
        if (channel->settings->role == GT_ROLE_DEVICE)
            gt_channel_report_failed_dial(channel);
    } else {
        channel->is_final |= is_closed_by_peer;
        gt_channel_lose_own(channel);
    }
    gt_channel_update(channel);
}

static int own_dial(struct gt_channel *channel, const struct gt_addr *relay,
                    const struct gt_ticket *ticket, struct gt_data_connection **ret)
{
    static const struct gt_data_connection_events events = {
        .on_ready = own_on_ready,
        .on_readable = own_on_readable,
        .on_writable = own_on_writable,
        .on_heartbeat = own_on_heartbeat,
        .on_gone = own_on_gone,
    };
    const struct gt_data_connection_settings settings = {
        .loop = channel->settings->loop,
        .role = channel->settings->role,
        .session_key = channel->settings->session_key,
        .tls = channel->settings->tls,
        .path = channel->settings->path,
        .heartbeat_s = channel->settings->heartbeat_s,
        .timeout_s = channel->settings->timeout_s,
    };

    return gt_data_connection_new(&settings, relay, ticket, &events, channel, ret);
}

/* The operator knows which attempt it has requested, and the device takes any newer one. */
static bool is_awaited(const struct gt_channel *channel, const struct gt_ticket *ticket)
{
    const struct channel_own *own = &channel->own;

    if (ticket->stream != channel->stream.number || channel->state >= CHANNEL_CLOSING)
        return false;
    return channel->settings->role == GT_ROLE_OPERATOR
               ? own->state == OWN_REQUESTED && ticket->attempt == own->attempt
               : ticket->attempt > channel->attempt;
}

int gt_channel_connect(struct gt_channel *channel, const struct gt_addr *relay,
                       const struct gt_ticket *ticket)
{
    struct channel_own *own = &channel->own;
    struct gt_data_connection *connection;

    if (!is_awaited(channel, ticket))
        return GT_CHANNEL_E_STALE;
    gt_path_limit_segment(channel->settings->path, ticket->segment);
    int r = own_dial(channel, relay, ticket, &connection);
    if (r)
        return r;
    if (gt_channel_is_own(channel)) /* the operator has given it up */
        gt_channel_lose(channel);
    gt_data_connection_free(own->connection); /* an older one, which was still dialed */
    own->connection = connection;
    own->segment = channel->settings->path->segment;
    own->is_known_to_relay = true;
    own->is_black_hole = channel->is_report_due = false;
    own->attempt = channel->attempt = ticket->attempt;
    own_enter(channel, OWN_DIALING);
    gt_channel_schedule_update(channel);
    return 0;
}

void gt_channel_drop_connection(struct gt_channel *channel, uint32_t attempt)
{
    if (channel->own.state == OWN_NONE || channel->own.attempt != attempt)
        return;
    if (gt_channel_is_own(channel))
        gt_channel_lose_own(channel);
    else
        own_failed(channel);
    gt_channel_schedule_update(channel);
}

void gt_channel_check(struct gt_channel *channel, bool has_slept)
{
    if (channel->own.connection)
        gt_data_connection_check(channel->own.connection, has_slept);
}

/* --- the look --------------------------------------------------------------------------------- */

static bool may_move_back(const struct gt_channel *channel)
{
    return channel->settings->role == GT_ROLE_OPERATOR && channel->state == CHANNEL_UP &&
           gt_channel_is_own(channel) && gt_shared_connection_is_up(channel->settings->shared);
}

void gt_channel_look_at_move(struct gt_channel *channel)
{
    if (gt_channel_is_moving(channel) && gt_clock() >= channel->own.at)
        own_failed(channel);
    else if (may_move_back(channel) && is_idle(channel))
        gt_channel_return(channel);
}
