/* SPDX-License-Identifier: ISC */
/*
 * The states PEER_LOST, DISCONNECTED and RECONNECTING: one window for the return of whatever was
 * lost. Must never end a tunnel while a data connection still serves a stream.
 */
#include <stdio.h>
#include <string.h>

#include "gotthard/tunnel/registration-internal.h"

/* The window is extended while a data connection still serves a stream. Returns false once it has
 * ended. */
static bool registration_extend_window(struct gt_registration *registration)
{
    if (gt_streams_is_connected(registration->streams))
        gt_reconnect_extend(&registration->reconnect);
    return gt_reconnect_time_left(&registration->reconnect) > 1e-3;
}

void registration_on_control_lost(struct gt_registration *registration, enum gt_end_reason cause,
                                  enum gt_code code, const char *why)
{
    bool is_upgrade = gt_reconnect_is_upgrade(&registration->reconnect, code);

    registration->cause = cause;
    snprintf(registration->why, sizeof(registration->why), "%s",
             is_upgrade ? "the relay is being upgraded" : why);
    registration->streams->path.is_relay_lost = true;
    gt_reconnect_restore(&registration->reconnect);
    if (cause == GT_END_PEER)
        registration->reconnect.backoff = (struct gt_backoff){0}; /* the relay's wait spaces them */
    registration_enter(registration, GT_REGISTRATION_DISCONNECTED);
    registration_set_deadline(registration, gt_reconnect_delay(&registration->reconnect));
    if (registration->is_control_lost)
        return;
    registration->is_control_lost = true;
    registration->n_attempts = 0;
    registration->events.on_relay_connection(
        registration->userdata, is_upgrade ? GT_RELAY_UPGRADED : GT_RELAY_LOST, registration->why);
}

void registration_reconnect(struct gt_registration *registration)
{
    int r = gt_registration_start(registration);

    registration->n_attempts++;
    if (r)
        registration_on_control_lost(registration, GT_END_INTERNAL, GT_CODE_NONE, strerror(-r));
    else
        registration_enter(registration, GT_REGISTRATION_RECONNECTING);
}

/* The other side did not return in time. */
static void registration_over_without_peer(struct gt_registration *registration)
{
    char why[100];

    snprintf(why, sizeof(why), "the %s was lost and did not return",
             gt_registration_peer_role(registration));
    registration_over(registration, GT_END_PEER, GT_CODE_LOST, why);
}

/* PEER_LOST: the window has ended. */
void registration_on_peer_overdue(struct gt_registration *registration)
{
    if (!registration_extend_window(registration))
        registration_over_without_peer(registration);
    else
        registration_enter(registration, GT_REGISTRATION_PEER_LOST); /* the extended window */
}

/* DISCONNECTED, RECONNECTING: the next attempt is due, or the window has ended. A relay that ended
 * the session because the other side is away is not lost. */
void registration_on_control_overdue(struct gt_registration *registration)
{
    bool has_ended = !registration_extend_window(registration);

    if (has_ended && registration->cause == GT_END_PEER)
        registration_over_without_peer(registration);
    else if (has_ended)
        registration_over(registration, GT_END_LOST, GT_CODE_NONE, registration->why);
    else if (registration->state == GT_REGISTRATION_DISCONNECTED)
        registration_reconnect(registration);
    else
        registration_enter(registration, GT_REGISTRATION_RECONNECTING);
}
