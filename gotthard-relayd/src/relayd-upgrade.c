/* SPDX-License-Identifier: ISC */
/*
 * The program is executed outside the loop, so that no callback is interrupted, and events that
 * arrived before it are handled before it.
 */
#include "relayd-upgrade.h"

#include <signal.h>

#include "control/restart-notice.h"
#include "gotthard/base/exit-status.h"
#include "gotthard/base/log.h"
#include "upgrade/snapshot.h"

static struct snapshot snapshot_of(struct relayd *relayd)
{
    return (struct snapshot){
        .loop = relayd->loop,
        .registry = &relayd->registry,
        .clients = &relayd->clients,
        .quota = &relayd->quota,
        .access = &relayd->access,
        .seen_binders = &relayd->seen_binders,
        .data_threads = relayd->data_threads.all,
        .n_data_threads = relayd->data_threads.n,
        .main_listener = &relayd->main_listener,
        .on_accept = relayd_on_accept,
        .userdata = relayd,
    };
}

static void relayd_write_snapshot(void *userdata, struct gt_writer *writer)
{
    const struct snapshot snapshot = snapshot_of(userdata);

    snapshot_write(&snapshot, writer);
}

static void relayd_on_rejected(void *userdata, int status, const char *reason)
{
    struct relayd *relayd = userdata;

    gt_error("upgrade rejected, continuing with the running version reason=\"%s\"", reason);
    audit_note(&relayd->audit, GT_AUDIT_UPGRADE, reason);
    relayd_notify_ready(relayd);
    gt_reload_server_finish(&relayd->reload_server, status, reason);
}

static void relayd_on_rehearsed(void *userdata)
{
    relayd_handle(userdata, RELAYD_REHEARSED);
}

/* Clients of an upgrade in progress wait for the next one. */
static void relayd_decline_upgrade(struct relayd *relayd)
{
    static struct gt_log_rate rate;
    unsigned n_suppressed;
    bool is_stopping = relayd->state != RELAYD_RUNNING && relayd->state != RELAYD_UPGRADING;
    const char *reason = is_stopping ? "the relay is stopping" : "an upgrade is in progress";

    if (gt_log_is_allowed(&rate, 1, &n_suppressed))
        gt_info("upgrade not started suppressed=%u reason=\"%s\"", n_suppressed, reason);
    if (is_stopping)
        gt_reload_server_finish(&relayd->reload_server, GT_EXIT_TRY_AGAIN, reason);
}

/* The data threads are paused while the state is written. */
void relayd_on_reload_request(void *userdata)
{
    struct relayd *relayd = userdata;

    if (relayd->state != RELAYD_RUNNING || relayd->rehearsal.state != REHEARSAL_IDLE) {
        relayd_decline_upgrade(relayd);
        return;
    }
    gt_info("upgrade started, rehearsing with the installed program");
    gt_notify_reloading();
    gt_reload_server_begin(&relayd->reload_server);
    data_threads_pause(&relayd->data_threads);
    rehearsal_start(&relayd->rehearsal);
    data_threads_resume(&relayd->data_threads);
}

void relayd_on_upgrade(struct ev_loop *loop, ev_signal *signal, int revents)
{
    relayd_on_reload_request(signal->data);
}

/* @how: as of sigprocmask(2). */
static void set_signal_mask(int how)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < GT_ARRAY_SIZE(signals); i++)
        sigaddset(&set, signals[i]);
    sigprocmask(how, &set, NULL);
}

/* The next image has no connection to clients that it does not admit, so this one sends them the
 * reason. New connections and signals wait for the next image from here on. Those that have arrived
 * are handled first, because one may be a signal to end. */
void relayd_upgrade(struct relayd *relayd)
{
    char error[GT_CONFIG_ERROR_MAX];
    const char *reason = NULL;

    if (!relayd_reload_admission(relayd, error)) {
        relayd_handle(relayd, RELAYD_UPGRADE_FAILED);
        relayd_on_rejected(relayd, GT_EXIT_CONFIGURATION, error);
        return;
    }
    main_listener_pause(&relayd->main_listener);
    restart_notice_send(&relayd->clients,
                        restart_notice_window_ms(&relayd->clients, RESTART_UPGRADE));
    set_signal_mask(SIG_BLOCK);
    ev_run(relayd->loop, EVRUN_NOWAIT);
    if (relayd->state == RELAYD_UPGRADING) {
        data_threads_pause(&relayd->data_threads);
        client_host_flush(&relayd->clients);
        reason = rehearsal_execute(&relayd->rehearsal);
        data_threads_resume(&relayd->data_threads);
        relayd_handle(relayd, RELAYD_UPGRADE_FAILED);
    }
    set_signal_mask(SIG_UNBLOCK);
    if (reason)
        relayd_on_rejected(relayd, GT_EXIT_INTERNAL, reason);
}

int relayd_restore(struct relayd *relayd)
{
    const struct snapshot snapshot = snapshot_of(relayd);
    struct restore *restore = relayd->invocation->restore;
    uint16_t configured = (uint16_t)relayd->settings->port;
    struct snapshot_counts counts;
    int r = snapshot_restore(&snapshot, restore_state(restore), &counts);

    restore_deinit(restore);
    if (!r)
        relayd_apply_admission(relayd); /* the settings may have changed as well */
    if (!r && main_listener_port(&relayd->main_listener, configured) != configured)
        gt_warn("server.port changes with a restart only");
    if (!r)
        gt_info("took over sessions=%zu pairs=%zu tickets=%zu pause=%llums", counts.n_sessions,
                counts.n_pairs, counts.n_tickets,
                (unsigned long long)(gt_clock_ms() - counts.stopped_at));
    return r;
}

void relayd_init_upgrade(struct relayd *relayd)
{
    rehearsal_init(&relayd->rehearsal, relayd->loop, relayd->invocation->argv);
    relayd->rehearsal.write = relayd_write_snapshot;
    relayd->rehearsal.on_rehearsed = relayd_on_rehearsed;
    relayd->rehearsal.on_rejected = relayd_on_rejected;
    relayd->rehearsal.userdata = relayd;
    set_signal_mask(SIG_UNBLOCK); /* the previous image blocked them */
}
