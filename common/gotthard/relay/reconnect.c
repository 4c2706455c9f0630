/* SPDX-License-Identifier: ISC */
/*
 * The parameters of all connections of a tunnel, and two limits: the lifetime of the session, which
 * nothing extends, and the window in which a lost connection may be replaced. Must never connect
 * again after a BYE, or after an error of the relay that is permanent.
 */
#include "gotthard/relay/reconnect.h"

#include <stdio.h>
#include <string.h>

#include "gotthard/base/clock.h"

#define WINDOW_MS  120000
#define TIMEOUT_MS 10000
#define RETRY_S    1.  /* between two attempts, however often the network changes */
#define RECENT_S   2.  /* TCP has repeated its SYN meanwhile; later it does so every 4 s or less */
#define SHORT_S    40. /* a peer that has a network makes at least three attempts in it */

/* Limits of the numbers in a restart notice, and the time for which it is valid. */
#define SPREAD_MIN_MS  200u
#define SPREAD_MAX_MS  60000u
#define TRY_FOR_MAX_MS 300000u
#define NOTICE_FOR_S   60.
#define UPGRADE_S      5. /* from the notice to the end of the old program */

void gt_reconnect_init(struct gt_reconnect *reconnect, const struct gt_host_port *relays,
                       size_t n_relays, const struct gt_control_connection_settings *control,
                       unsigned window_ms)
{
    *reconnect = (struct gt_reconnect){
        .relays = relays,
        .n_relays = n_relays,
        .proxy = control->proxy,
        .role = control->role,
        .lifetime_s = control->ttl_s,
        .attempt_ms = TIMEOUT_MS,
        .window = (window_ms ? window_ms : WINDOW_MS) / 1000.,
    };
    snprintf(reconnect->name, sizeof(reconnect->name), "%s", control->name);
    memcpy(reconnect->client_key, control->client_key, sizeof(reconnect->client_key));
    memcpy(reconnect->rid, control->rid, sizeof(reconnect->rid));
}

void gt_reconnect_set_prepared(struct gt_reconnect *reconnect,
                               struct gt_control_connection *prepared)
{
    reconnect->prepared = prepared;
}

void gt_reconnect_deinit(struct gt_reconnect *reconnect)
{
    reconnect->prepared = gt_control_connection_free(reconnect->prepared);
    gt_wipe(reconnect->client_key, sizeof(reconnect->client_key));
}

uint32_t gt_reconnect_ttl(const struct gt_reconnect *reconnect)
{
    double passed = reconnect->started_at > 0 ? gt_clock() - reconnect->started_at : 0;

    return reconnect->lifetime_s > 0 ? (uint32_t)GT_MAX(reconnect->lifetime_s - passed, 1.) : 0;
}

/* Returns true if the prepared connection serves: it is *ret then. */
static bool reconnect_use_prepared(struct gt_reconnect *reconnect,
                                   const struct gt_control_connection_settings *control,
                                   const struct gt_control_connection_events *events,
                                   void *userdata, struct gt_control_connection **ret)
{
    struct gt_control_connection *prepared = gt_steal(&reconnect->prepared);

    if (!prepared)
        return false;
    if (gt_control_connection_register(prepared, control, events, userdata) != 0) {
        gt_control_connection_free(prepared);
        return false;
    }
    *ret = prepared;
    return true;
}

int gt_reconnect_connect(struct gt_reconnect *reconnect, struct ev_loop *loop,
                         const struct gt_control_connection_events *events, void *userdata,
                         struct gt_control_connection **ret)
{
    const struct gt_control_connection_settings control = {
        .relay = &reconnect->relays[reconnect->generation % reconnect->n_relays],
        .proxy = reconnect->proxy,
        .role = reconnect->role,
        .name = reconnect->name,
        .client_key = reconnect->client_key,
        .rid = reconnect->rid,
        .generation = reconnect->generation + 1,
        .port_hint = reconnect->session_port,
        .ttl_s = gt_reconnect_ttl(reconnect),
        .connect_timeout_ms = reconnect->attempt_ms,
    };

    reconnect->generation++;
    reconnect->dialed_at = gt_clock();
    if (reconnect_use_prepared(reconnect, &control, events, userdata, ret))
        return 0;
    return gt_control_connection_new(loop, &control, events, userdata, ret);
}

const struct gt_host_port *gt_reconnect_relay(const struct gt_reconnect *reconnect)
{
    return &reconnect->relays[(reconnect->generation - 1) % reconnect->n_relays];
}

void gt_reconnect_on_registered(struct gt_reconnect *reconnect, uint16_t port)
{
    reconnect->session_port = port;
    if (reconnect->started_at <= 0)
        reconnect->started_at = gt_clock();
}

void gt_reconnect_on_restart_notice(struct gt_reconnect *reconnect, uint32_t reconnect_in_ms,
                                    uint32_t try_for_ms)
{
    reconnect->spread = GT_MIN(GT_MAX(reconnect_in_ms, SPREAD_MIN_MS), SPREAD_MAX_MS) / 1000.;
    reconnect->try_for = GT_MIN(try_for_ms, TRY_FOR_MAX_MS) / 1000.;
    reconnect->restart_until = gt_clock() + NOTICE_FOR_S;
}

static bool reconnect_has_notice(const struct gt_reconnect *reconnect)
{
    return gt_clock() < reconnect->restart_until;
}

bool gt_reconnect_is_upgrade(const struct gt_reconnect *reconnect, enum gt_code code)
{
    return code != GT_CODE_SHUTDOWN &&
           gt_clock() < reconnect->restart_until - NOTICE_FOR_S + UPGRADE_S;
}

unsigned gt_reconnect_attempt_ms(double seconds)
{
    return (unsigned)(GT_MIN(GT_MAX(seconds / 3, 1.), TIMEOUT_MS / 1000.) * 1000);
}

void gt_reconnect_open(struct gt_reconnect *reconnect, double seconds)
{
    reconnect->give_up_at = reconnect->full_window_end = gt_clock() + seconds;
    reconnect->attempt_ms = gt_reconnect_attempt_ms(seconds);
}

void gt_reconnect_start(struct gt_reconnect *reconnect)
{
    double window = reconnect->window;

    if (reconnect_has_notice(reconnect))
        window = GT_MAX(window, reconnect->try_for);
    if (reconnect->give_up_at == 0)
        reconnect->give_up_at = reconnect->full_window_end = gt_clock() + window;
}

void gt_reconnect_shorten(struct gt_reconnect *reconnect)
{
    reconnect->give_up_at = GT_MIN(reconnect->give_up_at, gt_clock() + SHORT_S);
}

void gt_reconnect_restore(struct gt_reconnect *reconnect)
{
    reconnect->give_up_at = GT_MAX(reconnect->give_up_at, reconnect->full_window_end);
}

void gt_reconnect_reset(struct gt_reconnect *reconnect)
{
    reconnect->give_up_at = reconnect->full_window_end = 0;
    reconnect->attempt_ms = TIMEOUT_MS;
    reconnect->backoff = (struct gt_backoff){0};
}

void gt_reconnect_extend(struct gt_reconnect *reconnect)
{
    reconnect->give_up_at = GT_MAX(reconnect->give_up_at, gt_clock() + 1);
}

double gt_reconnect_time_left(const struct gt_reconnect *reconnect)
{
    return reconnect->give_up_at - gt_clock();
}

double gt_reconnect_delay(struct gt_reconnect *reconnect)
{
    double left = gt_reconnect_time_left(reconnect);

    if (reconnect_has_notice(reconnect)) { /* once: later attempts use the back-off */
        double pause = gt_backoff_spread(GT_MIN(reconnect->spread, left / 2));
        reconnect->restart_until = 0;
        reconnect->next_at = gt_clock() + pause;
        return pause;
    }
    double pause = gt_backoff_next(&reconnect->backoff);
    return GT_MIN(pause, left);
}

double gt_reconnect_retry_now(struct gt_reconnect *reconnect)
{
    double now = gt_clock(), at = GT_MAX(reconnect->retried_at, reconnect->next_at);

    reconnect->backoff = (struct gt_backoff){0};
    if (at <= now) /* no attempt is scheduled */
        at = GT_MAX(now, reconnect->retried_at + RETRY_S);
    reconnect->retried_at = at;
    return at - now;
}

bool gt_reconnect_is_recent(const struct gt_reconnect *reconnect)
{
    return gt_clock() < reconnect->dialed_at + RECENT_S;
}

/* Returns true if the relay may accept the same request a moment later. */
static bool is_temporary(enum gt_code code)
{
    return code == GT_CODE_NONE || code == GT_CODE_SHUTDOWN || code == GT_CODE_NO_PORT ||
           code == GT_CODE_NO_SESSION || code == GT_CODE_INTERNAL;
}

/* PEER: the relay waits for the other side (PAIRING, GRACE) for a shorter time than this window. */
bool gt_reconnect_is_worthwhile(enum gt_end_reason reason, enum gt_code code, bool is_peer_away)
{
    switch (reason) {
    case GT_END_UNREACHABLE:
    case GT_END_PROXY:
    case GT_END_REFUSED:
    case GT_END_LIMIT:
    case GT_END_LOST: return true;
    case GT_END_RELAY: return is_temporary(code);
    case GT_END_PEER: return is_peer_away;
    case GT_END_EXPIRED:
    case GT_END_IDLE:
    case GT_END_CLOSED:
    case GT_END_WITHDRAWN:
    case GT_END_INTERNAL: return false;
    }
    return false;
}

bool gt_reconnect_is_worthwhile_at_first(enum gt_end_reason reason, enum gt_code code)
{
    switch (reason) {
    case GT_END_UNREACHABLE:
    case GT_END_PEER: /* PAIRING: the relay waits for a shorter time than this side */
    case GT_END_LOST: return true;
    case GT_END_RELAY: return code == GT_CODE_NONE || code == GT_CODE_SHUTDOWN;
    case GT_END_PROXY:
    case GT_END_REFUSED:
    case GT_END_EXPIRED:
    case GT_END_IDLE:
    case GT_END_LIMIT:
    case GT_END_CLOSED:
    case GT_END_WITHDRAWN:
    case GT_END_INTERNAL: return false;
    }
    return false;
}
