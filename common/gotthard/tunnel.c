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

#include <stdio.h>
#include <string.h>

#include "gotthard/log.h"
#include "gotthard/netwatch.h"
#include "gotthard/redial.h"
#include "gotthard/spares.h"
#include "gotthard/streams.h"
#include "gotthard/way.h"

#define PEER_TIMEOUT_MS 30000

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
#define RESUME_LIMIT -2. /* stands for what is left of the window */

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

struct gt_tunnel {
    struct ev_loop *loop;
    enum tunnel_state state;
    struct gt_tunnel_events events;
    void *userdata;
    enum gt_role role;
    bool is_single_port;
    ev_tstamp peer_timeout;
    struct gt_redial redial;             /* runs out from leaving UP until it is UP again */
    bool is_link_missed, is_peer_missed; /* the caller was told that it went */
    bool is_goodbye_due; /* it was closed while there was no link: the next one is to say so */
    struct gt_link *link;
    struct gt_addr relay; /* where data connections go */
    struct gt_streams streams;
    struct gt_netwatch netwatch;
    struct gt_spares spares;
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
    gt_streams_hold(&tunnel->streams, state > TUNNEL_UP);
    if (state == TUNNEL_UP)
        gt_spares_begin(&tunnel->spares);
    else if (state > TUNNEL_UP)
        gt_spares_rest(&tunnel->spares);
    if (state == TUNNEL_UP)
        gt_redial_rest(&tunnel->redial);
    else if (has_been_up(state))
        gt_redial_begin(&tunnel->redial);
    ev_timer_stop(tunnel->loop, &tunnel->deadline);
    if (limit == PEER_LIMIT)
        limit = tunnel->peer_timeout;
    if (limit == RESUME_LIMIT)
        limit = GT_MAX(gt_redial_left(&tunnel->redial), 1e-3);
    if (limit > 0)
        tunnel_set_deadline(tunnel, limit);
    if (state >= TUNNEL_ENDING)
        ev_timer_stop(tunnel->loop, &tunnel->lifetime);
}

/* The beginning of the end; the first reason is the one that counts. */
static void tunnel_end(struct gt_tunnel *tunnel, enum gt_down cause, enum gt_code code,
                       const char *why)
{
    if (tunnel->state >= TUNNEL_ENDING)
        return;
    tunnel->cause = cause;
    tunnel->code = code;
    tunnel->is_goodbye_due = cause == GT_DOWN_CLOSED && code == GT_CODE_NONE &&
                             (tunnel->state == TUNNEL_LOST || tunnel->state == TUNNEL_REDIALLING);
    snprintf(tunnel->why, sizeof tunnel->why, "%s", why);
    tunnel_enter(tunnel, TUNNEL_ENDING);
    gt_streams_break(&tunnel->streams, cause);
    if (gt_streams_is_empty(&tunnel->streams))
        tunnel_set_deadline(tunnel, 0);
}

static void tunnel_down(struct gt_tunnel *tunnel)
{
    if (tunnel->is_goodbye_due)
        tunnel->code = GT_CODE_LOST;
    tunnel_enter(tunnel, TUNNEL_DOWN);
    tunnel->events.on_down(tunnel->userdata, tunnel->cause, tunnel->code, tunnel->why);
}

/* --- what the streams say --------------------------------------------------------------------- */

static void tunnel_on_spare_end(struct gt_streams *streams, enum gt_rst code)
{
    gt_spares_on_end(&gt_container_of(streams, struct gt_tunnel, streams)->spares, code);
}

static void tunnel_on_stream_over(void *userdata, const char *service, uint32_t stream,
                                  enum gt_rst code, uint64_t n_up, uint64_t n_down)
{
    struct gt_tunnel *tunnel = userdata;
    gt_spares_on_room(&tunnel->spares);
    tunnel->events.on_stream_end(tunnel->userdata, service, stream, code, n_up, n_down);
}

static void tunnel_on_service(void *userdata, struct gt_conduit *conduit, const char *service)
{
    struct gt_tunnel *tunnel = userdata;
    tunnel->events.on_service(tunnel->userdata, conduit, service);
}

static void tunnel_on_empty(struct gt_streams *streams)
{
    struct gt_tunnel *tunnel = gt_container_of(streams, struct gt_tunnel, streams);
    if (tunnel->state == TUNNEL_ENDING)
        tunnel_set_deadline(tunnel, 0);
}

/* --- what the link says ----------------------------------------------------------------------- */

/* Whatever was missed is back; streams that were parked meanwhile need not wait any longer. */
static void tunnel_resume(struct gt_tunnel *tunnel)
{
    if (tunnel->is_link_missed)
        tunnel->events.on_link(tunnel->userdata, true, "");
    if (tunnel->is_peer_missed)
        tunnel->events.on_peer(tunnel->userdata, true, GT_CODE_NONE);
    tunnel->is_link_missed = tunnel->is_peer_missed = false;
    gt_streams_resume(&tunnel->streams);
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
    if (tunnel->state == TUNNEL_LEAVING && tunnel->is_goodbye_due) {
        tunnel->is_goodbye_due = false;
        gt_link_bye(tunnel->link, GT_CODE_BYE);
        return;
    }
    tunnel->relay = *addr;
    gt_redial_registered(&tunnel->redial, port);
    if (!tunnel->is_single_port && port != 0)
        gt_addr_set_port(&tunnel->relay, port);
    if (tunnel->state == TUNNEL_REGISTERING) {
        tunnel_enter(tunnel, TUNNEL_WAITING);
        if (tunnel->redial.lifetime_s > 0)
            ev_timer_start(tunnel->loop, &tunnel->lifetime);
    } else if (tunnel->state == TUNNEL_REDIALLING) {
        tunnel_enter(tunnel, TUNNEL_AWAY);
    }
    if (is_peer_up)
        tunnel_on_peer_up(tunnel);
}

/* The other side has ended it, or has forgotten our streams (better fail now than time out): false
 * if @code says neither. */
static bool tunnel_end_by_peer(struct gt_tunnel *tunnel, enum gt_code code)
{
    char why[100];
    if (code == GT_CODE_BYE)
        snprintf(why, sizeof why, "closed by the %s", peer_name(tunnel));
    else if (code == GT_CODE_NEW_PROCESS)
        snprintf(why, sizeof why, "the %s was lost: %s", peer_name(tunnel), gt_code_text(code));
    else
        return false;
    tunnel_end(tunnel, code == GT_CODE_BYE ? GT_DOWN_CLOSED : GT_DOWN_PEER, code, why);
    return true;
}

static void tunnel_on_peer(void *userdata, bool is_up, enum gt_code reason)
{
    struct gt_tunnel *tunnel = userdata;
    if (is_up && tunnel->state < TUNNEL_UP)
        reason = GT_CODE_NONE; /* there is nothing yet that it could have forgotten */
    if (tunnel->state >= TUNNEL_ENDING || tunnel_end_by_peer(tunnel, reason))
        return;
    if (is_up) {
        tunnel_on_peer_up(tunnel);
    } else if (tunnel->state == TUNNEL_UP) {
        gt_redial_begin(&tunnel->redial);
        if (reason == GT_CODE_HUNG_UP)
            gt_redial_hurry(&tunnel->redial);
        tunnel_enter(tunnel, TUNNEL_AWAY);
        tunnel->is_peer_missed = true;
        tunnel->events.on_peer(tunnel->userdata, false, reason);
    }
}

static void tunnel_on_ticket(void *userdata, const struct gt_ticket *ticket)
{
    struct gt_tunnel *tunnel = userdata;
    if (tunnel->state < TUNNEL_ENDING)
        gt_streams_carry(&tunnel->streams, &tunnel->relay, ticket);
}

static void tunnel_on_stream_end(void *userdata, uint32_t number, uint32_t attempt, unsigned code)
{
    struct gt_tunnel *tunnel = userdata;
    gt_streams_hear_end(&tunnel->streams, number, attempt, code);
}

static void tunnel_on_restarting(void *userdata, uint32_t reconnect_in_ms, uint32_t try_for_ms)
{
    struct gt_tunnel *tunnel = userdata;
    gt_debug("tunnel to %s: the relay restarts, back within %u ms", peer_name(tunnel),
             reconnect_in_ms);
    gt_redial_expect(&tunnel->redial, reconnect_in_ms, try_for_ms);
}

/* --- another link ----------------------------------------------------------------------------- */

/* As long as a stream is carried there is something to come back for. */
static bool tunnel_is_given_up(struct gt_tunnel *tunnel)
{
    if (gt_streams_is_carried(&tunnel->streams))
        gt_redial_extend(&tunnel->redial);
    return gt_redial_left(&tunnel->redial) <= 1e-3;
}

static void tunnel_lose(struct gt_tunnel *tunnel, const char *why)
{
    snprintf(tunnel->why, sizeof tunnel->why, "%s", why);
    gt_redial_relax(&tunnel->redial); /* whatever it was that the other side suffers from */
    tunnel_enter(tunnel, TUNNEL_LOST);
    tunnel_set_deadline(tunnel, gt_redial_next(&tunnel->redial));
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
    else if (tunnel->state >= TUNNEL_ENDING || tunnel_end_by_peer(tunnel, code))
        gt_debug("tunnel to %s: its link is over: %s", peer_name(tunnel), why);
    else if (has_been_up(tunnel->state) &&
             gt_redial_is_worth(cause, code, tunnel->state == TUNNEL_AWAY))
        tunnel_lose(tunnel, why);
    else
        tunnel_end(tunnel, cause, code, why);
}

static int tunnel_dial(struct gt_tunnel *tunnel)
{
    static const struct gt_link_events events = {
        .on_session = tunnel_on_session,
        .on_peer = tunnel_on_peer,
        .on_ticket = tunnel_on_ticket,
        .on_stream_end = tunnel_on_stream_end,
        .on_restarting = tunnel_on_restarting,
        .on_down = tunnel_on_link_down,
    };
    struct gt_link *link;
    int r = gt_redial_dial(&tunnel->redial, tunnel->loop, &events, tunnel, &link);
    if (r)
        return r;
    gt_link_free(tunnel->link);
    tunnel->link = link;
    gt_streams_use(&tunnel->streams, link);
    return 0;
}

static void tunnel_redial(struct gt_tunnel *tunnel)
{
    int r = tunnel_dial(tunnel);
    if (r)
        tunnel_lose(tunnel, strerror(-r));
    else
        tunnel_enter(tunnel, TUNNEL_REDIALLING);
}

/* One more link, or the one on its way, for a goodbye and nothing else: there is a second. */
static void tunnel_leave(struct gt_tunnel *tunnel)
{
    if (tunnel->is_goodbye_due && gt_link_is_over(tunnel->link) && tunnel_dial(tunnel))
        gt_debug("tunnel to %s: no link for a goodbye", peer_name(tunnel));
    if (gt_link_is_over(tunnel->link)) {
        tunnel_down(tunnel);
        return;
    }
    tunnel_enter(tunnel, TUNNEL_LEAVING);
    if (!tunnel->is_goodbye_due)
        gt_link_bye(tunnel->link, tunnel->cause == GT_DOWN_EXPIRED ? GT_CODE_EXPIRED : GT_CODE_BYE);
}

/* --- the network under it --------------------------------------------------------------------- */

/* There may be a way now that was not there at the last try. */
static void tunnel_hasten(struct gt_tunnel *tunnel)
{
    if (tunnel->state != TUNNEL_LOST || !gt_way_is_there(&tunnel->relay))
        return;
    double pause = gt_redial_hasten(&tunnel->redial);
    double left = ev_timer_remaining(tunnel->loop, &tunnel->deadline);
    tunnel_set_deadline(tunnel, GT_MIN(pause, left));
}

/* The lifetime goes on while the machine sleeps; the loop's timers do not. */
static void tunnel_on_woken(struct gt_tunnel *tunnel)
{
    if (ev_is_active(&tunnel->lifetime)) {
        tunnel->lifetime.repeat = gt_redial_ttl(&tunnel->redial);
        ev_timer_again(tunnel->loop, &tunnel->lifetime);
    }
    if (tunnel->state == TUNNEL_AWAY || tunnel->state == TUNNEL_REDIALLING)
        tunnel_enter(tunnel, tunnel->state); /* what is left of the window */
}

static void tunnel_on_network(void *userdata, enum gt_netwatch_event event)
{
    struct gt_tunnel *tunnel = userdata;
    bool has_slept = event == GT_NETWATCH_WOKEN;
    if (tunnel->state >= TUNNEL_ENDING)
        return;
    if (has_slept)
        tunnel_on_woken(tunnel);
    gt_streams_check(&tunnel->streams, has_slept);
    gt_link_check(tunnel->link, has_slept);
    if (tunnel->state == TUNNEL_REDIALLING && gt_link_is_dialling(tunnel->link) &&
        !gt_redial_is_fresh(&tunnel->redial))
        tunnel_redial(tunnel);
    else
        tunnel_hasten(tunnel);
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
    case TUNNEL_ENDING: /* those left still cannot say their last words */
        gt_streams_drop(&tunnel->streams);
        tunnel_leave(tunnel);
        return;
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
    if (tunnel->state >= TUNNEL_ENDING) {
        gt_sock_reset(local_fd);
        return GT_TUNNEL_E_OVER;
    }
    int r = gt_spares_open(&tunnel->spares, local_fd, service);
    return r == GT_STREAMS_E_FULL ? GT_TUNNEL_E_FULL : r;
}

void gt_tunnel_close(struct gt_tunnel *tunnel)
{
    tunnel_end(tunnel, GT_DOWN_CLOSED, GT_CODE_NONE, "closed");
}

uint32_t gt_tunnel_last_stream(const struct gt_tunnel *tunnel)
{
    return tunnel->streams.opened;
}

unsigned gt_tunnel_n_streams(const struct gt_tunnel *tunnel)
{
    return gt_streams_count(&tunnel->streams);
}

unsigned gt_tunnel_n_ready(const struct gt_tunnel *tunnel)
{
    return gt_streams_n_ready(&tunnel->streams);
}

bool gt_tunnel_is_up(const struct gt_tunnel *tunnel)
{
    return tunnel->state == TUNNEL_UP;
}

static int tunnel_init_streams(struct gt_tunnel *tunnel, const struct gt_tunnel_settings *settings)
{
    const struct gt_streams_events events = {
        .on_service = tunnel_on_service,
        .on_end = tunnel_on_stream_over,
        .on_spare_end = tunnel_on_spare_end,
        .on_empty = tunnel_on_empty,
    };
    const struct gt_conduit_settings conduits = {
        .loop = tunnel->loop,
        .role = settings->role,
        .session_key = settings->session_key,
        .ring_size = settings->ring_size,
        .resume_s = tunnel->redial.window,
    };
    gt_spares_init(&tunnel->spares, tunnel->loop, &tunnel->streams,
                   tunnel->role == GT_ROLE_OPERATOR ? settings->n_spares : 0);
    return gt_streams_init(&tunnel->streams, &conduits, settings->max_streams, &events, tunnel);
}

static void tunnel_init(struct gt_tunnel *tunnel, struct ev_loop *loop,
                        const struct gt_tunnel_settings *settings)
{
    unsigned ms = settings->peer_timeout_ms ? settings->peer_timeout_ms : PEER_TIMEOUT_MS;
    const struct gt_link_settings link = {
        .host = settings->relay_host,
        .port = settings->relay_port,
        .role = settings->role,
        .name = settings->name,
        .client_key = settings->client_key,
        .rid = settings->rid,
        .ttl_s = settings->lifetime_s,
    };
    tunnel->loop = loop;
    tunnel->role = settings->role;
    tunnel->is_single_port = settings->is_single_port;
    tunnel->peer_timeout = ms / 1000.;
    gt_redial_init(&tunnel->redial, &link, settings->resume_window_ms);
    gt_netwatch_start(&tunnel->netwatch, loop, tunnel_on_network, tunnel);
    ev_timer_init(&tunnel->deadline, tunnel_on_deadline, 0, 0);
    ev_timer_init(&tunnel->lifetime, tunnel_on_lifetime, settings->lifetime_s, 0);
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
    tunnel_init(tunnel, loop, settings);
    int r = tunnel_init_streams(tunnel, settings);
    if (r == 0)
        r = tunnel_dial(tunnel);
    if (r) {
        gt_tunnel_free(tunnel);
        return r;
    }
    *ret = tunnel;
    gt_spares_begin(&tunnel->spares); /* asked for with RENDEZVOUS: ready when the tunnel is up */
    return 0;
}

struct gt_tunnel *gt_tunnel_free(struct gt_tunnel *tunnel)
{
    if (!tunnel)
        return NULL;
    gt_netwatch_stop(&tunnel->netwatch);
    gt_spares_deinit(&tunnel->spares);
    gt_streams_deinit(&tunnel->streams);
    ev_timer_stop(tunnel->loop, &tunnel->deadline);
    ev_timer_stop(tunnel->loop, &tunnel->lifetime);
    gt_link_free(tunnel->link);
    gt_redial_deinit(&tunnel->redial);
    free(tunnel);
    return NULL;
}
