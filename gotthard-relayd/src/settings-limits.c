/* SPDX-License-Identifier: ISC */
/*
 * One function for each part. Values that are no settings, such as the bytes of one turn, are
 * defined here beside those that are.
 */
#include "settings-limits.h"

#include <stdio.h>

#include "data/data-threads.h"

#define CONNECTIONS_PER_SESSION 4 /* of one identity: a lost connection is noticed late */
#define PREAUTHS_MIN            4
#define TURN_BYTES              (1 << 20) /* one direction of a pair, in one turn of its thread */

struct descriptor_budget_request settings_descriptor_request(const struct settings *settings)
{
    return (struct descriptor_budget_request){
        .n_descriptors_max = (size_t)settings->n_descriptors,
        .n_data_threads = (size_t)settings->n_threads,
        .n_data_threads_max = DATA_THREADS_MAX,
        .n_fds_per_thread = DATA_THREAD_N_FDS,
    };
}

struct quota_limits settings_quota_limits(const struct settings *settings, size_t n_fds_max)
{
    /* With few descriptors, unauthenticated connections must not take all of them. */
    size_t n_max = GT_MIN((size_t)settings->n_preauth, GT_MAX(n_fds_max / 4, (size_t)PREAUTHS_MIN));
    size_t n_handshakes = GT_MAX(n_max / 4, (size_t)PREAUTHS_MIN);

    return (struct quota_limits){
        .n_preauths = n_max,
        .n_handshakes = n_handshakes,
        .n_of_identity = n_handshakes / 2,
        .n_per_source = (size_t)settings->n_per_source,
    };
}

struct data_thread_limits settings_data_thread_limits(const struct settings *settings)
{
    struct data_thread_limits limits = {
        .join_ms = settings->join_ms,
        .pair = {.join_peer_ms = settings->join_peer_ms,
                 .half_closed_ms = settings->half_closed_ms,
                 .turn_budget = TURN_BYTES},
    };

    if (settings->congestion)
        snprintf(limits.pair.congestion, sizeof(limits.pair.congestion), "%s",
                 settings->congestion);
    return limits;
}

struct client_limits settings_client_limits(const struct settings *settings)
{
    return (struct client_limits){
        .handshake_ms = settings->handshake_ms,
        .hello_ms = settings->hello_ms,
        .heartbeat_ms = settings->heartbeat_ms,
        .heartbeat_timeout_ms = settings->dead_ms,
        .without_session_ms = settings->pairing_ms,
        .lifetime_ms = settings->lifetime_ms,
        .n_frames = (unsigned)settings->n_frames,
        .n_per_identity = CONNECTIONS_PER_SESSION * (size_t)settings->n_sessions_per_identity,
        .n_sessions = (size_t)settings->n_sessions_per_identity,
        .n_streams = (uint16_t)settings->n_streams,
    };
}

struct session_limits settings_session_limits(const struct settings *settings)
{
    return (struct session_limits){
        .rendezvous = {settings->pairing_ms, settings->idle_ms, settings->grace_ms},
        .lifetime_ms = settings->lifetime_ms,
        .ticket_ms = settings->ticket_ms,
        .n_streams = (size_t)settings->n_streams,
        .n_tickets = (size_t)settings->n_tickets,
    };
}

struct registry_limits settings_registry_limits(const struct settings *settings)
{
    return (struct registry_limits){
        .n_sessions = (size_t)settings->n_sessions,
        .n_sessions_per_identity = (size_t)settings->n_sessions_per_identity,
    };
}
