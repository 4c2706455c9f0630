/* SPDX-License-Identifier: ISC */
/*
 * One hash table. The state of an entry (enum entry_state) decides whether the end of its stream
 * arrives through its data connection or must be taken from the relay. Must never remove a stream
 * with a service without on_end, except in deinit. Spares end silently.
 */
#include <string.h>

#include "gotthard/base/log.h"
#include "gotthard/net/sock.h"
#include "gotthard/tunnel/streams-internal.h"

#define RINGS_MAX 16 /* rings of full size that all streams together may have */

static struct streams_entry *streams_find(const struct gt_streams *streams, uint32_t number)
{
    struct streams_entry *entry;

    HASH_FIND(hh, streams->entries, &number, sizeof(number), entry);
    return entry;
}

int gt_streams_open(struct gt_streams *streams, struct gt_endpoint_fds local, const char *service)
{
    struct streams_entry *entry;

    if (HASH_COUNT(streams->entries) >= streams->max) {
        gt_endpoint_fds_reset(local);
        return GT_STREAMS_E_FULL;
    }
    streams->opened = ++streams->last;
    return gt_streams_entry_new(streams, streams->last, local, service, &entry);
}

void gt_streams_serve(struct gt_streams *streams, uint32_t number, int fd)
{
    struct streams_entry *entry = streams_find(streams, number);

    if (entry)
        gt_channel_serve(entry->channel, fd);
    else
        gt_sock_reset(fd);
}

int gt_streams_open_spare(struct gt_streams *streams)
{
    struct streams_entry *entry;

    if (!gt_streams_has_room(streams, 0))
        return GT_STREAMS_E_FULL;
    return gt_streams_entry_new(streams, ++streams->last, gt_endpoint_fds(-1), "", &entry);
}

/* Prefers spares that are up, and of those the newest: its path was seen open last. NULL: none. */
static struct streams_entry *streams_find_spare(const struct gt_streams *streams)
{
    struct streams_entry *best = NULL;

    for (struct streams_entry *at = streams->entries; at; at = at->hh.next)
        if (gt_channel_is_bindable(at->channel) &&
            (!best || gt_channel_is_up(at->channel) >= gt_channel_is_up(best->channel)))
            best = at;
    return best;
}

void gt_streams_drop_spare(struct gt_streams *streams)
{
    for (struct streams_entry *at = streams->entries; at; at = at->hh.next)
        if (gt_channel_is_bindable(at->channel)) {
            gt_channel_abort(at->channel, GT_RST_CLOSED);
            return;
        }
}

/* Not without a control connection: the relay would count the stream as a spare indefinitely. */
bool gt_streams_bind(struct gt_streams *streams, struct gt_endpoint_fds local, const char *service)
{
    struct streams_entry *entry = streams->is_paused ? NULL : streams_find_spare(streams);

    if (!entry || !gt_streams_entry_mark_spare(entry, false))
        return false;
    streams->opened = entry->number;
    gt_channel_bind(entry->channel, local, service);
    return true;
}

/* Device: returns true if one more stream may be created. The operator opens a stream as soon as
 * one of its own has ended, which may still be ending here. Those streams do not count, but they
 * have a limit of their own. */
static bool streams_may_accept(const struct gt_streams *streams)
{
    unsigned n_active = 0;

    for (const struct streams_entry *entry = streams->entries; entry; entry = entry->hh.next)
        n_active += entry->state != ENTRY_PEER_ENDED;
    return n_active < streams->max && HASH_COUNT(streams->entries) < 2 * streams->max;
}

/* Device: the first ticket of a stream creates it. Returns NULL if it must not, and informs the
 * operator of the reason: a stream that has ended here, or that this process never had, cannot
 * continue. */
static struct streams_entry *streams_accept(struct gt_streams *streams,
                                            const struct gt_ticket *ticket)
{
    struct streams_entry *entry;
    bool is_new = ticket->stream > streams->last;

    if (is_new)
        streams->last = ticket->stream;
    if (is_new && streams_may_accept(streams) &&
        gt_streams_entry_new(streams, ticket->stream, gt_endpoint_fds(-1), NULL, &entry) == 0)
        return entry;
    if (gt_control_connection_stream_end(streams->control, ticket->stream, ticket->attempt,
                                         is_new ? GT_CODE_LIMIT : GT_CODE_NO_SESSION, 0, 0))
        gt_debug("stream=%u rejection not reported to the relay", ticket->stream);
    return NULL;
}

void gt_streams_connect(struct gt_streams *streams, const struct gt_addr *relay,
                        const struct gt_ticket *ticket)
{
    struct streams_entry *entry = streams_find(streams, ticket->stream);

    if (!entry && streams->channels.role == GT_ROLE_DEVICE)
        entry = streams_accept(streams, ticket);
    if (entry && gt_channel_connect(entry->channel, relay, ticket) < 0)
        gt_channel_abort(entry->channel, GT_RST_INTERNAL);
}

/* Returns true if @code reports the end of the stream itself on the other side. All other codes are
 * the relay's, about one failed attempt. */
static bool is_stream_end(const struct streams_entry *entry, unsigned code)
{
    return code == GT_CODE_NONE || code == GT_CODE_BYE || code == GT_CODE_NO_SESSION ||
           (code == GT_CODE_LIMIT && entry->state == ENTRY_OPENING);
}

/* The result of a stream that has no data connection to receive its end from. */
static enum gt_rst rst_of_end(enum entry_state state, unsigned code)
{
    if (state != ENTRY_OPENING)
        return GT_RST_RESYNC;
    return code == GT_CODE_LIMIT ? GT_RST_LIMIT : GT_RST_LOST;
}

/* While a data connection is up, the end of the stream arrives through it, with the exact reason;
 * the relay's message may overtake it. A parked stream would wait indefinitely. */
void gt_streams_on_peer_end(struct gt_streams *streams, uint32_t number, uint32_t attempt,
                            unsigned code)
{
    struct streams_entry *entry = streams_find(streams, number);

    if (!entry)
        return;
    gt_debug("stream=%u attempt=%u ended by=\"relay or %s\" reason=\"%s\"", number, attempt,
             streams->channels.role == GT_ROLE_OPERATOR ? "device" : "operator",
             gt_code_text(code));
    if (code == GT_CODE_LARGE_LOST && attempt == gt_channel_attempt(entry->channel))
        gt_path_on_black_hole(&streams->path, gt_channel_segment(entry->channel));
    if (code == GT_CODE_LOST || code == GT_CODE_LARGE_LOST)
        gt_channel_drop_connection(entry->channel, attempt);
    if (!is_stream_end(entry, code))
        return;
    enum gt_rst why = rst_of_end(entry->state, code);
    entry->state = ENTRY_PEER_ENDED;
    if (!gt_channel_is_connected(entry->channel))
        gt_channel_abort(entry->channel, why);
}

void gt_streams_check(struct gt_streams *streams, bool has_slept)
{
    for (struct streams_entry *entry = streams->entries; entry; entry = entry->hh.next)
        gt_channel_check(entry->channel, has_slept);
}

void gt_streams_resume(struct gt_streams *streams)
{
    for (struct streams_entry *entry = streams->entries; entry; entry = entry->hh.next) {
        gt_channel_resume(entry->channel);
        /* The relay drops the spare marks with the control connection. A missing mark only makes an
         * idle session live longer. */
        if (gt_channel_is_bindable(entry->channel) && !gt_streams_entry_mark_spare(entry, true))
            gt_debug("stream=%u not marked as a spare", entry->number);
    }
}

static enum gt_rst rst_of(enum gt_end_reason cause)
{
    switch (cause) {
    case GT_END_CLOSED:
    case GT_END_WITHDRAWN: return GT_RST_CLOSED;
    case GT_END_EXPIRED: return GT_RST_EXPIRED;
    case GT_END_INTERNAL: return GT_RST_INTERNAL;
    case GT_END_UNREACHABLE:
    case GT_END_PROXY:
    case GT_END_REFUSED:
    case GT_END_RELAY:
    case GT_END_IDLE:
    case GT_END_LIMIT:
    case GT_END_LOST:
    case GT_END_PEER: return GT_RST_LOST;
    }
    return GT_RST_LOST;
}

void gt_streams_reset(struct gt_streams *streams, uint32_t number)
{
    struct streams_entry *entry = streams_find(streams, number);

    if (entry)
        gt_channel_abort(entry->channel, GT_RST_CLOSED);
}

void gt_streams_leave(struct gt_streams *streams, uint32_t number)
{
    struct streams_entry *entry = streams_find(streams, number);

    if (entry)
        gt_channel_leave(entry->channel);
}

void gt_streams_abort(struct gt_streams *streams, enum gt_end_reason cause)
{
    struct streams_entry *entry, *next;

    HASH_ITER (hh, streams->entries, entry, next)
        if (gt_channel_is_spare(entry->channel))
            gt_streams_entry_remove(entry);
        else
            gt_channel_abort(entry->channel, rst_of(cause));
}

void gt_streams_clear(struct gt_streams *streams)
{
    struct streams_entry *entry, *next;

    HASH_ITER (hh, streams->entries, entry, next) {
        gt_streams_entry_report_end(entry, gt_channel_code(entry->channel));
        gt_streams_entry_remove(entry);
    }
}

unsigned gt_streams_n_spares(const struct gt_streams *streams)
{
    unsigned n = 0;

    for (const struct streams_entry *entry = streams->entries; entry; entry = entry->hh.next)
        n += gt_channel_is_spare(entry->channel);
    return n;
}

unsigned gt_streams_n_ready(const struct gt_streams *streams)
{
    unsigned n = 0;

    for (const struct streams_entry *entry = streams->entries; entry; entry = entry->hh.next)
        n += gt_channel_is_bindable(entry->channel) && gt_channel_is_up(entry->channel);
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

void gt_streams_byte_counts(const struct gt_streams *streams, uint64_t *ret_up, uint64_t *ret_down)
{
    uint64_t n_up, n_down;

    *ret_up = *ret_down = 0;
    for (const struct streams_entry *entry = streams->entries; entry; entry = entry->hh.next) {
        gt_channel_byte_counts(entry->channel, &n_up, &n_down);
        *ret_up += n_up;
        *ret_down += n_down;
    }
}

void gt_streams_each(const struct gt_streams *streams, gt_streams_each_fn fn, void *userdata)
{
    uint64_t n_up, n_down;

    for (const struct streams_entry *entry = streams->entries; entry; entry = entry->hh.next) {
        if (gt_channel_is_spare(entry->channel))
            continue;
        gt_channel_byte_counts(entry->channel, &n_up, &n_down);
        fn(userdata, gt_channel_service(entry->channel), n_up, n_down);
    }
}

bool gt_streams_is_empty(const struct gt_streams *streams)
{
    return !streams->entries;
}

bool gt_streams_is_connected(const struct gt_streams *streams)
{
    for (const struct streams_entry *entry = streams->entries; entry; entry = entry->hh.next)
        if (gt_channel_is_connected(entry->channel))
            return true;
    return false;
}

void gt_streams_set_control(struct gt_streams *streams, struct gt_control_connection *control)
{
    streams->control = control;
}

void gt_streams_pause(struct gt_streams *streams, bool is_paused)
{
    streams->is_paused = is_paused;
}

int gt_streams_init(struct gt_streams *streams, const struct gt_channel_settings *channels,
                    unsigned max, const struct gt_streams_events *events, void *userdata)
{
    *streams = (struct gt_streams){
        .channels = *channels,
        .events = *events,
        .userdata = userdata,
        .max = max,
    };
    memcpy(streams->session_key, channels->session_key, sizeof(streams->session_key));
    streams->channels.session_key = streams->session_key;
    streams->memory.max = RINGS_MAX * channels->ring_size;
    streams->channels.memory = &streams->memory;
    streams->channels.path = &streams->path;
    return gt_tls_context_new(channels->role == GT_ROLE_OPERATOR ? GT_TLS_CLIENT : GT_TLS_SERVER,
                              GT_STREAM_ALPN, &streams->channels.tls);
}

void gt_streams_deinit(struct gt_streams *streams)
{
    struct streams_entry *entry, *next;

    HASH_ITER (hh, streams->entries, entry, next)
        gt_streams_entry_remove(entry);
    gt_tls_context_free(streams->channels.tls);
    gt_wipe(streams->session_key, sizeof(streams->session_key));
}
