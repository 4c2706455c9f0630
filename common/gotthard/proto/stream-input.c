/* SPDX-License-Identifier: ISC */
/*
 * Input of a stream: the meaning of received frames. Invalid frames reset the stream. Must never
 * give the local socket a byte twice, out of order or not at all, and still end well.
 */
#include "gotthard/proto/stream-state.h"

#define ACK_S 1. /* between two ACKs, while more than a few packets arrive */

/* Codes that a later version may define count as an error of the peer. */
static enum gt_rst known_code(uint16_t code)
{
    return code <= GT_RST_LAST ? (enum gt_rst)code : GT_RST_INTERNAL;
}

/* The peer delivers no more bytes. Those that were not sent yet stay unsent. An END that was sent
 * keeps its offset and code. */
static void stop_sending(struct gt_stream *s, enum gt_rst code)
{
    if (code == GT_RST_NONE || s->tx_stop != GT_RST_NONE)
        return;
    s->tx_stop = code;
    if (s->is_end_sent)
        return;
    gt_ring_truncate(&s->tx, s->tx_sent);
    s->is_tx_finished = true;
    s->tx_end = code;
}

/* Processes the receive offset and the window of an ACK or HELLO. @ret_send_from: see
 * gt_resume_ack. Returns 0 or GT_RESUME_E_x. */
static int handle_offset(struct gt_stream *s, const struct gt_frame *frame, uint64_t *ret_send_from)
{
    const struct gt_resume sent = stream_sent_state(s);
    size_t n_used = gt_ring_used(&s->tx);
    struct gt_resume_ack ack;

    int r = gt_resume_evaluate(&sent, frame->offset, &ack);
    if (r)
        return r;
    gt_ring_drop(&s->tx, ack.n_released);
    s->is_end_acked = ack.is_end_acked;
    s->tx_limit = frame->offset + frame->window;
    gt_stream_grow_tx(s, n_used, frame->window);
    *ret_send_from = ack.send_from;
    return 0;
}

static bool is_service_valid(struct gt_span service)
{
    for (size_t i = 0; i < service.n; i++)
        if (service.data[i] <= 0x20 || service.data[i] >= 0x7f)
            return false;
    return service.n > 0 && service.n <= GT_SERVICE_MAX;
}

/* Device: each HELLO names the service, which never changes. */
static bool accept_service(struct gt_stream *s, struct gt_span service)
{
    if (s->role != GT_ROLE_DEVICE || !is_service_valid(service))
        return false;
    if (s->service[0])
        return gt_span_equals(service, gt_span_text(s->service));
    memcpy(s->service, service.data, service.n);
    return true;
}

static enum gt_rst handle_hello(struct gt_stream *s, const struct gt_frame *hello)
{
    uint64_t send_from;

    if (s->state != GT_STREAM_HELLO_SENT || hello->version != GT_STREAM_VERSION ||
        hello->stream != s->number || hello->attempt != s->attempt)
        return GT_RST_PROTOCOL;
    if (s->role == GT_ROLE_DEVICE && !accept_service(s, hello->service))
        return GT_RST_PROTOCOL;
    if (handle_offset(s, hello, &send_from))
        return GT_RST_RESYNC;
    if (s->connection.is_resumed)
        s->tx_sent = send_from;
    stop_sending(s, known_code(hello->stop));
    s->state = GT_STREAM_OPEN;
    return GT_RST_NONE;
}

/* Operator: may be repeated, because the one before may be lost with its data connection. */
static enum gt_rst handle_connected(struct gt_stream *s, const struct gt_frame *connected)
{
    if (s->role != GT_ROLE_OPERATOR || connected->code != GT_RST_NONE)
        return GT_RST_PROTOCOL;
    s->is_target_connected = true;
    return GT_RST_NONE;
}

static enum gt_rst handle_ack(struct gt_stream *s, const struct gt_frame *ack)
{
    uint64_t send_from;

    if (handle_offset(s, ack, &send_from))
        return GT_RST_PROTOCOL;
    stop_sending(s, known_code(ack->stop));
    return GT_RST_NONE;
}

static void grow_window(struct gt_stream *s)
{
    size_t size = 2 * s->window.size;

    if (s->rx.capacity < size && !gt_stream_resize_ring(s, &s->rx, size))
        return;
    s->window.size = size;
    stream_schedule(s, GT_FRAME_ACK);
}

/* Schedules an ACK of received data, and with it a PING that measures the round trip, as long as
 * the window may grow. */
static void schedule_data_ack(struct gt_stream *s)
{
    stream_schedule(s, GT_FRAME_ACK);
    if (gt_window_may_grow(&s->window) && !s->connection.is_pong_awaited)
        gt_stream_ping(s, s->rx.tail);
}

/* On a slow path, a sender without a sign of progress would take the path for blocked. */
static bool is_ack_overdue(const struct gt_stream *s)
{
    return s->now - s->acked_at >= ACK_S && s->rx.tail - s->window.acked >= GT_STREAM_EARLY;
}

/* A small ring grows with the data, up to the granted window. */
static int receive(struct gt_stream *s, struct gt_span data)
{
    if (data.n > gt_ring_free(&s->rx) &&
        !gt_stream_resize_ring(s, &s->rx, gt_ring_used(&s->rx) + data.n))
        return -ENOMEM;
    return gt_ring_write(&s->rx, data.data, data.n);
}

static enum gt_rst handle_data(struct gt_stream *s, struct gt_span data, int *ret_r)
{
    if (s->is_end_received || data.n > s->window.limit - s->rx.tail)
        return GT_RST_PROTOCOL;
    *ret_r = receive(s, data);
    if (*ret_r < 0)
        return GT_RST_INTERNAL;
    if (s->rx_stop != GT_RST_NONE)
        gt_stream_local_written(s, gt_ring_used(&s->rx));
    if (gt_window_is_ack_due(&s->window, s->rx.tail) || is_ack_overdue(s))
        schedule_data_ack(s);
    return GT_RST_NONE;
}

/* A direction ends by a reset only after a stop of either side. */
static bool is_code_justified(const struct gt_stream *s, enum gt_rst code)
{
    return code == GT_RST_NONE || s->tx_stop != GT_RST_NONE || s->rx_stop != GT_RST_NONE;
}

static enum gt_rst handle_end(struct gt_stream *s, const struct gt_frame *end)
{
    enum gt_rst code = known_code(end->code);

    if (s->connection.is_end_received || end->offset != s->rx.tail ||
        (s->is_end_received && code != s->rx_end) || !is_code_justified(s, code))
        return GT_RST_PROTOCOL;
    s->connection.is_end_received = s->is_end_received = true;
    s->rx_end = code;
    if (s->rx_stop != GT_RST_NONE)
        s->is_end_delivered = true;
    stream_schedule(s, GT_FRAME_ACK);
    return GT_RST_NONE;
}

/* A complete stream ends well, whatever arrives or fails afterwards. Returns true if it is one. */
static bool end_complete(struct gt_stream *s)
{
    if (!stream_is_complete(s))
        return false;
    gt_stream_end(s);
    return true;
}

/* Handles input that cannot be processed any further. */
static void fail(struct gt_stream *s, enum gt_rst code)
{
    if (!end_complete(s))
        gt_stream_reset(s, code);
}

static enum gt_rst handle_rst(struct gt_stream *s, const struct gt_frame *rst)
{
    if (end_complete(s))
        return GT_RST_NONE;
    s->connection.due = stream_last_due(s, 0);
    s->state = GT_STREAM_RESET;
    s->code = rst->code == GT_RST_NONE ? GT_RST_INTERNAL : known_code(rst->code);
    s->is_reset_by_peer = true;
    return GT_RST_NONE;
}

static enum gt_rst handle_ping(struct gt_stream *s, const struct gt_frame *ping)
{
    s->connection.pong = ping->value; /* one answer to all PINGs that precede it */
    stream_schedule(s, GT_FRAME_PONG);
    stream_schedule(s, GT_FRAME_ACK);
    return GT_RST_NONE;
}

static enum gt_rst handle_pong(struct gt_stream *s)
{
    struct gt_stream_connection *connection = &s->connection;
    size_t n_unread = gt_ring_used(&s->rx) - gt_ring_n_borrowed(&s->rx);

    if (!connection->is_pong_awaited || connection->due & STREAM_DUE(GT_FRAME_PING))
        return GT_RST_NONE; /* not an answer: no PING was sent since the last PONG */
    if (gt_window_probe_end(&s->window, &connection->probe, s->now, s->rx.tail, n_unread))
        grow_window(s);
    connection->is_pong_awaited = false;
    return GT_RST_NONE;
}

/* The peer is over: so are we, by its last frames. */
static enum gt_rst handle_done(struct gt_stream *s)
{
    if (s->connection.kind != GT_STREAM_SHARED)
        return GT_RST_PROTOCOL;
    s->is_peer_done = true;
    return end_complete(s) ? GT_RST_NONE : GT_RST_PROTOCOL;
}

/* Returns the reason to reset the stream, or GT_RST_NONE. *ret_r: a negative errno. */
static enum gt_rst handle_frame(struct gt_stream *s, const struct gt_frame *frame, int *ret_r)
{
    if (s->state == GT_STREAM_HELLO_SENT && frame->type != GT_FRAME_HELLO &&
        frame->type != GT_FRAME_RST)
        return GT_RST_PROTOCOL;
    switch (frame->type) {
    case GT_FRAME_HELLO: return handle_hello(s, frame);
    case GT_FRAME_DATA: return handle_data(s, frame->data, ret_r);
    case GT_FRAME_ACK: return handle_ack(s, frame);
    case GT_FRAME_END: return handle_end(s, frame);
    case GT_FRAME_RST: return handle_rst(s, frame);
    case GT_FRAME_PING: return handle_ping(s, frame);
    case GT_FRAME_PONG: return handle_pong(s);
    case GT_FRAME_DONE: return handle_done(s);
    case GT_FRAME_CONNECTED: return handle_connected(s, frame);
    }
    return GT_RST_PROTOCOL;
}

/* A stream that is over waits for the peer's DONE. Other frames have no effect any more. */
static void await_done(struct gt_stream *s, struct gt_reader *in)
{
    struct gt_frame frame;

    while (s->connection.kind == GT_STREAM_SHARED && !s->is_peer_done &&
           gt_framer_next(&s->connection.framer, in, &frame) == 0)
        s->is_peer_done = frame.type == GT_FRAME_DONE;
}

int gt_stream_consume(struct gt_stream *s, const uint8_t *data, size_t n)
{
    struct gt_reader in = gt_reader(data, n);
    struct gt_frame frame;
    int failed = 0;

    if (gt_window_is_idle(&s->idle, s->now, s->rx.tail, s->tx.tail))
        gt_stream_trim(s);
    while (stream_has_connection(s)) {
        int r = gt_framer_next(&s->connection.framer, &in, &frame);

        if (r == GT_FRAME_E_MORE)
            return failed;
        enum gt_rst code = r ? GT_RST_PROTOCOL : handle_frame(s, &frame, &failed);
        if (code)
            fail(s, code);
        stream_end_if_complete(s);
    }
    await_done(s, &in);
    return failed;
}
