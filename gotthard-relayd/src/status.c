/* SPDX-License-Identifier: ISC */
/*
 * The answer to SIGUSR1. It only reads, and what other threads count it reads as it is at that
 * moment: the sums are good enough for people.
 */
#include "status.h"

#include "gotthard/log.h"

static void status_log_plane(const struct plane *plane)
{
    const struct plane_counts *counts = &plane->counts;

    gt_info("status plane=%u sessions=%u tickets=%u pairs=%u pipes=%u bytes=%lu wake-ups=%lu",
            plane->index, atomic_load(&counts->n_docks), atomic_load(&counts->n_tickets),
            atomic_load(&counts->n_pairs), atomic_load(&counts->n_pipes),
            atomic_load(&counts->n_bytes), atomic_load(&counts->n_wakeups));
}

static void status_log_all(const struct status *status)
{
    const struct registry *registry = status->registry;
    unsigned n_pairs = 0, n_tickets = 0;
    unsigned long n_wakeups = status->n_wakeups;
    struct quota_counts counts;

    for (size_t i = 0; i < status->n_planes; i++) {
        n_pairs += atomic_load(&status->planes[i]->counts.n_pairs);
        n_tickets += atomic_load(&status->planes[i]->counts.n_tickets);
        n_wakeups += atomic_load(&status->planes[i]->counts.n_wakeups);
    }
    quota_count(status->quota, &counts);
    gt_info("status sessions=%zu members=%zu pairs=%u tickets=%u ports=%zu/%zu fds=%zu/%zu "
            "strangers=%zu refused=%zu born=%llu unlisted=%llu wake-ups=%lu",
            registry_n_sessions(registry), status->members->n_members, n_pairs, n_tickets,
            ports_n_taken(&registry->ports), ports_n(&registry->ports), counts.n_fds,
            counts.n_fds_max, counts.n_strangers, counts.n_refused,
            (unsigned long long)registry->n_born, (unsigned long long)registry->entries.n_unlisted,
            n_wakeups);
}

void status_log(const struct status *status)
{
    status_log_all(status);
    for (size_t i = 0; i < status->n_planes; i++)
        status_log_plane(status->planes[i]);
    registry_show(status->registry);
}
