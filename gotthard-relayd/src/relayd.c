/* SPDX-License-Identifier: ISC */
/*
 * The control thread: it accepts on the main port, holds the control connections and the sessions,
 * starts the planes, and listens to signals and to the service manager. Signals come through the
 * loop, so that nothing ever happens inside a handler.
 *
 * A reload is all or nothing: whatever could fail is done before anything is changed. After start
 * the relay opens no file but its configuration, connects to nobody and starts no program but
 * itself, when it is upgraded.
 */
#include "relayd.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>

#include "gotthard/log.h"
#include "gotthard/notify.h"
#include "remarks.h"
#include "restarting.h"
#include "status.h"
#include "succession.h"

#define RELAYD_FLUSH_S 1.0 /* for the last frames */
#define EBB_MIN        64
/* --- keys ------------------------------------------------------------------------------------- */

static bool relayd_derive(const struct gt_key *key, struct gt_span identity, uint8_t *ret_psk)
{
    char name[GT_NAME_MAX + 1];
    enum gt_role role;

    return gt_key_parse_identity(identity, &role, name) && !gt_key_client(key, role, name, ret_psk);
}

static bool relayd_psk(void *userdata, struct gt_span identity, uint8_t *ret_psk)
{
    const struct relayd *relayd = userdata;

    return relayd_derive(&relayd->keys.current, identity, ret_psk);
}

static bool relayd_previous_psk(void *userdata, struct gt_span identity, uint8_t *ret_psk)
{
    const struct relayd *relayd = userdata;

    return relayd->keys.n == SETTINGS_TWO_KEYS &&
           relayd_derive(&relayd->keys.previous, identity, ret_psk);
}

/* --- settings --------------------------------------------------------------------------------- */

/* All limits that live in this thread. */
static void relayd_apply(struct relayd *relayd)
{
    const struct settings *s = relayd->settings;
    struct quota_limits quota_limits = limits_of_quota(s, relayd->quota.n_fds_max);

    quota_change(&relayd->quota, &quota_limits);
    relayd->strangers.first_ms = s->handshake_ms;
    relayd->strangers.join_ms = s->join_ms;
    relayd->members.limits = limits_of_member(s);
    relayd->members.previous_psk = relayd->keys.n == SETTINGS_TWO_KEYS ? relayd_previous_psk : NULL;
    relayd->registry.limits = limits_of_registry(s);
    relayd->registry.entries.limits = limits_of_entry(s);
}

static void relayd_log_level(const struct settings *settings)
{
    enum gt_log_level level;

    if (!gt_log_parse_level(settings->level, &level))
        gt_log_open("gotthard-relayd", level);
}

/* --- callbacks between the parts -------------------------------------------------------------- */

static void relayd_on_frame(void *userdata, struct member *member,
                            const struct gt_control_frame *frame)
{
    struct relayd *relayd = userdata;

    registry_on_frame(&relayd->registry, member, frame);
}

static void relayd_on_gone(void *userdata, struct member *member)
{
    struct relayd *relayd = userdata;

    registry_on_gone(&relayd->registry, member);
}

static void relayd_on_letter(void *userdata, struct letter *letter)
{
    struct relayd *relayd = userdata;

    registry_on_letter(&relayd->registry, letter);
    letter_free(letter);
}

void relayd_on_accept(void *userdata, int fd, const struct gt_addr *addr)
{
    struct relayd *relayd = userdata;

    stranger_welcome(&relayd->strangers, fd, addr, NULL);
}

static void relayd_on_tls(void *userdata, struct stranger *stranger)
{
    struct relayd *relayd = userdata;
    struct quota_charge charge;
    struct gt_addr addr = stranger->addr;
    uint64_t since = stranger->born_at;
    int fd = stranger_release(stranger, &charge);

    member_new(&relayd->members, fd, &addr, since, &charge);
}

/* A JOIN at the main port: its ticket's id says whose it is. */
static bool relayd_on_join(void *userdata, struct stranger *stranger)
{
    struct relayd *relayd = userdata;
    struct gt_join join;
    bool is_gone = false;

    if (!gt_join_decode(stranger->bytes, &join))
        is_gone = !plane_join(registry_plane_of(&relayd->registry, &join), stranger);
    gt_wipe(&join, sizeof(join));
    if (!is_gone)
        stranger_refuse(stranger);
    return is_gone;
}

/* --- the end ---------------------------------------------------------------------------------- */

static void relayd_close(struct relayd *relayd)
{
    relayd->state = RELAYD_CLOSING;
    registry_close(&relayd->registry, GT_CODE_SHUTDOWN);
    gt_list_for_each_safe (at, next, &relayd->members.living) {
        struct member *member = gt_list_entry(at, struct member, of_host);
        member_send_code(member, GT_CONTROL_BYE, NULL, GT_CODE_SHUTDOWN);
        member_close(member, "the relay is stopping");
    }
    ev_timer_stop(relayd->loop, &relayd->stop);
    ev_timer_set(&relayd->stop, RELAYD_FLUSH_S, 0);
    ev_timer_start(relayd->loop, &relayd->stop);
}

static void relayd_on_stop(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct relayd *relayd = gt_container_of(timer, struct relayd, stop);

    if (relayd->state == RELAYD_DRAINING)
        relayd_close(relayd);
    else
        ev_break(loop, EVBREAK_ALL);
}

static void relayd_drain(struct relayd *relayd)
{
    uint32_t window_ms = restarting_window_ms(&relayd->members, RESTARTING_PROCESS);

    upgrade_cancel(&relayd->upgrade);
    ev_break(relayd->loop, EVBREAK_CANCEL); /* of an upgrade that is not to be any more */
    gt_notify("STOPPING=1\nSTATUS=Draining");
    gt_info("draining sessions=%zu members=%zu window=%ums", registry_n_sessions(&relayd->registry),
            relayd->members.n_members, window_ms);
    relayd->state = RELAYD_DRAINING;
    door_close(&relayd->door);
    registry_drain(&relayd->registry);
    restarting_tell(&relayd->members, window_ms);
    ev_timer_set(&relayd->stop, (double)relayd->settings->drain_ms / 1000, 0);
    ev_timer_start(relayd->loop, &relayd->stop);
}

/* The first asks to end in peace, the second at once. */
static void relayd_on_term(struct ev_loop *loop, ev_signal *signal, int events)
{
    struct relayd *relayd = signal->data;

    if (relayd->state == RELAYD_RUNNING || relayd->state == RELAYD_UPGRADING)
        relayd_drain(relayd);
    else
        ev_break(loop, EVBREAK_ALL);
}

/* Is there still something that the drain waits for? */
static void relayd_check_drain(struct relayd *relayd)
{
    if (relayd->state == RELAYD_DRAINING && !registry_is_busy(&relayd->registry))
        relayd_close(relayd);
    if (relayd->state == RELAYD_CLOSING && !relayd->members.n_members)
        ev_break(relayd->loop, EVBREAK_ALL);
}

/* --- reload and status ------------------------------------------------------------------------ */

static bool relayd_reload(struct relayd *relayd, char *ret_error)
{
    struct gt_config *config;
    struct settings_keys keys;
    int r = settings_load(relayd->call->args, &config, &keys, ret_error);

    if (r < 0)
        snprintf(ret_error, GT_CONFIG_ERROR_MAX, "%s", strerror(-r));
    if (r)
        return false;
    const struct settings *new = gt_config_settings(config);
    if (ports_change(&relayd->registry.ports, (uint16_t) new->ports_from, (uint16_t) new->ports_to,
                     new->ports_rest_ms)) {
        snprintf(ret_error, GT_CONFIG_ERROR_MAX, "no memory");
        gt_config_free(config);
        settings_wipe_keys(&keys);
        return false;
    }
    remarks_on_change(relayd->settings, new);
    gt_config_free(relayd->config);
    relayd->config = config;
    relayd->settings = new;
    relayd->keys = keys;
    settings_wipe_keys(&keys);
    return true;
}

static void relayd_on_hup(struct ev_loop *loop, ev_signal *signal, int events)
{
    struct relayd *relayd = signal->data;
    char error[GT_CONFIG_ERROR_MAX];

    if (!relayd_reload(relayd, error)) {
        gt_error("configuration not reloaded, the old one stays: %s", error);
        return;
    }
    relayd_log_level(relayd->settings);
    relayd_apply(relayd);
    struct plane_limits limits = limits_of_plane(relayd->settings);
    planes_change(&relayd->planes, &limits);
    gt_info("configuration reloaded");
    remarks_on_settings(relayd->settings, &relayd->keys);
}

static void relayd_on_usr1(struct ev_loop *loop, ev_signal *signal, int events)
{
    struct relayd *relayd = signal->data;
    const struct status status = {
        .registry = &relayd->registry,
        .members = &relayd->members,
        .quota = &relayd->quota,
        .planes = relayd->planes.all,
        .n_planes = relayd->planes.n,
        .n_wakeups = ev_iteration(loop),
    };

    status_log(&status);
}

/* --- the start -------------------------------------------------------------------------------- */

/* The system gets back what the top of a wave left behind; each halving is one, so that it costs
 * next to nothing for each that went. */
static void relayd_ebb(struct relayd *relayd)
{
    size_t n = relayd->members.n_members + registry_n_sessions(&relayd->registry);

    relayd->n_most = GT_MAX(relayd->n_most, n);
    if (relayd->n_most < EBB_MIN || n > relayd->n_most / 2)
        return;
    malloc_trim(0);
    relayd->n_most = n;
}

static void relayd_before_sleep(struct ev_loop *loop, ev_prepare *prepare, int events)
{
    struct relayd *relayd = gt_container_of(prepare, struct relayd, before_sleep);

    relayd_check_drain(relayd);
    member_host_settle(&relayd->members);
    stranger_host_bury(&relayd->strangers);
    registry_bury(&relayd->registry);
    relayd_ebb(relayd);
}

static void relayd_signal(struct relayd *relayd, ev_signal *watcher, int number,
                          void (*on_signal)(struct ev_loop *, ev_signal *, int))
{
    ev_signal_init(watcher, on_signal, number);
    watcher->data = relayd;
    ev_signal_start(relayd->loop, watcher);
}

static int relayd_init_parts(struct relayd *relayd)
{
    mailbox_init(&relayd->inbox, relayd->loop, relayd_on_letter, relayd);
    int r = stranger_host_init(&relayd->strangers, relayd->loop, &relayd->quota);
    relayd->strangers.on_join = relayd_on_join;
    relayd->strangers.on_tls = relayd_on_tls;
    relayd->strangers.userdata = relayd;
    member_host_init(&relayd->members, relayd->loop);
    relayd->members.tls = relayd->tls;
    relayd->members.psk = relayd_psk;
    relayd->members.on_frame = relayd_on_frame;
    relayd->members.on_gone = relayd_on_gone;
    relayd->members.userdata = relayd;
    ev_init(&relayd->stop, relayd_on_stop);
    ev_prepare_init(&relayd->before_sleep, relayd_before_sleep);
    ev_prepare_start(relayd->loop, &relayd->before_sleep);
    relayd_signal(relayd, &relayd->on_term, SIGTERM, relayd_on_term);
    relayd_signal(relayd, &relayd->on_int, SIGINT, relayd_on_term);
    relayd_signal(relayd, &relayd->on_hup, SIGHUP, relayd_on_hup);
    relayd_signal(relayd, &relayd->on_usr1, SIGUSR1, relayd_on_usr1);
    relayd_signal(relayd, &relayd->on_usr2, SIGUSR2, succession_on_signal);
    succession_init(relayd);
    return r;
}

void relayd_be_ready(const struct relayd *relayd)
{
    gt_notify("READY=1\nSTATUS=Listening on port %u", relayd->port);
}

/* To the service manager and to people. */
static void relayd_announce(const struct relayd *relayd, const struct budget *budget)
{
    const struct settings *s = relayd->settings;

    relayd_be_ready(relayd);
    gt_info("listening port=%u ports=%llu-%llu threads=%zu connections=%zu pipes=%zu splice=%s "
            "version=%s",
            relayd->port, (unsigned long long)s->ports_from, (unsigned long long)s->ports_to,
            relayd->planes.n, budget->n_connections, budget->n_pipes * relayd->planes.n, s->splice,
            GOTTHARD_VERSION);
}

static int relayd_open(struct relayd *relayd)
{
    const struct settings *s = relayd->settings;

    return door_open(&relayd->door, relayd->loop, s->bind, (uint16_t)s->port, relayd_on_accept,
                     relayd, &relayd->registry.bind)
               ? RELAYD_E_LISTEN
               : 0;
}

static int relayd_start(struct relayd *relayd)
{
    const struct settings *s = relayd->settings;
    struct budget budget;
    uint64_t seed;

    int r = budget_make(s, &budget) ? RELAYD_E_SMALL : 0;
    if (!r)
        r = gt_random(&seed, sizeof(seed));
    if (!r)
        r = gt_random(relayd->members.boot_id, sizeof(relayd->members.boot_id));
    if (r)
        return r;
    quota_init(&relayd->quota, &(struct quota_limits){0}, budget.n_connections, seed);
    relayd_apply(relayd);
    r = planes_new(&relayd->planes, s, &budget, &relayd->inbox, &relayd->quota);
    registry_set_planes(&relayd->registry, relayd->planes.all, relayd->planes.n);
    if (!r)
        r = heir_is_one(relayd->call->heir) ? succession_inherit(relayd) : relayd_open(relayd);
    if (!r)
        r = planes_start(&relayd->planes);
    if (r)
        return r;
    relayd->port = door_port(&relayd->door, (uint16_t)s->port);
    gt_watchdog_start(&relayd->watchdog, relayd->loop);
    relayd_announce(relayd, &budget);
    return 0;
}

/* In the order in which the parts need each other: sessions talk to planes and to members. */
static void relayd_deinit(struct relayd *relayd)
{
    upgrade_deinit(&relayd->upgrade);
    door_close(&relayd->door);
    registry_deinit(&relayd->registry);
    member_host_deinit(&relayd->members);
    stranger_host_deinit(&relayd->strangers);
    planes_free(&relayd->planes);
    mailbox_drain(&relayd->inbox);
    mailbox_deinit(&relayd->inbox);
    registry_bury(&relayd->registry);
    quota_deinit(&relayd->quota);
    gt_watchdog_stop(&relayd->watchdog, relayd->loop);
    relayd->tls = gt_tls_context_free(relayd->tls);
    ev_loop_destroy(relayd->loop);
    gt_config_free(relayd->config);
    settings_wipe_keys(&relayd->keys);
}

static int relayd_init(struct relayd *relayd)
{
    const struct settings *s = relayd->settings;

    relayd->loop = ev_default_loop(EVBACKEND_EPOLL | EVFLAG_NOENV);
    if (!relayd->loop)
        return -ENOMEM;
    int r = gt_tls_context_new(GT_TLS_SERVER, GT_CONTROL_ALPN, &relayd->tls);
    if (!r)
        r = registry_init(&relayd->registry, relayd->loop, &relayd->quota, (uint16_t)s->ports_from,
                          (uint16_t)s->ports_to, s->ports_rest_ms);
    return r;
}

int relayd_run(struct gt_config *config, struct settings_keys *keys, const struct relayd_call *call)
{
    static struct relayd relayd; /* large: the table of penalties */

    relayd.config = config;
    relayd.settings = gt_config_settings(config);
    relayd.call = call;
    relayd.keys = *keys;
    settings_wipe_keys(keys);
    relayd_log_level(relayd.settings);
    remarks_on_settings(relayd.settings, &relayd.keys);
    int r = relayd_init(&relayd);
    if (r)
        return r;
    r = relayd_init_parts(&relayd);
    if (!r)
        r = relayd_start(&relayd);
    if (!r)
        ev_run(relayd.loop, 0);
    while (relayd.state == RELAYD_UPGRADING) {
        succession_execute(&relayd);
        ev_run(relayd.loop, 0);
    }
    relayd_deinit(&relayd);
    if (!r)
        gt_info("ended");
    return r;
}
