/* SPDX-License-Identifier: ISC */
/*
 * Whether and when the shared connection gets another data connection. Pure: times are seconds of
 * gt_clock(), passed by the caller, and no network is involved.
 *
 * Attempts count the data connections of stream 0, from 1. The operator requests a ticket for the
 * next attempt, and both sides dial when it arrives. If none was up yet, there are
 * GT_ATTEMPT_FIRST_S and 1 + GT_ATTEMPT_TRIES attempts. After a loss there is the resume window.
 */
#pragma once

#include "gotthard/net/backoff.h"
#include "gotthard/proto/join.h"

#define GT_ATTEMPT_FIRST_S GT_TICKET_TTL_S /* until the first one must be up */
#define GT_ATTEMPT_TRIES   3               /* that are repeated before one was up */

struct gt_attempt_policy {
    double window_s;     /* without a data connection, at most; 0: a lost connection is final */
    double give_up_at;   /* while waiting */
    uint32_t requested;  /* last attempt that a ticket was requested for */
    uint32_t attempt;    /* last attempt that was dialed */
    uint32_t up_attempt; /* last attempt that was up; 0: none */
    struct gt_backoff backoff;
};

void gt_attempt_policy_init(struct gt_attempt_policy *policy, double window_s, double now);
/* The data connection is lost, or about to be replaced: the time for the next one starts. */
void gt_attempt_policy_wait(struct gt_attempt_policy *policy, double now);
/* The number of the attempt to request a ticket for. */
uint32_t gt_attempt_policy_request(struct gt_attempt_policy *policy);
void gt_attempt_policy_dialed(struct gt_attempt_policy *policy, uint32_t attempt);
/* The back-off continues: the caller ends it when the data connection has lasted for a while. */
void gt_attempt_policy_up(struct gt_attempt_policy *policy);

/* Returns true if there is time (and, before the first success, an attempt) left. */
bool gt_attempt_policy_may_retry(const struct gt_attempt_policy *policy, double now);
/* Returns true if a ticket for @attempt is newer than all that was dialed or requested. */
bool gt_attempt_policy_accepts(const struct gt_attempt_policy *policy, uint32_t attempt);
/* The last attempt that was requested or dialed; 0: none. */
uint32_t gt_attempt_policy_attempt(const struct gt_attempt_policy *policy);
