/* SPDX-License-Identifier: ISC */
/*
 * When to probe a data connection, and when to give it up. Pure: all times are seconds of
 * gt_clock(), passed by the caller.
 *
 * Probe times of all connections of a process lie on one grid, so that thousands of idle
 * connections are probed in a few loop iterations. The device's probe is one grid step later: of
 * two ends that receive nothing but probes, only one probes and the other one answers.
 */
#pragma once

#include "gotthard/base/base.h"
#include "gotthard/crypto/key.h"

#define GT_LIVENESS_HEARTBEAT_S 25.0 /* a NAT may drop an idle mapping after 30 s */
#define GT_LIVENESS_TIMEOUT_S   45.0
#define GT_LIVENESS_DOUBT_S     5.0 /* for an answer, once the connection is in doubt */
#define GT_LIVENESS_FRESH_S     3.0 /* data that recent proves the connection */

struct gt_liveness {
    enum gt_role role;
    double heartbeat_s; /* silence before a probe, at most */
    double timeout_s;   /* silence before the connection counts as lost */
    double received_at; /* last record of the peer */
    double probed_at;
    double doubted_at; /* 0: not in doubt */
};

/* @heartbeat_s, @timeout_s: 0 selects the defaults. */
void gt_liveness_init(struct gt_liveness *liveness, enum gt_role role, double heartbeat_s,
                      double timeout_s);
/* The peer sent a record: not in doubt any more. */
void gt_liveness_received(struct gt_liveness *liveness, double now);
void gt_liveness_probed(struct gt_liveness *liveness, double now);
/* A probe is sent now, and only its answer (or any later record) within GT_LIVENESS_DOUBT_S keeps
 * the connection. @has_slept: silence during the suspend does not count. */
void gt_liveness_doubt(struct gt_liveness *liveness, double now, bool has_slept);
static inline bool gt_liveness_is_doubted(const struct gt_liveness *liveness)
{
    return liveness->doubted_at > 0;
}
/* True if the last record is recent enough to rely on the connection without a probe. */
bool gt_liveness_is_fresh(const struct gt_liveness *liveness, double now);

/* Seconds until the connection counts as lost; <= 0: now. */
double gt_liveness_time_left(const struct gt_liveness *liveness, double now);
bool gt_liveness_is_probe_due(const struct gt_liveness *liveness, double now);
/* Seconds until the next probe or the loss, whichever is first; >= 0. */
double gt_liveness_next(const struct gt_liveness *liveness, double now);
