/* SPDX-License-Identifier: ISC */
/*
 * Output of a stream: the scheduled frames, DATA within the peer's window, and END. The payload
 * stays in place in the tx ring. Must never send bytes that the peer's window does not allow.
 */
#include <assert.h>

#include "gotthard/proto/stream-state.h"

#define MAX_CONTROL (GT_FRAME_HEADER + GT_FRAME_BODY_MAX)

static_assert(GT_PRODUCE_MIN >= 2 * MAX_CONTROL + 8 * GT_FRAME_HEADER + 64,
              "room for one frame of each type");

/* Returns the number of bytes that may be sent now. Before the peer's HELLO these are the first
 * bytes of a new stream only. */
static size_t n_sendable(const struct gt_stream *s)
{
    if (!stream_has_connection(s) || (s->state == GT_STREAM_HELLO_SENT && s->connection.is_resumed))
        return 0;
    uint64_t limit = GT_MIN(s->tx_limit, s->tx.tail);
    return limit > s->tx_sent ? (size_t)(limit - s->tx_sent) : 0;
}

static bool is_end_sendable(const struct gt_stream *s)
{
    return s->state == GT_STREAM_OPEN && s->is_tx_finished && !s->is_end_acked &&
           !s->connection.is_end_sent && s->tx_sent == s->tx.tail;
}

/*
 * Returns true if the tx ring is too full for a read although all of it was sent. A peer with a
 * larger ring may not acknowledge yet. A PING requests it.
 */
static bool is_ack_wanted(const struct gt_stream *s)
{
    return s->state == GT_STREAM_OPEN && !s->connection.is_pong_awaited &&
           gt_ring_free(&s->tx) < stream_read_min(s) && s->tx_sent == s->tx.tail;
}

bool gt_stream_has_output(const struct gt_stream *s)
{
    return s->connection.due || n_sendable(s) || is_end_sendable(s) || is_ack_wanted(s);
}

/* Encodes a frame of @type from the current state. Its content counts as sent. */
static void compose_frame(struct gt_stream *s, struct gt_writer *w, enum gt_frame_type type)
{
    struct gt_frame frame = {
        .type = type,
        .version = GT_STREAM_VERSION,
        .stream = s->number,
        .attempt = s->attempt,
        .offset = type == GT_FRAME_END ? s->tx.tail : stream_rx_offset(s),
        .window = (uint32_t)(gt_window_limit(&s->window, s->rx.head) - s->rx.tail),
        .stop = (uint16_t)s->rx_stop,
        .service = gt_span_text(s->service),
        .code = (uint16_t)(type == GT_FRAME_END   ? s->tx_end
                           : type == GT_FRAME_RST ? s->code
                                                  : GT_RST_NONE),
        .value = type == GT_FRAME_PING ? s->connection.ping : s->connection.pong,
    };

    gt_frame_write(w, &frame);
    s->connection.due &= ~STREAM_DUE(type);
    if (type == GT_FRAME_PING)
        s->connection.probe.began = s->now;
    /* The PING after an ACK counts from the first byte that this ACK acknowledges, so that a whole
     * window that arrived at once is counted. */
    if (type == GT_FRAME_ACK && s->connection.due & STREAM_DUE(GT_FRAME_PING))
        s->connection.probe.from = s->window.acked;
    if (type == GT_FRAME_HELLO || type == GT_FRAME_ACK) {
        s->acked_at = s->now;
        gt_window_announced(&s->window, stream_rx_offset(s), s->rx.head);
    }
}

/* Composes one DATA frame: its header in @w, its payload in place. Returns the payload's size. */
static size_t compose_data(struct gt_stream *s, struct gt_writer *w, size_t cap,
                           struct gt_stream_record *record)
{
    struct iovec runs[2];
    size_t room = cap - w->n;
    size_t n = GT_MIN(n_sendable(s), (size_t)GT_DATA_MAX);

    if (n == 0 || room <= GT_FRAME_HEADER)
        return 0;
    n = GT_MIN(n, room - GT_FRAME_HEADER);
    gt_frame_write(w, &(struct gt_frame){.type = GT_FRAME_DATA, .data = {NULL, n}});
    int n_runs = gt_ring_view(&s->tx, s->tx_sent, n, runs);
    for (int i = 0; i < n_runs; i++)
        record->parts[record->n_parts++] = gt_span(runs[i].iov_base, runs[i].iov_len);
    s->tx_sent += n;
    return n;
}

size_t gt_stream_compose(struct gt_stream *s, size_t cap, struct gt_stream_record *ret)
{
    static const enum gt_frame_type order[] = {
        GT_FRAME_HELLO, GT_FRAME_RST,  GT_FRAME_ACK,
        GT_FRAME_PONG,  GT_FRAME_PING, GT_FRAME_CONNECTED,
    };
    struct gt_writer w = gt_writer(ret->frames, sizeof(ret->frames));

    assert(cap >= GT_PRODUCE_MIN);
    ret->n_parts = 1;
    if (n_sendable(s) && stream_rx_offset(s) != s->window.acked)
        stream_schedule(s, GT_FRAME_ACK); /* costs few bytes in a record that is sent anyway */
    if (is_ack_wanted(s))
        gt_stream_ping(s, s->tx_sent);
    for (size_t i = 0; i < GT_ARRAY_SIZE(order); i++)
        if (s->connection.due & STREAM_DUE(order[i]))
            compose_frame(s, &w, order[i]);
    stream_end_if_complete(s);
    if (s->connection.due & STREAM_DUE(GT_FRAME_DONE))
        compose_frame(s, &w, GT_FRAME_DONE);
    size_t n_data = compose_data(s, &w, cap, ret);
    size_t n_before = w.n;
    if (is_end_sendable(s) && cap - w.n - n_data >= MAX_CONTROL) {
        compose_frame(s, &w, GT_FRAME_END);
        s->is_end_sent = s->connection.is_end_sent = true;
        ret->parts[ret->n_parts++] = gt_span(ret->frames + n_before, w.n - n_before);
    }
    ret->parts[0] = gt_span(ret->frames, n_before);
    return w.n + n_data;
}

size_t gt_stream_produce(struct gt_stream *s, uint8_t *ret, size_t cap)
{
    struct gt_stream_record record;
    size_t n = gt_stream_compose(s, cap, &record);
    struct gt_writer w = gt_writer(ret, cap);

    for (size_t i = 0; i < record.n_parts; i++)
        gt_write_span(&w, record.parts[i]);
    return n;
}
