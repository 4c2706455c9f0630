/* SPDX-License-Identifier: ISC */
/*
 *   REGISTERING -> WAITING -> TOGETHER <-> AWAY (the other side is)
 *                                     \-> LOST <-> REDIALLING -> AWAY, TOGETHER (we are)
 *
 * and from all of them ENDED, LEAVING, LEFT. What ends a session by itself is told once (on_over).
 * Must never try again after a goodbye, whoever said it.
 */
#include "gotthard/presence.h"

#include <stdio.h>
#include <string.h>

#include "gotthard/log.h"
#include "gotthard/way.h"

#define PEER_TIMEOUT_MS 30000

#define PEER_LIMIT   -1. /* stands for the settings' peer_timeout */
#define RESUME_LIMIT -2. /* stands for what is left of the window */

static const struct {
    const char *name;
    ev_tstamp limit; /* 0: watched by others: the link, the session's lifetime, the tunnel */
} states[] = {
    [GT_PRESENCE_REGISTERING] = {"registering", 0},
    [GT_PRESENCE_WAITING] = {"waiting", PEER_LIMIT},
    [GT_PRESENCE_TOGETHER] = {"together", 0},
    [GT_PRESENCE_AWAY] = {"away", RESUME_LIMIT},
    [GT_PRESENCE_LOST] = {"lost", 0}, /* back-off */
    [GT_PRESENCE_REDIALLING] = {"redialling", RESUME_LIMIT},
    [GT_PRESENCE_ENDED] = {"ended", 0},
    [GT_PRESENCE_LEAVING] = {"leaving", 1.1},
    [GT_PRESENCE_LEFT] = {"left", 0},
};

/* --- states ----------------------------------------------------------------------------------- */

const char *gt_presence_peer(const struct gt_presence *presence)
{
    return presence->redial.role == GT_ROLE_OPERATOR ? "device" : "operator";
}

static void presence_set_deadline(struct gt_presence *presence, ev_tstamp seconds)
{
    presence->deadline.repeat = GT_MAX(seconds, 1e-6);
    ev_timer_again(presence->loop, &presence->deadline);
}

static bool is_ended(const struct gt_presence *presence)
{
    return presence->state >= GT_PRESENCE_ENDED;
}

/* They were together, and are to be again if they are not. */
static bool has_been_up(enum gt_presence_state state)
{
    return state >= GT_PRESENCE_TOGETHER && state < GT_PRESENCE_ENDED;
}

/* No link, and another is meant to come. */
static bool is_without_link(const struct gt_presence *presence)
{
    return presence->state == GT_PRESENCE_LOST || presence->state == GT_PRESENCE_REDIALLING;
}

static ev_tstamp presence_limit(const struct gt_presence *presence)
{
    ev_tstamp limit = states[presence->state].limit;
    if (limit == PEER_LIMIT)
        return presence->peer_timeout;
    if (limit == RESUME_LIMIT)
        return GT_MAX(gt_redial_left(&presence->redial), 1e-3);
    return limit;
}

static void presence_enter(struct gt_presence *presence, enum gt_presence_state state)
{
    gt_debug("tunnel to %s: %s -> %s", gt_presence_peer(presence), states[presence->state].name,
             states[state].name);
    presence->state = state;
    if (state >= GT_PRESENCE_TOGETHER)
        presence->events.on_way(presence->userdata, state == GT_PRESENCE_TOGETHER);
    if (state == GT_PRESENCE_TOGETHER)
        gt_redial_rest(&presence->redial);
    else if (has_been_up(state))
        gt_redial_begin(&presence->redial);
    ev_timer_stop(presence->loop, &presence->deadline);
    ev_tstamp limit = presence_limit(presence);
    if (limit > 0)
        presence_set_deadline(presence, limit);
    if (is_ended(presence))
        ev_timer_stop(presence->loop, &presence->lifetime);
}

/* The last thing a handler does: the tunnel is told. */
static void presence_over(struct gt_presence *presence, enum gt_down cause, enum gt_code code,
                          const char *why)
{
    presence_enter(presence, GT_PRESENCE_ENDED);
    presence->events.on_over(presence->userdata, cause, code, why);
}

static void presence_left(struct gt_presence *presence)
{
    presence_enter(presence, GT_PRESENCE_LEFT);
    presence->events.on_left(presence->userdata, !presence->is_goodbye_due);
}

/* --- the other side --------------------------------------------------------------------------- */

/* Whatever was missed is back; streams that were parked meanwhile need not wait any longer. */
static void presence_resume(struct gt_presence *presence)
{
    if (presence->is_link_missed)
        presence->events.on_link(presence->userdata, true, "");
    if (presence->is_peer_missed)
        presence->events.on_peer(presence->userdata, true, GT_CODE_NONE);
    presence->is_link_missed = presence->is_peer_missed = false;
    gt_streams_resume(presence->streams);
}

static void presence_on_peer_up(struct gt_presence *presence)
{
    bool is_first = presence->state == GT_PRESENCE_WAITING;
    if (!is_first && presence->state != GT_PRESENCE_AWAY)
        return;
    presence_enter(presence, GT_PRESENCE_TOGETHER);
    if (is_first)
        presence->events.on_up(presence->userdata, gt_addr_port(&presence->relay));
    else
        presence_resume(presence);
}

static void presence_on_peer_down(struct gt_presence *presence, enum gt_code reason)
{
    gt_redial_begin(&presence->redial);
    if (reason == GT_CODE_HUNG_UP)
        gt_redial_hurry(&presence->redial);
    presence_enter(presence, GT_PRESENCE_AWAY);
    presence->is_peer_missed = true;
    presence->events.on_peer(presence->userdata, false, reason);
}

/* The other side has ended it, or has forgotten our streams (better fail now than time out): false
 * if @code says neither. */
static bool presence_end_by_peer(struct gt_presence *presence, enum gt_code code)
{
    const char *peer = gt_presence_peer(presence);
    char why[100];
    if (code == GT_CODE_BYE)
        snprintf(why, sizeof why, "closed by the %s", peer);
    else if (code == GT_CODE_NEW_PROCESS)
        snprintf(why, sizeof why, "the %s was lost: %s", peer, gt_code_text(code));
    else
        return false;
    presence_over(presence, code == GT_CODE_BYE ? GT_DOWN_CLOSED : GT_DOWN_PEER, code, why);
    return true;
}

static void presence_on_peer(void *userdata, bool is_up, enum gt_code reason)
{
    struct gt_presence *presence = userdata;
    if (is_up && presence->state < GT_PRESENCE_TOGETHER)
        reason = GT_CODE_NONE; /* there is nothing yet that it could have forgotten */
    if (is_ended(presence) || presence_end_by_peer(presence, reason))
        return;
    if (is_up)
        presence_on_peer_up(presence);
    else if (presence->state == GT_PRESENCE_TOGETHER)
        presence_on_peer_down(presence, reason);
}

/* --- what else the link says ------------------------------------------------------------------ */

static void presence_on_registered(struct gt_presence *presence)
{
    if (presence->state == GT_PRESENCE_REGISTERING) {
        presence_enter(presence, GT_PRESENCE_WAITING);
        if (presence->redial.lifetime_s > 0)
            ev_timer_start(presence->loop, &presence->lifetime);
    } else if (presence->state == GT_PRESENCE_REDIALLING) {
        presence_enter(presence, GT_PRESENCE_AWAY);
    }
}

static void presence_on_session(void *userdata, const struct gt_addr *addr, uint16_t port,
                                bool is_peer_up)
{
    struct gt_presence *presence = userdata;
    bool is_goodbye_due = presence->is_goodbye_due;
    presence->is_goodbye_due = false; /* who leaves from now on has a link to say it over */
    if (presence->state == GT_PRESENCE_LEAVING && is_goodbye_due) {
        gt_link_bye(presence->link, GT_CODE_BYE);
        return;
    }
    presence->relay = *addr;
    gt_redial_registered(&presence->redial, port);
    if (!presence->is_single_port && port != 0)
        gt_addr_set_port(&presence->relay, port);
    presence_on_registered(presence);
    if (is_peer_up)
        presence_on_peer_up(presence);
}

static void presence_on_ticket(void *userdata, const struct gt_ticket *ticket)
{
    struct gt_presence *presence = userdata;
    if (!is_ended(presence))
        gt_streams_carry(presence->streams, &presence->relay, ticket);
}

static void presence_on_stream_end(void *userdata, uint32_t number, uint32_t attempt, unsigned code)
{
    struct gt_presence *presence = userdata;
    gt_streams_hear_end(presence->streams, number, attempt, code);
}

static void presence_on_restarting(void *userdata, uint32_t reconnect_in_ms, uint32_t try_for_ms)
{
    struct gt_presence *presence = userdata;
    gt_debug("tunnel to %s: the relay restarts, back within %u ms", gt_presence_peer(presence),
             reconnect_in_ms);
    gt_redial_expect(&presence->redial, reconnect_in_ms, try_for_ms);
}

/* --- another link ----------------------------------------------------------------------------- */

/* As long as a stream is carried there is something to come back for. */
static bool presence_is_given_up(struct gt_presence *presence)
{
    if (gt_streams_is_carried(presence->streams))
        gt_redial_extend(&presence->redial);
    return gt_redial_left(&presence->redial) <= 1e-3;
}

static void presence_lose(struct gt_presence *presence, const char *why)
{
    snprintf(presence->why, sizeof presence->why, "%s", why);
    gt_redial_relax(&presence->redial); /* whatever it was that the other side suffers from */
    presence_enter(presence, GT_PRESENCE_LOST);
    presence_set_deadline(presence, gt_redial_next(&presence->redial));
    if (presence->is_link_missed)
        return;
    presence->is_link_missed = true;
    presence->events.on_link(presence->userdata, false, presence->why);
}

static void presence_on_link_down(void *userdata, enum gt_down cause, enum gt_code code,
                                  const char *why)
{
    struct gt_presence *presence = userdata;
    if (presence->state == GT_PRESENCE_LEAVING)
        presence_left(presence);
    else if (is_ended(presence) || presence_end_by_peer(presence, code))
        gt_debug("tunnel to %s: its link is over: %s", gt_presence_peer(presence), why);
    else if (has_been_up(presence->state) &&
             gt_redial_is_worth(cause, code, presence->state == GT_PRESENCE_AWAY))
        presence_lose(presence, why);
    else
        presence_over(presence, cause, code, why);
}

int gt_presence_begin(struct gt_presence *presence)
{
    static const struct gt_link_events events = {
        .on_session = presence_on_session,
        .on_peer = presence_on_peer,
        .on_ticket = presence_on_ticket,
        .on_stream_end = presence_on_stream_end,
        .on_restarting = presence_on_restarting,
        .on_down = presence_on_link_down,
    };
    struct gt_link *link;
    int r = gt_redial_dial(&presence->redial, presence->loop, &events, presence, &link);
    if (r)
        return r;
    gt_link_free(presence->link);
    presence->link = link;
    gt_streams_use(presence->streams, link);
    return 0;
}

static void presence_redial(struct gt_presence *presence)
{
    int r = gt_presence_begin(presence);
    if (r)
        presence_lose(presence, strerror(-r));
    else
        presence_enter(presence, GT_PRESENCE_REDIALLING);
}

/* --- the end ---------------------------------------------------------------------------------- */

void gt_presence_end(struct gt_presence *presence)
{
    if (is_ended(presence))
        return;
    presence->is_goodbye_due = is_without_link(presence);
    presence_enter(presence, GT_PRESENCE_ENDED);
}

/* One more link, or the one on its way, for a goodbye and nothing else: there is a second. */
void gt_presence_leave(struct gt_presence *presence, enum gt_code code)
{
    if (presence->is_goodbye_due && gt_link_is_over(presence->link) && gt_presence_begin(presence))
        gt_debug("tunnel to %s: no link for a goodbye", gt_presence_peer(presence));
    if (gt_link_is_over(presence->link)) {
        presence_left(presence);
        return;
    }
    presence_enter(presence, GT_PRESENCE_LEAVING);
    if (!presence->is_goodbye_due)
        gt_link_bye(presence->link, code);
}

/* --- the network under it --------------------------------------------------------------------- */

/* There may be a way now that was not there at the last try. */
static void presence_hasten(struct gt_presence *presence)
{
    if (presence->state != GT_PRESENCE_LOST || !gt_way_is_there(&presence->relay))
        return;
    double pause = gt_redial_hasten(&presence->redial);
    double left = ev_timer_remaining(presence->loop, &presence->deadline);
    presence_set_deadline(presence, GT_MIN(pause, left));
}

/* The lifetime goes on while the machine sleeps; the loop's timers do not. */
static void presence_on_woken(struct gt_presence *presence)
{
    if (ev_is_active(&presence->lifetime)) {
        presence->lifetime.repeat = gt_redial_ttl(&presence->redial);
        ev_timer_again(presence->loop, &presence->lifetime);
    }
    if (presence->state == GT_PRESENCE_AWAY || presence->state == GT_PRESENCE_REDIALLING)
        presence_enter(presence, presence->state); /* what is left of the window */
}

static void presence_on_network(void *userdata, enum gt_netwatch_event event)
{
    struct gt_presence *presence = userdata;
    bool has_slept = event == GT_NETWATCH_WOKEN;
    if (is_ended(presence))
        return;
    if (has_slept)
        presence_on_woken(presence);
    gt_streams_check(presence->streams, has_slept);
    gt_link_check(presence->link, has_slept);
    if (presence->state == GT_PRESENCE_REDIALLING && gt_link_is_dialling(presence->link) &&
        !gt_redial_is_fresh(&presence->redial))
        presence_redial(presence);
    else
        presence_hasten(presence);
}

/* --- timers ----------------------------------------------------------------------------------- */

/* AWAY: it did not come back in time. */
static void presence_on_peer_overdue(struct gt_presence *presence)
{
    char why[100];
    snprintf(why, sizeof why, "the %s was lost and did not come back", gt_presence_peer(presence));
    if (presence_is_given_up(presence))
        presence_over(presence, GT_DOWN_PEER, GT_CODE_LOST, why);
    else
        presence_enter(presence, GT_PRESENCE_AWAY); /* for a while longer */
}

/* LOST, REDIALLING: the next try is due, or there is none any more. */
static void presence_on_link_overdue(struct gt_presence *presence)
{
    if (presence_is_given_up(presence))
        presence_over(presence, GT_DOWN_LOST, GT_CODE_NONE, presence->why);
    else if (presence->state == GT_PRESENCE_LOST)
        presence_redial(presence);
    else
        presence_enter(presence, GT_PRESENCE_REDIALLING);
}

static void presence_on_deadline(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct gt_presence *presence = w->data;
    char why[100];
    switch (presence->state) {
    case GT_PRESENCE_WAITING:
        snprintf(why, sizeof why, "the %s did not come to the relay", gt_presence_peer(presence));
        presence_over(presence, GT_DOWN_PEER, GT_CODE_NONE, why);
        return;
    case GT_PRESENCE_AWAY: presence_on_peer_overdue(presence); return;
    case GT_PRESENCE_LOST:
    case GT_PRESENCE_REDIALLING: presence_on_link_overdue(presence); return;
    case GT_PRESENCE_LEAVING: presence_left(presence); return;
    case GT_PRESENCE_REGISTERING:
    case GT_PRESENCE_TOGETHER:
    case GT_PRESENCE_ENDED:
    case GT_PRESENCE_LEFT: return;
    }
}

static void presence_on_lifetime(struct ev_loop *loop, ev_timer *w, int revents)
{
    presence_over(w->data, GT_DOWN_EXPIRED, GT_CODE_EXPIRED, "the session's lifetime has passed");
}

/* --- life ------------------------------------------------------------------------------------- */

void gt_presence_init(struct gt_presence *presence, struct ev_loop *loop,
                      const struct gt_presence_settings *settings, struct gt_streams *streams,
                      const struct gt_presence_events *events, void *userdata)
{
    unsigned ms = settings->peer_timeout_ms ? settings->peer_timeout_ms : PEER_TIMEOUT_MS;
    *presence = (struct gt_presence){
        .loop = loop,
        .events = *events,
        .userdata = userdata,
        .streams = streams,
        .is_single_port = settings->is_single_port,
        .peer_timeout = ms / 1000.,
    };
    gt_redial_init(&presence->redial, &settings->link, settings->resume_window_ms);
    gt_netwatch_start(&presence->netwatch, loop, presence_on_network, presence);
    ev_timer_init(&presence->deadline, presence_on_deadline, 0, 0);
    ev_timer_init(&presence->lifetime, presence_on_lifetime, settings->link.ttl_s, 0);
    presence->deadline.data = presence->lifetime.data = presence;
}

void gt_presence_deinit(struct gt_presence *presence)
{
    gt_netwatch_stop(&presence->netwatch);
    ev_timer_stop(presence->loop, &presence->deadline);
    ev_timer_stop(presence->loop, &presence->lifetime);
    presence->link = gt_link_free(presence->link);
    gt_redial_deinit(&presence->redial);
}
