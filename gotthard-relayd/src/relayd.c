/* SPDX-License-Identifier: ISC */
/*
 * The control thread: it owns the parts, accepts on the main port, starts the data threads, and
 * handles signals within the loop, never in a signal handler. The states are in relayd-states.c.
 *
 * After the start the relay opens no file but its configuration, the access list and the audit,
 * makes no connection and starts no program but itself, in an upgrade.
 */
#include "relayd.h"

#include <signal.h>

#include "gotthard/base/heap.h"
#include "gotthard/base/log.h"
#include "relayd-upgrade.h"
#include "settings-limits.h"
#include "settings-warnings.h"
#include "status.h"

#define TRIM_MIN 64 /* sessions and connections; a smaller peak is not worth a trim */

/* --- signals ---------------------------------------------------------------------------------- */

static void relayd_on_term(struct ev_loop *loop, ev_signal *signal, int revents)
{
    relayd_handle(signal->data, RELAYD_TERMINATED);
}

static void relayd_on_usr1(struct ev_loop *loop, ev_signal *signal, int revents)
{
    struct relayd *relayd = signal->data;
    const struct status_sources sources = {
        .registry = &relayd->registry,
        .clients = &relayd->clients,
        .quota = &relayd->quota,
        .data_threads = &relayd->data_threads,
        .n_wakeups = relayd->n_wakeups,
    };

    status_log(&sources);
}

static void relayd_watch_signal(struct relayd *relayd, ev_signal *watcher, int number,
                                void (*on_signal)(struct ev_loop *, ev_signal *, int))
{
    ev_signal_init(watcher, on_signal, number);
    watcher->data = relayd;
    ev_signal_start(relayd->loop, watcher);
}

static void relayd_watch_signals(struct relayd *relayd)
{
    relayd_watch_signal(relayd, &relayd->on_term, SIGTERM, relayd_on_term);
    relayd_watch_signal(relayd, &relayd->on_int, SIGINT, relayd_on_term);
    relayd_watch_signal(relayd, &relayd->on_hup, SIGHUP, relayd_on_reload);
    relayd_watch_signal(relayd, &relayd->on_usr1, SIGUSR1, relayd_on_usr1);
    relayd_watch_signal(relayd, &relayd->on_usr2, SIGUSR2, relayd_on_upgrade);
}

/* --- the turn of the loop --------------------------------------------------------------------- */

/* Returns freed memory to the system after a peak, each time the load has halved. The cost per
 * ended connection is negligible. */
static void relayd_trim_memory(struct relayd *relayd)
{
    size_t n = relayd->clients.n_clients + registry_n_sessions(&relayd->registry);

    relayd->n_peak = GT_MAX(relayd->n_peak, n);
    if (relayd->n_peak < TRIM_MIN || n > relayd->n_peak / 2)
        return;
    gt_heap_trim();
    relayd->n_peak = n;
}

static void relayd_before_sleep(struct ev_loop *loop, ev_prepare *prepare, int revents)
{
    struct relayd *relayd = gt_container_of(prepare, struct relayd, before_sleep);

    relayd->n_wakeups++;
    relayd_check_done(relayd);
    relayd_notify_changes(relayd);
    client_host_flush(&relayd->clients);
    client_host_reap(&relayd->clients);
    preauth_host_reap(&relayd->preauths);
    registry_reap(&relayd->registry);
    relayd_trim_memory(relayd);
}

/* --- start ------------------------------------------------------------------------------------ */

static int relayd_init(struct relayd *relayd)
{
    const struct settings *s = relayd->settings;

    relayd->loop = ev_default_loop(EVBACKEND_EPOLL | EVFLAG_NOENV);
    if (!relayd->loop)
        return -ENOMEM;
    int r = gt_tls_context_new(GT_TLS_SERVER, GT_CONTROL_ALPN, &relayd->tls);
    if (!r)
        r = registry_init(&relayd->registry, relayd->loop, &relayd->quota, (uint16_t)s->ports_from,
                          (uint16_t)s->ports_to, s->port_cooldown_ms);
    return r;
}

static int relayd_init_parts(struct relayd *relayd)
{
    int r = relayd_init_connections(relayd);

    relayd_init_states(relayd);
    relayd_init_notify(relayd);
    ev_prepare_init(&relayd->before_sleep, relayd_before_sleep);
    ev_prepare_start(relayd->loop, &relayd->before_sleep);
    relayd_watch_signals(relayd);
    relayd_init_upgrade(relayd);
    return r;
}

static void relayd_announce(struct relayd *relayd, const struct descriptor_budget *budget)
{
    const struct settings *s = relayd->settings;

    relayd_notify_ready(relayd);
    gt_info("listening port=%u ports=%llu-%llu threads=%zu connections=%zu pipes=%zu splice=%s "
            "keys=%zu refused=%zu version=%s",
            relayd->port, (unsigned long long)s->ports_from, (unsigned long long)s->ports_to,
            relayd->data_threads.n, budget->n_connections, budget->n_pipes * relayd->data_threads.n,
            s->splice, relayd->admission.n_keys, relayd->admission.refused.n, GOTTHARD_VERSION);
}

static int relayd_open(struct relayd *relayd)
{
    const struct settings *s = relayd->settings;

    return main_listener_open(&relayd->main_listener, relayd->loop, s->bind, (uint16_t)s->port,
                              relayd_on_accept, relayd, &relayd->registry.bind)
               ? RELAYD_E_LISTEN
               : 0;
}

static int relayd_create_data_threads(struct relayd *relayd, const struct descriptor_budget *budget)
{
    const struct settings *s = relayd->settings;
    const struct data_thread_settings each = {
        .outbox = &relayd->inbox,
        .quota = &relayd->quota,
        .pipe_kind = strcmp(s->splice, "off") == 0 ? PIPE_COPIED : PIPE_SPLICED,
        .pipe_size = (size_t)s->pipe_size,
        .n_pipes_max = budget->n_pipes,
        .limits = settings_data_thread_limits(s),
    };

    return data_threads_new(&relayd->data_threads, budget->n_data_threads, &each);
}

static int relayd_init_limits(struct relayd *relayd, struct descriptor_budget *ret_budget)
{
    const struct descriptor_budget_request request = settings_descriptor_request(relayd->settings);
    int r = descriptor_budget_compute(&request, ret_budget) ? RELAYD_E_TOO_FEW_DESCRIPTORS : 0;

    if (!r)
        r = gt_random(relayd->clients.boot_id, sizeof(relayd->clients.boot_id));
    if (r)
        return r;
    quota_init(&relayd->quota, &(struct quota_limits){0}, ret_budget->n_connections);
    relayd_apply_settings(relayd);
    return 0;
}

static void relayd_open_audit(struct relayd *relayd, bool is_upgrade)
{
    audit_open(&relayd->audit);
    audit_configure(&relayd->audit, relayd->settings->audit_size, relayd->settings->n_audit_files);
    audit_note(&relayd->audit, is_upgrade ? GT_AUDIT_UPGRADE : GT_AUDIT_START,
               is_upgrade ? "continues as this version" : NULL);
}

static int relayd_start(struct relayd *relayd)
{
    struct descriptor_budget budget;
    bool is_upgrade = restore_is_pending(relayd->invocation->restore);

    relayd_open_audit(relayd, is_upgrade);
    int r = relayd_init_limits(relayd, &budget);

    if (r)
        return r;
    r = relayd_create_data_threads(relayd, &budget);
    registry_set_data_threads(&relayd->registry, relayd->data_threads.all, relayd->data_threads.n);
    if (!r)
        r = is_upgrade ? relayd_restore(relayd) : relayd_open(relayd);
    if (!r)
        r = data_threads_start(&relayd->data_threads);
    if (r)
        return r;
    relayd->port = main_listener_port(&relayd->main_listener, (uint16_t)relayd->settings->port);
    gt_watchdog_start(&relayd->watchdog, relayd->loop);
    gt_reload_server_open(&relayd->reload_server, relayd->loop, relayd_on_reload_request, relayd);
    relayd_announce(relayd, &budget);
    return 0;
}

/* --- end -------------------------------------------------------------------------------------- */

/* The order follows from the dependencies: sessions send to data threads and to clients. */
static void relayd_deinit(struct relayd *relayd)
{
    rehearsal_deinit(&relayd->rehearsal);
    gt_reload_server_close(&relayd->reload_server);
    main_listener_close(&relayd->main_listener);
    registry_deinit(&relayd->registry);
    client_host_deinit(&relayd->clients);
    preauth_host_deinit(&relayd->preauths);
    data_threads_free(&relayd->data_threads);
    mailbox_drain(&relayd->inbox);
    mailbox_deinit(&relayd->inbox);
    registry_reap(&relayd->registry);
    quota_deinit(&relayd->quota);
    gt_watchdog_stop(&relayd->watchdog, relayd->loop);
    relayd->tls = gt_tls_context_free(relayd->tls);
    ev_loop_destroy(relayd->loop);
    gt_config_free(relayd->config);
    admission_deinit(&relayd->admission);
    access_deinit(&relayd->access);
    audit_close(&relayd->audit);
}

int relayd_run(struct gt_config *config, struct admission *admission,
               const struct relayd_invocation *invocation)
{
    static struct relayd relayd; /* static, because the set of binders is large */

    relayd.config = config;
    relayd.settings = gt_config_settings(config);
    relayd.invocation = invocation;
    admission_move(admission, &relayd.admission);
    relayd_apply_log_level(&relayd);
    settings_warnings_log(relayd.settings, &relayd.admission);
    int r = relayd_init(&relayd);
    if (r)
        return r;
    r = relayd_init_parts(&relayd);
    if (!r)
        r = relayd_start(&relayd);
    if (!r)
        ev_run(relayd.loop, 0);
    while (relayd.state == RELAYD_UPGRADING) {
        relayd_upgrade(&relayd);
        ev_run(relayd.loop, 0);
    }
    relayd_deinit(&relayd);
    if (!r)
        gt_info("ended");
    return r;
}
