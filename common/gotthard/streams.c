/* SPDX-License-Identifier: ISC */
/*
 * One table by number. Whether a stream's end comes through its carrier or must be believed from
 * the relay is the one thing to know of each (enum entry_state). Must never forget a stream that
 * had its conduit without on_end, but in deinit; of a spare nobody wants to know.
 */
#include "gotthard/streams.h"

#define HASH_NONFATAL_OOM 1
#include <string.h>
#include <uthash.h>

#include "gotthard/log.h"

#define RINGS_MAX   16 /* of full size, that all streams together may have */
#define UNBOUND_MAX 16 /* on the device: twice what an operator may want, for those he lost */

enum entry_state {
    ENTRY_OPENING, /* no carrier was up yet: the relay alone can tell that it never will be */
    ENTRY_CARRIED, /* its end comes through the carrier, or with it */
    ENTRY_LEFT,    /* it has ended on the other side, and will here in a moment */
};

struct streams_entry {
    uint32_t number;
    enum entry_state state;
    struct gt_streams *streams;
    struct gt_conduit *conduit; /* owned until its on_end */
    UT_hash_handle hh;
};

static struct streams_entry *streams_find(const struct gt_streams *streams, uint32_t number)
{
    struct streams_entry *entry;
    HASH_FIND(hh, streams->entries, &number, sizeof number, entry);
    return entry;
}

static void entry_forget(struct streams_entry *entry)
{
    HASH_DEL(entry->streams->entries, entry);
    free(entry);
}

/* Tells the relay and the tunnel. */
static void entry_tell_end(const struct streams_entry *entry, enum gt_rst code)
{
    const struct gt_streams *streams = entry->streams;
    uint32_t attempt = GT_MAX(gt_conduit_attempt(entry->conduit), 1u);
    uint64_t n_up, n_down;
    gt_conduit_counts(entry->conduit, &n_up, &n_down);
    if (gt_link_stream_end(streams->link, entry->number, attempt,
                           code == GT_RST_NONE ? GT_CODE_NONE : GT_CODE_BYE, n_up, n_down))
        gt_debug("stream=%u its end was not told to the relay", entry->number);
    if (!gt_conduit_is_spare(entry->conduit))
        streams->events.on_end(streams->userdata, gt_conduit_service(entry->conduit), entry->number,
                               code, n_up, n_down);
}

static void entry_on_end(struct gt_conduit *conduit, void *userdata, enum gt_rst code)
{
    struct streams_entry *entry = userdata;
    struct gt_streams *streams = entry->streams;
    bool is_spare = gt_conduit_is_spare(conduit);
    entry_tell_end(entry, code);
    entry_forget(entry); /* the conduit frees itself */
    if (is_spare)
        streams->events.on_spare_end(streams, code);
    if (!streams->entries)
        streams->events.on_empty(streams);
}

/* Operator: whether it is a spare, for the relay, which may skip that. False: it was not told. */
static bool entry_tell_spare(const struct streams_entry *entry, bool is_spare)
{
    return gt_link_spare(entry->streams->link, entry->number, gt_conduit_attempt(entry->conduit),
                         is_spare) == 0;
}

static void entry_on_ticket_due(struct gt_conduit *conduit, void *userdata, uint32_t attempt)
{
    const struct streams_entry *entry = userdata;
    if (entry->streams->is_held)
        return; /* all are asked for after it */
    if (gt_link_open(entry->streams->link, entry->number, attempt) ||
        (gt_conduit_is_spare(conduit) && !entry_tell_spare(entry, true)))
        gt_debug("stream=%u its ticket will be asked for again", entry->number);
}

static void entry_on_lost(struct gt_conduit *conduit, void *userdata, uint32_t attempt)
{
    const struct streams_entry *entry = userdata;
    if (entry->streams->is_held)
        return; /* all are told of after it */
    if (gt_link_stream_end(entry->streams->link, entry->number, attempt, GT_CODE_LOST, 0, 0))
        gt_debug("stream=%u its loss will be told again", entry->number);
}

static void entry_on_service(struct gt_conduit *conduit, void *userdata, const char *service)
{
    const struct streams_entry *entry = userdata;
    entry->streams->events.on_service(entry->streams->userdata, conduit, service);
}

/* Device: does it wait for a service, and not for its operator's first word? */
static bool is_unbound(const struct streams_entry *entry)
{
    return entry->state != ENTRY_OPENING && gt_conduit_is_spare(entry->conduit) &&
           gt_conduit_code(entry->conduit) == GT_RST_NONE;
}

/* Device: of too many that wait for a service, those the operator has lost go first. */
static void streams_limit_unbound(struct gt_streams *streams, struct gt_conduit *newest)
{
    struct streams_entry *oldest = NULL;
    unsigned n = 0;
    for (struct streams_entry *at = streams->entries; at; at = at->hh.next) {
        n += is_unbound(at);
        if (is_unbound(at) && !gt_conduit_is_carried(at->conduit) &&
            (!oldest || at->number < oldest->number))
            oldest = at;
    }
    if (n > UNBOUND_MAX)
        gt_conduit_break(oldest ? oldest->conduit : newest, GT_RST_DENIED);
}

static void entry_on_up(struct gt_conduit *conduit, void *userdata)
{
    struct streams_entry *entry = userdata;
    entry->state = ENTRY_CARRIED;
    if (entry->streams->conduits.role == GT_ROLE_DEVICE && gt_conduit_is_spare(conduit))
        streams_limit_unbound(entry->streams, conduit);
}

/* Takes @local_fd, also on failure. */
static int entry_new(struct gt_streams *streams, uint32_t number, int local_fd, const char *service,
                     struct streams_entry **ret)
{
    static const struct gt_conduit_events events = {
        .on_ticket_due = entry_on_ticket_due,
        .on_lost = entry_on_lost,
        .on_service = entry_on_service,
        .on_up = entry_on_up,
        .on_end = entry_on_end,
    };
    struct streams_entry *entry = calloc(1, sizeof *entry);
    if (entry) {
        entry->number = number;
        entry->streams = streams;
        HASH_ADD(hh, streams->entries, number, sizeof entry->number, entry);
    }
    if (!entry || !entry->hh.tbl) {
        free(entry);
        if (local_fd >= 0)
            gt_sock_reset(local_fd);
        return -ENOMEM;
    }
    int r = gt_conduit_new(&streams->conduits, number, local_fd, service, &events, entry,
                           &entry->conduit);
    if (r) {
        entry_forget(entry);
        return r;
    }
    *ret = entry;
    return 0;
}

int gt_streams_open(struct gt_streams *streams, int local_fd, const char *service)
{
    struct streams_entry *entry;
    if (HASH_COUNT(streams->entries) >= streams->max) {
        gt_sock_reset(local_fd);
        return GT_STREAMS_E_FULL;
    }
    streams->opened = ++streams->last;
    return entry_new(streams, streams->last, local_fd, service, &entry);
}

int gt_streams_open_spare(struct gt_streams *streams)
{
    struct streams_entry *entry;
    if (!gt_streams_has_room(streams, 0))
        return GT_STREAMS_E_FULL;
    return entry_new(streams, ++streams->last, -1, "", &entry);
}

/* The best spare: one that is up, and of those the newest, whose way was seen open last. */
static struct streams_entry *streams_spare(const struct gt_streams *streams)
{
    struct streams_entry *best = NULL;
    for (struct streams_entry *at = streams->entries; at; at = at->hh.next)
        if (gt_conduit_is_bindable(at->conduit) &&
            (!best || gt_conduit_is_up(at->conduit) >= gt_conduit_is_up(best->conduit)))
            best = at;
    return best;
}

void gt_streams_drop_spare(struct gt_streams *streams)
{
    for (struct streams_entry *at = streams->entries; at; at = at->hh.next)
        if (gt_conduit_is_bindable(at->conduit)) {
            gt_conduit_break(at->conduit, GT_RST_CLOSED);
            return;
        }
}

/* While the link is away the relay cannot be told, and would take it for a spare for ever. */
bool gt_streams_bind(struct gt_streams *streams, int local_fd, const char *service)
{
    struct streams_entry *entry = streams->is_held ? NULL : streams_spare(streams);
    if (!entry || !entry_tell_spare(entry, false))
        return false;
    streams->opened = entry->number;
    gt_conduit_bind(entry->conduit, local_fd, service);
    return true;
}

/* Device: room for one more? The operator opens a stream as soon as one of his has ended, which may
 * still be ending here: those do not count, but are not without limit either. */
static bool streams_has_room(const struct gt_streams *streams)
{
    unsigned n_here = 0;
    for (const struct streams_entry *entry = streams->entries; entry; entry = entry->hh.next)
        n_here += entry->state != ENTRY_LEFT;
    return n_here < streams->max && HASH_COUNT(streams->entries) < 2 * streams->max;
}

/* Device: the first ticket of a stream makes it. NULL when it must not, and the operator is told
 * why: one that was here and has ended, or was never seen by this process, cannot go on. */
static struct streams_entry *streams_accept(struct gt_streams *streams,
                                            const struct gt_ticket *ticket)
{
    struct streams_entry *entry;
    bool is_new = ticket->stream > streams->last;
    if (is_new)
        streams->last = ticket->stream;
    if (is_new && streams_has_room(streams) &&
        entry_new(streams, ticket->stream, -1, NULL, &entry) == 0)
        return entry;
    if (gt_link_stream_end(streams->link, ticket->stream, ticket->attempt,
                           is_new ? GT_CODE_LIMIT : GT_CODE_NO_SESSION, 0, 0))
        gt_debug("stream=%u its refusal was not told to the relay", ticket->stream);
    return NULL;
}

void gt_streams_carry(struct gt_streams *streams, const struct gt_addr *relay,
                      const struct gt_ticket *ticket)
{
    struct streams_entry *entry = streams_find(streams, ticket->stream);
    if (!entry && streams->conduits.role == GT_ROLE_DEVICE)
        entry = streams_accept(streams, ticket);
    if (entry && gt_conduit_carry(entry->conduit, relay, ticket) < 0)
        gt_conduit_break(entry->conduit, GT_RST_INTERNAL);
}

/* What the other side says of a stream that is no more there; all else is the relay's, about one
 * attempt that came to nothing. */
static bool is_over_there(const struct streams_entry *entry, unsigned code)
{
    return code == GT_CODE_NONE || code == GT_CODE_BYE || code == GT_CODE_NO_SESSION ||
           (code == GT_CODE_LIMIT && entry->state == ENTRY_OPENING);
}

/* What it means to a stream that has no carrier to bring its end. */
static enum gt_rst rst_of_end(enum entry_state state, unsigned code)
{
    if (state != ENTRY_OPENING)
        return GT_RST_RESYNC;
    return code == GT_CODE_LIMIT ? GT_RST_DENIED : GT_RST_LOST;
}

/* While a carrier is up, the stream's end comes through it, with the reason: the relay's word would
 * only overtake it. A parked stream would wait for ever. */
void gt_streams_hear_end(struct gt_streams *streams, uint32_t number, uint32_t attempt,
                         unsigned code)
{
    struct streams_entry *entry = streams_find(streams, number);
    if (!entry)
        return;
    gt_debug("stream=%u attempt=%u ended by the relay or the %s: %s", number, attempt,
             streams->conduits.role == GT_ROLE_OPERATOR ? "device" : "operator",
             gt_code_text(code));
    if (code == GT_CODE_LOST)
        gt_conduit_lose(entry->conduit, attempt);
    if (!is_over_there(entry, code))
        return;
    enum gt_rst why = rst_of_end(entry->state, code);
    entry->state = ENTRY_LEFT;
    if (!gt_conduit_is_carried(entry->conduit))
        gt_conduit_break(entry->conduit, why);
}

void gt_streams_check(struct gt_streams *streams, bool has_slept)
{
    for (struct streams_entry *entry = streams->entries; entry; entry = entry->hh.next)
        gt_conduit_check(entry->conduit, has_slept);
}

void gt_streams_resume(struct gt_streams *streams)
{
    for (struct streams_entry *entry = streams->entries; entry; entry = entry->hh.next) {
        gt_conduit_resume(entry->conduit);
        /* A relay forgets who was one when the link changes: the mistake that costs nothing. */
        if (gt_conduit_is_bindable(entry->conduit) && !entry_tell_spare(entry, true))
            gt_debug("stream=%u keeps the session", entry->number);
    }
}

static enum gt_rst rst_of(enum gt_down cause)
{
    switch (cause) {
    case GT_DOWN_CLOSED: return GT_RST_CLOSED;
    case GT_DOWN_EXPIRED: return GT_RST_EXPIRED;
    case GT_DOWN_INTERNAL: return GT_RST_INTERNAL;
    case GT_DOWN_UNREACHABLE:
    case GT_DOWN_REFUSED:
    case GT_DOWN_RELAY:
    case GT_DOWN_LOST:
    case GT_DOWN_PEER: return GT_RST_LOST;
    }
    return GT_RST_LOST;
}

void gt_streams_break(struct gt_streams *streams, enum gt_down cause)
{
    struct streams_entry *entry, *next;
    HASH_ITER (hh, streams->entries, entry, next)
        if (!gt_conduit_is_spare(entry->conduit)) {
            gt_conduit_break(entry->conduit, rst_of(cause));
        } else {
            gt_conduit_free(entry->conduit);
            entry_forget(entry);
        }
}

void gt_streams_drop(struct gt_streams *streams)
{
    struct streams_entry *entry, *next;
    HASH_ITER (hh, streams->entries, entry, next) {
        entry_tell_end(entry, gt_conduit_code(entry->conduit));
        gt_conduit_free(entry->conduit);
        entry_forget(entry);
    }
}

unsigned gt_streams_n_spares(const struct gt_streams *streams)
{
    unsigned n = 0;
    for (const struct streams_entry *entry = streams->entries; entry; entry = entry->hh.next)
        n += gt_conduit_is_spare(entry->conduit);
    return n;
}

unsigned gt_streams_n_ready(const struct gt_streams *streams)
{
    unsigned n = 0;
    for (const struct streams_entry *entry = streams->entries; entry; entry = entry->hh.next)
        n += gt_conduit_is_bindable(entry->conduit) && gt_conduit_is_up(entry->conduit);
    return n;
}

bool gt_streams_has_room(const struct gt_streams *streams, unsigned n)
{
    return HASH_COUNT(streams->entries) + n < streams->max;
}

unsigned gt_streams_count(const struct gt_streams *streams)
{
    return HASH_COUNT(streams->entries) - gt_streams_n_spares(streams);
}

bool gt_streams_is_empty(const struct gt_streams *streams)
{
    return !streams->entries;
}

bool gt_streams_is_carried(const struct gt_streams *streams)
{
    for (const struct streams_entry *entry = streams->entries; entry; entry = entry->hh.next)
        if (gt_conduit_is_carried(entry->conduit))
            return true;
    return false;
}

void gt_streams_use(struct gt_streams *streams, struct gt_link *link)
{
    streams->link = link;
}

void gt_streams_hold(struct gt_streams *streams, bool is_held)
{
    streams->is_held = is_held;
}

int gt_streams_init(struct gt_streams *streams, const struct gt_conduit_settings *conduits,
                    unsigned max, const struct gt_streams_events *events, void *userdata)
{
    *streams = (struct gt_streams){
        .conduits = *conduits,
        .events = *events,
        .userdata = userdata,
        .max = max,
    };
    memcpy(streams->session_key, conduits->session_key, sizeof streams->session_key);
    streams->conduits.session_key = streams->session_key;
    streams->memory.max = RINGS_MAX * conduits->ring_size;
    streams->conduits.memory = &streams->memory;
    return gt_tls_context_new(conduits->role == GT_ROLE_OPERATOR ? GT_TLS_CLIENT : GT_TLS_SERVER,
                              GT_STREAM_ALPN, &streams->conduits.tls);
}

void gt_streams_deinit(struct gt_streams *streams)
{
    struct streams_entry *entry, *next;
    HASH_ITER (hh, streams->entries, entry, next) {
        gt_conduit_free(entry->conduit);
        entry_forget(entry);
    }
    gt_tls_context_free(streams->conduits.tls);
    gt_wipe(streams->session_key, sizeof streams->session_key);
}
