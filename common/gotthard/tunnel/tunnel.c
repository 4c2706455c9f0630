/* SPDX-License-Identifier: ISC */
/*
 * One end of a session: its registration at the relay, and its streams with their connections.
 * Every end takes the same way: ENDING (the streams are reset and inform both their sides), CLOSING
 * (BYE is sent to the relay), DOWN (the caller is notified once, from the loop). Must never remove
 * a stream without reporting its end.
 */
#include "gotthard/tunnel/tunnel.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gotthard/base/log.h"
#include "gotthard/tunnel/registration.h"
#include "gotthard/tunnel/streams.h"

#define PROOF_S 20. /* from the registration of both sides to the first data connection */

enum tunnel_state {
    TUNNEL_OPEN,
    TUNNEL_ENDING,
    TUNNEL_CLOSING,
    TUNNEL_DOWN,
};

static const struct {
    const char *name;
    ev_tstamp limit; /* seconds; 0: the registration's deadlines suffice */
} states[] = {
    [TUNNEL_OPEN] = {"open", 0},
    [TUNNEL_ENDING] = {"ending", .8},
    [TUNNEL_CLOSING] = {"closing", 0},
    [TUNNEL_DOWN] = {"down", 0},
};

struct gt_tunnel {
    struct ev_loop *loop;
    enum tunnel_state state;
    struct gt_tunnel_events events;
    void *userdata;
    struct gt_registration registration;
    struct gt_streams streams;
    ev_timer deadline;
    uint16_t port;  /* of the session; 0 until both sides are registered */
    ev_timer proof; /* operator: the time for the first data connection */
    ev_timer idle;  /* operator: no stream, until the shared connection is closed */

    enum gt_end_reason cause; /* from ENDING on: for on_down */
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
    gt_debug("tunnel to %s: %s -> %s", gt_registration_peer_role(&tunnel->registration),
             states[tunnel->state].name, states[state].name);
    tunnel->state = state;
    ev_timer_stop(tunnel->loop, &tunnel->deadline);
    if (states[state].limit > 0)
        tunnel_set_deadline(tunnel, states[state].limit);
}

/* Starts the end. Only the first reason is kept. */
static void tunnel_end(struct gt_tunnel *tunnel, enum gt_end_reason cause, enum gt_code code,
                       const char *why)
{
    if (tunnel->state >= TUNNEL_ENDING)
        return;
    tunnel->cause = cause;
    tunnel->code = code;
    snprintf(tunnel->why, sizeof(tunnel->why), "%s", why);
    tunnel_enter(tunnel, TUNNEL_ENDING);
    ev_timer_stop(tunnel->loop, &tunnel->proof);
    ev_timer_stop(tunnel->loop, &tunnel->idle);
    gt_registration_end(&tunnel->registration);
    gt_streams_abort(&tunnel->streams, cause);
    if (gt_streams_is_empty(&tunnel->streams))
        tunnel_set_deadline(tunnel, 0);
}

static enum gt_code bye_of(enum gt_end_reason cause)
{
    return cause == GT_END_EXPIRED     ? GT_CODE_LIFETIME
           : cause == GT_END_WITHDRAWN ? GT_CODE_WITHDRAWN
                                       : GT_CODE_BYE;
}

/* Streams that still exist cannot send their last frames. */
static void tunnel_on_deadline(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct gt_tunnel *tunnel = w->data;

    gt_streams_clear(&tunnel->streams);
    tunnel_enter(tunnel, TUNNEL_CLOSING);
    gt_registration_close(&tunnel->registration, bye_of(tunnel->cause));
}

/* --- the shared connection without streams ---------------------------------------------------- */

static void tunnel_start_idle(struct gt_tunnel *tunnel)
{
    if (tunnel->idle.repeat > 0)
        ev_timer_again(tunnel->loop, &tunnel->idle);
}

static void tunnel_on_idle(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct gt_tunnel *tunnel = w->data;

    ev_timer_stop(loop, w);
    if (tunnel->state != TUNNEL_OPEN || !gt_streams_is_empty(&tunnel->streams))
        return;
    gt_streams_close_shared(&tunnel->streams);
}

/* --- events of the streams -------------------------------------------------------------------- */

static void tunnel_on_stream_end(void *userdata, const char *service, uint32_t stream,
                                 enum gt_rst code, uint64_t n_up, uint64_t n_down)
{
    struct gt_tunnel *tunnel = userdata;

    tunnel->events.on_stream_end(tunnel->userdata, service, stream, code, n_up, n_down);
}

static void tunnel_on_service(void *userdata, struct gt_channel *channel, const char *service)
{
    struct gt_tunnel *tunnel = userdata;

    tunnel->events.on_service(tunnel->userdata, channel, service);
}

static void tunnel_on_connected(void *userdata, uint32_t stream)
{
    struct gt_tunnel *tunnel = userdata;

    if (tunnel->events.on_connected)
        tunnel->events.on_connected(tunnel->userdata, stream);
}

/* Without this an operator of version 0.1 would wait for 20 s, and get no reason. */
static void tunnel_on_older_operator(void *userdata)
{
    tunnel_end(userdata, GT_END_CLOSED, GT_CODE_NONE,
               "the operator's gotthard-cli is older than 0.2: upgrade it");
}

static void tunnel_on_empty(struct gt_streams *streams)
{
    struct gt_tunnel *tunnel = gt_container_of(streams, struct gt_tunnel, streams);

    if (tunnel->state == TUNNEL_ENDING)
        tunnel_set_deadline(tunnel, 0);
    else
        tunnel_start_idle(tunnel);
}

/* --- the proof -------------------------------------------------------------------------------- */

static void tunnel_report_up(struct gt_tunnel *tunnel)
{
    const struct gt_path *path = &tunnel->streams.path;

    tunnel->events.on_up(tunnel->userdata, path->is_main_only ? path->main_port : tunnel->port);
}

/* Both sides are registered, which proves nothing about data connections: they have a port, and
 * perhaps a path, of their own. The first one may overtake the news of the registration. */
static void tunnel_on_registered(void *userdata, uint16_t port)
{
    struct gt_tunnel *tunnel = userdata;

    tunnel->port = port;
    if (tunnel->streams.path.is_proven)
        tunnel_report_up(tunnel);
    else if (tunnel->streams.channels.role == GT_ROLE_OPERATOR)
        ev_timer_start(tunnel->loop, &tunnel->proof);
}

static void tunnel_on_proven(void *userdata)
{
    struct gt_tunnel *tunnel = userdata;

    if (tunnel->state != TUNNEL_OPEN)
        return;
    ev_timer_stop(tunnel->loop, &tunnel->proof);
    tunnel_start_idle(tunnel);
    if (tunnel->port != 0)
        tunnel_report_up(tunnel);
}

static void tunnel_on_unproven(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct gt_tunnel *tunnel = w->data;
    const char *why = tunnel->streams.path.why;
    char text[sizeof(tunnel->why)];

    snprintf(text, sizeof(text), "no data connection: %.130s", why[0] ? why : "no ticket");
    tunnel_end(tunnel, GT_END_UNREACHABLE, GT_CODE_NONE, text);
}

static void tunnel_on_notice(void *userdata, enum gt_path_notice notice, const char *text)
{
    struct gt_tunnel *tunnel = userdata;

    tunnel->events.on_notice(tunnel->userdata, notice, text);
}

/* --- events of the registration --------------------------------------------------------------- */

static void tunnel_on_retry(void *userdata, enum gt_end_reason cause, enum gt_code code,
                            const char *why)
{
    struct gt_tunnel *tunnel = userdata;

    tunnel->events.on_retry(tunnel->userdata, cause, code, why);
}

static void tunnel_on_waiting(void *userdata)
{
    struct gt_tunnel *tunnel = userdata;

    tunnel->events.on_waiting(tunnel->userdata);
}

static void tunnel_on_peer(void *userdata, bool is_up, enum gt_code reason)
{
    struct gt_tunnel *tunnel = userdata;

    tunnel->events.on_peer(tunnel->userdata, is_up, reason);
}

static void tunnel_on_relay_connection(void *userdata, enum gt_relay_change change, const char *why)
{
    struct gt_tunnel *tunnel = userdata;

    tunnel->events.on_relay_connection(tunnel->userdata, change, why);
}

static void tunnel_on_reachable(void *userdata, bool is_reachable)
{
    struct gt_tunnel *tunnel = userdata;

    gt_streams_pause(&tunnel->streams, !is_reachable);
}

static void tunnel_on_over(void *userdata, enum gt_end_reason cause, enum gt_code code,
                           const char *why)
{
    tunnel_end(userdata, cause, code, why);
}

static void tunnel_on_closed(void *userdata, bool is_bye_sent)
{
    struct gt_tunnel *tunnel = userdata;

    tunnel_enter(tunnel, TUNNEL_DOWN);
    tunnel->events.on_down(tunnel->userdata, tunnel->cause,
                           is_bye_sent ? tunnel->code : GT_CODE_LOST, tunnel->why);
}

/* --- commands --------------------------------------------------------------------------------- */

int gt_tunnel_open(struct gt_tunnel *tunnel, struct gt_endpoint_fds local, const char *service)
{
    if (tunnel->state >= TUNNEL_ENDING) {
        gt_endpoint_fds_reset(local);
        return GT_TUNNEL_E_OVER;
    }
    ev_timer_stop(tunnel->loop, &tunnel->idle);
    int r = gt_streams_open(&tunnel->streams, local, service);
    return r == GT_STREAMS_E_FULL ? GT_TUNNEL_E_FULL : r;
}

void gt_tunnel_reset_stream(struct gt_tunnel *tunnel, uint32_t stream)
{
    gt_streams_reset(&tunnel->streams, stream);
}

void gt_tunnel_leave_stream(struct gt_tunnel *tunnel, uint32_t stream)
{
    gt_streams_leave(&tunnel->streams, stream);
}

void gt_tunnel_serve(struct gt_tunnel *tunnel, uint32_t stream, int fd)
{
    gt_streams_serve(&tunnel->streams, stream, fd);
}

void gt_tunnel_close(struct gt_tunnel *tunnel)
{
    tunnel_end(tunnel, GT_END_CLOSED, GT_CODE_NONE, "closed");
}

void gt_tunnel_withdraw(struct gt_tunnel *tunnel)
{
    tunnel_end(tunnel, GT_END_WITHDRAWN, GT_CODE_NONE, gt_code_text(GT_CODE_WITHDRAWN));
}

uint32_t gt_tunnel_last_stream(const struct gt_tunnel *tunnel)
{
    return tunnel->streams.last;
}

unsigned gt_tunnel_n_streams(const struct gt_tunnel *tunnel)
{
    return gt_streams_count(&tunnel->streams);
}

void gt_tunnel_byte_counts(const struct gt_tunnel *tunnel, uint64_t *ret_up, uint64_t *ret_down)
{
    gt_streams_byte_counts(&tunnel->streams, ret_up, ret_down);
}

void gt_tunnel_each_stream(const struct gt_tunnel *tunnel, gt_streams_each_fn fn, void *userdata)
{
    gt_streams_each(&tunnel->streams, fn, userdata);
}

bool gt_tunnel_is_up(const struct gt_tunnel *tunnel)
{
    return tunnel->streams.path.is_proven &&
           tunnel->registration.state == GT_REGISTRATION_ESTABLISHED;
}

bool gt_tunnel_waits(struct gt_tunnel *tunnel, struct gt_tunnel_wait *ret)
{
    const struct gt_registration *registration = &tunnel->registration;
    bool is_scheduled = registration->state == GT_REGISTRATION_DISCONNECTED;

    if (!is_scheduled && registration->state != GT_REGISTRATION_RECONNECTING &&
        registration->state != GT_REGISTRATION_PEER_LOST)
        return false;
    *ret = (struct gt_tunnel_wait){
        .is_relay_lost = registration->state != GT_REGISTRATION_PEER_LOST,
        .n_attempts = registration->n_attempts,
        .next_s =
            is_scheduled ? ev_timer_remaining(tunnel->loop, &tunnel->registration.deadline) : 0,
        .left_s = GT_MAX(gt_reconnect_time_left(&registration->reconnect), 0.),
    };
    return true;
}

/* --- life ------------------------------------------------------------------------------------- */

size_t gt_tunnel_ring_size(uint64_t setting)
{
    long n_pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);

    if (setting > 0)
        return (size_t)setting;
    return gt_window_default_max(n_pages > 0 && page > 0 ? (uint64_t)n_pages * (uint64_t)page : 0);
}

static int tunnel_init_streams(struct gt_tunnel *tunnel, const struct gt_tunnel_settings *settings)
{
    const struct gt_streams_events events = {
        .on_service = tunnel_on_service,
        .on_connected = tunnel_on_connected,
        .on_end = tunnel_on_stream_end,
        .on_older_operator = tunnel_on_older_operator,
        .on_empty = tunnel_on_empty,
    };
    const struct gt_channel_settings channels = {
        .loop = tunnel->loop,
        .role = settings->role,
        .session_key = settings->session_key,
        .suite = settings->suite,
        .ring_size = settings->ring_size,
        .resume_s = tunnel->registration.reconnect.window,
        .vanished_s = settings->vanished_ms / 1000.,
        .linger_s = settings->linger_ms / 1000.,
    };

    int r = gt_streams_init(&tunnel->streams, &channels, settings->max_streams, &events, tunnel);
    tunnel->streams.path.proxy = settings->proxy;
    tunnel->streams.path.is_main_only = settings->is_single_port;
    tunnel->streams.path.on_proven = tunnel_on_proven;
    tunnel->streams.path.on_notice = tunnel_on_notice;
    tunnel->streams.path.userdata = tunnel;
    return r;
}

static void tunnel_init_registration(struct gt_tunnel *tunnel,
                                     const struct gt_tunnel_settings *settings)
{
    static const struct gt_registration_events events = {
        .on_retry = tunnel_on_retry,
        .on_waiting = tunnel_on_waiting,
        .on_up = tunnel_on_registered,
        .on_peer = tunnel_on_peer,
        .on_relay_connection = tunnel_on_relay_connection,
        .on_reachable = tunnel_on_reachable,
        .on_over = tunnel_on_over,
        .on_closed = tunnel_on_closed,
    };
    const struct gt_registration_settings registration = {
        .relays = settings->relays,
        .n_relays = settings->n_relays,
        .control = {.role = settings->role,
                    .name = settings->name,
                    .client_key = settings->client_key,
                    .rid = settings->rid,
                    .proxy = settings->proxy,
                    .ttl_s = settings->lifetime_s},
        .peer_timeout_ms = settings->peer_timeout_ms,
        .resume_window_ms = settings->resume_window_ms,
    };

    gt_registration_init(&tunnel->registration, tunnel->loop, &registration, &tunnel->streams,
                         &events, tunnel);
    gt_reconnect_set_prepared(&tunnel->registration.reconnect, settings->prepared);
}

int gt_tunnel_new(struct ev_loop *loop, const struct gt_tunnel_settings *settings,
                  const struct gt_tunnel_events *events, void *userdata, struct gt_tunnel **ret)
{
    struct gt_tunnel *tunnel = calloc(1, sizeof(*tunnel));

    if (!tunnel) {
        gt_control_connection_free(settings->prepared);
        return -ENOMEM;
    }
    tunnel->loop = loop;
    tunnel->events = *events;
    tunnel->userdata = userdata;
    ev_init(&tunnel->deadline, tunnel_on_deadline);
    ev_timer_init(&tunnel->proof, tunnel_on_unproven, PROOF_S, 0);
    ev_timer_init(&tunnel->idle, tunnel_on_idle, 0,
                  settings->role == GT_ROLE_OPERATOR ? settings->shared_idle_ms / 1000. : 0);
    tunnel->deadline.data = tunnel->proof.data = tunnel->idle.data = tunnel;
    tunnel_init_registration(tunnel, settings);
    int r = tunnel_init_streams(tunnel, settings);
    if (r == 0)
        r = gt_registration_start(&tunnel->registration);
    if (r) {
        gt_tunnel_free(tunnel);
        return r;
    }
    *ret = tunnel;
    gt_streams_resume(&tunnel->streams); /* requested with RENDEZVOUS: up as soon as the tunnel */
    return 0;
}

struct gt_tunnel *gt_tunnel_free(struct gt_tunnel *tunnel)
{
    if (!tunnel)
        return NULL;
    gt_streams_deinit(&tunnel->streams);
    gt_registration_deinit(&tunnel->registration);
    ev_timer_stop(tunnel->loop, &tunnel->deadline);
    ev_timer_stop(tunnel->loop, &tunnel->proof);
    ev_timer_stop(tunnel->loop, &tunnel->idle);
    free(tunnel);
    return NULL;
}
