/* SPDX-License-Identifier: ISC */
/*
 * The states REGISTERING, RETRYING and WAITING. Networks are slow to come up (a modem, a resolver,
 * a firewall, a relay that restarts), so that a failed attempt is repeated within peer_timeout, and
 * every failure is reported at once. The end has the reason of the last one.
 */
#include <stdio.h>
#include <string.h>

#include "gotthard/tunnel/registration-internal.h"

bool registration_retry_at_first(struct gt_registration *registration, enum gt_end_reason cause,
                                 enum gt_code code, const char *why)
{
    if (!gt_reconnect_is_worthwhile_at_first(cause, code) ||
        gt_reconnect_time_left(&registration->reconnect) <= 0)
        return false;
    registration->has_failed = true;
    registration->cause = cause;
    registration->code = code;
    snprintf(registration->why, sizeof(registration->why), "%s", why);
    registration_enter(registration, GT_REGISTRATION_RETRYING);
    registration_set_deadline(registration, gt_reconnect_delay(&registration->reconnect));
    registration->events.on_retry(registration->userdata, cause, code, registration->why);
    return true;
}

void registration_on_first_retry(struct gt_registration *registration)
{
    if (gt_reconnect_time_left(&registration->reconnect) <= 1e-3) {
        registration_on_first_overdue(registration);
        return;
    }
    int r = gt_registration_start(registration);
    if (r)
        registration_over(registration, GT_END_INTERNAL, GT_CODE_NONE, strerror(-r));
    else
        registration_enter(registration, GT_REGISTRATION_REGISTERING);
}

void registration_on_first_overdue(struct gt_registration *registration)
{
    registration_over(registration, registration->cause, registration->code, registration->why);
}

/* The other side has peer_timeout from the first registration on, however often this side is lost
 * meanwhile. */
void registration_on_first_registered(struct gt_registration *registration)
{
    if (!registration->was_registered)
        gt_reconnect_open(&registration->reconnect, registration->peer_timeout);
    registration->was_registered = true;
    registration->reconnect.backoff = (struct gt_backoff){0}; /* the relay can be reached */
    registration_enter(registration, GT_REGISTRATION_WAITING);
    if (registration->reconnect.lifetime_s > 0 && !ev_is_active(&registration->lifetime))
        ev_timer_start(registration->loop, &registration->lifetime);
}

void registration_on_peer_absent(struct gt_registration *registration)
{
    char why[100];

    snprintf(why, sizeof(why), "the %s did not connect to the relay",
             gt_registration_peer_role(registration));
    registration_over(registration, GT_END_PEER, GT_CODE_NONE, why);
}
