/* SPDX-License-Identifier: ISC */
/*
 *   REGISTERING -> WAITING -> ESTABLISHED <-> PEER_LOST
 *     |     ^       |                   \--> DISCONNECTED <-> RECONNECTING -> PEER_LOST,
 * ESTABLISHED v     |       v RETRYING <----+            (before ESTABLISHED: registration-first.c)
 *
 * and from all of them ENDED, CLOSING, CLOSED. An end that this side did not request is reported
 * once (on_over). Must never reconnect after a BYE of either side.
 */
#include "gotthard/tunnel/registration-internal.h"

#include <stdio.h>
#include <string.h>

#include "gotthard/base/log.h"
#include "gotthard/net/route.h"

#define PEER_TIMEOUT_MS 30000

/* Stands for the rest of the window: peer_timeout at first, later the resume window. */
#define WINDOW_LIMIT -1.

/* @limit: seconds; 0: no deadline of its own. The control connection, the lifetime of the session
 * and the tunnel have theirs. */
static const struct registration_state_row {
    const char *name;
    ev_tstamp limit;
    void (*on_deadline)(struct gt_registration *registration);
} states[GT_REGISTRATION_CLOSED + 1]; /* defined below its handlers */

/* --- states ----------------------------------------------------------------------------------- */

const char *gt_registration_peer_role(const struct gt_registration *registration)
{
    return registration->reconnect.role == GT_ROLE_OPERATOR ? "device" : "operator";
}

void registration_set_deadline(struct gt_registration *registration, ev_tstamp seconds)
{
    registration->deadline.repeat = GT_MAX(seconds, 1e-6);
    ev_timer_again(registration->loop, &registration->deadline);
}

static bool is_ended(const struct gt_registration *registration)
{
    return registration->state >= GT_REGISTRATION_ENDED;
}

/* Returns true once both sides were registered, until the end. */
static bool has_been_up(enum gt_registration_state state)
{
    return state >= GT_REGISTRATION_ESTABLISHED && state < GT_REGISTRATION_ENDED;
}

/* Returns true while the control connection is being replaced. */
static bool is_disconnected(const struct gt_registration *registration)
{
    return registration->state == GT_REGISTRATION_DISCONNECTED ||
           registration->state == GT_REGISTRATION_RECONNECTING;
}

static ev_tstamp registration_limit(const struct gt_registration *registration)
{
    ev_tstamp limit = states[registration->state].limit;

    if (limit < 0)
        return GT_MAX(gt_reconnect_time_left(&registration->reconnect), 1e-3);
    return limit;
}

void registration_enter(struct gt_registration *registration, enum gt_registration_state state)
{
    gt_debug("tunnel to %s: %s -> %s", gt_registration_peer_role(registration),
             states[registration->state].name, states[state].name);
    registration->state = state;
    if (state >= GT_REGISTRATION_ESTABLISHED || state == GT_REGISTRATION_RETRYING)
        registration->events.on_reachable(registration->userdata,
                                          state == GT_REGISTRATION_ESTABLISHED);
    if (state == GT_REGISTRATION_ESTABLISHED)
        gt_reconnect_reset(&registration->reconnect);
    else if (has_been_up(state))
        gt_reconnect_start(&registration->reconnect);
    ev_timer_stop(registration->loop, &registration->deadline);
    ev_tstamp limit = registration_limit(registration);
    if (limit > 0)
        registration_set_deadline(registration, limit);
    if (is_ended(registration))
        ev_timer_stop(registration->loop, &registration->lifetime);
}

void registration_over(struct gt_registration *registration, enum gt_end_reason cause,
                       enum gt_code code, const char *why)
{
    registration_enter(registration, GT_REGISTRATION_ENDED);
    registration->events.on_over(registration->userdata, cause, code, why);
}

/* A tail call only: the last callback. */
static void registration_finish(struct gt_registration *registration)
{
    registration_enter(registration, GT_REGISTRATION_CLOSED);
    registration->events.on_closed(registration->userdata, !registration->is_bye_due);
}

/* --- the other side --------------------------------------------------------------------------- */

/* Reports the return of everything that was lost. Parked streams need not wait any longer. */
static void registration_resume(struct gt_registration *registration)
{
    if (registration->is_control_lost)
        registration->events.on_relay_connection(registration->userdata, GT_RELAY_BACK, "");
    if (registration->is_peer_lost)
        registration->events.on_peer(registration->userdata, true, GT_CODE_NONE);
    registration->is_control_lost = registration->is_peer_lost = false;
    gt_streams_resume(registration->streams);
}

static void registration_on_peer_up(struct gt_registration *registration)
{
    bool is_first = registration->state == GT_REGISTRATION_WAITING;

    if (!is_first && registration->state != GT_REGISTRATION_PEER_LOST)
        return;
    registration_enter(registration, GT_REGISTRATION_ESTABLISHED);
    if (!is_first || registration->has_failed)
        registration_resume(registration);
    if (is_first)
        registration->events.on_up(registration->userdata, gt_addr_port(&registration->relay));
}

static void registration_on_peer_down(struct gt_registration *registration, enum gt_code reason)
{
    gt_reconnect_start(&registration->reconnect);
    if (reason == GT_CODE_HUNG_UP)
        gt_reconnect_shorten(&registration->reconnect);
    registration_enter(registration, GT_REGISTRATION_PEER_LOST);
    registration->is_peer_lost = true;
    registration->events.on_peer(registration->userdata, false, reason);
}

/* Ends the registration if @code means that the other side has ended the session, or has lost its
 * streams in a restart: then failing now is better than a timeout. Returns false otherwise. */
static bool registration_end_by_peer(struct gt_registration *registration, enum gt_code code)
{
    const char *peer = gt_registration_peer_role(registration);
    enum gt_end_reason cause;
    char why[100];

    if (code == GT_CODE_BYE) {
        cause = GT_END_CLOSED;
        snprintf(why, sizeof(why), "closed by the %s", peer);
    } else if (code == GT_CODE_NEW_PROCESS) {
        cause = GT_END_PEER;
        snprintf(why, sizeof(why), "the %s was lost: %s", peer, gt_code_text(code));
    } else if (code == GT_CODE_LIFETIME || code == GT_CODE_WITHDRAWN) {
        cause = code == GT_CODE_LIFETIME ? GT_END_EXPIRED : GT_END_WITHDRAWN;
        snprintf(why, sizeof(why), "%s", gt_code_text(code));
    } else {
        return false;
    }
    registration_over(registration, cause, code, why);
    return true;
}

static void registration_on_peer(void *userdata, bool is_up, enum gt_code reason)
{
    struct gt_registration *registration = userdata;

    if (is_up && registration->state < GT_REGISTRATION_ESTABLISHED)
        reason = GT_CODE_NONE; /* a restart before the start loses nothing */
    if (is_ended(registration) || registration_end_by_peer(registration, reason))
        return;
    if (is_up)
        registration_on_peer_up(registration);
    else if (registration->state == GT_REGISTRATION_ESTABLISHED)
        registration_on_peer_down(registration, reason);
}

/* --- other messages of the control connection ------------------------------------------------- */

static void registration_on_registered(struct gt_registration *registration)
{
    if (registration->state == GT_REGISTRATION_REGISTERING) {
        registration_on_first_registered(registration);
    } else if (registration->state == GT_REGISTRATION_RECONNECTING) {
        registration_enter(registration, GT_REGISTRATION_PEER_LOST);
    }
}

static void registration_on_session(void *userdata, const struct gt_addr *addr, uint16_t port,
                                    bool is_peer_up)
{
    struct gt_registration *registration = userdata;
    bool is_bye_due = registration->is_bye_due;

    registration->is_bye_due = false; /* from now on there is a control connection for BYE */
    if (registration->state == GT_REGISTRATION_CLOSING && is_bye_due) {
        gt_control_connection_bye(registration->control, registration->bye);
        return;
    }
    registration->relay = *addr;
    registration->streams->path.main_port = gt_addr_port(addr);
    registration->streams->path.relay = gt_reconnect_relay(&registration->reconnect);
    registration->streams->path.is_relay_lost = false;
    registration->streams->path.rtt_s = gt_control_connection_rtt(registration->control);
    gt_reconnect_on_registered(&registration->reconnect, port);
    if (port != 0)
        gt_addr_set_port(&registration->relay, port);
    registration_on_registered(registration);
    if (is_peer_up)
        registration_on_peer_up(registration);
    else if (registration->state == GT_REGISTRATION_WAITING)
        registration->events.on_waiting(registration->userdata);
}

static void registration_on_ticket(void *userdata, const struct gt_ticket *ticket)
{
    struct gt_registration *registration = userdata;

    if (!is_ended(registration))
        gt_streams_connect(registration->streams, &registration->relay, ticket);
}

static void registration_on_stream_end(void *userdata, uint32_t number, uint32_t attempt,
                                       unsigned code)
{
    struct gt_registration *registration = userdata;

    gt_streams_on_peer_end(registration->streams, number, attempt, code);
}

static void registration_on_restart_notice(void *userdata, uint32_t reconnect_in_ms,
                                           uint32_t try_for_ms)
{
    struct gt_registration *registration = userdata;

    gt_debug("tunnel to %s: the relay restarts, reconnecting within %u ms",
             gt_registration_peer_role(registration), reconnect_in_ms);
    gt_reconnect_on_restart_notice(&registration->reconnect, reconnect_in_ms, try_for_ms);
}

/* --- another control connection --------------------------------------------------------------- */

static void registration_on_control_down(void *userdata, enum gt_end_reason cause,
                                         enum gt_code code, const char *why)
{
    struct gt_registration *registration = userdata;

    if (registration->state == GT_REGISTRATION_CLOSING)
        registration_finish(registration);
    else if (is_ended(registration) || registration_end_by_peer(registration, code))
        gt_debug("tunnel to %s: control connection ended reason=\"%s\"",
                 gt_registration_peer_role(registration), why);
    else if (has_been_up(registration->state) &&
             gt_reconnect_is_worthwhile(cause, code,
                                        registration->state == GT_REGISTRATION_PEER_LOST))
        registration_on_control_lost(registration, cause, code, why);
    else if (has_been_up(registration->state) ||
             !registration_retry_at_first(registration, cause, code, why))
        registration_over(registration, cause, code, why);
}

int gt_registration_start(struct gt_registration *registration)
{
    static const struct gt_control_connection_events events = {
        .on_session = registration_on_session,
        .on_peer = registration_on_peer,
        .on_ticket = registration_on_ticket,
        .on_stream_end = registration_on_stream_end,
        .on_restart_notice = registration_on_restart_notice,
        .on_down = registration_on_control_down,
    };
    struct gt_control_connection *control;
    int r = gt_reconnect_connect(&registration->reconnect, registration->loop, &events,
                                 registration, &control);

    if (r)
        return r;
    gt_control_connection_free(registration->control);
    registration->control = control;
    gt_streams_set_control(registration->streams, control);
    return 0;
}

/* --- the end ---------------------------------------------------------------------------------- */

void gt_registration_end(struct gt_registration *registration)
{
    if (is_ended(registration))
        return;
    registration->is_bye_due = is_disconnected(registration);
    registration_enter(registration, GT_REGISTRATION_ENDED);
}

/* BYE may need one more control connection, or the one that is being established. One second is
 * left for it. */
void gt_registration_close(struct gt_registration *registration, enum gt_code code)
{
    registration->bye = code;
    if (registration->is_bye_due && gt_control_connection_is_over(registration->control) &&
        gt_registration_start(registration))
        gt_debug("tunnel to %s: BYE not sent, no control connection",
                 gt_registration_peer_role(registration));
    if (gt_control_connection_is_over(registration->control)) {
        registration_finish(registration);
        return;
    }
    registration_enter(registration, GT_REGISTRATION_CLOSING);
    if (!registration->is_bye_due)
        gt_control_connection_bye(registration->control, code);
}

/* --- network changes -------------------------------------------------------------------------- */

/* There may be a route now that the last attempt did not have. */
static void registration_retry_now(struct gt_registration *registration)
{
    bool is_due = registration->state == GT_REGISTRATION_RETRYING ||
                  (registration->state == GT_REGISTRATION_DISCONNECTED &&
                   gt_route_exists(&registration->relay));

    if (!is_due)
        return;
    double pause = gt_reconnect_retry_now(&registration->reconnect);
    double left = ev_timer_remaining(registration->loop, &registration->deadline);
    registration_set_deadline(registration, GT_MIN(pause, left));
}

/* The lifetime continues while the machine sleeps; the timers of the loop do not. */
static void registration_on_woken(struct gt_registration *registration)
{
    if (ev_is_active(&registration->lifetime)) {
        registration->lifetime.repeat = gt_reconnect_ttl(&registration->reconnect);
        ev_timer_again(registration->loop, &registration->lifetime);
    }
    if (registration->state == GT_REGISTRATION_PEER_LOST ||
        registration->state == GT_REGISTRATION_RECONNECTING)
        registration_enter(registration, registration->state); /* the remaining window */
}

static void registration_on_network(void *userdata, enum gt_netwatch_event event)
{
    struct gt_registration *registration = userdata;
    bool has_slept = event == GT_NETWATCH_WOKEN;

    if (is_ended(registration))
        return;
    if (has_slept)
        registration_on_woken(registration);
    gt_streams_check(registration->streams, has_slept);
    gt_control_connection_check(registration->control, has_slept);
    if (registration->state == GT_REGISTRATION_RECONNECTING &&
        gt_control_connection_is_dialing(registration->control) &&
        !gt_reconnect_is_recent(&registration->reconnect))
        registration_reconnect(registration);
    else
        registration_retry_now(registration);
}

/* --- timers ----------------------------------------------------------------------------------- */

static const struct registration_state_row states[GT_REGISTRATION_CLOSED + 1] = {
    [GT_REGISTRATION_REGISTERING] = {"registering", WINDOW_LIMIT, registration_on_first_overdue},
    /* armed by the back-off */
    [GT_REGISTRATION_RETRYING] = {"retrying", 0, registration_on_first_retry},
    [GT_REGISTRATION_WAITING] = {"waiting", WINDOW_LIMIT, registration_on_peer_absent},
    [GT_REGISTRATION_ESTABLISHED] = {"established", 0, NULL},
    [GT_REGISTRATION_PEER_LOST] = {"peer-lost", WINDOW_LIMIT, registration_on_peer_overdue},
    /* armed by the back-off */
    [GT_REGISTRATION_DISCONNECTED] = {"disconnected", 0, registration_on_control_overdue},
    [GT_REGISTRATION_RECONNECTING] = {"reconnecting", WINDOW_LIMIT,
                                      registration_on_control_overdue},
    [GT_REGISTRATION_ENDED] = {"ended", 0, NULL},
    [GT_REGISTRATION_CLOSING] = {"closing", 1.1, registration_finish},
    [GT_REGISTRATION_CLOSED] = {"closed", 0, NULL},
};

static void registration_on_deadline(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct gt_registration *registration = w->data;

    states[registration->state].on_deadline(registration);
}

static void registration_on_lifetime(struct ev_loop *loop, ev_timer *w, int revents)
{
    registration_over(w->data, GT_END_EXPIRED, GT_CODE_LIFETIME, gt_code_text(GT_CODE_LIFETIME));
}

/* --- life ------------------------------------------------------------------------------------- */

void gt_registration_init(struct gt_registration *registration, struct ev_loop *loop,
                          const struct gt_registration_settings *settings,
                          struct gt_streams *streams, const struct gt_registration_events *events,
                          void *userdata)
{
    unsigned ms = settings->peer_timeout_ms ? settings->peer_timeout_ms : PEER_TIMEOUT_MS;

    *registration = (struct gt_registration){
        .loop = loop,
        .events = *events,
        .userdata = userdata,
        .streams = streams,
        .peer_timeout = ms / 1000.,
        .cause = GT_END_UNREACHABLE,
        .why = "no answer",
    };
    gt_reconnect_init(&registration->reconnect, settings->relays, settings->n_relays,
                      &settings->control, settings->resume_window_ms);
    gt_reconnect_open(&registration->reconnect, registration->peer_timeout);
    gt_netwatch_start(&registration->netwatch, loop, registration_on_network, registration);
    ev_timer_init(&registration->deadline, registration_on_deadline, 0, 0);
    ev_timer_init(&registration->lifetime, registration_on_lifetime, settings->control.ttl_s, 0);
    registration->deadline.data = registration->lifetime.data = registration;
    registration_enter(registration, GT_REGISTRATION_REGISTERING);
}

void gt_registration_deinit(struct gt_registration *registration)
{
    gt_netwatch_stop(&registration->netwatch);
    ev_timer_stop(registration->loop, &registration->deadline);
    ev_timer_stop(registration->loop, &registration->lifetime);
    registration->control = gt_control_connection_free(registration->control);
    gt_reconnect_deinit(&registration->reconnect);
}
