/* SPDX-License-Identifier: ISC */
/*
 * The whole of a session's one end. What ends it goes one way: ENDING (the streams are broken and
 * say so to both their sides), LEAVING (BYE goes to the relay), DOWN (the caller is told, from the
 * loop, once). Must never leave a stream behind that its caller was not told the end of.
 */
#include "gotthard/tunnel.h"

#define HASH_NONFATAL_OOM 1
#include <stdio.h>
#include <uthash.h>

#include "gotthard/log.h"

#define PEER_TIMEOUT_MS 30000

enum tunnel_state {
    TUNNEL_REGISTERING, /* the link is on its way up */
    TUNNEL_WAITING,     /* registered; the other side has not come yet */
    TUNNEL_UP,
    TUNNEL_AWAY, /* the other side was here and is not now */
    TUNNEL_ENDING,
    TUNNEL_LEAVING,
    TUNNEL_DOWN,
};

#define PEER_LIMIT -1. /* stands for the settings' peer_timeout */

static const struct {
    const char *name;
    ev_tstamp limit; /* 0: watched by others: the link, the session's lifetime */
} states[] = {
    [TUNNEL_REGISTERING] = {"registering", 0},
    [TUNNEL_WAITING] = {"waiting", PEER_LIMIT},
    [TUNNEL_UP] = {"up", 0},
    [TUNNEL_AWAY] = {"away", PEER_LIMIT},
    [TUNNEL_ENDING] = {"ending", .8},
    [TUNNEL_LEAVING] = {"leaving", 1.1},
    [TUNNEL_DOWN] = {"down", 0},
};

enum stream_state {
    STREAM_OPENING, /* no carrier was up yet: the relay alone can tell that it never will be */
    STREAM_CARRIED, /* its end comes through the carrier, or with it */
    STREAM_LEFT,    /* it has ended on the other side, and will here in a moment */
};

struct tunnel_stream {
    uint32_t number;
    enum stream_state state;
    struct gt_tunnel *tunnel;
    struct gt_conduit *conduit; /* owned until its on_end */
    UT_hash_handle hh;
};

struct gt_tunnel {
    struct ev_loop *loop;
    enum tunnel_state state;
    struct gt_tunnel_events events;
    void *userdata;
    enum gt_role role;
    bool is_single_port;
    unsigned max_streams;
    ev_tstamp peer_timeout, lifetime_s;

    uint8_t session_key[GT_KEY_SIZE];
    struct gt_tls_context *tls; /* of the streams */
    struct gt_conduit_settings conduits;
    struct gt_link *link;
    struct gt_addr relay; /* where data connections go */
    struct tunnel_stream *streams;
    uint32_t last_stream; /* the greatest number seen or given */
    ev_timer deadline, lifetime;

    enum gt_down cause; /* from ENDING on: what the caller will be told */
    enum gt_code code;
    char why[160];
};

/* --- states ----------------------------------------------------------------------------------- */

static const char *peer_name(const struct gt_tunnel *tunnel)
{
    return tunnel->role == GT_ROLE_OPERATOR ? "device" : "operator";
}

static void tunnel_set_deadline(struct gt_tunnel *tunnel, ev_tstamp seconds)
{
    tunnel->deadline.repeat = GT_MAX(seconds, 1e-6);
    ev_timer_again(tunnel->loop, &tunnel->deadline);
}

static void tunnel_enter(struct gt_tunnel *tunnel, enum tunnel_state state)
{
    ev_tstamp limit = states[state].limit < 0 ? tunnel->peer_timeout : states[state].limit;
    gt_debug("tunnel to %s: %s -> %s", peer_name(tunnel), states[tunnel->state].name,
             states[state].name);
    tunnel->state = state;
    ev_timer_stop(tunnel->loop, &tunnel->deadline);
    if (limit > 0)
        tunnel_set_deadline(tunnel, limit);
    if (state >= TUNNEL_ENDING)
        ev_timer_stop(tunnel->loop, &tunnel->lifetime);
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

/* The beginning of the end; the first reason is the one that counts. */
static void tunnel_end(struct gt_tunnel *tunnel, enum gt_down cause, enum gt_code code,
                       const char *why)
{
    if (tunnel->state >= TUNNEL_ENDING)
        return;
    tunnel->cause = cause;
    tunnel->code = code;
    snprintf(tunnel->why, sizeof tunnel->why, "%s", why);
    tunnel_enter(tunnel, TUNNEL_ENDING);
    struct tunnel_stream *stream, *next;
    HASH_ITER (hh, tunnel->streams, stream, next)
        gt_conduit_break(stream->conduit, rst_of(cause));
    if (!tunnel->streams)
        tunnel_set_deadline(tunnel, 0);
}

static void tunnel_down(struct gt_tunnel *tunnel)
{
    tunnel_enter(tunnel, TUNNEL_DOWN);
    tunnel->events.on_down(tunnel->userdata, tunnel->cause, tunnel->code, tunnel->why);
}

static void tunnel_leave(struct gt_tunnel *tunnel)
{
    if (gt_link_is_over(tunnel->link)) {
        tunnel_down(tunnel);
        return;
    }
    tunnel_enter(tunnel, TUNNEL_LEAVING);
    gt_link_bye(tunnel->link, tunnel->cause == GT_DOWN_EXPIRED ? GT_CODE_EXPIRED : GT_CODE_BYE);
}

/* --- streams ---------------------------------------------------------------------------------- */

static struct tunnel_stream *tunnel_find(const struct gt_tunnel *tunnel, uint32_t number)
{
    struct tunnel_stream *stream;
    HASH_FIND(hh, tunnel->streams, &number, sizeof number, stream);
    return stream;
}

static void stream_forget(struct tunnel_stream *stream)
{
    HASH_DEL(stream->tunnel->streams, stream);
    free(stream);
}

/* Tells the relay and the caller. */
static void stream_tell_end(const struct tunnel_stream *stream, enum gt_rst code)
{
    struct gt_tunnel *tunnel = stream->tunnel;
    uint32_t attempt = GT_MAX(gt_conduit_attempt(stream->conduit), 1u);
    uint64_t n_up, n_down;
    gt_conduit_counts(stream->conduit, &n_up, &n_down);
    if (gt_link_stream_end(tunnel->link, stream->number, attempt,
                           code == GT_RST_NONE ? GT_CODE_NONE : GT_CODE_LOST, n_up, n_down))
        gt_debug("stream=%u its end was not told to the relay", stream->number);
    tunnel->events.on_stream_end(tunnel->userdata, gt_conduit_service(stream->conduit),
                                 stream->number, code, n_up, n_down);
}

static void stream_on_end(struct gt_conduit *conduit, void *userdata, enum gt_rst code)
{
    struct tunnel_stream *stream = userdata;
    struct gt_tunnel *tunnel = stream->tunnel;
    stream_tell_end(stream, code);
    stream_forget(stream); /* the conduit frees itself */
    if (tunnel->state == TUNNEL_ENDING && !tunnel->streams)
        tunnel_set_deadline(tunnel, 0);
}

static void stream_on_ticket_due(struct gt_conduit *conduit, void *userdata, uint32_t attempt)
{
    struct tunnel_stream *stream = userdata;
    if (gt_link_open(stream->tunnel->link, stream->number, attempt))
        gt_conduit_break(conduit, GT_RST_LOST);
}

static void stream_on_service(struct gt_conduit *conduit, void *userdata, const char *service)
{
    const struct tunnel_stream *stream = userdata;
    stream->tunnel->events.on_service(stream->tunnel->userdata, conduit, service);
}

static void stream_on_up(struct gt_conduit *conduit, void *userdata)
{
    struct tunnel_stream *stream = userdata;
    stream->state = STREAM_CARRIED;
}

/* Takes @local_fd, also on failure. */
static int stream_new(struct gt_tunnel *tunnel, uint32_t number, int local_fd, const char *service,
                      struct tunnel_stream **ret)
{
    static const struct gt_conduit_events events = {
        .on_ticket_due = stream_on_ticket_due,
        .on_service = stream_on_service,
        .on_up = stream_on_up,
        .on_end = stream_on_end,
    };
    struct tunnel_stream *stream = calloc(1, sizeof *stream);
    if (stream) {
        stream->number = number;
        stream->tunnel = tunnel;
        HASH_ADD(hh, tunnel->streams, number, sizeof stream->number, stream);
    }
    if (!stream || !stream->hh.tbl) {
        free(stream);
        if (local_fd >= 0)
            gt_sock_reset(local_fd);
        return -ENOMEM;
    }
    int r = gt_conduit_new(&tunnel->conduits, number, local_fd, service, &events, stream,
                           &stream->conduit);
    if (r) {
        stream_forget(stream);
        return r;
    }
    *ret = stream;
    return 0;
}

/* Device: room for one more? The operator opens a stream as soon as one of his has ended, which may
 * still be ending here: those do not count, but are not without limit either. */
static bool tunnel_has_room(const struct gt_tunnel *tunnel)
{
    unsigned n_here = 0;
    for (const struct tunnel_stream *stream = tunnel->streams; stream; stream = stream->hh.next)
        n_here += stream->state != STREAM_LEFT;
    return n_here < tunnel->max_streams && HASH_COUNT(tunnel->streams) < 2 * tunnel->max_streams;
}

/* Device: the first ticket of a stream makes it. NULL when it must not. */
static struct tunnel_stream *tunnel_accept(struct gt_tunnel *tunnel, const struct gt_ticket *ticket)
{
    struct tunnel_stream *stream;
    if (ticket->stream <= tunnel->last_stream)
        return NULL; /* it was here and has ended */
    tunnel->last_stream = ticket->stream;
    if (tunnel_has_room(tunnel) && stream_new(tunnel, ticket->stream, -1, NULL, &stream) == 0)
        return stream;
    if (gt_link_stream_end(tunnel->link, ticket->stream, ticket->attempt, GT_CODE_LIMIT, 0, 0))
        gt_debug("stream=%u its refusal was not told to the relay", ticket->stream);
    return NULL;
}

/* --- what the link says ----------------------------------------------------------------------- */

static void tunnel_on_peer_up(struct gt_tunnel *tunnel)
{
    bool is_first = tunnel->state != TUNNEL_AWAY;
    if (tunnel->state >= TUNNEL_ENDING || tunnel->state == TUNNEL_UP)
        return;
    tunnel_enter(tunnel, TUNNEL_UP);
    if (is_first)
        tunnel->events.on_up(tunnel->userdata, gt_addr_port(&tunnel->relay));
    else
        tunnel->events.on_peer(tunnel->userdata, true, GT_CODE_NONE);
}

static void tunnel_on_session(void *userdata, const struct gt_addr *addr, uint16_t port,
                              bool is_peer_up)
{
    struct gt_tunnel *tunnel = userdata;
    tunnel->relay = *addr;
    if (!tunnel->is_single_port && port != 0)
        gt_addr_set_port(&tunnel->relay, port);
    if (tunnel->state == TUNNEL_REGISTERING) {
        tunnel_enter(tunnel, TUNNEL_WAITING);
        if (tunnel->lifetime_s > 0) {
            ev_timer_set(&tunnel->lifetime, tunnel->lifetime_s, 0);
            ev_timer_start(tunnel->loop, &tunnel->lifetime);
        }
    }
    if (is_peer_up)
        tunnel_on_peer_up(tunnel);
}

static void tunnel_on_peer(void *userdata, bool is_up, enum gt_code reason)
{
    struct gt_tunnel *tunnel = userdata;
    char why[100];
    if (tunnel->state >= TUNNEL_ENDING)
        return;
    snprintf(why, sizeof why, "the %s was lost: %s", peer_name(tunnel), gt_code_text(reason));
    if (reason == GT_CODE_BYE) {
        snprintf(why, sizeof why, "closed by the %s", peer_name(tunnel));
        tunnel_end(tunnel, GT_DOWN_CLOSED, reason, why);
    } else if (reason == GT_CODE_NEW_PROCESS && tunnel->state >= TUNNEL_UP) {
        /* It is back and remembers nothing of our streams: better fail now than time out. */
        tunnel_end(tunnel, GT_DOWN_PEER, reason, why);
    } else if (is_up) {
        tunnel_on_peer_up(tunnel);
    } else if (tunnel->state == TUNNEL_UP) {
        tunnel_enter(tunnel, TUNNEL_AWAY);
        tunnel->events.on_peer(tunnel->userdata, false, reason);
    }
}

static void tunnel_on_ticket(void *userdata, const struct gt_ticket *ticket)
{
    struct gt_tunnel *tunnel = userdata;
    struct tunnel_stream *stream = tunnel_find(tunnel, ticket->stream);
    if (tunnel->state >= TUNNEL_ENDING)
        return;
    if (!stream && tunnel->role == GT_ROLE_DEVICE)
        stream = tunnel_accept(tunnel, ticket);
    if (stream && gt_conduit_carry(stream->conduit, &tunnel->relay, ticket) < 0)
        gt_conduit_break(stream->conduit, GT_RST_INTERNAL);
}

/* Once a carrier is up, the stream's end comes through it, with the reason: the relay's word would
 * only overtake it. */
static void tunnel_on_stream_end(void *userdata, uint32_t number, uint32_t attempt, unsigned code)
{
    struct gt_tunnel *tunnel = userdata;
    struct tunnel_stream *stream = tunnel_find(tunnel, number);
    if (!stream || attempt < gt_conduit_attempt(stream->conduit))
        return;
    if (stream->state != STREAM_OPENING) {
        stream->state = STREAM_LEFT;
        return;
    }
    gt_debug("stream=%u ended by the relay or the %s: %s", number, peer_name(tunnel),
             gt_code_text(code));
    gt_conduit_break(stream->conduit, code == GT_CODE_LIMIT ? GT_RST_DENIED : GT_RST_LOST);
}

static void tunnel_on_restarting(void *userdata, uint32_t reconnect_in_ms)
{
    gt_debug("the relay restarts, back in %u ms", reconnect_in_ms);
}

static void tunnel_on_link_down(void *userdata, enum gt_down cause, enum gt_code code,
                                const char *why)
{
    struct gt_tunnel *tunnel = userdata;
    if (tunnel->state == TUNNEL_LEAVING)
        tunnel_down(tunnel);
    else
        tunnel_end(tunnel, cause, code, why);
}

/* --- timers ----------------------------------------------------------------------------------- */

static void tunnel_on_deadline(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct gt_tunnel *tunnel = w->data;
    char why[100];
    switch (tunnel->state) {
    case TUNNEL_WAITING:
        snprintf(why, sizeof why, "the %s did not come to the relay", peer_name(tunnel));
        tunnel_end(tunnel, GT_DOWN_PEER, GT_CODE_NONE, why);
        return;
    case TUNNEL_AWAY:
        snprintf(why, sizeof why, "the %s was lost and did not come back", peer_name(tunnel));
        tunnel_end(tunnel, GT_DOWN_PEER, GT_CODE_LOST, why);
        return;
    case TUNNEL_ENDING: {
        struct tunnel_stream *stream, *next;
        HASH_ITER (hh, tunnel->streams, stream, next) { /* still cannot say their last words */
            stream_tell_end(stream, gt_conduit_code(stream->conduit));
            gt_conduit_free(stream->conduit);
            stream_forget(stream);
        }
        tunnel_leave(tunnel);
        return;
    }
    case TUNNEL_LEAVING: tunnel_down(tunnel); return;
    case TUNNEL_REGISTERING:
    case TUNNEL_UP:
    case TUNNEL_DOWN: return;
    }
}

static void tunnel_on_lifetime(struct ev_loop *loop, ev_timer *w, int revents)
{
    tunnel_end(w->data, GT_DOWN_EXPIRED, GT_CODE_EXPIRED, "the session's lifetime has passed");
}

/* --- from outside ----------------------------------------------------------------------------- */

int gt_tunnel_open(struct gt_tunnel *tunnel, int local_fd, const char *service)
{
    struct tunnel_stream *stream;
    if (tunnel->state >= TUNNEL_ENDING || HASH_COUNT(tunnel->streams) >= tunnel->max_streams) {
        gt_sock_reset(local_fd);
        return tunnel->state >= TUNNEL_ENDING ? GT_TUNNEL_E_OVER : GT_TUNNEL_E_FULL;
    }
    return stream_new(tunnel, ++tunnel->last_stream, local_fd, service, &stream);
}

void gt_tunnel_close(struct gt_tunnel *tunnel)
{
    tunnel_end(tunnel, GT_DOWN_CLOSED, GT_CODE_NONE, "closed");
}

uint32_t gt_tunnel_last_stream(const struct gt_tunnel *tunnel)
{
    return tunnel->last_stream;
}

unsigned gt_tunnel_n_streams(const struct gt_tunnel *tunnel)
{
    return HASH_COUNT(tunnel->streams);
}

bool gt_tunnel_is_up(const struct gt_tunnel *tunnel)
{
    return tunnel->state == TUNNEL_UP;
}

static int tunnel_start_link(struct gt_tunnel *tunnel, const struct gt_tunnel_settings *settings)
{
    static const struct gt_link_events events = {
        .on_session = tunnel_on_session,
        .on_peer = tunnel_on_peer,
        .on_ticket = tunnel_on_ticket,
        .on_stream_end = tunnel_on_stream_end,
        .on_restarting = tunnel_on_restarting,
        .on_down = tunnel_on_link_down,
    };
    const struct gt_link_settings link = {
        .host = settings->relay_host,
        .port = settings->relay_port,
        .role = settings->role,
        .name = settings->name,
        .client_key = settings->client_key,
        .rid = settings->rid,
        .generation = 1,
        .ttl_s = settings->lifetime_s,
    };
    return gt_link_new(tunnel->loop, &link, &events, tunnel, &tunnel->link);
}

static void tunnel_init(struct gt_tunnel *tunnel, struct ev_loop *loop,
                        const struct gt_tunnel_settings *settings)
{
    unsigned ms = settings->peer_timeout_ms ? settings->peer_timeout_ms : PEER_TIMEOUT_MS;
    tunnel->loop = loop;
    tunnel->role = settings->role;
    tunnel->is_single_port = settings->is_single_port;
    tunnel->max_streams = settings->max_streams;
    tunnel->peer_timeout = ms / 1000.;
    tunnel->lifetime_s = settings->lifetime_s;
    memcpy(tunnel->session_key, settings->session_key, sizeof tunnel->session_key);
    tunnel->conduits = (struct gt_conduit_settings){
        .loop = loop,
        .role = settings->role,
        .session_key = tunnel->session_key,
        .tls = tunnel->tls,
        .ring_size = settings->ring_size,
    };
    ev_timer_init(&tunnel->deadline, tunnel_on_deadline, 0, 0);
    ev_timer_init(&tunnel->lifetime, tunnel_on_lifetime, 0, 0);
    tunnel->deadline.data = tunnel->lifetime.data = tunnel;
}

int gt_tunnel_new(struct ev_loop *loop, const struct gt_tunnel_settings *settings,
                  const struct gt_tunnel_events *events, void *userdata, struct gt_tunnel **ret)
{
    struct gt_tunnel *tunnel = calloc(1, sizeof *tunnel);
    if (!tunnel)
        return -ENOMEM;
    tunnel->events = *events;
    tunnel->userdata = userdata;
    int r = gt_tls_context_new(settings->role == GT_ROLE_OPERATOR ? GT_TLS_CLIENT : GT_TLS_SERVER,
                               GT_STREAM_ALPN, &tunnel->tls);
    tunnel_init(tunnel, loop, settings);
    if (r == 0)
        r = tunnel_start_link(tunnel, settings);
    if (r) {
        gt_tunnel_free(tunnel);
        return r;
    }
    *ret = tunnel;
    return 0;
}

struct gt_tunnel *gt_tunnel_free(struct gt_tunnel *tunnel)
{
    struct tunnel_stream *stream, *next;
    if (!tunnel)
        return NULL;
    HASH_ITER (hh, tunnel->streams, stream, next) {
        gt_conduit_free(stream->conduit);
        stream_forget(stream);
    }
    ev_timer_stop(tunnel->loop, &tunnel->deadline);
    ev_timer_stop(tunnel->loop, &tunnel->lifetime);
    gt_link_free(tunnel->link);
    gt_tls_context_free(tunnel->tls);
    gt_wipe(tunnel->session_key, sizeof tunnel->session_key);
    free(tunnel);
    return NULL;
}
