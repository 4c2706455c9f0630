/* SPDX-License-Identifier: ISC */
/*
 * Whether and when a stream gets another data connection. Pure: times are seconds of gt_clock(),
 * passed by the caller, and no network is involved.
 *
 * Attempts count the data connections of a stream, from 1. The operator requests a ticket for the
 * next attempt, and both sides dial when it arrives. A stream that never was up has
 * GT_ATTEMPT_FIRST_S and GT_ATTEMPT_TRIES attempts. A stream that was up has its resume window,
 * from the moment its data connection was lost.
 */
#pragma once

#include "gotthard/net/backoff.h"
#include "gotthard/proto/join.h"

#define GT_ATTEMPT_FIRST_S GT_TICKET_TTL_S /* until a stream must be up for the first time */
#define GT_ATTEMPT_TRIES   3               /* of a stream that never was up */

struct gt_attempt_policy {
    double window_s;     /* without a data connection, at most; 0: a lost connection is final */
    double give_up_at;   /* while waiting */
    uint32_t requested;  /* last attempt that a ticket was requested for */
    uint32_t attempt;    /* last attempt that was dialed */
    uint32_t up_attempt; /* last attempt that was up; 0: the peer may not know the stream */
    struct gt_backoff backoff;
};

/* The state of the stream that the decisions depend on. */
struct gt_attempt_stream {
    bool is_over, is_reset_by_peer;
};

void gt_attempt_policy_init(struct gt_attempt_policy *policy, double window_s, double now);
/* The data connection is lost, or about to be replaced: the time for the next one starts. */
void gt_attempt_policy_wait(struct gt_attempt_policy *policy, double now);
/* No further attempt. */
void gt_attempt_policy_stop(struct gt_attempt_policy *policy);
/* The number of the attempt to request a ticket for. */
uint32_t gt_attempt_policy_request(struct gt_attempt_policy *policy);
void gt_attempt_policy_dialed(struct gt_attempt_policy *policy, uint32_t attempt);
void gt_attempt_policy_up(struct gt_attempt_policy *policy);

/* Returns true if another data connection has something to do: move bytes, or inform the peer of
 * the end. The peer of a stream that never was up need not be informed, nor a peer that reset it.
 */
bool gt_attempt_policy_is_useful(const struct gt_attempt_policy *policy,
                                 const struct gt_attempt_stream *stream);
/* Returns true if it is useful and there is time (and, before the first success, an attempt) left.
 */
bool gt_attempt_policy_may_retry(const struct gt_attempt_policy *policy,
                                 const struct gt_attempt_stream *stream, double now);
/* Returns true if a ticket for @attempt is newer than all that was dialed or requested. */
bool gt_attempt_policy_accepts(const struct gt_attempt_policy *policy, uint32_t attempt);
/* The last attempt that was requested or dialed; 0: none. */
uint32_t gt_attempt_policy_attempt(const struct gt_attempt_policy *policy);
