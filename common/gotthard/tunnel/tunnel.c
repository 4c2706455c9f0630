/* SPDX-License-Identifier: ISC */
/*
 * The whole of a session's one end: its presence at the relay, its streams, and the spares among
 * them. What ends it goes one way: ENDING (the streams are broken and say so to both their sides),
 * LEAVING (BYE goes to the relay), DOWN (the caller is told, from the loop, once). Must never leave
 * a stream behind that its caller was not told the end of.
 */
#include "gotthard/tunnel.h"

#include <stdio.h>
#include <string.h>

#include "gotthard/log.h"
#include "gotthard/presence.h"
#include "gotthard/spares.h"
#include "gotthard/streams.h"

enum tunnel_state {
    TUNNEL_OPEN,
    TUNNEL_ENDING,
    TUNNEL_LEAVING,
    TUNNEL_DOWN,
};

static const struct {
    const char *name;
    ev_tstamp limit; /* 0: watched by others */
} states[] = {
    [TUNNEL_OPEN] = {"open", 0}, /* the presence */
    [TUNNEL_ENDING] = {"ending", .8},
    [TUNNEL_LEAVING] = {"leaving", 0}, /* the presence */
    [TUNNEL_DOWN] = {"down", 0},
};

struct gt_tunnel {
    struct ev_loop *loop;
    enum tunnel_state state;
    struct gt_tunnel_events events;
    void *userdata;
    struct gt_presence presence;
    struct gt_streams streams;
    struct gt_spares spares;
    ev_timer deadline;

    enum gt_down cause; /* from ENDING on: what the caller will be told */
    enum gt_code code;
    char why[160];
};

/* --- states ----------------------------------------------------------------------------------- */

static void tunnel_set_deadline(struct gt_tunnel *tunnel, ev_tstamp seconds)
{
    tunnel->deadline.repeat = GT_MAX(seconds, 1e-6);
    ev_timer_again(tunnel->loop, &tunnel->deadline);
}

static void tunnel_enter(struct gt_tunnel *tunnel, enum tunnel_state state)
{
    gt_debug("tunnel to %s: %s -> %s", gt_presence_peer(&tunnel->presence),
             states[tunnel->state].name, states[state].name);
    tunnel->state = state;
    ev_timer_stop(tunnel->loop, &tunnel->deadline);
    if (states[state].limit > 0)
        tunnel_set_deadline(tunnel, states[state].limit);
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
    gt_presence_end(&tunnel->presence);
    gt_streams_break(&tunnel->streams, cause);
    if (gt_streams_is_empty(&tunnel->streams))
        tunnel_set_deadline(tunnel, 0);
}

/* Streams that are left still cannot say their last words. */
static void tunnel_on_deadline(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct gt_tunnel *tunnel = w->data;
    gt_streams_drop(&tunnel->streams);
    tunnel_enter(tunnel, TUNNEL_LEAVING);
    gt_presence_leave(&tunnel->presence,
                      tunnel->cause == GT_DOWN_EXPIRED ? GT_CODE_EXPIRED : GT_CODE_BYE);
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

/* --- what the presence says ------------------------------------------------------------------- */

static void tunnel_on_up(void *userdata, uint16_t port)
{
    struct gt_tunnel *tunnel = userdata;
    tunnel->events.on_up(tunnel->userdata, port);
}

static void tunnel_on_peer(void *userdata, bool is_up, enum gt_code reason)
{
    struct gt_tunnel *tunnel = userdata;
    tunnel->events.on_peer(tunnel->userdata, is_up, reason);
}

static void tunnel_on_link(void *userdata, bool is_up, const char *why)
{
    struct gt_tunnel *tunnel = userdata;
    tunnel->events.on_link(tunnel->userdata, is_up, why);
}

static void tunnel_on_way(void *userdata, bool is_there)
{
    struct gt_tunnel *tunnel = userdata;
    gt_streams_hold(&tunnel->streams, !is_there);
    if (is_there)
        gt_spares_begin(&tunnel->spares);
    else
        gt_spares_rest(&tunnel->spares);
}

static void tunnel_on_over(void *userdata, enum gt_down cause, enum gt_code code, const char *why)
{
    tunnel_end(userdata, cause, code, why);
}

static void tunnel_on_left(void *userdata, bool is_told)
{
    struct gt_tunnel *tunnel = userdata;
    tunnel_enter(tunnel, TUNNEL_DOWN);
    tunnel->events.on_down(tunnel->userdata, tunnel->cause, is_told ? tunnel->code : GT_CODE_LOST,
                           tunnel->why);
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
    return tunnel->presence.state == GT_PRESENCE_TOGETHER;
}

/* --- life ------------------------------------------------------------------------------------- */

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
        .resume_s = tunnel->presence.redial.window,
    };
    gt_spares_init(&tunnel->spares, tunnel->loop, &tunnel->streams,
                   settings->role == GT_ROLE_OPERATOR ? settings->n_spares : 0,
                   settings->spares_calm_s);
    return gt_streams_init(&tunnel->streams, &conduits, settings->max_streams, &events, tunnel);
}

static void tunnel_init_presence(struct gt_tunnel *tunnel,
                                 const struct gt_tunnel_settings *settings)
{
    static const struct gt_presence_events events = {
        .on_up = tunnel_on_up,
        .on_peer = tunnel_on_peer,
        .on_link = tunnel_on_link,
        .on_way = tunnel_on_way,
        .on_over = tunnel_on_over,
        .on_left = tunnel_on_left,
    };
    const struct gt_presence_settings presence = {
        .link = {.host = settings->relay_host,
                 .port = settings->relay_port,
                 .role = settings->role,
                 .name = settings->name,
                 .client_key = settings->client_key,
                 .rid = settings->rid,
                 .ttl_s = settings->lifetime_s},
        .is_single_port = settings->is_single_port,
        .peer_timeout_ms = settings->peer_timeout_ms,
        .resume_window_ms = settings->resume_window_ms,
    };
    gt_presence_init(&tunnel->presence, tunnel->loop, &presence, &tunnel->streams, &events, tunnel);
}

int gt_tunnel_new(struct ev_loop *loop, const struct gt_tunnel_settings *settings,
                  const struct gt_tunnel_events *events, void *userdata, struct gt_tunnel **ret)
{
    struct gt_tunnel *tunnel = calloc(1, sizeof *tunnel);
    if (!tunnel)
        return -ENOMEM;
    tunnel->loop = loop;
    tunnel->events = *events;
    tunnel->userdata = userdata;
    ev_init(&tunnel->deadline, tunnel_on_deadline);
    tunnel->deadline.data = tunnel;
    tunnel_init_presence(tunnel, settings);
    int r = tunnel_init_streams(tunnel, settings);
    if (r == 0)
        r = gt_presence_begin(&tunnel->presence);
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
    gt_spares_deinit(&tunnel->spares);
    gt_streams_deinit(&tunnel->streams);
    gt_presence_deinit(&tunnel->presence);
    ev_timer_stop(tunnel->loop, &tunnel->deadline);
    free(tunnel);
    return NULL;
}
