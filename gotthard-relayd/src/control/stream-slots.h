/* SPDX-License-Identifier: ISC */
/*
 * The data connections of one session in the control thread: requested, with a ticket, or joined.
 * Pure. The first slot is that of stream 0, the session's shared connection. Every other one is of
 * a stream with a data connection of its own. There are twice as many of them as such streams have
 * ever been live at once, and at most twice as many as the limit. The operator may open a stream
 * while the pair of an ended one still drains. An ended stream, with its last attempt, is
 * remembered until its slot is needed.
 *
 * The number of unused tickets is limited. A stream beyond that limit waits for its turn. Stream 0
 * never waits, because it carries the others.
 */
#pragma once

#include "gotthard/proto/join.h"
#include "snapshot/saved-layout.h"

enum stream_slot_state {
    STREAM_SLOT_FREE,
    STREAM_SLOT_WAITING,  /* requested; waits for a ticket */
    STREAM_SLOT_TICKETED, /* its ticket is valid and not used by both sides */
    STREAM_SLOT_JOINED,   /* both sides have joined */
    STREAM_SLOT_ENDED,    /* only its last attempt is of use */
};

struct stream {
    enum stream_slot_state state;
    uint64_t serial;         /* of its last change: the order of requests and of ends */
    struct gt_ticket ticket; /* stream and attempt; the secret while TICKETED */
    uint64_t expires_at;     /* of the ticket, gt_clock_ms */
    unsigned n_end_notices;  /* STREAM_ENDs received for this attempt, at most one per side */
};

struct streams {
    struct stream *slots; /* owned; moved by stream_slots_open and _restore; [0]: of stream 0 */
    size_t n_slots, n_slots_max;
    size_t n_max, n_tickets_max; /* limits of live streams and unused tickets, without stream 0 */
    size_t n_live;               /* WAITING, TICKETED, JOINED; without stream 0 */
    size_t n_tickets;            /* TICKETED, with stream 0 */
    uint64_t serial;             /* of the last change */
};

enum {
    STREAM_SLOTS_E_ORDER = 1, /* an attempt that is not greater than the last */
    STREAM_SLOTS_E_FULL,      /* the limit of streams is reached, or out of memory */
};

/* -ENOMEM. */
int stream_slots_init(struct streams *streams, size_t n_max, size_t n_tickets_max) GT_MUST_CHECK;
/* Wipes and frees the slots. */
void stream_slots_deinit(struct streams *streams);

/* Handles OPEN: the stream is WAITING, whatever its state was. E_ORDER, E_FULL: nothing changed. */
int stream_slots_open(struct streams *streams, uint32_t stream, uint32_t attempt) GT_MUST_CHECK;
/* Returns how many data connections are live: WAITING, TICKETED, JOINED, with that of stream 0. */
size_t stream_slots_n_live(const struct streams *streams);
/* Returns the stream that is next for a ticket, or NULL if none waits or the limit is reached. */
struct stream *stream_slots_next(struct streams *streams);
/* Grants @ticket, which is copied, to the stream returned by stream_slots_next. */
void stream_slots_grant(struct streams *streams, struct stream *stream,
                        const struct gt_ticket *ticket, uint64_t expires_at);
/* Returns the stream if this attempt is live, else NULL. */
struct stream *stream_slots_find(struct streams *streams, uint32_t stream, uint32_t attempt);
/* Records that a side has ended this attempt, live or not. Returns the stream, or NULL if it is
 * unknown or both sides have ended it. */
struct stream *stream_slots_notify(struct streams *streams, uint32_t stream, uint32_t attempt);
/* Change the state of @stream, which is a live one of @streams. */
void stream_slots_join(struct streams *streams, struct stream *stream);
void stream_slots_end(struct streams *streams, struct stream *stream);

/* --- snapshot --------------------------------------------------------------------------------- */

/* Of a struct stream. */
extern const struct saved_layout stream_layout;

/* Returns the number of slots that are not FREE. */
size_t stream_slots_n_used(const struct streams *streams);
/* Writes a record for each of them. */
void stream_slots_save(const struct streams *streams, struct gt_writer *writer);
/* Restores one into its slot, or into a free one. The caller restores ->serial of @streams. E_FULL:
 * no free slot, or out of memory. */
int stream_slots_restore(struct streams *streams, const struct stream *saved) GT_MUST_CHECK;
