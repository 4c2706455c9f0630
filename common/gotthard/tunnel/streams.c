/* SPDX-License-Identifier: ISC */
/*
 * One hash table, in the order of the numbers, and the events of the shared connection. The end of
 * a stream arrives through the connection that it is attached to; a report of the relay counts for
 * one that is attached to nothing. Must never remove a stream without on_end, except in deinit.
 */
#include <string.h>

#include "gotthard/base/log.h"
#include "gotthard/net/sock.h"
#include "gotthard/tunnel/streams-internal.h"

static struct streams_entry *streams_find(const struct gt_streams *streams, uint32_t number)
{
    struct streams_entry *entry;

    HASH_FIND(hh, streams->entries, &number, sizeof(number), entry);
    return entry;
}

/* --- commands --------------------------------------------------------------------------------- */

/* The shared connection may have been lost undetected, for example in a NAT that dropped its
 * mapping. A user who waits for the first bytes must not wait until the heartbeat notices. */
int gt_streams_open(struct gt_streams *streams, struct gt_endpoint_fds local, const char *service)
{
    struct streams_entry *entry;

    if (HASH_COUNT(streams->entries) >= streams->max) {
        gt_endpoint_fds_reset(local);
        return GT_STREAMS_E_FULL;
    }
    streams->is_shared_closed = false;
    gt_shared_connection_want(streams->shared);
    gt_shared_connection_probe(streams->shared);
    return gt_streams_entry_new(streams, ++streams->last, local, service, &entry);
}

void gt_streams_serve(struct gt_streams *streams, uint32_t number, int fd)
{
    struct streams_entry *entry = streams_find(streams, number);

    if (entry)
        gt_channel_serve(entry->channel, fd);
    else
        gt_sock_reset(fd);
}

/* --- the relay -------------------------------------------------------------------------------- */

static void streams_connect_shared(struct gt_streams *streams, const struct gt_addr *relay,
                                   const struct gt_ticket *ticket)
{
    if (gt_shared_connection_connect(streams->shared, relay, ticket) != 0)
        gt_debug("stream=0 attempt=%u ticket not used", ticket->attempt);
}

/* A stream that has ended here, or that this process never had, cannot continue. */
static void streams_reject_ticket(struct gt_streams *streams, const struct gt_ticket *ticket)
{
    if (streams->channels.role == GT_ROLE_DEVICE &&
        gt_control_connection_stream_end(streams->control, ticket->stream, ticket->attempt,
                                         GT_CODE_NO_SESSION, 0, 0))
        gt_debug("stream=%u rejection not reported to the relay", ticket->stream);
    if (gt_shared_connection_attempt(streams->shared) == 0 && streams->events.on_older_operator)
        streams->events.on_older_operator(streams->userdata);
}

void gt_streams_connect(struct gt_streams *streams, const struct gt_addr *relay,
                        const struct gt_ticket *ticket)
{
    struct streams_entry *entry = streams_find(streams, ticket->stream);

    if (ticket->stream == 0)
        streams_connect_shared(streams, relay, ticket);
    else if (!entry)
        streams_reject_ticket(streams, ticket);
    else if (gt_channel_connect(entry->channel, relay, ticket) < 0)
        gt_channel_abort(entry->channel, GT_RST_INTERNAL);
}

/* Returns true if @code reports the end of the stream itself on the other side. All others are
 * about one attempt. */
static bool is_stream_end(unsigned code)
{
    return code == GT_CODE_NONE || code == GT_CODE_BYE || code == GT_CODE_NO_SESSION;
}

static bool is_loss(unsigned code)
{
    return code == GT_CODE_LOST || code == GT_CODE_LARGE_LOST;
}

static void shared_on_peer_end(struct gt_streams *streams, uint32_t attempt, unsigned code)
{
    if (code == GT_CODE_LARGE_LOST && attempt == gt_shared_connection_attempt(streams->shared))
        gt_path_on_black_hole(&streams->path, gt_shared_connection_segment(streams->shared));
    if (is_loss(code))
        gt_shared_connection_drop(streams->shared, attempt);
}

/* While the stream is attached, its end arrives there, with the exact reason; the relay's message
 * may overtake it. One that is attached to nothing would wait for its whole window. */
static void entry_on_peer_end(struct streams_entry *entry, uint32_t attempt, unsigned code)
{
    struct gt_channel *channel = entry->channel;

    if (code == GT_CODE_LARGE_LOST && attempt == gt_channel_attempt(channel))
        gt_path_on_black_hole(&entry->streams->path, gt_channel_segment(channel));
    if (is_stream_end(code) && gt_channel_is_waiting(channel))
        gt_channel_abort(channel, GT_RST_RESYNC);
    else if (!is_stream_end(code) || !gt_channel_is_on_its_own(channel))
        gt_channel_drop_connection(channel, attempt);
}

void gt_streams_on_peer_end(struct gt_streams *streams, uint32_t number, uint32_t attempt,
                            unsigned code)
{
    struct streams_entry *entry = streams_find(streams, number);

    gt_debug("stream=%u attempt=%u ended by=\"relay or %s\" reason=\"%s\"", number, attempt,
             streams->channels.role == GT_ROLE_OPERATOR ? "device" : "operator",
             gt_code_text(code));
    if (number == 0)
        shared_on_peer_end(streams, attempt, code);
    else if (entry)
        entry_on_peer_end(entry, attempt, code);
}

void gt_streams_check(struct gt_streams *streams, bool has_slept)
{
    gt_shared_connection_check(streams->shared, has_slept);
    for (struct streams_entry *entry = streams->entries; entry; entry = entry->hh.next)
        gt_channel_check(entry->channel, has_slept);
}

void gt_streams_resume(struct gt_streams *streams)
{
    if (!streams->is_shared_closed)
        gt_shared_connection_resume(streams->shared);
    for (struct streams_entry *entry = streams->entries; entry; entry = entry->hh.next)
        gt_channel_resume(entry->channel);
}

void gt_streams_close_shared(struct gt_streams *streams)
{
    streams->is_shared_closed = true;
    gt_shared_connection_close(streams->shared);
}

/* --- the load --------------------------------------------------------------------------------- */

#define LOAD_S 1. /* until a change is reported; the first stream is reported at once */

static void streams_send_load(struct gt_streams *streams, uint32_t n)
{
    int r = gt_control_connection_set_load(streams->control, n);

    if (r == 0)
        streams->load = n;
    if (r != GT_CONTROL_CONNECTION_E_FULL)
        return; /* E_OVER: the next control connection gets it */
    gt_debug("load of %u streams not reported, trying again later", n);
    ev_timer_again(streams->channels.loop, &streams->load_due);
}

static void streams_on_load_due(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct gt_streams *streams = timer->data;
    uint32_t n = HASH_COUNT(streams->entries);

    ev_timer_stop(loop, timer);
    if (n != streams->load)
        streams_send_load(streams, n);
}

void gt_streams_report_load(struct gt_streams *streams)
{
    uint32_t n = HASH_COUNT(streams->entries);

    if (streams->channels.role != GT_ROLE_OPERATOR)
        return;
    if (n > 0 && streams->load == 0)
        streams_send_load(streams, n);
    else if (n != streams->load && (n == 0 || !ev_is_active(&streams->load_due)))
        ev_timer_again(streams->channels.loop, &streams->load_due);
}

/* --- the shared connection -------------------------------------------------------------------- */

static void shared_on_ticket_needed(void *userdata, uint32_t attempt)
{
    const struct gt_streams *streams = userdata;

    if (streams->is_paused)
        return; /* gt_streams_resume requests it */
    if (gt_control_connection_request_ticket(streams->control, 0, attempt, streams->path.segment))
        gt_debug("stream=0 ticket not requested, trying again later");
}

static void shared_on_connection_lost(void *userdata, uint32_t attempt, bool is_black_hole)
{
    const struct gt_streams *streams = userdata;

    if (streams->is_paused)
        return; /* gt_streams_resume reports it */
    if (gt_control_connection_stream_end(streams->control, 0, attempt,
                                         is_black_hole ? GT_CODE_LARGE_LOST : GT_CODE_LOST, 0, 0))
        gt_debug("stream=0 loss not reported, trying again later");
}

/* In the order of their numbers, because the device takes new streams in that order only. */
static void shared_on_up(void *userdata)
{
    struct gt_streams *streams = userdata;

    for (struct streams_entry *entry = streams->entries; entry; entry = entry->hh.next)
        gt_channel_attach(entry->channel);
}

static void shared_on_down(void *userdata)
{
    gt_debug("stream=0 the shared connection is lost");
}

static struct gt_shared_member *shared_find(void *userdata, uint32_t number)
{
    struct streams_entry *entry = streams_find(userdata, number);

    return entry ? gt_channel_member(entry->channel) : NULL;
}

/* Device: returns true if one more stream may be created. The operator opens a stream as soon as
 * one of its own has ended, which may still be ending here. Those streams do not count, but they
 * have a limit of their own. */
static bool streams_may_accept(const struct gt_streams *streams)
{
    unsigned n_active = 0;

    if (HASH_COUNT(streams->entries) < streams->max)
        return true;
    for (const struct streams_entry *entry = streams->entries; entry; entry = entry->hh.next)
        n_active += !gt_channel_is_over(entry->channel);
    return n_active < streams->max && HASH_COUNT(streams->entries) < 2 * streams->max;
}

/* Device: a new stream has a greater number than all before. Any other one has ended here, or this
 * process never had it. Returns NULL, with the reason, if it must not be created. */
static struct streams_entry *streams_accept(struct gt_streams *streams, uint32_t number,
                                            enum gt_rst *ret_code)
{
    struct streams_entry *entry;

    if (number <= streams->last) {
        *ret_code = GT_RST_LOST;
        return NULL;
    }
    streams->last = number;
    *ret_code = GT_RST_LIMIT;
    if (!streams_may_accept(streams) ||
        gt_streams_entry_new(streams, number, gt_endpoint_fds(-1), NULL, &entry))
        return NULL;
    return entry;
}

static struct gt_shared_member *shared_on_begin(void *userdata, uint32_t number,
                                                const struct gt_frame *hello, enum gt_rst *ret_code)
{
    struct gt_streams *streams = userdata;
    struct streams_entry *entry = streams_find(streams, number);

    if (!entry)
        entry = streams_accept(streams, number, ret_code);
    else
        *ret_code = gt_channel_is_over(entry->channel) ? GT_RST_LOST : GT_RST_PROTOCOL;
    return entry ? gt_channel_begin(entry->channel, hello->attempt) : NULL;
}

static int streams_init_shared(struct gt_streams *streams)
{
    static const struct gt_shared_connection_events events = {
        .on_ticket_needed = shared_on_ticket_needed,
        .on_connection_lost = shared_on_connection_lost,
        .on_up = shared_on_up,
        .on_down = shared_on_down,
        .find = shared_find,
        .on_begin = shared_on_begin,
    };
    const struct gt_shared_connection_settings settings = {
        .loop = streams->channels.loop,
        .role = streams->channels.role,
        .session_key = streams->session_key,
        .tls = streams->channels.tls,
        .path = &streams->path,
        .heartbeat_s = streams->channels.heartbeat_s,
        .timeout_s = streams->channels.timeout_s,
        .resume_s = streams->channels.resume_s,
    };

    int r = gt_shared_connection_new(&settings, &events, streams, &streams->shared);
    streams->channels.shared = streams->shared;
    return r;
}

/* --- the end ---------------------------------------------------------------------------------- */

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

/* --- queries ---------------------------------------------------------------------------------- */

unsigned gt_streams_count(const struct gt_streams *streams)
{
    return HASH_COUNT(streams->entries);
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
    if (gt_shared_connection_is_up(streams->shared))
        return true;
    for (const struct streams_entry *entry = streams->entries; entry; entry = entry->hh.next)
        if (gt_channel_is_on_its_own(entry->channel))
            return true;
    return false;
}

/* --- life ------------------------------------------------------------------------------------- */

void gt_streams_set_control(struct gt_streams *streams, struct gt_control_connection *control)
{
    streams->control = control;
    streams->load = 0;
    gt_streams_report_load(streams);
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
    gt_window_memory_init(&streams->memory, channels->ring_size);
    streams->channels.memory = &streams->memory;
    streams->channels.path = &streams->path;
    streams->channels.sweep = &streams->sweep;
    gt_sweep_init(&streams->sweep, channels->loop);
    ev_timer_init(&streams->load_due, streams_on_load_due, LOAD_S, LOAD_S);
    streams->load_due.data = streams;
    int r = gt_tls_context_new(channels->role == GT_ROLE_OPERATOR ? GT_TLS_CLIENT : GT_TLS_SERVER,
                               GT_STREAM_ALPN, &streams->channels.tls);
    if (r == 0)
        r = gt_tls_context_prefer(streams->channels.tls, channels->suite);
    return r ? r : streams_init_shared(streams);
}

void gt_streams_deinit(struct gt_streams *streams)
{
    struct streams_entry *entry, *next;

    HASH_ITER (hh, streams->entries, entry, next)
        gt_streams_entry_remove(entry);
    gt_shared_connection_free(streams->shared);
    gt_sweep_deinit(&streams->sweep);
    ev_timer_stop(streams->channels.loop, &streams->load_due);
    gt_tls_context_free(streams->channels.tls);
    gt_wipe(streams->session_key, sizeof(streams->session_key));
}
