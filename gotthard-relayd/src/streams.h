/* SPDX-License-Identifier: ISC */
/*
 * The streams of one session as the control thread sees them: which were asked for, which have a
 * ticket out, which are joined. Pure. There are slots for twice as many as ever lived at once, and
 * at most for twice as many as may: of one that a side has called ended the pair may still be
 * ending, when the operator already asks for the next. An ended stream stays remembered (its last
 * attempt counts) until its slot is needed.
 *
 * Only so many tickets may be out at a time; a stream asked for beyond that waits for its turn.
 */
#pragma once

#include "gotthard/join.h"

enum stream_state { STREAM_FREE, STREAM_WAITING, STREAM_TICKETED, STREAM_JOINED, STREAM_ENDED };

struct stream {
    enum stream_state state;
    uint64_t serial;         /* of its last change: who came first */
    struct gt_ticket ticket; /* stream and attempt always, the secret while TICKETED */
    uint64_t expires_at;     /* the ticket */
    unsigned n_told;         /* how often a side said that this attempt has ended */
    bool is_spare;           /* nobody uses it yet: the operator says so */
};

struct streams {
    struct stream *slots; /* moved when they grow */
    size_t n_slots, n_slots_max, n_max, n_tickets_max;
    size_t n_live;    /* WAITING, TICKETED, JOINED */
    size_t n_spares;  /* of those live */
    size_t n_tickets; /* TICKETED */
    uint64_t serial;
};

enum {
    STREAMS_E_ORDER = 1, /* no such number, or the attempt is not greater than the last */
    STREAMS_E_FULL,      /* as many as may be, and nobody has said that one of them ended */
};

int streams_init(struct streams *streams, size_t n_max, size_t n_tickets_max) GT_MUST_CHECK;
void streams_deinit(struct streams *streams);

/* One of another image of the relay, into a free slot; E_FULL (or no memory). ->serial of all is
 * the caller's. */
int streams_adopt(struct streams *streams, const struct stream *stream) GT_MUST_CHECK;
/* OPEN: the stream is WAITING from now on, whatever it was before. */
int streams_open(struct streams *streams, uint32_t stream, uint32_t attempt) GT_MUST_CHECK;
/* Who is first in line for a ticket, if one more may be out? NULL: nobody. */
struct stream *streams_next(struct streams *streams);
/* Gives the first in line (streams_next) its ticket; keeps a copy of it. */
void streams_give(struct streams *streams, struct stream *stream, const struct gt_ticket *ticket,
                  uint64_t expires_at);
/* That very attempt, or NULL when it is not live any more. */
struct stream *streams_find(struct streams *streams, uint32_t stream, uint32_t attempt);
/* A side says that this attempt has ended, live or not. NULL: unknown, or each has said so. */
struct stream *streams_tell(struct streams *streams, uint32_t stream, uint32_t attempt);
/* Whether it is a spare, until its next attempt; no effect on what is not live. */
void streams_mark(struct streams *streams, uint32_t stream, uint32_t attempt, bool is_spare);
/* None is one, unless that is said again. */
void streams_unmark_all(struct streams *streams);
void streams_join(struct streams *streams, struct stream *stream);
void streams_end(struct streams *streams, struct stream *stream);
