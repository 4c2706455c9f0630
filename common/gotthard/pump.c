/* SPDX-License-Identifier: ISC */
/*
 * Nothing here waits, allocates (but a ring that is used for the first time) or decides. Must never
 * let go of TLS's input buffer while the stream borrows from it.
 */
#include "gotthard/pump.h"

#include "gotthard/clock.h"

static bool may_emit(const struct gt_stream *stream, struct gt_carrier *carrier)
{
    return gt_stream_wants_carrier(stream) && gt_carrier_has_room(carrier);
}

static bool is_parting(const struct gt_stream *stream)
{
    return gt_stream_is_over(stream) && !gt_stream_wants_carrier(stream);
}

/* Again after a flush: on_writable comes only when that has left something, and it may find room
 * which was not there a moment before. */
void gt_pump_emit(struct gt_stream *stream, struct gt_carrier *carrier)
{
    struct gt_stream_record record;
    if (!carrier)
        return;
    stream->now = gt_clock();
    do {
        while (may_emit(stream, carrier)) {
            gt_stream_compose(stream, gt_carrier_record(carrier), &record);
            gt_carrier_write(carrier, record.parts, record.n_parts);
        }
        if (!is_parting(stream))
            gt_carrier_flush(carrier);
    } while (may_emit(stream, carrier));
}

/* To the local socket from where it lies; what that does not take is kept. */
static void deliver(struct gt_stream *stream, struct gt_local *local)
{
    if (!gt_local_is_full(local))
        gt_local_write(local);
    gt_ring_keep(&stream->rx);
}

/* Between two calls on the carrier's socket there is one on the local one. */
void gt_pump_absorb(struct gt_stream *stream, struct gt_carrier *carrier, struct gt_local *local)
{
    struct gt_lent lent = {0};
    struct gt_span record;
    stream->now = gt_clock();
    stream->rx.lent = &lent;
    for (size_t total = 0; total < GT_PUMP_BUDGET;) {
        if (lent.n_spans == GT_RING_LENT)
            deliver(stream, local);
        if (gt_carrier_next(carrier, &record)) {
            total += record.n;
            if (gt_stream_consume(stream, record.data, record.n) < 0)
                break; /* out of memory: the stream is broken */
            continue;
        }
        deliver(stream, local);
        if (!gt_carrier_fill(carrier))
            break;
    }
    deliver(stream, local);
    stream->rx.lent = NULL;
}

void gt_pump_collect(struct gt_stream *stream, struct gt_local *local, struct gt_carrier *carrier)
{
    uint64_t end = stream->tx.tail + GT_PUMP_BUDGET;
    while (stream->tx.tail < end && gt_stream_wants_local(stream) && gt_local_read(local))
        gt_pump_emit(stream, carrier);
}
