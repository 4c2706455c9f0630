/* SPDX-License-Identifier: ISC */
/* State of a stream that its input and output share. Private to stream.c, stream-input.c and
 * stream-output.c. */
#pragma once

#include "gotthard/proto/resume.h"
#include "gotthard/proto/stream.h"

#define STREAM_READ_MIN  (128 * 1024) /* bytes of room in the tx ring that are worth a read */
#define STREAM_DUE(type) (1u << GT_FRAME_INDEX(type))

static inline bool stream_has_connection(const struct gt_stream *s)
{
    return s->state == GT_STREAM_HELLO_SENT || s->state == GT_STREAM_OPEN;
}

static inline void stream_schedule(struct gt_stream *s, enum gt_frame_type type)
{
    if (stream_has_connection(s))
        s->connection.due |= STREAM_DUE(type);
}

static inline uint64_t stream_rx_offset(const struct gt_stream *s)
{
    return gt_resume_offset(s->rx.tail, s->is_end_delivered);
}

static inline struct gt_resume stream_sent_state(const struct gt_stream *s)
{
    return (struct gt_resume){s->tx.head, s->tx_sent, s->tx.tail, s->is_end_sent, s->is_end_acked};
}

/* Returns true if all data and both ENDs were delivered and acknowledged. */
static inline bool stream_is_complete(const struct gt_stream *s)
{
    return s->is_end_acked && s->is_end_delivered && s->window.acked == stream_rx_offset(s);
}

/* Returns the frames to be sent by a stream that is over. @last: the last ones before DONE. */
static inline unsigned stream_last_due(const struct gt_stream *s, unsigned last)
{
    if (s->connection.kind == GT_STREAM_SHARED)
        return (s->connection.due & STREAM_DUE(GT_FRAME_HELLO)) | last | STREAM_DUE(GT_FRAME_DONE);
    return last;
}

/* Enters ENDED, with the result of both directions. Other scheduled frames are not sent. */
void gt_stream_end(struct gt_stream *s);

/* An OPEN stream ends as soon as it is complete and all scheduled frames are sent. */
static inline void stream_end_if_complete(struct gt_stream *s)
{
    if (s->state == GT_STREAM_OPEN && stream_is_complete(s) && !s->connection.due)
        gt_stream_end(s);
}

/* Returns the least room in the tx ring, in bytes, for a read from the local socket. */
static inline size_t stream_read_min(const struct gt_stream *s)
{
    return GT_MIN(s->tx.capacity / 4, (size_t)STREAM_READ_MIN);
}

/* Changes the capacity of @ring, within ->memory. Returns false, with nothing changed, if there is
 * no memory for it. */
bool gt_stream_resize_ring(struct gt_stream *s, struct gt_ring *ring, size_t capacity);
/* Doubles the tx ring if the peer's window is larger and @n_used bytes of the ring are used. */
void gt_stream_grow_tx(struct gt_stream *s, size_t n_used, size_t peer_window);
