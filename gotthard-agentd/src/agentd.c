/* SPDX-License-Identifier: ISC */
/*
 * The listener's whole: what the broker brings goes to the inbox, the inbox's wishes become
 * sessions, signals become reloads and ends; see the header.
 *
 *     SERVING -> (SIGINT) CLOSING, the sessions end -> LEAVING, "offline" is published -> GONE
 *     SERVING -> (SIGTERM) LEAVING -> GONE; the sessions live on, for the listener that follows
 */
#include "agentd.h"

#include <signal.h>
#include <stdio.h>

#include "gotthard/clock.h"
#include "gotthard/log.h"
#include "gotthard/notify.h"
#include "presence.h"
#include "roster.h"

#define TICK_S 30. /* epochs and pins are looked at */

enum agentd_state {
    AGENTD_SERVING,
    AGENTD_CLOSING,
    AGENTD_LEAVING,
    AGENTD_GONE,
};

struct agentd {
    struct ev_loop *loop;
    const struct gt_config_args *args;
    struct setup *setup; /* owned */
    struct inbox *inbox; /* owned */
    struct presence presence;
    struct roster roster;
    enum agentd_state state;
    int exit_code;
    ev_signal on_hangup, on_interrupt, on_terminate, on_status;
    ev_timer tick, deadline;
    struct gt_watchdog watchdog;
};

static uint64_t boot_ms(void)
{
    return (uint64_t)(gt_clock() * 1e3);
}

static const char *agentd_device(const struct agentd *agentd)
{
    return agentd->setup->settings->device_name;
}

static void agentd_notify(const struct agentd *agentd)
{
    gt_notify("STATUS=broker %s, %u %s",
              presence_is_up(&agentd->presence) ? "connected" : "not reachable", agentd->roster.n,
              agentd->roster.n == 1 ? "tunnel" : "tunnels");
}

/* --- the way out */

static void agentd_enter(struct agentd *agentd, enum agentd_state state)
{
    static const struct {
        const char *name;
        double seconds;
    } states[] = {
        [AGENTD_SERVING] = {"serving", 0.},
        [AGENTD_CLOSING] = {"closing", 6.}, /* a session goes from asking to killing in 5 */
        [AGENTD_LEAVING] = {"leaving", 3.},
        [AGENTD_GONE] = {"gone", 0.},
    };

    gt_debug("agent %s -> %s", states[agentd->state].name, states[state].name);
    agentd->state = state;
    ev_timer_stop(agentd->loop, &agentd->deadline);
    ev_timer_set(&agentd->deadline, states[state].seconds, 0.);
    if (states[state].seconds > 0.)
        ev_timer_start(agentd->loop, &agentd->deadline);
    switch (state) {
    case AGENTD_SERVING: break;
    case AGENTD_CLOSING: roster_close_all(&agentd->roster, "the agent is stopped"); break;
    case AGENTD_LEAVING: presence_say_goodbye(&agentd->presence); break;
    case AGENTD_GONE: ev_break(agentd->loop, EVBREAK_ALL); break;
    }
}

static void agentd_on_deadline(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct agentd *agentd = watcher->data;

    agentd_enter(agentd, agentd->state == AGENTD_CLOSING ? AGENTD_LEAVING : AGENTD_GONE);
}

static void agentd_on_gone(void *userdata)
{
    struct agentd *agentd = userdata;

    if (agentd->state == AGENTD_LEAVING)
        agentd_enter(agentd, AGENTD_GONE);
}

/* Leaves the sessions to themselves. A second time: at once. */
static void agentd_on_terminate(struct ev_loop *loop, ev_signal *watcher, int revents)
{
    struct agentd *agentd = watcher->data;

    gt_notify("STOPPING=1");
    gt_info("device=%s stopping: sessions=%u live on", agentd_device(agentd), agentd->roster.n);
    agentd_enter(agentd, agentd->state == AGENTD_SERVING ? AGENTD_LEAVING : AGENTD_GONE);
}

/* A person at a terminal: when he stops the agent, he means all of it. */
static void agentd_on_interrupt(struct ev_loop *loop, ev_signal *watcher, int revents)
{
    struct agentd *agentd = watcher->data;

    gt_info("device=%s stopping: sessions=%u end", agentd_device(agentd), agentd->roster.n);
    if (agentd->state != AGENTD_SERVING)
        agentd_enter(agentd, AGENTD_GONE);
    else
        agentd_enter(agentd, agentd->roster.n ? AGENTD_CLOSING : AGENTD_LEAVING);
}

/* --- sessions, as the inbox wishes */

static void agentd_on_sessions_change(void *userdata)
{
    struct agentd *agentd = userdata;

    presence_changed(&agentd->presence);
    agentd_notify(agentd);
    if (agentd->state == AGENTD_CLOSING && agentd->roster.n == 0)
        agentd_enter(agentd, AGENTD_LEAVING);
}

static unsigned agentd_count_sessions(void *userdata, const char *operator_)
{
    const struct agentd *agentd = userdata;

    return roster_count(&agentd->roster, operator_);
}

static int agentd_prepare_session(void *userdata, const struct inbox_offer *offer)
{
    struct agentd *agentd = userdata;

    return agentd->state == AGENTD_SERVING ? roster_prepare(&agentd->roster, offer) : -ESHUTDOWN;
}

static int agentd_begin_session(void *userdata, const struct inbox_offer *offer,
                                const struct gt_session_keys *keys)
{
    struct agentd *agentd = userdata;

    return roster_begin(&agentd->roster, offer, keys);
}

static int agentd_close_sessions(void *userdata, const char *operator_, bool is_admin,
                                 const uint8_t *rid)
{
    struct agentd *agentd = userdata;

    return roster_close(&agentd->roster, operator_, is_admin, rid);
}

static void agentd_publish(void *userdata, const char *topic, struct gt_span payload)
{
    struct agentd *agentd = userdata;

    presence_answer(&agentd->presence, topic, payload);
}

static void agentd_on_epoch(void *userdata)
{
    struct agentd *agentd = userdata;

    presence_changed(&agentd->presence);
}

static struct inbox_settings agentd_inbox_settings(const struct setup *setup)
{
    return (struct inbox_settings){
        .prefix = setup->settings->mqtt_prefix,
        .device = setup->settings->device_name,
        .signer = setup->credentials.signer,
        .trust = &setup->trust,
        .policy = &setup->policy,
        .host_keys = setup->host_keys.spans,
        .n_host_keys = setup->host_keys.n,
        .stream_window = (uint32_t)setup->settings->stream_buffer,
    };
}

static int agentd_make_inbox(struct agentd *agentd, const struct setup *setup, struct inbox **ret)
{
    static const struct inbox_events events = {
        .count_sessions = agentd_count_sessions,
        .prepare_session = agentd_prepare_session,
        .begin_session = agentd_begin_session,
        .close_sessions = agentd_close_sessions,
        .publish = agentd_publish,
        .on_epoch = agentd_on_epoch,
    };
    struct inbox_settings settings = agentd_inbox_settings(setup);

    return inbox_new(&settings, setup->of_device, setup->has_previous ? setup->previous : NULL,
                     boot_ms(), &events, agentd, ret);
}

/* --- the broker */

static void agentd_on_message(void *userdata, const char *topic, bool is_retained,
                              struct gt_span payload)
{
    struct agentd *agentd = userdata;

    int r = inbox_receive(agentd->inbox, boot_ms(), time(NULL), topic, is_retained, payload);
    if (r)
        gt_error_errno(r, "device=%s a message could not be dealt with", agentd_device(agentd));
}

static void agentd_on_presence_change(void *userdata)
{
    agentd_notify(userdata);
}

/* --- reloading: a new setup, whole or not at all */

static void setup_apply_log_level(const struct setup *setup)
{
    enum gt_log_level level;

    if (gt_log_parse_level(setup->settings->log_level, &level) == 0)
        gt_log_open("gotthard-agentd", level);
}

/* @inbox: made for new names or keys (takes), or NULL when they are the old ones. */
static int agentd_switch(struct agentd *agentd, struct setup *setup, struct inbox *inbox)
{
    bool is_same_broker = !inbox && setup_has_same_broker(agentd->setup, setup);
    struct inbox_settings settings = agentd_inbox_settings(setup);
    int r = 0;

    if (!is_same_broker)
        presence_close(&agentd->presence);
    if (inbox) {
        inbox_free(agentd->inbox);
        agentd->inbox = inbox;
    } else {
        inbox_set(agentd->inbox, &settings);
    }
    setup_free(agentd->setup);
    agentd->roster.setup = agentd->setup = setup;
    if (is_same_broker)
        presence_set(&agentd->presence, setup);
    else
        r = presence_open(&agentd->presence, setup, agentd->inbox);
    return r;
}

/* What can fail for a reason of the configuration's fails here, before anything is changed. */
static int agentd_prepare_switch(struct agentd *agentd, struct setup **ret_setup,
                                 struct inbox **ret_inbox)
{
    char error[GT_CONFIG_ERROR_MAX] = "it could not be read";
    struct inbox *inbox = NULL;
    struct setup *setup = NULL;

    int r = setup_new(agentd->args, &setup, error);
    if (r == 0 && !setup_has_same_identity(agentd->setup, setup))
        r = agentd_make_inbox(agentd, setup, &inbox);
    if (r) {
        gt_error_errno(r < 0 ? r : 0, "device=%s not reloaded, all stays as it was: %s",
                       agentd_device(agentd), error);
        setup_free(setup);
        return r;
    }
    *ret_setup = setup;
    *ret_inbox = inbox;
    return 0;
}

static void agentd_on_hangup(struct ev_loop *loop, ev_signal *watcher, int revents)
{
    struct agentd *agentd = watcher->data;
    struct setup *setup;
    struct inbox *inbox;

    if (agentd->state != AGENTD_SERVING || agentd_prepare_switch(agentd, &setup, &inbox) != 0)
        return;
    int r = agentd_switch(agentd, setup, inbox);
    if (r) {
        gt_error_errno(r, "device=%s cannot connect any more", agentd_device(agentd));
        agentd->exit_code = 70;
        agentd_enter(agentd, AGENTD_GONE);
        return;
    }
    setup_apply_log_level(setup);
    setup_warn(setup);
    roster_review(&agentd->roster, time(NULL));
    gt_info("device=%s reloaded: services=%zu pins=%zu", agentd_device(agentd),
            setup->policy.services.n, setup->trust.n_pins);
}

static void agentd_on_status(struct ev_loop *loop, ev_signal *watcher, int revents)
{
    const struct agentd *agentd = watcher->data;
    const struct setup *setup = agentd->setup;

    gt_info(
        "status: device=%s broker=%s:%u connected=%d sessions=%u services=%zu policy=%s pins=%zu",
        agentd_device(agentd), setup->broker.host, setup->broker.port,
        presence_is_up(&agentd->presence), agentd->roster.n, setup->policy.services.n,
        setup->trust.policy == GT_POLICY_PIN ? "pin" : "psk", setup->trust.n_pins);
    roster_log(&agentd->roster);
}

static void agentd_on_tick(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct agentd *agentd = watcher->data;

    inbox_tick(agentd->inbox, boot_ms());
    roster_review(&agentd->roster, time(NULL));
}

/* --- from beginning to end */

/* As systemd names them: several in a row. */
static void agentd_adopt_sessions_in(struct agentd *agentd, const char *folders)
{
    if (!folders || !*folders)
        return;
    gt_cleanup(gt_free) char *first = strndup(folders, strcspn(folders, ":"));
    if (first)
        roster_adopt(&agentd->roster, first);
}

/* The first outlives a reboot, the second a restart of the agent; without both sessions live on all
 * the same, but unknown. */
static void agentd_adopt_sessions(struct agentd *agentd)
{
    agentd_adopt_sessions_in(agentd, getenv("STATE_DIRECTORY"));
    agentd_adopt_sessions_in(agentd, getenv("RUNTIME_DIRECTORY"));
}

static void agentd_watch_signal(struct agentd *agentd, ev_signal *watcher,
                                void (*on_signal)(struct ev_loop *, ev_signal *, int), int number)
{
    ev_signal_init(watcher, on_signal, number);
    watcher->data = agentd;
    ev_signal_start(agentd->loop, watcher);
}

static void agentd_watch(struct agentd *agentd)
{
    signal(SIGPIPE, SIG_IGN);
    agentd_watch_signal(agentd, &agentd->on_hangup, agentd_on_hangup, SIGHUP);
    agentd_watch_signal(agentd, &agentd->on_interrupt, agentd_on_interrupt, SIGINT);
    agentd_watch_signal(agentd, &agentd->on_terminate, agentd_on_terminate, SIGTERM);
    agentd_watch_signal(agentd, &agentd->on_status, agentd_on_status, SIGUSR1);
    ev_timer_init(&agentd->tick, agentd_on_tick, TICK_S, TICK_S);
    ev_timer_init(&agentd->deadline, agentd_on_deadline, 0., 0.);
    agentd->tick.data = agentd->deadline.data = agentd;
    ev_timer_start(agentd->loop, &agentd->tick);
    gt_watchdog_start(&agentd->watchdog, agentd->loop);
}

static int agentd_start(struct agentd *agentd)
{
    static const struct presence_events events = {
        .on_message = agentd_on_message,
        .on_change = agentd_on_presence_change,
        .on_gone = agentd_on_gone,
    };

    presence_init(&agentd->presence, agentd->loop, &events, agentd);
    agentd_watch(agentd);
    int r = agentd_make_inbox(agentd, agentd->setup, &agentd->inbox);
    if (r)
        return r;
    agentd_adopt_sessions(agentd);
    return presence_open(&agentd->presence, agentd->setup, agentd->inbox);
}

static void agentd_deinit(struct agentd *agentd)
{
    presence_close(&agentd->presence);
    roster_deinit(&agentd->roster);
    inbox_free(agentd->inbox);
    setup_free(agentd->setup);
}

int agentd_run(struct setup *setup, const struct gt_config_args *args)
{
    struct agentd agentd = {.setup = setup, .args = args, .state = AGENTD_SERVING};

    agentd.loop = ev_default_loop(EVFLAG_AUTO);
    roster_init(&agentd.roster, agentd.loop, setup, agentd_on_sessions_change, &agentd);
    int r = agentd.loop ? agentd_start(&agentd) : -ENOMEM;
    if (r) {
        gt_error_errno(r < 0 ? r : 0, "device=%s cannot start", agentd_device(&agentd));
        return 70; /* the process is over: nothing needs to be put away */
    }
    gt_info("device=%s started: version=%s services=%zu policy=%s", agentd_device(&agentd),
            GOTTHARD_VERSION, setup->policy.services.n,
            setup->trust.policy == GT_POLICY_PIN ? "pin" : "psk");
    gt_notify("READY=1");
    agentd_notify(&agentd);
    ev_run(agentd.loop, 0);
    agentd_deinit(&agentd);
    return agentd.exit_code;
}
