/* SPDX-License-Identifier: ISC */
/*
 * Arithmetic of silence. Must never probe later than the heartbeat interval plus one grid step.
 */
#include "gotthard/tunnel/liveness.h"

#include "gotthard/base/clock.h"

#define GRID_STEPS 5 /* in one heartbeat interval */

void gt_liveness_init(struct gt_liveness *liveness, enum gt_role role, double heartbeat_s,
                      double timeout_s)
{
    *liveness = (struct gt_liveness){
        .role = role,
        .heartbeat_s = heartbeat_s > 0 ? heartbeat_s : GT_LIVENESS_HEARTBEAT_S,
        .timeout_s = timeout_s > 0 ? timeout_s : GT_LIVENESS_TIMEOUT_S,
    };
}

void gt_liveness_received(struct gt_liveness *liveness, double now)
{
    liveness->received_at = now;
    liveness->doubted_at = 0;
}

void gt_liveness_probed(struct gt_liveness *liveness, double now)
{
    liveness->probed_at = now;
}

void gt_liveness_doubt(struct gt_liveness *liveness, double now, bool has_slept)
{
    liveness->doubted_at = liveness->probed_at = now;
    if (has_slept)
        liveness->received_at = now;
}

bool gt_liveness_is_fresh(const struct gt_liveness *liveness, double now)
{
    return now - liveness->received_at <= GT_LIVENESS_FRESH_S;
}

double gt_liveness_time_left(const struct gt_liveness *liveness, double now)
{
    double left = liveness->received_at + liveness->timeout_s - now;

    if (gt_liveness_is_doubted(liveness))
        left = GT_MIN(left, liveness->doubted_at + GT_LIVENESS_DOUBT_S - now);
    return left;
}

static double liveness_probe_at(const struct gt_liveness *liveness)
{
    double step = liveness->heartbeat_s / GRID_STEPS;
    double at = GT_MAX(liveness->received_at, liveness->probed_at) + liveness->heartbeat_s;

    return gt_clock_grid(liveness->role == GT_ROLE_DEVICE ? at + step : at, step);
}

bool gt_liveness_is_probe_due(const struct gt_liveness *liveness, double now)
{
    return now >= liveness_probe_at(liveness);
}

double gt_liveness_next(const struct gt_liveness *liveness, double now)
{
    double next = GT_MIN(liveness_probe_at(liveness) - now, gt_liveness_time_left(liveness, now));

    return GT_MAX(next, 0.);
}
