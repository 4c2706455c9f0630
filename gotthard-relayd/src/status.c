/* SPDX-License-Identifier: ISC */
/*
 * Collects and formats; see the header. This file only reads, and it is the only one that knows the
 * form of a status line.
 */
#include "status.h"

#include <stdio.h>

#include "gotthard/base/log.h"

/* --- collecting ------------------------------------------------------------------------------- */

static void status_collect_thread(const struct data_thread_counts *counts, struct status *status)
{
    struct status_thread *thread = &status->threads[status->n_threads++];

    *thread = (struct status_thread){
        .n_sessions = atomic_load(&counts->n_session_ports),
        .n_tickets = atomic_load(&counts->n_tickets),
        .n_pairs = atomic_load(&counts->n_pairs),
        .n_pipes = atomic_load(&counts->n_pipes),
        .n_bytes = atomic_load(&counts->n_bytes),
        .n_wakeups = atomic_load(&counts->n_wakeups),
    };
    status->n_pairs += thread->n_pairs;
    status->n_tickets += thread->n_tickets;
    status->n_wakeups += thread->n_wakeups;
}

void status_collect(const struct status_sources *sources, struct status *ret)
{
    const struct registry *registry = sources->registry;

    *ret = (struct status){
        .n_sessions = registry_n_sessions(registry),
        .n_clients = sources->clients->n_clients,
        .n_ports_in_use = ports_n_in_use(&registry->ports),
        .n_ports = ports_n(&registry->ports),
        .n_created = registry->n_created,
        .n_unexpected = registry->sessions.n_unexpected,
        .n_wakeups = sources->n_wakeups,
    };
    quota_count(sources->quota, &ret->quota);
    for (size_t i = 0; i < sources->data_threads->n; i++)
        status_collect_thread(&sources->data_threads->all[i]->counts, ret);
}

/* --- formatting ------------------------------------------------------------------------------- */

void status_format_relay(const struct status *status, char ret[static STATUS_LINE])
{
    const struct quota_counts *quota = &status->quota;

    snprintf(ret, STATUS_LINE,
             "sessions=%zu clients=%zu pairs=%u tickets=%u ports=%zu/%zu fds=%zu/%zu preauth=%zu "
             "evicted=%llu created=%llu unexpected=%llu wake-ups=%llu",
             status->n_sessions, status->n_clients, status->n_pairs, status->n_tickets,
             status->n_ports_in_use, status->n_ports, quota->n_fds, quota->n_fds_max,
             quota->n_preauths, (unsigned long long)quota->n_evicted,
             (unsigned long long)status->n_created, (unsigned long long)status->n_unexpected,
             (unsigned long long)status->n_wakeups);
}

void status_format_thread(const struct status *status, size_t index, char ret[static STATUS_LINE])
{
    const struct status_thread *thread = &status->threads[index];

    snprintf(ret, STATUS_LINE,
             "thread=%zu sessions=%u tickets=%u pairs=%u pipes=%u bytes=%llu wake-ups=%llu", index,
             thread->n_sessions, thread->n_tickets, thread->n_pairs, thread->n_pipes,
             (unsigned long long)thread->n_bytes, (unsigned long long)thread->n_wakeups);
}

void status_format_session(const struct session_status *session, char ret[static STATUS_LINE])
{
    const struct session_status_side *sides = session->sides;

    snprintf(ret, STATUS_LINE,
             "session=%s state=%s operator=%s%s device=%s%s port=%u thread=%u connections=%zu "
             "load=%u tickets=%zu seconds=%llu",
             session->tag, session->state, sides[0].name, sides[0].is_connected ? "" : "(absent)",
             sides[1].name, sides[1].is_connected ? "" : "(absent)", session->port, session->thread,
             session->n_connections, (unsigned)session->load, session->n_tickets,
             (unsigned long long)session->age_s);
}

/* --- logging ---------------------------------------------------------------------------------- */

static void status_on_session(void *userdata, const struct session_status *session)
{
    char line[STATUS_LINE];

    status_format_session(session, line);
    gt_info("status %-s", line);
}

void status_log(const struct status_sources *sources)
{
    char line[STATUS_LINE];
    struct status status;

    status_collect(sources, &status);
    status_format_relay(&status, line);
    gt_info("status %-s", line);
    for (size_t i = 0; i < status.n_threads; i++) {
        status_format_thread(&status, i, line);
        gt_info("status %-s", line);
    }
    registry_each_session(sources->registry, status_on_session, NULL);
}
