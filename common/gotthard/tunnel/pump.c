/* SPDX-License-Identifier: ISC */
/*
 * The data path. Nothing here waits, decides, or allocates (except a ring at its first use). Must
 * never release the input buffer of TLS while the stream borrows from it.
 */
#include "gotthard/tunnel/pump.h"

#include "gotthard/base/clock.h"

void gt_pump_init(struct gt_pump *pump, struct gt_stream *stream, struct gt_endpoint *endpoint)
{
    *pump = (struct gt_pump){.stream = stream, .endpoint = endpoint};
}

/* --- stream to data connection ---------------------------------------------------------------- */

/* Fills the output buffer. */
static void pump_write_records(struct gt_stream *stream, struct gt_data_connection *connection)
{
    struct gt_stream_record record;

    while (gt_stream_has_output(stream) && gt_data_connection_make_room(connection)) {
        gt_stream_compose(stream, gt_data_connection_record_size(connection), &record);
        gt_data_connection_write(connection, record.parts, record.n_parts);
    }
}

/* The close_notify that follows the last output of a stream goes out in the same write. */
static bool is_flush_due(const struct gt_stream *stream)
{
    return !gt_stream_is_over(stream) || gt_stream_has_output(stream);
}

/* Writes again after a flush: on_writable comes only if the flush left something, and the flush may
 * have made room. */
void gt_pump_send(struct gt_pump *pump, struct gt_data_connection *connection)
{
    struct gt_stream *stream = pump->stream;

    if (!connection)
        return;
    stream->now = gt_clock();
    do {
        pump_write_records(stream, connection);
        if (is_flush_due(stream))
            gt_data_connection_flush(connection);
    } while (gt_stream_has_output(stream) && gt_data_connection_make_room(connection));
}

/* --- stream to endpoint ----------------------------------------------------------------------- */

/* The code of a local side that failed. */
static enum gt_rst pump_code(const struct gt_pump *pump)
{
    if (!pump->endpoint->is_vanished)
        return GT_RST_LOCAL;
    return pump->stream->role == GT_ROLE_DEVICE ? GT_RST_TARGET_VANISHED : GT_RST_CLIENT_VANISHED;
}

/* The bytes that the application sent before its reset can still be read. The kernel reports the
 * reset once, and an end of file from then on. */
void gt_pump_stop(struct gt_pump *pump)
{
    pump->eof = pump_code(pump);
    gt_stream_local_stop(pump->stream, pump->eof);
    gt_endpoint_stop_reading(pump->endpoint);
}

/* EPIPE: the application had sent an end of file before its reset. Other errors may leave a
 * connection that works (ENOMEM): it ends here. */
static void pump_failed(struct gt_pump *pump, int err)
{
    if (err == EPIPE)
        gt_stream_local_stop(pump->stream, GT_RST_LOCAL);
    else
        gt_pump_stop(pump);
}

void gt_pump_detect_reset(struct gt_pump *pump)
{
    int err = gt_endpoint_is_open(pump->endpoint) ? gt_endpoint_take_error(pump->endpoint) : 0;

    if (err != 0)
        pump_failed(pump, err);
}

/* One sendmsg() takes all runs of the ring; the remainder waits until the endpoint is writable. */
static void pump_write_bytes(struct gt_pump *pump)
{
    struct gt_stream *stream = pump->stream;
    struct iovec view[2 + GT_RING_BORROWED_MAX];
    int n_view = gt_ring_view(&stream->rx, stream->rx.head, SIZE_MAX, view);
    size_t n;

    n_view += gt_ring_view_borrowed(&stream->rx, view + n_view);
    int r = gt_endpoint_write(pump->endpoint, view, n_view, &n);
    if (r == 0)
        gt_stream_local_written(stream, n);
    else if (r == GT_ENDPOINT_E_BROKEN)
        pump_failed(pump, errno);
    gt_endpoint_watch_write(pump->endpoint, gt_ring_used(&stream->rx) > 0);
}

void gt_pump_write(struct gt_pump *pump)
{
    struct gt_stream *stream = pump->stream;

    if (!gt_endpoint_is_open(pump->endpoint))
        return;
    if (gt_ring_used(&stream->rx) > 0)
        pump_write_bytes(pump);
    if (!gt_stream_is_end_due(stream) || stream->rx_end != GT_RST_NONE)
        return;
    if (gt_endpoint_half_close(pump->endpoint) != 0)
        gt_stream_local_stop(stream, GT_RST_LOCAL);
    else if (!gt_stream_is_peer_gone(stream)) /* else linger.h waits for the last bytes */
        gt_stream_end_delivered(stream);
}

void gt_pump_write_if_ready(struct gt_pump *pump)
{
    if (!gt_endpoint_is_write_watched(pump->endpoint))
        gt_pump_write(pump);
}

/* Writes borrowed bytes from where they lie, and copies the bytes that the endpoint did not take.
 */
static void pump_deliver(struct gt_pump *pump)
{
    gt_pump_write_if_ready(pump);
    gt_ring_copy_borrowed(&pump->stream->rx);
}

/* One write to the endpoint for each recv() on the data connection. */
static void pump_receive_records(struct gt_pump *pump, struct gt_data_connection *connection,
                                 size_t batch)
{
    struct gt_stream *stream = pump->stream;
    struct gt_span record;

    for (size_t total = 0; total < batch;) {
        if (stream->rx.borrowed->n_spans == GT_RING_BORROWED_MAX)
            pump_deliver(pump);
        if (gt_data_connection_next_record(connection, &record)) {
            total += record.n;
            if (gt_stream_consume(stream, record.data, record.n) < 0)
                break; /* out of memory: the stream is reset */
            continue;
        }
        pump_deliver(pump);
        if (!gt_data_connection_fill(connection, batch))
            break;
    }
}

void gt_pump_receive(struct gt_pump *pump, struct gt_data_connection *connection, size_t batch)
{
    struct gt_stream *stream = pump->stream;
    struct gt_borrowed borrowed;

    gt_borrowed_init(&borrowed);
    stream->now = gt_clock();
    stream->rx.borrowed = &borrowed;
    pump_receive_records(pump, connection, batch);
    pump_deliver(pump);
    stream->rx.borrowed = NULL;
}

void gt_pump_consume(struct gt_pump *pump, const uint8_t *data, size_t n)
{
    struct gt_stream *stream = pump->stream;
    struct gt_borrowed borrowed;

    gt_borrowed_init(&borrowed);
    stream->now = gt_clock();
    stream->rx.borrowed = &borrowed;
    if (gt_stream_consume(stream, data, n) < 0)
        gt_stream_reset(stream, GT_RST_INTERNAL); /* out of memory */
    pump_deliver(pump);
    stream->rx.borrowed = NULL;
}

/* --- endpoint to stream ----------------------------------------------------------------------- */

/* The application's side was reset, and all that it sent before was read. */
static void pump_read_failed(struct gt_pump *pump)
{
    gt_stream_local_stop(pump->stream, pump_code(pump));
    gt_stream_local_end(pump->stream, pump_code(pump));
}

bool gt_pump_read_once(struct gt_pump *pump, size_t n_max)
{
    struct gt_stream *stream = pump->stream;
    struct iovec room[2];
    int n_room;
    size_t n = 0;

    n_max = GT_MIN(gt_ring_free(&stream->tx), n_max);
    if (gt_ring_room(&stream->tx, n_max, room, &n_room) < 0) {
        gt_stream_reset(stream, GT_RST_INTERNAL);
        return false;
    }
    int r = gt_endpoint_read(pump->endpoint, room, n_room, &n);
    if (r == 0)
        gt_stream_local_read(stream, n);
    else if (r == GT_ENDPOINT_E_EOF)
        gt_stream_local_end(stream, pump->eof);
    else if (r == GT_ENDPOINT_E_BROKEN)
        pump_read_failed(pump);
    return n == n_max;
}

void gt_pump_read(struct gt_pump *pump, struct gt_data_connection *connection, size_t batch)
{
    struct gt_stream *stream = pump->stream;
    uint64_t end = stream->tx.tail + batch;

    while (stream->tx.tail < end && gt_stream_has_tx_room(stream) &&
           gt_pump_read_once(pump, (size_t)(end - stream->tx.tail)))
        gt_pump_send(pump, connection);
}

void gt_pump_watch(struct gt_pump *pump)
{
    if (!gt_endpoint_is_open(pump->endpoint) || gt_stream_is_over(pump->stream))
        return;
    gt_endpoint_watch_read(pump->endpoint, gt_stream_has_tx_room(pump->stream));
    gt_endpoint_watch_write(pump->endpoint, gt_ring_used(&pump->stream->rx) > 0);
}
