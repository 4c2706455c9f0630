/* SPDX-License-Identifier: ISC */
/*
 * A stream between its local endpoint and its data connection. Every event moves bytes, and then
 * one function (gt_channel_update) looks at the state of the stream and acts on it, so that it does
 * not matter which event changed the state. The end of a stream is acted on there and nowhere else.
 * Must never end a local endpoint in order unless the stream ended without error.
 */
#include "gotthard/tunnel/channel-internal.h"

#include <assert.h>

#include "gotthard/base/clock.h"

/* Public functions end here, so that no callback comes from inside them. */
void gt_channel_schedule_update(struct gt_channel *channel)
{
    ev_timer_start(channel->settings.loop, &channel->update);
}

/* --- the update ------------------------------------------------------------------------------- */

static void channel_request_service(struct gt_channel *channel)
{
    if (channel->settings.role != GT_ROLE_DEVICE || channel->is_service_requested ||
        !channel->stream.service[0])
        return;
    channel->is_service_requested = true;
    channel->events->on_service(channel, channel->userdata, channel->stream.service);
    gt_pump_write_if_ready(&channel->pump); /* a target on this machine is connected by now */
    gt_pump_send(&channel->pump, channel->connection);
}

static void channel_close_endpoint(struct gt_channel *channel)
{
    gt_endpoint_close(&channel->endpoint, gt_stream_is_well_ended(&channel->stream));
}

/* The stream is over. The endpoint is closed at once, the data connection after the last frames.
 * Without an established connection, a peer that knows of the stream is informed over the next. */
static void channel_on_stream_over(struct gt_channel *channel)
{
    channel_close_endpoint(channel);
    if (channel->state < CHANNEL_HELLO && gt_channel_may_retry(channel))
        return;
    if (channel->state < CHANNEL_CLOSING)
        gt_channel_enter(channel, channel->connection ? CHANNEL_CLOSING : CHANNEL_ENDED);
    if (channel->connection && !gt_stream_has_output(&channel->stream))
        gt_data_connection_close(channel->connection);
}

static void channel_report_connected(struct gt_channel *channel)
{
    if (channel->settings.role != GT_ROLE_OPERATOR || channel->is_connect_reported ||
        !channel->stream.is_target_connected)
        return;
    channel->is_connect_reported = true;
    if (channel->events->on_connected)
        channel->events->on_connected(channel, channel->userdata);
}

static void channel_on_stream_open(struct gt_channel *channel)
{
    if (channel->state == CHANNEL_HELLO) {
        gt_attempt_policy_up(&channel->attempts);
        gt_channel_enter(channel, CHANNEL_UP);
        channel->events->on_up(channel, channel->userdata);
    }
    channel_request_service(channel);
    channel_report_connected(channel);
}

void gt_channel_update(struct gt_channel *channel)
{
    gt_pump_write_if_ready(&channel->pump);
    gt_linger_update(&channel->linger);
    gt_pump_send(&channel->pump, channel->connection);
    if (gt_stream_is_over(&channel->stream))
        channel_on_stream_over(channel);
    else if (channel->stream.state == GT_STREAM_OPEN)
        channel_on_stream_open(channel);
    gt_pump_watch(&channel->pump);
    gt_channel_watch_stall(channel);
}

/* --- events of the endpoint and the data connection ------------------------------------------- */

static void channel_on_endpoint(void *userdata, int revents)
{
    struct gt_channel *channel = userdata;

    if (revents & EV_WRITE)
        gt_pump_write(&channel->pump);
    if (revents & EV_READ)
        gt_pump_read(&channel->pump, channel->connection);
    if (revents & GT_ENDPOINT_VANISHED)
        gt_pump_stop(&channel->pump);
    gt_channel_update(channel);
}

static void channel_on_ready(void *userdata)
{
    struct gt_channel *channel = userdata;

    gt_stream_attach(&channel->stream, channel->attempts.attempt, GT_STREAM_OWN);
    gt_channel_enter(channel, CHANNEL_HELLO);
    gt_channel_update(channel);
}

static void channel_on_readable(void *userdata)
{
    struct gt_channel *channel = userdata;

    gt_pump_receive(&channel->pump, channel->connection);
    gt_channel_update(channel);
}

static void channel_on_writable(void *userdata)
{
    gt_channel_update(userdata);
}

/* Of two idle ends only the one whose heartbeat is due first probes (liveness.h). */
static void channel_on_heartbeat(void *userdata, bool is_quiet)
{
    struct gt_channel *channel = userdata;
    uint64_t n_moved = channel->stream.tx.tail + channel->stream.rx.tail;

    if (is_quiet || n_moved == channel->n_moved_at_heartbeat)
        gt_stream_trim(&channel->stream);
    channel->n_moved_at_heartbeat = n_moved;
    gt_pump_detect_reset(&channel->pump);
    if (is_quiet)
        gt_stream_ping(&channel->stream, 0);
    gt_channel_update(channel);
    if (is_quiet)
        gt_iobuf_trim();
}

/* The peer sends close_notify only after its last frame: a stream that is not over by then never
 * ends well. */
static void channel_on_gone(void *userdata, bool is_closed_by_peer)
{
    struct gt_channel *channel = userdata;

    if (is_closed_by_peer)
        gt_attempt_policy_stop(&channel->attempts);
    gt_channel_lose_connection(channel);
    gt_channel_update(channel);
}

const struct gt_data_connection_events gt_channel_connection_events = {
    .on_ready = channel_on_ready,
    .on_readable = channel_on_readable,
    .on_writable = channel_on_writable,
    .on_heartbeat = channel_on_heartbeat,
    .on_gone = channel_on_gone,
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
    if (channel->settings.role == GT_ROLE_DEVICE)
        gt_stream_target_connected(&channel->stream);
    gt_channel_schedule_update(channel);
}

/* The connection of an idle spare may have been lost undetected, for example in a NAT that dropped
 * its mapping. A user who waits for the first bytes must not wait until the heartbeat notices. */
void gt_channel_bind(struct gt_channel *channel, struct gt_endpoint_fds local, const char *service)
{
    if (gt_stream_is_over(&channel->stream)) {
        gt_endpoint_fds_reset(local);
        return;
    }
    gt_stream_bind(&channel->stream, service);
    if (local.in >= 0)
        gt_endpoint_open(&channel->endpoint, local);
    if (local.in >= 0 && gt_stream_has_tx_room(&channel->stream))
        gt_pump_read_once(&channel->pump);
    if (channel->state == CHANNEL_UP)
        gt_data_connection_probe(channel->connection);
    else
        gt_attempt_policy_wait(&channel->attempts, gt_clock());
    gt_pump_send(&channel->pump, channel->connection);
    gt_channel_schedule_update(channel);
}

void gt_channel_reject(struct gt_channel *channel, enum gt_rst code)
{
    gt_stream_reset(&channel->stream, code);
    gt_channel_schedule_update(channel);
}

void gt_channel_abort(struct gt_channel *channel, enum gt_rst code)
{
    gt_attempt_policy_stop(&channel->attempts);
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
    channel->settings = *settings;
    gt_stream_init(&channel->stream, settings->role, number, service, settings->ring_size);
    channel->stream.memory = settings->memory;
    gt_endpoint_init(&channel->endpoint, settings->loop, settings->vanished_s, channel_on_endpoint,
                     channel);
    gt_pump_init(&channel->pump, &channel->stream, &channel->endpoint);
    gt_attempt_policy_init(&channel->attempts, settings->resume_s, gt_clock());
    ev_init(&channel->deadline, gt_channel_on_deadline);
    ev_timer_init(&channel->update, channel_on_update, 0, 0);
    gt_linger_init(&channel->linger, settings->loop, &channel->stream, &channel->endpoint,
                   settings->linger_s, channel_on_update, channel);
    channel->deadline.data = channel->update.data = channel;
    gt_channel_init_stall(channel);
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
    if (local.in >= 0)
        gt_endpoint_open(&channel->endpoint, local);
    gt_channel_enter(channel, CHANNEL_WAITING);
    gt_pump_watch(&channel->pump); /* bytes read before the connection is up go out with HELLO */
    *ret = channel;
    return 0;
}

struct gt_channel *gt_channel_free(struct gt_channel *channel)
{
    if (channel) {
        struct ev_loop *loop = channel->settings.loop;

        gt_data_connection_free(channel->connection);
        channel_close_endpoint(channel);
        ev_timer_stop(loop, &channel->deadline);
        ev_timer_stop(loop, &channel->look);
        ev_timer_stop(loop, &channel->update);
        gt_linger_deinit(&channel->linger);
        gt_stream_deinit(&channel->stream);
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
    return channel->segment;
}

uint32_t gt_channel_attempt(const struct gt_channel *channel)
{
    return gt_attempt_policy_attempt(&channel->attempts);
}

const char *gt_channel_service(const struct gt_channel *channel)
{
    return channel->stream.service;
}

bool gt_channel_is_spare(const struct gt_channel *channel)
{
    return !channel->stream.service[0];
}

bool gt_channel_is_bindable(const struct gt_channel *channel)
{
    return channel->settings.role == GT_ROLE_OPERATOR && gt_channel_is_spare(channel) &&
           !gt_stream_is_over(&channel->stream) && channel->state <= CHANNEL_UP;
}

bool gt_channel_is_up(const struct gt_channel *channel)
{
    return channel->state == CHANNEL_UP;
}

bool gt_channel_is_connected(const struct gt_channel *channel)
{
    return channel->state == CHANNEL_UP || channel->state == CHANNEL_CLOSING;
}

enum gt_rst gt_channel_code(const struct gt_channel *channel)
{
    return channel->stream.code;
}

void gt_channel_byte_counts(const struct gt_channel *channel, uint64_t *ret_up, uint64_t *ret_down)
{
    bool is_operator = channel->settings.role == GT_ROLE_OPERATOR;
    uint64_t sent = channel->stream.tx.tail, received = channel->stream.rx.head;

    *ret_up = is_operator ? sent : received;
    *ret_down = is_operator ? received : sent;
}
