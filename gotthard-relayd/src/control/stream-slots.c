/* SPDX-License-Identifier: ISC */
/*
 * Stream slots, tickets out, and whose turn it is. The counts follow from the states: only
 * stream_enter changes both.
 */
#include "streams.h"

#define SLOTS_MIN 4 /* a spare and a stream, and their last ones */

static bool stream_is_live(const struct stream *stream)
{
    switch (stream->state) {
    case STREAM_FREE:
    case STREAM_ENDED: return false;
    case STREAM_WAITING:
    case STREAM_TICKETED:
    case STREAM_JOINED: return true;
    }
    return false;
}

static void stream_enter(struct streams *streams, struct stream *stream, enum stream_state state)
{
    if (stream->state == STREAM_TICKETED)
        gt_wipe(stream->ticket.secret, sizeof(stream->ticket.secret));
    streams->n_live -= stream_is_live(stream);
    streams->n_spares -= stream->is_spare;
    streams->n_tickets -= stream->state == STREAM_TICKETED;
    stream->state = state;
    stream->is_spare &= stream_is_live(stream);
    stream->serial = ++streams->serial;
    streams->n_live += stream_is_live(stream);
    streams->n_spares += stream->is_spare;
    streams->n_tickets += stream->state == STREAM_TICKETED;
}

static void streams_free_slots(struct streams *streams)
{
    if (streams->slots)
        gt_wipe(streams->slots, streams->n_slots * sizeof(*streams->slots));
    free(streams->slots);
    streams->slots = NULL;
}

/* -ENOMEM: as before. */
static int streams_grow(struct streams *streams, size_t n_slots)
{
    struct stream *slots = calloc(n_slots, sizeof(*slots));

    if (!slots)
        return -ENOMEM;
    if (streams->slots)
        memcpy(slots, streams->slots, streams->n_slots * sizeof(*slots));
    streams_free_slots(streams);
    streams->slots = slots;
    streams->n_slots = n_slots;
    return 0;
}

/* Half of the slots should be for those that have ended. */
static bool streams_is_crowded(const struct streams *streams)
{
    return 2 * streams->n_live >= streams->n_slots && streams->n_slots < streams->n_slots_max;
}

int streams_init(struct streams *streams, size_t n_max, size_t n_tickets_max)
{
    *streams =
        (struct streams){.n_slots_max = 2 * n_max, .n_max = n_max, .n_tickets_max = n_tickets_max};
    return streams_grow(streams, GT_MIN((size_t)SLOTS_MIN, streams->n_slots_max));
}

void streams_deinit(struct streams *streams)
{
    streams_free_slots(streams);
    streams->n_slots = 0;
}

static void stream_mark(struct streams *streams, struct stream *stream, bool is_spare)
{
    streams->n_spares -= stream->is_spare;
    stream->is_spare = is_spare;
    streams->n_spares += stream->is_spare;
}

static struct stream *streams_known(struct streams *streams, uint32_t number)
{
    for (size_t i = 0; i < streams->n_slots; i++) {
        struct stream *slot = &streams->slots[i];
        if (slot->state != STREAM_FREE && slot->ticket.stream == number)
            return slot;
    }
    return NULL;
}

/* A free slot, else that of the stream that ended first. */
static struct stream *streams_unused(struct streams *streams)
{
    struct stream *best = NULL;

    for (size_t i = 0; i < streams->n_slots; i++) {
        struct stream *slot = &streams->slots[i];
        if (!stream_is_live(slot) && (!best || slot->serial < best->serial))
            best = slot;
    }
    return best;
}

/* For a stream that may not be known yet. NULL: none is left. */
static struct stream *streams_slot(struct streams *streams, uint32_t number)
{
    struct stream *known = streams_known(streams, number);

    if (known)
        return known;
    if (streams_is_crowded(streams) &&
        streams_grow(streams, GT_MIN(2 * streams->n_slots, streams->n_slots_max)))
        return NULL;
    return streams_unused(streams);
}

int streams_adopt(struct streams *streams, const struct stream *stream)
{
    struct stream *slot = streams_unused(streams);

    if ((!slot || slot->state != STREAM_FREE) && streams->n_slots < streams->n_slots_max) {
        if (streams_grow(streams, GT_MIN(2 * streams->n_slots, streams->n_slots_max)))
            return STREAMS_E_FULL;
        slot = streams_unused(streams);
    }
    if (!slot || slot->state != STREAM_FREE)
        return STREAMS_E_FULL;
    *slot = *stream;
    streams->n_live += stream_is_live(stream);
    streams->n_tickets += stream->state == STREAM_TICKETED;
    return 0;
}

/* Those that a side has called ended are leaving: nobody asks for more of them. */
static bool streams_has_room(const struct streams *streams)
{
    size_t n_here = 0;

    for (size_t i = 0; i < streams->n_slots; i++)
        n_here += stream_is_live(&streams->slots[i]) && streams->slots[i].n_told == 0;
    return n_here < streams->n_max;
}

int streams_open(struct streams *streams, uint32_t number, uint32_t attempt)
{
    if (number == 0 || attempt == 0)
        return STREAMS_E_ORDER;
    struct stream *slot = streams_slot(streams, number);
    if (!slot || (!stream_is_live(slot) && !streams_has_room(streams)))
        return STREAMS_E_FULL;
    if (slot->ticket.stream == number && attempt <= slot->ticket.attempt)
        return STREAMS_E_ORDER;
    stream_mark(streams, slot, false);
    stream_enter(streams, slot, STREAM_WAITING);
    slot->ticket = (struct gt_ticket){.stream = number, .attempt = attempt};
    slot->n_told = 0;
    return 0;
}

struct stream *streams_next(struct streams *streams)
{
    struct stream *first = NULL;

    if (streams->n_tickets >= streams->n_tickets_max)
        return NULL;
    for (size_t i = 0; i < streams->n_slots; i++) {
        struct stream *slot = &streams->slots[i];
        if (slot->state == STREAM_WAITING && (!first || slot->serial < first->serial))
            first = slot;
    }
    return first;
}

void streams_give(struct streams *streams, struct stream *stream, const struct gt_ticket *ticket,
                  uint64_t expires_at)
{
    stream->ticket = *ticket;
    stream->expires_at = expires_at;
    stream_enter(streams, stream, STREAM_TICKETED);
}

struct stream *streams_find(struct streams *streams, uint32_t number, uint32_t attempt)
{
    for (size_t i = 0; i < streams->n_slots; i++) {
        struct stream *slot = &streams->slots[i];
        if (stream_is_live(slot) && slot->ticket.stream == number &&
            slot->ticket.attempt == attempt)
            return slot;
    }
    return NULL;
}

struct stream *streams_tell(struct streams *streams, uint32_t number, uint32_t attempt)
{
    for (size_t i = 0; i < streams->n_slots; i++) {
        struct stream *slot = &streams->slots[i];
        if (slot->state == STREAM_FREE || slot->ticket.stream != number ||
            slot->ticket.attempt != attempt || slot->n_told == 2)
            continue;
        slot->n_told++;
        return slot;
    }
    return NULL;
}

void streams_mark(struct streams *streams, uint32_t number, uint32_t attempt, bool is_spare)
{
    struct stream *stream = streams_find(streams, number, attempt);

    if (stream)
        stream_mark(streams, stream, is_spare);
}

void streams_unmark_all(struct streams *streams)
{
    for (size_t i = 0; i < streams->n_slots; i++)
        stream_mark(streams, &streams->slots[i], false);
}

void streams_join(struct streams *streams, struct stream *stream)
{
    stream_enter(streams, stream, STREAM_JOINED);
}

void streams_end(struct streams *streams, struct stream *stream)
{
    stream_enter(streams, stream, STREAM_ENDED);
}
