/* SPDX-License-Identifier: ISC */
/*
 * Copies of what the relay is told, and two clocks: the session's lifetime, which runs on whatever
 * happens, and the window in which a lost link may be replaced. Must never try again after a
 * goodbye, or what the relay will not think better of.
 */
#include "gotthard/redial.h"

#include <stdio.h>
#include <string.h>

#include "gotthard/clock.h"

#define WINDOW_MS  120000
#define TIMEOUT_MS 10000
#define HASTE_S    1.  /* between tries, however often the network comes and goes */
#define FRESH_S    2.  /* TCP has tried again meanwhile; after it, it does every 4 s and seldomer */
#define HURRY_S    40. /* in which a side that has a network tries three times at least */

/* What a relay may ask for when it restarts, and for how long its word is good. */
#define SPREAD_MIN_MS  200u
#define SPREAD_MAX_MS  60000u
#define TRY_FOR_MAX_MS 300000u
#define EXPECTED_FOR_S 60.

void gt_redial_init(struct gt_redial *redial, const struct gt_link_settings *link,
                    unsigned window_ms)
{
    *redial = (struct gt_redial){
        .port = link->port,
        .role = link->role,
        .lifetime_s = link->ttl_s,
        .window = (window_ms ? window_ms : WINDOW_MS) / 1000.,
    };
    snprintf(redial->host, sizeof redial->host, "%s", link->host);
    snprintf(redial->name, sizeof redial->name, "%s", link->name);
    memcpy(redial->client_key, link->client_key, sizeof redial->client_key);
    memcpy(redial->rid, link->rid, sizeof redial->rid);
}

void gt_redial_deinit(struct gt_redial *redial)
{
    gt_wipe(redial->client_key, sizeof redial->client_key);
}

uint32_t gt_redial_ttl(const struct gt_redial *redial)
{
    double gone = redial->begun_at > 0 ? gt_clock() - redial->begun_at : 0;
    return redial->lifetime_s > 0 ? (uint32_t)GT_MAX(redial->lifetime_s - gone, 1.) : 0;
}

int gt_redial_dial(struct gt_redial *redial, struct ev_loop *loop,
                   const struct gt_link_events *events, void *userdata, struct gt_link **ret)
{
    const struct gt_link_settings link = {
        .host = redial->host,
        .port = redial->port,
        .role = redial->role,
        .name = redial->name,
        .client_key = redial->client_key,
        .rid = redial->rid,
        .generation = redial->generation + 1,
        .port_hint = redial->session_port,
        .ttl_s = gt_redial_ttl(redial),
        .connect_timeout_ms = redial->generation > 0 ? TIMEOUT_MS : 0,
    };
    redial->generation++;
    redial->dialled_at = gt_clock();
    return gt_link_new(loop, &link, events, userdata, ret);
}

void gt_redial_registered(struct gt_redial *redial, uint16_t port)
{
    redial->session_port = port;
    if (redial->begun_at <= 0)
        redial->begun_at = gt_clock();
}

void gt_redial_expect(struct gt_redial *redial, uint32_t reconnect_in_ms, uint32_t try_for_ms)
{
    redial->spread = GT_MIN(GT_MAX(reconnect_in_ms, SPREAD_MIN_MS), SPREAD_MAX_MS) / 1000.;
    redial->try_for = GT_MIN(try_for_ms, TRY_FOR_MAX_MS) / 1000.;
    redial->expected_until = gt_clock() + EXPECTED_FOR_S;
}

static bool redial_is_expected(const struct gt_redial *redial)
{
    return gt_clock() < redial->expected_until;
}

void gt_redial_begin(struct gt_redial *redial)
{
    double window = redial->window;
    if (redial_is_expected(redial))
        window = GT_MAX(window, redial->try_for);
    if (redial->give_up_at == 0)
        redial->give_up_at = redial->patient_until = gt_clock() + window;
}

void gt_redial_hurry(struct gt_redial *redial)
{
    redial->give_up_at = GT_MIN(redial->give_up_at, gt_clock() + HURRY_S);
}

void gt_redial_relax(struct gt_redial *redial)
{
    redial->give_up_at = GT_MAX(redial->give_up_at, redial->patient_until);
}

void gt_redial_rest(struct gt_redial *redial)
{
    redial->give_up_at = redial->patient_until = 0;
    redial->backoff = (struct gt_backoff){0};
}

void gt_redial_extend(struct gt_redial *redial)
{
    redial->give_up_at = GT_MAX(redial->give_up_at, gt_clock() + 1);
}

double gt_redial_left(const struct gt_redial *redial)
{
    return redial->give_up_at - gt_clock();
}

double gt_redial_next(struct gt_redial *redial)
{
    double left = gt_redial_left(redial);
    if (redial_is_expected(redial)) { /* once: what comes after it is as after any loss */
        double pause = gt_backoff_spread(GT_MIN(redial->spread, left / 2));
        redial->expected_until = 0;
        redial->next_at = gt_clock() + pause;
        return pause;
    }
    double pause = gt_backoff_next(&redial->backoff);
    return GT_MIN(pause, left);
}

double gt_redial_hasten(struct gt_redial *redial)
{
    double now = gt_clock(), at = GT_MAX(redial->hastened_at, redial->next_at);
    redial->backoff = (struct gt_backoff){0};
    if (at <= now) /* none is due already */
        at = GT_MAX(now, redial->hastened_at + HASTE_S);
    redial->hastened_at = at;
    return at - now;
}

bool gt_redial_is_fresh(const struct gt_redial *redial)
{
    return gt_clock() < redial->dialled_at + FRESH_S;
}

/* May the relay say something else in a moment? */
static bool code_is_passing(enum gt_code code)
{
    return code == GT_CODE_NONE || code == GT_CODE_SHUTDOWN || code == GT_CODE_NO_PORT ||
           code == GT_CODE_LIMIT || code == GT_CODE_NO_SESSION || code == GT_CODE_INTERNAL;
}

/* A relay that starts anew lets nobody wait for the other side as long as we would. */
bool gt_redial_is_worth(enum gt_down cause, enum gt_code code, bool is_peer_away)
{
    switch (cause) {
    case GT_DOWN_UNREACHABLE:
    case GT_DOWN_REFUSED:
    case GT_DOWN_LOST: return true;
    case GT_DOWN_RELAY: return code_is_passing(code);
    case GT_DOWN_EXPIRED: return is_peer_away;
    case GT_DOWN_CLOSED:
    case GT_DOWN_PEER:
    case GT_DOWN_INTERNAL: return false;
    }
    return false;
}
