/* SPDX-License-Identifier: ISC */
/*
 * The life of one end of a stream: its rings, its data connections and its local socket. One end is
 * a struct without descriptors or time, so that two ends and a hostile data connection fit into a
 * unit test. stream-input.c processes received frames, stream-output.c composes frames to send.
 */
#include "gotthard/proto/stream.h"

#include <assert.h>

#include "gotthard/proto/stream-state.h"

void gt_stream_init(struct gt_stream *s, enum gt_role role, uint32_t number, const char *service,
                    size_t ring_max)
{
    *s = (struct gt_stream){.role = role, .number = number, .tx_limit = GT_STREAM_EARLY};
    if (service) {
        assert(service[0] && strlen(service) <= GT_SERVICE_MAX);
        strcpy(s->service, service);
    }
    gt_ring_init(&s->tx, GT_MIN(ring_max, (size_t)1 << 30)); /* a window is a u32 */
    gt_window_init(&s->window, s->tx.capacity, GT_STREAM_EARLY);
    gt_ring_init(&s->tx, gt_window_ring_first(&s->window));
    gt_ring_init(&s->rx, s->tx.capacity);
}

void gt_stream_deinit(struct gt_stream *s)
{
    gt_window_memory_charge(s->memory, s->tx.capacity, 0);
    gt_window_memory_charge(s->memory, s->rx.capacity, 0);
    gt_ring_deinit(&s->tx);
    gt_ring_deinit(&s->rx);
}

bool gt_stream_resize_ring(struct gt_stream *s, struct gt_ring *ring, size_t capacity)
{
    size_t before = ring->capacity;

    if (!gt_window_memory_allows(s->memory, before, capacity))
        return false;
    if (gt_ring_resize(ring, capacity) < 0)
        return false;
    gt_window_memory_charge(s->memory, before, ring->capacity);
    return true;
}

void gt_stream_grow_tx(struct gt_stream *s, size_t n_used, size_t peer_window)
{
    if (gt_window_is_send_ring_short(&s->window, n_used, s->tx.capacity, peer_window))
        gt_stream_resize_ring(s, &s->tx, 2 * s->tx.capacity);
}

/* Shrinks @ring to @capacity, or to its used bytes if they are more. If there is no memory for the
 * copy, the ring stays as it is. */
static void shrink_ring(struct gt_stream *s, struct gt_ring *ring, size_t capacity)
{
    gt_ring_release(ring);
    capacity = GT_MAX(capacity, gt_ring_used(ring));
    gt_stream_resize_ring(s, ring, GT_MIN(capacity, ring->capacity));
}

void gt_stream_trim(struct gt_stream *s)
{
    gt_window_shrink(&s->window);
    shrink_ring(s, &s->tx, gt_window_ring_first(&s->window));
    shrink_ring(s, &s->rx, gt_window_ring_size(&s->window, s->rx.head));
}

void gt_stream_discard(struct gt_stream *s)
{
    assert(gt_stream_is_over(s));
    s->n_undelivered += gt_ring_used(&s->rx);
    gt_ring_drop(&s->rx, gt_ring_used(&s->rx));
    gt_ring_drop(&s->tx, gt_ring_used(&s->tx));
    s->tx_sent = s->tx.head;
    shrink_ring(s, &s->tx, 0);
    shrink_ring(s, &s->rx, 0);
}

bool gt_stream_is_over(const struct gt_stream *s)
{
    return s->state == GT_STREAM_ENDED || s->state == GT_STREAM_RESET;
}

bool gt_stream_is_well_ended(const struct gt_stream *s)
{
    return s->state == GT_STREAM_ENDED && s->code == GT_RST_NONE;
}

void gt_stream_end(struct gt_stream *s)
{
    const enum gt_rst codes[] = {s->rx_end, s->tx_end, s->tx_stop, s->rx_stop};

    s->state = GT_STREAM_ENDED;
    s->connection.due = stream_last_due(s, 0);
    s->code = GT_RST_NONE;
    for (size_t i = 0; i < GT_ARRAY_SIZE(codes) && s->code == GT_RST_NONE; i++)
        s->code = codes[i];
}

/* A connection of its own has larger rings from the beginning. A ring that cannot grow now grows
 * when the bytes arrive. */
static void stream_adapt(struct gt_stream *s, enum gt_stream_kind kind)
{
    if (!gt_window_set_shared(&s->window, kind == GT_STREAM_SHARED) || kind == GT_STREAM_SHARED)
        return;
    gt_stream_resize_ring(s, &s->tx, GT_MAX(s->tx.capacity, gt_window_ring_first(&s->window)));
    gt_stream_resize_ring(s, &s->rx, GT_MAX(s->rx.capacity, gt_window_ring_first(&s->window)));
}

void gt_stream_attach(struct gt_stream *s, uint32_t attempt, enum gt_stream_kind kind)
{
    const struct gt_resume sent = stream_sent_state(s);

    assert(attempt > s->attempt && kind != GT_STREAM_DETACHED);
    s->attempt = attempt;
    stream_adapt(s, kind);
    s->connection = (struct gt_stream_connection){
        .kind = kind,
        .due = STREAM_DUE(GT_FRAME_HELLO),
        .is_resumed = gt_resume_must_wait(&sent),
        .tx_from = s->tx_sent,
        .rx_from = s->rx.tail,
    };
    if (s->state == GT_STREAM_RESET) {
        s->connection.due = stream_last_due(s, STREAM_DUE(GT_FRAME_RST));
        return;
    }
    s->state = GT_STREAM_HELLO_SENT;
    if (s->role == GT_ROLE_DEVICE && s->is_target_connected)
        stream_schedule(s, GT_FRAME_CONNECTED);
}

void gt_stream_park(struct gt_stream *s)
{
    s->connection = (struct gt_stream_connection){0};
    if (stream_has_connection(s) && stream_is_complete(s))
        gt_stream_end(s);
    else if (stream_has_connection(s))
        s->state = GT_STREAM_PARKED;
}

void gt_stream_target_connected(struct gt_stream *s)
{
    s->is_target_connected = true;
    stream_schedule(s, GT_FRAME_CONNECTED);
}

void gt_stream_reset(struct gt_stream *s, enum gt_rst code)
{
    assert(code != GT_RST_NONE);
    if (gt_stream_is_over(s) || stream_is_complete(s))
        return;
    if (stream_has_connection(s))
        s->connection.due = (s->connection.due & STREAM_DUE(GT_FRAME_HELLO)) |
                            stream_last_due(s, STREAM_DUE(GT_FRAME_RST));
    s->state = GT_STREAM_RESET;
    s->code = code;
}

bool gt_stream_is_done(const struct gt_stream *s)
{
    return gt_stream_is_over(s) && s->is_peer_done && !s->connection.due;
}

uint64_t gt_stream_n_moved(const struct gt_stream *s)
{
    const struct gt_stream_connection *connection = &s->connection;

    if (connection->kind == GT_STREAM_DETACHED)
        return 0;
    return s->tx_sent - GT_MIN(connection->tx_from, s->tx_sent) + s->rx.tail - connection->rx_from;
}

bool gt_stream_is_held_up(const struct gt_stream *s)
{
    bool has_unsent = s->tx.tail > s->tx_sent || gt_ring_free(&s->tx) < stream_read_min(s);
    bool is_tx_limited = has_unsent && s->tx_sent == s->tx_limit;
    bool is_rx_limited =
        s->rx.tail == s->window.limit && gt_ring_used(&s->rx) <= s->window.size / 2;

    return s->state == GT_STREAM_OPEN && s->connection.kind == GT_STREAM_SHARED &&
           gt_stream_n_moved(s) >= s->window.size / 4 && (is_tx_limited || is_rx_limited);
}

bool gt_stream_has_tx_room(const struct gt_stream *s)
{
    return !gt_stream_is_over(s) && !s->is_tx_finished &&
           gt_ring_free(&s->tx) >= stream_read_min(s) &&
           s->tx.tail - s->tx_sent < GT_WINDOW_INITIAL;
}

void gt_stream_local_read(struct gt_stream *s, size_t n)
{
    assert(!s->is_tx_finished);
    gt_ring_fill(&s->tx, n);
    if (s->window.is_shared)
        gt_stream_grow_tx(s, gt_ring_used(&s->tx), (size_t)(s->tx_limit - s->tx.head));
}

void gt_stream_local_end(struct gt_stream *s, enum gt_rst code)
{
    if (s->is_tx_finished)
        return;
    s->is_tx_finished = true;
    s->tx_end = code;
}

void gt_stream_local_stop(struct gt_stream *s, enum gt_rst code)
{
    bool has_moved_all = s->is_end_delivered && s->is_tx_finished;

    assert(code != GT_RST_NONE);
    if (gt_stream_is_over(s) || s->rx_stop != GT_RST_NONE || has_moved_all)
        return;
    s->rx_stop = code;
    gt_stream_local_written(s, gt_ring_used(&s->rx));
    s->is_end_delivered = s->is_end_received;
    stream_schedule(s, GT_FRAME_ACK);
}

void gt_stream_local_written(struct gt_stream *s, size_t n)
{
    gt_ring_drop(&s->rx, n);
    if (!s->is_end_received && gt_window_is_update_due(&s->window, s->rx.head))
        stream_schedule(s, GT_FRAME_ACK);
}

bool gt_stream_is_received(const struct gt_stream *s)
{
    return s->is_end_received && gt_ring_used(&s->rx) == 0;
}

bool gt_stream_is_end_due(const struct gt_stream *s)
{
    return s->state != GT_STREAM_RESET && !s->is_end_delivered && gt_stream_is_received(s);
}

bool gt_stream_is_peer_gone(const struct gt_stream *s)
{
    return s->tx_stop != GT_RST_NONE;
}

void gt_stream_end_delivered(struct gt_stream *s)
{
    assert(gt_stream_is_end_due(s));
    s->is_end_delivered = true;
    stream_schedule(s, GT_FRAME_ACK);
}

void gt_stream_ping(struct gt_stream *s, uint64_t value)
{
    s->connection.ping = value;
    s->connection.is_pong_awaited = true;
    s->connection.probe.from = s->rx.tail;
    stream_schedule(s, GT_FRAME_PING);
}
