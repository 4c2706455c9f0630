/* SPDX-License-Identifier: ISC */
/*
 * Settings to limits, one function a part, so that a reload is nothing but calling them again. The
 * budget is computed once, at start: connections beyond it are turned away one by one, and those
 * that are joined never learn of it.
 */
#include "limits.h"

#include <stdio.h>
#include <sys/resource.h>

#include "gotthard/log.h"

#define N_OWN_FDS               16 /* the standard three, the loop's, signals, main listeners, the spare one */
#define CONNECTIONS_PER_SESSION 4  /* of one identity: lost ones are noticed late */
#define N_FDS_MIN               16 /* below which there is no point in running */
#define N_FDS_MAX               (1u << 20)
#define N_PIPES_MAX             1024
#define TURN_BYTES              (1 << 20) /* one direction of one pair, in one turn of its plane */

struct quota_limits limits_of_quota(const struct settings *settings, size_t n_fds_max)
{
    /* On a small budget strangers may never have it all. */
    size_t n_max = GT_MIN(settings->n_preauth, GT_MAX(n_fds_max / 4, (size_t)4));

    return (struct quota_limits){
        .n_strangers = n_max,
        .n_early = GT_MIN(settings->n_preauth_drop_from, n_max),
        .n_per_source = settings->n_per_source,
        .penalty_failed_ms = settings->penalty_failed_ms,
        .penalty_timeout_ms = settings->penalty_timeout_ms,
        .penalty_max_ms = settings->penalty_max_ms,
    };
}

struct plane_limits limits_of_plane(const struct settings *settings)
{
    struct plane_limits limits = {
        .join_ms = settings->join_ms,
        .pair = {.second_ms = settings->second_ms,
                 .half_closed_ms = settings->half_closed_ms,
                 .budget = TURN_BYTES},
    };

    if (settings->congestion)
        snprintf(limits.pair.congestion, sizeof(limits.pair.congestion), "%s",
                 settings->congestion);
    return limits;
}

struct member_limits limits_of_member(const struct settings *settings)
{
    return (struct member_limits){
        .handshake_ms = settings->handshake_ms,
        .hello_ms = settings->hello_ms,
        .heartbeat_ms = settings->heartbeat_ms,
        .dead_ms = settings->dead_ms,
        .unseated_ms = settings->half_ms,
        .lifetime_ms = settings->lifetime_ms,
        .n_frames = (unsigned)settings->n_frames,
        .n_per_identity = CONNECTIONS_PER_SESSION * settings->n_sessions_per_identity,
        .n_streams = (uint16_t)settings->n_streams,
    };
}

struct entry_limits limits_of_entry(const struct settings *settings)
{
    return (struct entry_limits){
        .session = {settings->half_ms, settings->idle_ms, settings->grace_ms},
        .lifetime_ms = settings->lifetime_ms,
        .ticket_ms = settings->ticket_ms,
        .n_streams = settings->n_streams,
        .n_tickets = settings->n_tickets,
    };
}

struct registry_limits limits_of_registry(const struct settings *settings)
{
    return (struct registry_limits){
        .n_sessions = settings->n_sessions,
        .n_sessions_per_identity = settings->n_sessions_per_identity,
    };
}

/* As many descriptors as the system grants, or as the configuration allows. */
static size_t budget_n_descriptors(const struct settings *settings)
{
    struct rlimit limit = {1024, 1024};

    if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur < limit.rlim_max) {
        struct rlimit raised = {GT_MIN(limit.rlim_max, (rlim_t)N_FDS_MAX), limit.rlim_max};
        if (!setrlimit(RLIMIT_NOFILE, &raised))
            limit = raised;
    }
    size_t n = (size_t)GT_MIN(limit.rlim_cur, (rlim_t)N_FDS_MAX);
    return settings->n_descriptors ? GT_MIN(n, (size_t)settings->n_descriptors) : n;
}

static size_t budget_n_planes(const struct settings *settings)
{
    long n_cores = sysconf(_SC_NPROCESSORS_ONLN);

    if (settings->n_threads)
        return GT_MIN((size_t)settings->n_threads, (size_t)BUDGET_PLANES_MAX);
    return n_cores < 1 ? 1 : GT_MIN((size_t)n_cores, (size_t)8);
}

int budget_make(const struct settings *settings, struct budget *ret)
{
    size_t n = budget_n_descriptors(settings), n_planes = budget_n_planes(settings);
    size_t n_fixed = N_OWN_FDS + n_planes * PLANE_N_FDS;

    if (n < n_fixed + N_FDS_MIN) {
        gt_error("%zu file descriptors are too few: raise the limit to %zu at least", n,
                 n_fixed + N_FDS_MIN);
        return BUDGET_E_SMALL;
    }
    size_t n_pipes = GT_MIN((n - n_fixed) / 16, (size_t)N_PIPES_MAX) / n_planes;
    n_pipes = GT_MAX(n_pipes, (size_t)1);
    size_t n_of_pipes = GT_MIN(2 * n_pipes * n_planes, (n - n_fixed) / 2);
    *ret = (struct budget){
        .n_planes = n_planes, .n_connections = n - n_fixed - n_of_pipes, .n_pipes = n_pipes};
    return 0;
}
