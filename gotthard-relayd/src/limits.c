/* SPDX-License-Identifier: ISC */
/* Limits, part by part. Nothing is computed here but what a small budget makes of them. */
#include "limits.h"

#include <stdio.h>

#define TURN_BYTES                                                                \
    (1 << 20) /* what one direction of a pair moves before others have their turn \
               */

struct quota_limits limits_of_quota(const struct settings *s, size_t n_fds_max)
{
    /* On a small budget strangers may never have it all. */
    size_t n_max = GT_MIN(s->n_preauth, GT_MAX(n_fds_max / 4, (size_t)4));

    return (struct quota_limits){
        .n_strangers = n_max,
        .n_early = GT_MIN(s->n_preauth_drop_from, n_max),
        .n_per_source = s->n_per_source,
        .penalty_failed_ms = s->penalty_failed_ms,
        .penalty_timeout_ms = s->penalty_timeout_ms,
        .penalty_max_ms = s->penalty_max_ms,
    };
}

struct plane_limits limits_of_planes(const struct settings *s)
{
    struct plane_limits limits = {
        .join_ms = s->join_ms,
        .pair = {.second_ms = s->second_ms,
                 .half_closed_ms = s->half_closed_ms,
                 .budget = TURN_BYTES},
    };

    if (s->congestion)
        snprintf(limits.pair.congestion, sizeof(limits.pair.congestion), "%s", s->congestion);
    return limits;
}

struct member_limits limits_of_members(const struct settings *s)
{
    return (struct member_limits){
        .handshake_ms = s->handshake_ms,
        .hello_ms = s->hello_ms,
        .heartbeat_ms = s->heartbeat_ms,
        .dead_ms = s->dead_ms,
        .unseated_ms = s->half_ms,
        .lifetime_ms = s->lifetime_ms,
        .n_frames = (unsigned)s->n_frames,
        .n_streams = (uint16_t)s->n_streams,
    };
}

struct registry_limits limits_of_registry(const struct settings *s)
{
    return (struct registry_limits){
        .session = {s->half_ms, s->idle_ms, s->grace_ms},
        .lifetime_ms = s->lifetime_ms,
        .ticket_ms = s->ticket_ms,
        .n_sessions = s->n_sessions,
        .n_sessions_per_identity = s->n_sessions_per_identity,
        .n_streams = s->n_streams,
        .n_tickets = s->n_tickets,
    };
}
