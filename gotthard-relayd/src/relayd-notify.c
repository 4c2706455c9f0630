/* SPDX-License-Identifier: ISC */
/*
 * The relay for the service manager: ready, and the line that systemctl status shows.
 */
#include "relayd.h"

#define PAUSE_S 1. /* between two texts: the manager handles each of them */

static size_t count_pairs(const struct relayd *relayd)
{
    size_t n = 0;

    for (size_t i = 0; i < relayd->data_threads.n; i++)
        n += atomic_load(&relayd->data_threads.all[i]->counts.n_pairs);
    return n;
}

static void notify_status(struct relayd *relayd)
{
    size_t n_sessions = registry_n_sessions(&relayd->registry), n_pairs = count_pairs(relayd);

    gt_notify("STATUS=listening on port %u, %zu %s, %zu %s", relayd->port, n_sessions,
              n_sessions == 1 ? "tunnel" : "tunnels", n_pairs,
              n_pairs == 1 ? "data connection" : "data connections");
    relayd->notified.n_sessions = n_sessions;
    relayd->notified.n_pairs = n_pairs;
}

void relayd_notify_ready(struct relayd *relayd)
{
    notify_status(relayd);
    gt_notify("READY=1");
}

void relayd_notify_changes(struct relayd *relayd)
{
    ev_timer *pause = &relayd->notified.pause;
    bool is_changed = relayd->notified.n_sessions != registry_n_sessions(&relayd->registry) ||
                      relayd->notified.n_pairs != count_pairs(relayd);

    if (!is_changed || relayd->state != RELAYD_RUNNING || ev_is_active(pause))
        return;
    notify_status(relayd);
    ev_timer_set(pause, PAUSE_S, 0.);
    ev_timer_start(relayd->loop, pause);
}

/* The turn of the loop that follows sends the numbers of that moment. */
static void on_pause_end(struct ev_loop *loop, ev_timer *timer, int revents)
{
}

void relayd_init_notify(struct relayd *relayd)
{
    ev_init(&relayd->notified.pause, on_pause_end);
}
