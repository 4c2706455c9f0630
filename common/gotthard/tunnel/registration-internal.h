/* SPDX-License-Identifier: ISC */
/*
 * The parts of a registration: the time before both sides were registered for the first time
 * (registration-first.c), the window after a loss (registration-lost.c), and everything else
 * (registration.c). Only these files include this header.
 */
#pragma once

#include "gotthard/tunnel/registration.h"

void registration_enter(struct gt_registration *registration, enum gt_registration_state state);
void registration_set_deadline(struct gt_registration *registration, ev_tstamp seconds);
/* A tail call only: the tunnel is notified. */
void registration_over(struct gt_registration *registration, enum gt_end_reason cause,
                       enum gt_code code, const char *why);

/* The control connection has ended: schedules another attempt. Returns false if none is useful. */
bool registration_retry_at_first(struct gt_registration *registration, enum gt_end_reason cause,
                                 enum gt_code code, const char *why);
/* REGISTERING: the relay has registered this side. */
void registration_on_first_registered(struct gt_registration *registration);
/* The deadlines: RETRYING, the next attempt; REGISTERING, the window has ended during an attempt;
 * WAITING, the other side did not register in time. */
void registration_on_first_retry(struct gt_registration *registration);
void registration_on_first_overdue(struct gt_registration *registration);
void registration_on_peer_absent(struct gt_registration *registration);

/* The control connection was lost with @cause and @code: another one follows after a pause. */
void registration_on_control_lost(struct gt_registration *registration, enum gt_end_reason cause,
                                  enum gt_code code, const char *why);
void registration_reconnect(struct gt_registration *registration);
/* The deadlines: PEER_LOST, the window has ended; DISCONNECTED and RECONNECTING, the next attempt
 * is due or the window has ended. */
void registration_on_peer_overdue(struct gt_registration *registration);
void registration_on_control_overdue(struct gt_registration *registration);
