/* SPDX-License-Identifier: ISC */
/*
 * The whole of a session's one end:
 *
 *   REGISTERING -> WAITING -> UP <-> AWAY (the other side is)
 *                              \-> LOST <-> REDIALLING -> AWAY, UP (we are)
 *
 * What ends it goes one way: ENDING (the streams are broken and say so to both their sides),
 * LEAVING (BYE goes to the relay), DOWN (the caller is told, from the loop, once). Must never leave
 * a stream behind that its caller was not told the end of.
 */
#include "gotthard/tunnel.h"

#define HASH_NONFATAL_OOM 1
#include <stdio.h>
#include <uthash.h>

#include "gotthard/backoff.h"
#include "gotthard/clock.h"
#include "gotthard/log.h"

#define PEER_TIMEOUT_MS   30000
#define RESUME_WINDOW_MS  120000
#define REDIAL_TIMEOUT_MS 10000

enum tunnel_state {
    TUNNEL_REGISTERING, /* the link is on its way up */
    TUNNEL_WAITING,     /* registered; the other side has not come yet */
    TUNNEL_UP,
    TUNNEL_AWAY,       /* the other side was here and is not now */
    TUNNEL_LOST,       /* the link is; the next try is due */
    TUNNEL_REDIALLING, /* another link is on its way up */
    TUNNEL_ENDING,
    TUNNEL_LEAVING,
    TUNNEL_DOWN,
};

#define PEER_LIMIT   -1. /* stands for the settings' peer_timeout */
#define RESUME_LIMIT -2. /* stands for what is left until give_up_at */

static const struct {
    const char *name;
    ev_tstamp limit; /* 0: watched by others: the link, the session's lifetime */
} states[] = {
    [TUNNEL_REGISTERING] = {"registering", 0},
    [TUNNEL_WAITING] = {"waiting", PEER_LIMIT},
    [TUNNEL_UP] = {"up", 0},
    [TUNNEL_AWAY] = {"away", RESUME_LIMIT},
    [TUNNEL_LOST] = {"lost", 0}, /* back-off */
    [TUNNEL_REDIALLING] = {"redialling", RESUME_LIMIT},
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
    ev_tstamp peer_timeout, resume_window, lifetime_s;

    char relay_host[GT_HOST_MAX + 1];
    uint16_t relay_port;
    char name[GT_NAME_MAX + 1];
    uint8_t client_key[GT_KEY_SIZE], session_key[GT_KEY_SIZE], rid[GT_RID_SIZE];
    uint32_t generation; /* of the link */
    ev_tstamp begun_at;  /* its lifetime */

    ev_tstamp give_up_at;                /* from leaving UP until it is UP again; else 0 */
    struct gt_backoff backoff;           /* since then */
    bool is_link_missed, is_peer_missed; /* the caller was told that it went */
    struct gt_tls_context *tls;          /* of the streams */
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

/* It was up, and is to be up again if it is not. */
static bool has_been_up(enum tunnel_state state)
{
    return state >= TUNNEL_UP && state < TUNNEL_ENDING;
}

static void tunnel_enter(struct gt_tunnel *tunnel, enum tunnel_state state)
{
    ev_tstamp limit = states[state].limit;
    gt_debug("tunnel to %s: %s -> %s", peer_name(tunnel), states[tunnel->state].name,
             states[state].name);
    tunnel->state = state;
    if (state == TUNNEL_UP)
        tunnel->give_up_at = 0;
    else if (has_been_up(state) && tunnel->give_up_at == 0)
        tunnel->give_up_at = gt_clock() + tunnel->resume_window;
    ev_timer_stop(tunnel->loop, &tunnel->deadline);
    if (limit == PEER_LIMIT)
        limit = tunnel->peer_timeout;
    if (limit == RESUME_LIMIT)
        limit = GT_MAX(tunnel->give_up_at - gt_clock(), 1e-3);
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
                           code == GT_RST_NONE ? GT_CODE_NONE : GT_CODE_BYE, n_up, n_down))
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
    struct gt_tunnel *tunnel = stream->tunnel;
    if (tunnel->state > TUNNEL_UP)
        return; /* all are asked for when it is up again */
    if (gt_link_open(tunnel->link, stream->number, attempt))
        gt_debug("stream=%u its ticket will be asked for again", stream->number);
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

/* Device: the first ticket of a stream makes it. NULL when it must not, and the operator is told
 * why: one that was here and has ended, or was never seen by this process, cannot go on. */
static struct tunnel_stream *tunnel_accept(struct gt_tunnel *tunnel, const struct gt_ticket *ticket)
{
    struct tunnel_stream *stream;
    bool is_new = ticket->stream > tunnel->last_stream;
    if (is_new)
        tunnel->last_stream = ticket->stream;
    if (is_new && tunnel_has_room(tunnel) &&
        stream_new(tunnel, ticket->stream, -1, NULL, &stream) == 0)
        return stream;
    if (gt_link_stream_end(tunnel->link, ticket->stream, ticket->attempt,
                           is_new ? GT_CODE_LIMIT : GT_CODE_NO_SESSION, 0, 0))
        gt_debug("stream=%u its refusal was not told to the relay", ticket->stream);
    return NULL;
}

/* --- what the link says ----------------------------------------------------------------------- */

/* Whatever was missed is back; streams that were parked meanwhile need not wait any longer. */
static void tunnel_resume(struct gt_tunnel *tunnel)
{
    tunnel->backoff = (struct gt_backoff){0};
    if (tunnel->is_link_missed)
        tunnel->events.on_link(tunnel->userdata, true, "");
    if (tunnel->is_peer_missed)
        tunnel->events.on_peer(tunnel->userdata, true, GT_CODE_NONE);
    tunnel->is_link_missed = tunnel->is_peer_missed = false;
    for (struct tunnel_stream *stream = tunnel->streams; stream; stream = stream->hh.next)
        gt_conduit_resume(stream->conduit);
}

static void tunnel_on_peer_up(struct gt_tunnel *tunnel)
{
    bool is_first = tunnel->state == TUNNEL_WAITING;
    if (!is_first && tunnel->state != TUNNEL_AWAY)
        return;
    tunnel_enter(tunnel, TUNNEL_UP);
    if (is_first)
        tunnel->events.on_up(tunnel->userdata, gt_addr_port(&tunnel->relay));
    else
        tunnel_resume(tunnel);
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
        tunnel->begun_at = gt_clock();
        if (tunnel->lifetime_s > 0) {
            ev_timer_set(&tunnel->lifetime, tunnel->lifetime_s, 0);
            ev_timer_start(tunnel->loop, &tunnel->lifetime);
        }
    } else if (tunnel->state == TUNNEL_REDIALLING) {
        tunnel_enter(tunnel, TUNNEL_AWAY);
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
        tunnel->is_peer_missed = true;
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

/* What the other side says of a stream that is no more there; all else is the relay's, about one
 * attempt that came to nothing. */
static bool is_over_there(const struct tunnel_stream *stream, unsigned code)
{
    return code == GT_CODE_NONE || code == GT_CODE_BYE || code == GT_CODE_NO_SESSION ||
           (code == GT_CODE_LIMIT && stream->state == STREAM_OPENING);
}

/* While a carrier is up, the stream's end comes through it, with the reason: the relay's word would
 * only overtake it. A parked stream would wait for ever. */
static void tunnel_on_stream_end(void *userdata, uint32_t number, uint32_t attempt, unsigned code)
{
    struct gt_tunnel *tunnel = userdata;
    struct tunnel_stream *stream = tunnel_find(tunnel, number);
    if (!stream)
        return;
    gt_debug("stream=%u attempt=%u ended by the relay or the %s: %s", number, attempt,
             peer_name(tunnel), gt_code_text(code));
    if (!is_over_there(stream, code))
        return;
    if (gt_conduit_is_carried(stream->conduit))
        stream->state = STREAM_LEFT;
    else if (stream->state == STREAM_OPENING)
        gt_conduit_break(stream->conduit, code == GT_CODE_LIMIT ? GT_RST_DENIED : GT_RST_LOST);
    else
        gt_conduit_break(stream->conduit, GT_RST_RESYNC);
}

static void tunnel_on_restarting(void *userdata, uint32_t reconnect_in_ms)
{
    gt_debug("the relay restarts, back in %u ms", reconnect_in_ms);
}

/* --- another link ----------------------------------------------------------------------------- */

/* May the relay say something else in a moment? */
static bool code_is_passing(enum gt_code code)
{
    return code == GT_CODE_NONE || code == GT_CODE_SHUTDOWN || code == GT_CODE_NO_PORT ||
           code == GT_CODE_LIMIT || code == GT_CODE_NO_SESSION || code == GT_CODE_INTERNAL;
}

/* Is a link that ended so worth another? A relay that starts anew lets nobody wait for the other
 * side as long as we would. */
static bool is_passing(const struct gt_tunnel *tunnel, enum gt_down cause, enum gt_code code)
{
    if (!has_been_up(tunnel->state))
        return false;
    switch (cause) {
    case GT_DOWN_UNREACHABLE:
    case GT_DOWN_REFUSED:
    case GT_DOWN_LOST: return true;
    case GT_DOWN_RELAY: return code_is_passing(code);
    case GT_DOWN_EXPIRED: return tunnel->state == TUNNEL_AWAY;
    case GT_DOWN_CLOSED:
    case GT_DOWN_PEER:
    case GT_DOWN_INTERNAL: return false;
    }
    return false;
}

/* As long as a stream is carried there is something to come back for. */
static bool tunnel_is_given_up(struct gt_tunnel *tunnel)
{
    for (const struct tunnel_stream *stream = tunnel->streams; stream; stream = stream->hh.next)
        if (gt_conduit_is_carried(stream->conduit))
            tunnel->give_up_at = GT_MAX(tunnel->give_up_at, gt_clock() + 1);
    return gt_clock() >= tunnel->give_up_at - 1e-3;
}

static void tunnel_lose(struct gt_tunnel *tunnel, const char *why)
{
    snprintf(tunnel->why, sizeof tunnel->why, "%s", why);
    tunnel_enter(tunnel, TUNNEL_LOST);
    ev_tstamp left = tunnel->give_up_at - gt_clock();
    tunnel_set_deadline(tunnel, GT_MIN(gt_backoff_next(&tunnel->backoff), left));
    if (tunnel->is_link_missed)
        return;
    tunnel->is_link_missed = true;
    tunnel->events.on_link(tunnel->userdata, false, tunnel->why);
}

static void tunnel_on_link_down(void *userdata, enum gt_down cause, enum gt_code code,
                                const char *why)
{
    struct gt_tunnel *tunnel = userdata;
    if (tunnel->state == TUNNEL_LEAVING)
        tunnel_down(tunnel);
    else if (is_passing(tunnel, cause, code))
        tunnel_lose(tunnel, why);
    else
        tunnel_end(tunnel, cause, code, why);
}

/* What is left of its lifetime; 0: it has none of its own. */
static uint32_t tunnel_ttl(const struct gt_tunnel *tunnel)
{
    ev_tstamp gone = tunnel->begun_at > 0 ? gt_clock() - tunnel->begun_at : 0;
    return tunnel->lifetime_s > 0 ? (uint32_t)GT_MAX(tunnel->lifetime_s - gone, 1.) : 0;
}

static int tunnel_dial(struct gt_tunnel *tunnel, unsigned timeout_ms, struct gt_link **ret)
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
        .host = tunnel->relay_host,
        .port = tunnel->relay_port,
        .role = tunnel->role,
        .name = tunnel->name,
        .client_key = tunnel->client_key,
        .rid = tunnel->rid,
        .generation = ++tunnel->generation,
        .ttl_s = tunnel_ttl(tunnel),
        .connect_timeout_ms = timeout_ms,
    };
    return gt_link_new(tunnel->loop, &link, &events, tunnel, ret);
}

static void tunnel_redial(struct gt_tunnel *tunnel)
{
    struct gt_link *link;
    int r = tunnel_dial(tunnel, REDIAL_TIMEOUT_MS, &link);
    if (r) {
        tunnel_lose(tunnel, strerror(-r));
        return;
    }
    gt_link_free(tunnel->link);
    tunnel->link = link;
    tunnel_enter(tunnel, TUNNEL_REDIALLING);
}

/* --- timers ----------------------------------------------------------------------------------- */

static void tunnel_on_deadline(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct gt_tunnel *tunnel = w->data;
    char why[sizeof tunnel->why];
    switch (tunnel->state) {
    case TUNNEL_WAITING:
        snprintf(why, sizeof why, "the %s did not come to the relay", peer_name(tunnel));
        tunnel_end(tunnel, GT_DOWN_PEER, GT_CODE_NONE, why);
        return;
    case TUNNEL_AWAY:
        snprintf(why, sizeof why, "the %s was lost and did not come back", peer_name(tunnel));
        if (tunnel_is_given_up(tunnel))
            tunnel_end(tunnel, GT_DOWN_PEER, GT_CODE_LOST, why);
        else
            tunnel_enter(tunnel, TUNNEL_AWAY); /* for a while longer */
        return;
    case TUNNEL_REDIALLING:
    case TUNNEL_LOST:
        snprintf(why, sizeof why, "%s", tunnel->why);
        if (tunnel_is_given_up(tunnel))
            tunnel_end(tunnel, GT_DOWN_LOST, GT_CODE_NONE, why);
        else if (tunnel->state == TUNNEL_LOST)
            tunnel_redial(tunnel);
        else
            tunnel_enter(tunnel, TUNNEL_REDIALLING);
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

static void tunnel_init(struct gt_tunnel *tunnel, struct ev_loop *loop,
                        const struct gt_tunnel_settings *settings)
{
    unsigned ms = settings->peer_timeout_ms ? settings->peer_timeout_ms : PEER_TIMEOUT_MS;
    unsigned resume_ms = settings->resume_window_ms ? settings->resume_window_ms : RESUME_WINDOW_MS;
    tunnel->loop = loop;
    tunnel->role = settings->role;
    tunnel->is_single_port = settings->is_single_port;
    tunnel->max_streams = settings->max_streams;
    tunnel->peer_timeout = ms / 1000.;
    tunnel->resume_window = resume_ms / 1000.;
    tunnel->lifetime_s = settings->lifetime_s;
    snprintf(tunnel->relay_host, sizeof tunnel->relay_host, "%s", settings->relay_host);
    tunnel->relay_port = settings->relay_port;
    snprintf(tunnel->name, sizeof tunnel->name, "%s", settings->name);
    memcpy(tunnel->client_key, settings->client_key, sizeof tunnel->client_key);
    memcpy(tunnel->session_key, settings->session_key, sizeof tunnel->session_key);
    memcpy(tunnel->rid, settings->rid, sizeof tunnel->rid);
    tunnel->conduits = (struct gt_conduit_settings){
        .loop = loop,
        .role = settings->role,
        .session_key = tunnel->session_key,
        .tls = tunnel->tls,
        .ring_size = settings->ring_size,
        .resume_s = tunnel->resume_window,
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
        r = tunnel_dial(tunnel, 0, &tunnel->link);
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
    gt_wipe(tunnel->client_key, sizeof tunnel->client_key);
    gt_wipe(tunnel->session_key, sizeof tunnel->session_key);
    free(tunnel);
    return NULL;
}
