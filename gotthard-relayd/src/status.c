/* SPDX-License-Identifier: ISC */
/* Counts only: no key, no ticket, and of names those that any log line of a session has. */
#include "status.h"

#include "gotthard/log.h"

static void status_show_plane(const struct plane *plane)
{
    const struct plane_counts *counts = &plane->counts;

    gt_info("status plane=%u sessions=%u tickets=%u pairs=%u pipes=%u bytes=%lu wake-ups=%lu",
            plane->index, atomic_load(&counts->n_docks), atomic_load(&counts->n_tickets),
            atomic_load(&counts->n_pairs), atomic_load(&counts->n_pipes),
            atomic_load(&counts->n_bytes), atomic_load(&counts->n_wakeups));
}

void status_show(const struct registry *registry, const struct member_host *members,
                 struct quota *quota)
{
    unsigned n_pairs = 0, n_tickets = 0;
    unsigned long n_wakeups = ev_iteration(registry->loop);
    struct quota_counts counts;

    for (size_t i = 0; i < registry->n_planes; i++) {
        n_pairs += atomic_load(&registry->planes[i]->counts.n_pairs);
        n_tickets += atomic_load(&registry->planes[i]->counts.n_tickets);
        n_wakeups += atomic_load(&registry->planes[i]->counts.n_wakeups);
    }
    quota_count(quota, &counts);
    gt_info("status sessions=%zu members=%zu pairs=%u tickets=%u ports=%zu/%zu fds=%zu/%zu "
            "strangers=%zu refused=%zu born=%llu unlisted=%llu wake-ups=%lu",
            registry_n_sessions(registry), members->n_members, n_pairs, n_tickets,
            ports_n_taken(&registry->ports), ports_n(&registry->ports), counts.n_fds,
            counts.n_fds_max, counts.n_strangers, counts.n_refused,
            (unsigned long long)registry->n_born, (unsigned long long)registry->n_unlisted,
            n_wakeups);
    for (size_t i = 0; i < registry->n_planes; i++)
        status_show_plane(registry->planes[i]);
    registry_show(registry);
}
