/* SPDX-License-Identifier: ISC */
/*
 * Stream slots, unused tickets, and the order of requests. The counts follow from the states: only
 * stream_enter changes both.
 */
#include "control/stream-slots.h"

#define SLOTS_MIN 5 /* of stream 0, of two streams, and of one ended stream for each */

static bool stream_is_live(const struct stream *stream)
{
    switch (stream->state) {
    case STREAM_SLOT_FREE:
    case STREAM_SLOT_ENDED: return false;
    case STREAM_SLOT_WAITING:
    case STREAM_SLOT_TICKETED:
    case STREAM_SLOT_JOINED: return true;
    }
    return false;
}

/* Returns true if the slot is that of the shared connection. */
static bool streams_is_shared(const struct streams *streams, const struct stream *slot)
{
    return slot == &streams->slots[0];
}

/* Returns 1 if the limit of streams applies to the slot, else 0. */
static size_t streams_count(const struct streams *streams, const struct stream *slot)
{
    return stream_is_live(slot) && !streams_is_shared(streams, slot);
}

static void stream_enter(struct streams *streams, struct stream *stream,
                         enum stream_slot_state state)
{
    if (stream->state == STREAM_SLOT_TICKETED)
        gt_wipe(stream->ticket.secret, sizeof(stream->ticket.secret));
    streams->n_live -= streams_count(streams, stream);
    streams->n_tickets -= stream->state == STREAM_SLOT_TICKETED;
    stream->state = state;
    stream->serial = ++streams->serial;
    streams->n_live += streams_count(streams, stream);
    streams->n_tickets += stream->state == STREAM_SLOT_TICKETED;
}

static void streams_free_slots(struct streams *streams)
{
    if (streams->slots)
        gt_wipe(streams->slots, streams->n_slots * sizeof(*streams->slots));
    free(streams->slots);
    streams->slots = NULL;
}

/* -ENOMEM: nothing changed. */
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

/* Returns true if fewer than half of the slots are left for ended streams. */
static bool streams_should_grow(const struct streams *streams)
{
    return 2 * streams->n_live + 1 >= streams->n_slots && streams->n_slots < streams->n_slots_max;
}

int stream_slots_init(struct streams *streams, size_t n_max, size_t n_tickets_max)
{
    *streams = (struct streams){
        .n_slots_max = 1 + 2 * n_max, .n_max = n_max, .n_tickets_max = n_tickets_max};
    return streams_grow(streams, GT_MIN((size_t)SLOTS_MIN, streams->n_slots_max));
}

void stream_slots_deinit(struct streams *streams)
{
    streams_free_slots(streams);
    streams->n_slots = 0;
}

static struct stream *streams_find_known(struct streams *streams, uint32_t number)
{
    if (number == 0)
        return &streams->slots[0];
    for (size_t i = 0; i < streams->n_slots; i++) {
        struct stream *slot = &streams->slots[i];

        if (slot->state != STREAM_SLOT_FREE && slot->ticket.stream == number)
            return slot;
    }
    return NULL;
}

/* Returns a free slot, else the slot of the stream that ended first, or NULL. */
static struct stream *streams_find_unused(struct streams *streams)
{
    struct stream *best = NULL;

    for (size_t i = 1; i < streams->n_slots; i++) {
        struct stream *slot = &streams->slots[i];

        if (!stream_is_live(slot) && (!best || slot->serial < best->serial))
            best = slot;
    }
    return best;
}

/* Returns the slot of a stream, or one for a new stream. NULL: none is left, or out of memory. */
static struct stream *streams_find_or_allocate(struct streams *streams, uint32_t number)
{
    struct stream *known = streams_find_known(streams, number);

    if (known)
        return known;
    if (streams_should_grow(streams) &&
        streams_grow(streams, GT_MIN(2 * streams->n_slots, streams->n_slots_max)))
        return NULL;
    return streams_find_unused(streams);
}

/* Returns true if the limit allows one more stream. A stream that a side has ended does not count:
 * it is draining. */
static bool streams_has_room(const struct streams *streams)
{
    size_t n_open = 0;

    for (size_t i = 1; i < streams->n_slots; i++)
        n_open += stream_is_live(&streams->slots[i]) && streams->slots[i].n_end_notices == 0;
    return n_open < streams->n_max;
}

int stream_slots_open(struct streams *streams, uint32_t number, uint32_t attempt)
{
    if (attempt == 0)
        return STREAM_SLOTS_E_ORDER;
    struct stream *slot = streams_find_or_allocate(streams, number);
    if (!slot || (number != 0 && !stream_is_live(slot) && !streams_has_room(streams)))
        return STREAM_SLOTS_E_FULL;
    if (slot->ticket.stream == number && attempt <= slot->ticket.attempt)
        return STREAM_SLOTS_E_ORDER;
    stream_enter(streams, slot, STREAM_SLOT_WAITING);
    slot->ticket = (struct gt_ticket){.stream = number, .attempt = attempt};
    slot->n_end_notices = 0;
    return 0;
}

size_t stream_slots_n_live(const struct streams *streams)
{
    return streams->n_live + stream_is_live(&streams->slots[0]);
}

/* Returns true if the limit allows one more unused ticket. That of stream 0 does not count. */
static bool streams_has_ticket(const struct streams *streams)
{
    size_t n_shared = streams->slots[0].state == STREAM_SLOT_TICKETED;

    return streams->n_tickets - n_shared < streams->n_tickets_max;
}

struct stream *stream_slots_next(struct streams *streams)
{
    struct stream *first = NULL;

    if (streams->slots[0].state == STREAM_SLOT_WAITING)
        return &streams->slots[0];
    if (!streams_has_ticket(streams))
        return NULL;
    for (size_t i = 0; i < streams->n_slots; i++) {
        struct stream *slot = &streams->slots[i];

        if (slot->state == STREAM_SLOT_WAITING && (!first || slot->serial < first->serial))
            first = slot;
    }
    return first;
}

void stream_slots_grant(struct streams *streams, struct stream *stream,
                        const struct gt_ticket *ticket, uint64_t expires_at)
{
    stream->ticket = *ticket;
    stream->expires_at = expires_at;
    stream_enter(streams, stream, STREAM_SLOT_TICKETED);
}

struct stream *stream_slots_find(struct streams *streams, uint32_t number, uint32_t attempt)
{
    for (size_t i = 0; i < streams->n_slots; i++) {
        struct stream *slot = &streams->slots[i];

        if (stream_is_live(slot) && slot->ticket.stream == number &&
            slot->ticket.attempt == attempt)
            return slot;
    }
    return NULL;
}

struct stream *stream_slots_notify(struct streams *streams, uint32_t number, uint32_t attempt)
{
    for (size_t i = 0; i < streams->n_slots; i++) {
        struct stream *slot = &streams->slots[i];

        if (slot->state == STREAM_SLOT_FREE || slot->ticket.stream != number ||
            slot->ticket.attempt != attempt || slot->n_end_notices == 2)
            continue;
        slot->n_end_notices++;
        return slot;
    }
    return NULL;
}

void stream_slots_join(struct streams *streams, struct stream *stream)
{
    stream_enter(streams, stream, STREAM_SLOT_JOINED);
}

void stream_slots_end(struct streams *streams, struct stream *stream)
{
    stream_enter(streams, stream, STREAM_SLOT_ENDED);
}

/* --- snapshot --------------------------------------------------------------------------------- */

static bool stream_is_valid(const void *record)
{
    const struct stream *stream = record;

    return stream->state >= STREAM_SLOT_WAITING && stream->state <= STREAM_SLOT_ENDED &&
           stream->n_end_notices <= 2;
}

static const struct gt_field stream_fields[] = {
    GT_FIELD_U32(struct stream, state),         GT_FIELD_U64(struct stream, serial),
    SAVED_TICKET_FIELDS(struct stream, ticket), GT_FIELD_U64(struct stream, expires_at),
    GT_FIELD_U32(struct stream, n_end_notices),
};

const struct saved_layout stream_layout = {SAVED_LAYOUT(STREAM, stream_fields),
                                           .is_valid = stream_is_valid};

size_t stream_slots_n_used(const struct streams *streams)
{
    size_t n = 0;

    for (size_t i = 0; i < streams->n_slots; i++)
        n += streams->slots[i].state != STREAM_SLOT_FREE;
    return n;
}

void stream_slots_save(const struct streams *streams, struct gt_writer *writer)
{
    for (size_t i = 0; i < streams->n_slots; i++)
        if (streams->slots[i].state != STREAM_SLOT_FREE)
            saved_layout_write(&stream_layout, writer, &streams->slots[i]);
}

/* Returns the slot for a restored stream, free or not. NULL: out of memory. */
static struct stream *streams_find_for_restored(struct streams *streams, uint32_t number)
{
    struct stream *slot = number == 0 ? &streams->slots[0] : streams_find_unused(streams);

    if (number != 0 && (!slot || slot->state != STREAM_SLOT_FREE) &&
        streams->n_slots < streams->n_slots_max) {
        if (streams_grow(streams, GT_MIN(2 * streams->n_slots, streams->n_slots_max)))
            return NULL;
        slot = streams_find_unused(streams);
    }
    return slot;
}

int stream_slots_restore(struct streams *streams, const struct stream *saved)
{
    struct stream *slot = streams_find_for_restored(streams, saved->ticket.stream);

    if (!slot || slot->state != STREAM_SLOT_FREE)
        return STREAM_SLOTS_E_FULL;
    *slot = *saved;
    streams->n_live += streams_count(streams, slot);
    streams->n_tickets += saved->state == STREAM_SLOT_TICKETED;
    return 0;
}
