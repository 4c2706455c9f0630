/* SPDX-License-Identifier: ISC */
/*
 * A stream between its local endpoint and its attachment. Every event moves bytes, and then
 * one function (gt_channel_update) looks at the state of the stream and acts on it, so that it does
 * not matter which event changed the state. The end of a stream is acted on there and nowhere else.
 * Must never end a local endpoint in order unless the stream ended without error.
 */
#include "gotthard/tunnel/channel-internal.h"

#include <assert.h>

#include "gotthard/base/clock.h"
#include "gotthard/tls/iobuf.h"

/* Public functions end here, so that no callback comes from inside them. */
void gt_channel_schedule_update(struct gt_channel *channel)
{
    ev_timer_start(channel->settings->loop, &channel->update);
}

/* --- the update ------------------------------------------------------------------------------- */

/* Output of the shared connection waits for the member's turn. */
static void channel_send(struct gt_channel *channel)
{
    if (gt_channel_is_own(channel))
        gt_pump_send(&channel->pump, channel->own.connection);
    else if (gt_channel_is_shared(channel) && gt_stream_has_output(&channel->stream))
        gt_shared_member_want_turn(&channel->member);
}

static void channel_request_service(struct gt_channel *channel)
{
    if (channel->settings->role != GT_ROLE_DEVICE || channel->is_service_requested ||
        !channel->stream.service[0])
        return;
    channel->is_service_requested = true;
    channel->events->on_service(channel, channel->userdata, channel->stream.service);
    gt_pump_write_if_ready(&channel->pump); /* a target on this machine is connected by now */
    channel_send(channel);
}

static void channel_close_endpoint(struct gt_channel *channel)
{
    gt_endpoint_close(&channel->endpoint, gt_stream_is_well_ended(&channel->stream));
}

static bool is_attached(const struct gt_channel *channel)
{
    return gt_channel_is_shared(channel) || gt_channel_is_own(channel);
}

/* Returns true if nothing more is exchanged in the shared connection: both sides have said that
 * they are done, or the peer never knew of the stream. */
static bool is_done_in_shared(const struct gt_channel *channel)
{
    return gt_channel_is_shared(channel) &&
           (!channel->may_peer_know || gt_stream_is_done(&channel->stream));
}

/* Operator: a move to a data connection of its own is of no use any more. The device completes it,
 * because the operator may be attached there already, and waits for the last frames. */
static void channel_cancel_move(struct gt_channel *channel)
{
    if (channel->settings->role == GT_ROLE_OPERATOR && !gt_channel_is_own(channel))
        gt_channel_drop_own(channel);
}

/* The stream is over. The endpoint is closed at once, the attachment ends after the last frames. If
 * it is attached to nothing, a peer that knows of the stream is informed over the next. */
static void channel_on_stream_over(struct gt_channel *channel)
{
    channel_close_endpoint(channel);
    gt_stream_discard(&channel->stream);
    if (channel->state == CHANNEL_WAITING && gt_channel_may_attach(channel))
        return;
    channel_cancel_move(channel);
    if (is_done_in_shared(channel))
        gt_channel_detach(channel);
    if (!is_attached(channel) && channel->state < CHANNEL_ENDED) {
        gt_channel_drop_own(channel);
        gt_channel_enter(channel, CHANNEL_ENDED);
    } else if (channel->state < CHANNEL_CLOSING) {
        gt_channel_enter(channel, CHANNEL_CLOSING);
    }
    if (gt_channel_is_own(channel) && !gt_stream_has_output(&channel->stream))
        gt_data_connection_close(channel->own.connection);
}

static void channel_report_connected(struct gt_channel *channel)
{
    if (channel->settings->role != GT_ROLE_OPERATOR || channel->is_connect_reported ||
        !channel->stream.is_target_connected)
        return;
    channel->is_connect_reported = true;
    if (channel->events->on_connected)
        channel->events->on_connected(channel, channel->userdata);
}

static void channel_on_stream_open(struct gt_channel *channel)
{
    if (channel->state == CHANNEL_HELLO) {
        gt_channel_enter(channel, CHANNEL_UP);
        if (channel->events->on_up)
            channel->events->on_up(channel, channel->userdata);
    }
    channel_request_service(channel);
    channel_report_connected(channel);
    gt_channel_move_if_needed(channel);
}

/* A channel is looked at as long as it holds something. On its own data connection, that
 * connection's heartbeat gives memory back. */
static void channel_hold_if_needed(struct gt_channel *channel)
{
    const struct gt_stream *stream = &channel->stream;

    if (channel->state == CHANNEL_ENDED)
        return;
    if (stream->tx.head < stream->tx_sent ||
        (!gt_channel_is_own(channel) && (stream->tx.data || stream->rx.data)))
        gt_channel_hold(channel);
}

void gt_channel_update(struct gt_channel *channel)
{
    gt_pump_write_if_ready(&channel->pump);
    gt_linger_update(&channel->linger);
    channel_send(channel);
    if (gt_stream_is_over(&channel->stream))
        channel_on_stream_over(channel);
    else if (channel->stream.state == GT_STREAM_OPEN)
        channel_on_stream_open(channel);
    gt_pump_watch(&channel->pump);
    channel_hold_if_needed(channel);
}

/* Interactive streams are on the shared connection, and wait for the batches of all others. */
size_t gt_channel_batch(const struct gt_channel *channel)
{
    return gt_shared_connection_is_in_use(channel->settings->shared) ? GT_PUMP_BATCH_SMALL
                                                                     : GT_PUMP_BATCH_LARGE;
}

/* --- events of the endpoint and the shared connection ----------------------------------------- */

static void channel_on_endpoint(void *userdata, int revents)
{
    struct gt_channel *channel = userdata;

    if (revents & EV_WRITE)
        gt_pump_write(&channel->pump);
    if (revents & EV_READ)
        gt_pump_read(&channel->pump, gt_channel_is_own(channel) ? channel->own.connection : NULL,
                     gt_channel_batch(channel));
    if (revents & GT_ENDPOINT_VANISHED)
        gt_pump_stop(&channel->pump);
    gt_channel_update(channel);
}

static struct gt_channel *channel_of(struct gt_shared_member *member)
{
    return gt_container_of(member, struct gt_channel, member);
}

static bool is_read_due(const struct gt_channel *channel)
{
    return gt_endpoint_is_open(&channel->endpoint) && gt_stream_has_tx_room(&channel->stream) &&
           !gt_endpoint_is_read_watched(&channel->endpoint);
}

/* The bytes that were sent may have ended the stream, or made room for a read. */
static size_t channel_on_turn(struct gt_shared_member *member, size_t cap,
                              struct gt_stream_record *ret)
{
    struct gt_channel *channel = channel_of(member);
    struct gt_stream *stream = &channel->stream;

    stream->now = gt_clock();
    size_t n = gt_stream_compose(stream, cap, ret);
    channel->may_peer_know |= n > 0;
    if (gt_stream_is_over(stream) || is_read_due(channel))
        gt_channel_schedule_update(channel);
    channel_hold_if_needed(channel);
    return n;
}

static void channel_on_segment(struct gt_shared_member *member, const uint8_t *data, size_t n)
{
    struct gt_channel *channel = channel_of(member);
    uint64_t acked = channel->stream.tx.head;

    gt_pump_consume(&channel->pump, data, n);
    if (channel->stream.tx.head != acked)
        gt_shared_connection_acknowledged(channel->settings->shared);
}

static void channel_on_invalid_begin(struct gt_shared_member *member)
{
    gt_stream_reset(&channel_of(member)->stream, GT_RST_PROTOCOL);
}

static void channel_on_segments_end(struct gt_shared_member *member)
{
    gt_channel_update(channel_of(member));
}

static void channel_on_shared_heartbeat(struct gt_shared_member *member)
{
    if (gt_channel_detect_reset(channel_of(member)))
        gt_channel_schedule_update(channel_of(member));
}

static void channel_on_shared_lost(struct gt_shared_member *member)
{
    struct gt_channel *channel = channel_of(member);

    gt_channel_lose(channel);
    gt_channel_update(channel);
}

const struct gt_shared_member_events gt_channel_member_events = {
    .compose = channel_on_turn,
    .consume = channel_on_segment,
    .reset = channel_on_invalid_begin,
    .settle = channel_on_segments_end,
    .heartbeat = channel_on_shared_heartbeat,
    .lost = channel_on_shared_lost,
};

/* --- timers ----------------------------------------------------------------------------------- */

static void channel_on_update(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    ev_timer_stop(loop, watcher);
    gt_channel_update(watcher->data);
}

/* --- commands --------------------------------------------------------------------------------- */

void gt_channel_serve(struct gt_channel *channel, int fd)
{
    if (gt_stream_is_over(&channel->stream)) {
        gt_sock_reset(fd);
        return;
    }
    assert(!gt_endpoint_is_open(&channel->endpoint));
    gt_endpoint_open(&channel->endpoint, gt_endpoint_fds(fd));
    if (channel->settings->role == GT_ROLE_DEVICE)
        gt_stream_target_connected(&channel->stream);
    gt_channel_schedule_update(channel);
}

void gt_channel_reject(struct gt_channel *channel, enum gt_rst code)
{
    gt_stream_reset(&channel->stream, code);
    gt_channel_schedule_update(channel);
}

void gt_channel_abort(struct gt_channel *channel, enum gt_rst code)
{
    channel->is_final = true;
    gt_stream_reset(&channel->stream, code);
    gt_channel_schedule_update(channel);
}

void gt_channel_leave(struct gt_channel *channel)
{
    if (channel->state == CHANNEL_UP && gt_endpoint_is_open(&channel->endpoint)) {
        gt_pump_stop(&channel->pump);
        gt_channel_schedule_update(channel);
    } else {
        gt_channel_abort(channel, GT_RST_CLOSED);
    }
}

/* --- life ------------------------------------------------------------------------------------- */

static void channel_init(struct gt_channel *channel, const struct gt_channel_settings *settings,
                         uint32_t number, const char *service)
{
    channel->settings = settings;
    gt_stream_init(&channel->stream, settings->role, number, service, settings->ring_size);
    channel->stream.memory = settings->memory;
    gt_endpoint_init(&channel->endpoint, settings->loop, settings->vanished_s, channel_on_endpoint,
                     channel);
    gt_pump_init(&channel->pump, &channel->stream, &channel->endpoint);
    ev_init(&channel->deadline, gt_channel_on_deadline);
    ev_timer_init(&channel->update, channel_on_update, 0, 0);
    gt_linger_init(&channel->linger, settings->loop, &channel->stream, &channel->endpoint,
                   settings->linger_s, channel_on_update, channel);
    channel->deadline.data = channel->update.data = channel;
    gt_channel_init_look(channel);
}

/* Bytes that are already there leave with HELLO. */
static void channel_open_endpoint(struct gt_channel *channel, struct gt_endpoint_fds local)
{
    gt_endpoint_open(&channel->endpoint, local);
    gt_pump_read_once(&channel->pump, GT_PUMP_BATCH_LARGE);
    gt_ring_release(&channel->stream.tx);
    gt_pump_watch(&channel->pump);
}

int gt_channel_new(const struct gt_channel_settings *settings, uint32_t number,
                   struct gt_endpoint_fds local, const char *service,
                   const struct gt_channel_events *events, void *userdata, struct gt_channel **ret)
{
    struct gt_channel *channel = calloc(1, sizeof(*channel));

    if (!channel) {
        gt_endpoint_fds_reset(local); /* a stream that failed never looks like one that ended */
        return -ENOMEM;
    }
    channel_init(channel, settings, number, service);
    channel->events = events;
    channel->userdata = userdata;
    gt_channel_start(channel);
    if (local.in >= 0)
        channel_open_endpoint(channel, local);
    gt_channel_attach(channel);
    *ret = channel;
    return 0;
}

struct gt_channel *gt_channel_free(struct gt_channel *channel)
{
    if (channel) {
        struct ev_loop *loop = channel->settings->loop;

        gt_shared_member_detach(&channel->member);
        gt_data_connection_free(channel->own.connection);
        channel_close_endpoint(channel);
        ev_timer_stop(loop, &channel->deadline);
        ev_timer_stop(loop, &channel->update);
        gt_sweep_stop(&channel->held);
        gt_linger_deinit(&channel->linger);
        gt_stream_deinit(&channel->stream);
        gt_iobuf_wipe(); /* those of the shared connection, which stays, have its plaintext */
        free(channel);
    }
    return NULL;
}

/* --- queries ---------------------------------------------------------------------------------- */

uint32_t gt_channel_number(const struct gt_channel *channel)
{
    return channel->stream.number;
}

uint16_t gt_channel_segment(const struct gt_channel *channel)
{
    return channel->own.segment;
}

uint32_t gt_channel_attempt(const struct gt_channel *channel)
{
    return channel->attempt;
}

bool gt_channel_is_known_to_relay(const struct gt_channel *channel)
{
    return channel->own.is_known_to_relay;
}

const char *gt_channel_service(const struct gt_channel *channel)
{
    return channel->stream.service;
}

bool gt_channel_is_waiting(const struct gt_channel *channel)
{
    return channel->state == CHANNEL_WAITING;
}

bool gt_channel_is_on_its_own(const struct gt_channel *channel)
{
    return gt_channel_is_own(channel) &&
           (channel->state == CHANNEL_UP || channel->state == CHANNEL_CLOSING);
}

bool gt_channel_is_over(const struct gt_channel *channel)
{
    return gt_stream_is_over(&channel->stream);
}

enum gt_rst gt_channel_code(const struct gt_channel *channel)
{
    return channel->stream.code;
}

void gt_channel_byte_counts(const struct gt_channel *channel, uint64_t *ret_up, uint64_t *ret_down)
{
    bool is_operator = channel->settings->role == GT_ROLE_OPERATOR;
    uint64_t sent = channel->stream.tx.tail;
    uint64_t received = channel->stream.rx.head - channel->stream.n_undelivered;

    *ret_up = is_operator ? sent : received;
    *ret_down = is_operator ? received : sent;
}
