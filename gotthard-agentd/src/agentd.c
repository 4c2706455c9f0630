/* SPDX-License-Identifier: ISC */
/*
 * The listener process: signals, the states of its end, and the service manager; see the header.
 *
 *     SERVING -> CLOSING: the sessions are closed, "offline" is published -> STOPPED
 *     SERVING -> GOING_OFFLINE: "offline" is published, the sessions continue -> STOPPED
 *
 * GOING_OFFLINE is for SIGTERM with agent.keep_sessions, and without sessions. CLOSING ends within
 * 5 s whatever hangs: container engines send SIGKILL after 10 s.
 */
#include "agentd.h"

#include <signal.h>

#include "confinement.h"
#include "device.h"
#include "gotthard/base/exit-status.h"
#include "gotthard/base/log.h"
#include "gotthard/base/notify.h"
#include "gotthard/base/reload-server.h"
#include "setup-summary.h"

#define TICK_S  30. /* between checks of epochs and pins */
#define RETRY_S 5.  /* the same while the present files are not usable, and are tried again */

enum agentd_state {
    AGENTD_SERVING,
    AGENTD_CLOSING,
    AGENTD_GOING_OFFLINE,
    AGENTD_STOPPED,
};

struct agentd {
    struct ev_loop *loop;
    struct device device;
    enum agentd_state state;
    int exit_status;
    bool is_offline; /* the broker has "offline", or cannot be reached */
    ev_signal on_hangup, on_interrupt, on_terminate, on_status;
    ev_timer tick, deadline;
    struct gt_watchdog watchdog;
    struct gt_reload_server reload_server;
};

/* --- states */

static const struct {
    const char *name;
    double deadline_s; /* until STOPPED; 0: none */
} states[] = {
    [AGENTD_SERVING] = {"serving", 0.},
    /* closing a session escalates to SIGKILL within 3.2 s; a late BYE may follow */
    [AGENTD_CLOSING] = {"closing", 4.},
    [AGENTD_GOING_OFFLINE] = {"going offline", 3.},
    [AGENTD_STOPPED] = {"stopped", 0.},
};

static void agentd_enter(struct agentd *agentd, enum agentd_state state)
{
    gt_debug("agent %s -> %s", states[agentd->state].name, states[state].name);
    agentd->state = state;
    ev_timer_stop(agentd->loop, &agentd->deadline);
    ev_timer_set(&agentd->deadline, states[state].deadline_s, 0.);
    if (states[state].deadline_s > 0.)
        ev_timer_start(agentd->loop, &agentd->deadline);
    switch (state) {
    case AGENTD_SERVING: break;
    case AGENTD_CLOSING:
        device_stop_accepting(&agentd->device);
        sessions_close_all(&agentd->device.sessions, "the agent is stopping");
        device_publish_offline(&agentd->device);
        break;
    case AGENTD_GOING_OFFLINE:
        device_stop_accepting(&agentd->device);
        device_publish_offline(&agentd->device);
        break;
    case AGENTD_STOPPED: ev_break(agentd->loop, EVBREAK_ALL); break;
    }
}

static void agentd_on_deadline(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct agentd *agentd = watcher->data;

    agentd_enter(agentd, AGENTD_STOPPED);
}

static void agentd_check_end(struct agentd *agentd)
{
    bool is_over = agentd->state == AGENTD_GOING_OFFLINE ||
                   (agentd->state == AGENTD_CLOSING && sessions_are_over(&agentd->device.sessions));

    if (is_over && agentd->is_offline)
        agentd_enter(agentd, AGENTD_STOPPED);
}

/* --- the device */

static void agentd_notify(const struct agentd *agentd)
{
    struct agent_status status = device_status(&agentd->device);

    agent_status_notify(&status);
}

/* For a client that asks after a restart whether its reload has succeeded. */
static void agentd_set_reload_state(struct agentd *agentd)
{
    const char *fault = agentd->device.fault;

    gt_reload_server_set_state(&agentd->reload_server,
                               *fault ? GT_EXIT_CONFIGURATION : GT_EXIT_SUCCESS,
                               *fault ? fault : "the configuration is in use");
}

static void agentd_on_change(void *userdata)
{
    struct agentd *agentd = userdata;

    agentd_set_reload_state(agentd);
    agentd_notify(agentd);
    agentd_check_end(agentd);
}

static void agentd_on_offline(void *userdata)
{
    struct agentd *agentd = userdata;

    agentd->is_offline = true;
    agentd_check_end(agentd);
}

static void agentd_on_tick(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct agentd *agentd = watcher->data;
    int r = device_tick(&agentd->device);

    watcher->repeat = device_is_retrying(&agentd->device) ? RETRY_S : TICK_S;
    ev_timer_again(loop, watcher);
    if (r >= 0)
        return;
    agentd->exit_status = GT_EXIT_INTERNAL;
    agentd_enter(agentd, AGENTD_STOPPED);
}

/* --- signals */

static void agentd_stop(struct agentd *agentd, bool is_kept, const char *signal)
{
    unsigned n_sessions = agentd->device.sessions.n;

    gt_notify("STOPPING=1");
    gt_info("device=%s stopping sessions=%u reason=\"%s, %s\"", device_name(&agentd->device),
            n_sessions, signal, is_kept ? "sessions continue" : "closing the sessions");
    device_note(&agentd->device, GT_AUDIT_STOP, is_kept ? "sessions continue" : signal);
    agentd_enter(agentd, is_kept || sessions_are_over(&agentd->device.sessions)
                             ? AGENTD_GOING_OFFLINE
                             : AGENTD_CLOSING);
}

/* A second SIGTERM stops at once, except while sessions are being closed: some managers repeat it.
 */
static void agentd_on_terminate(struct ev_loop *loop, ev_signal *watcher, int revents)
{
    struct agentd *agentd = watcher->data;

    if (agentd->state == AGENTD_SERVING)
        agentd_stop(agentd, device_keeps_sessions(&agentd->device), "SIGTERM");
    else if (agentd->state == AGENTD_GOING_OFFLINE)
        agentd_enter(agentd, AGENTD_STOPPED);
}

/* Ctrl+C at a terminal stops the agent with its sessions. A second one stops at once. */
static void agentd_on_interrupt(struct ev_loop *loop, ev_signal *watcher, int revents)
{
    struct agentd *agentd = watcher->data;

    if (agentd->state == AGENTD_SERVING)
        agentd_stop(agentd, false, "SIGINT");
    else
        agentd_enter(agentd, AGENTD_STOPPED);
}

/* Requested by a client of the socket, or SIGHUP. */
static void agentd_reload(void *userdata)
{
    struct agentd *agentd = userdata;
    char error[GT_CONFIG_ERROR_MAX];

    if (agentd->state != AGENTD_SERVING) {
        gt_reload_server_finish(&agentd->reload_server, GT_EXIT_TRY_AGAIN, "the agent is stopping");
        return;
    }
    gt_notify_reloading();
    gt_reload_server_begin(&agentd->reload_server);
    int r = device_reload(&agentd->device, error);
    if (r < 0) { /* clients ask the next process */
        agentd->exit_status = GT_EXIT_INTERNAL;
        agentd_enter(agentd, AGENTD_STOPPED);
        return;
    }
    gt_notify("READY=1");
    gt_reload_server_finish(&agentd->reload_server, r ? GT_EXIT_CONFIGURATION : GT_EXIT_SUCCESS,
                            r ? error : "reloaded");
}

static void agentd_on_hangup(struct ev_loop *loop, ev_signal *watcher, int revents)
{
    agentd_reload(watcher->data);
}

static void agentd_on_status(struct ev_loop *loop, ev_signal *watcher, int revents)
{
    const struct agentd *agentd = watcher->data;
    struct agent_status status = device_status(&agentd->device);

    agent_status_log(&status);
    sessions_log(&agentd->device.sessions);
}

/* --- beginning and end */

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
    ev_timer_init(&agentd->tick, agentd_on_tick,
                  device_is_retrying(&agentd->device) ? RETRY_S : TICK_S, TICK_S);
    ev_timer_init(&agentd->deadline, agentd_on_deadline, 0., 0.);
    agentd->tick.data = agentd->deadline.data = agentd;
    ev_timer_start(agentd->loop, &agentd->tick);
    gt_watchdog_start(&agentd->watchdog, agentd->loop);
    gt_reload_server_open(&agentd->reload_server, agentd->loop, agentd_reload, agentd);
    agentd_set_reload_state(agentd);
}

/* A kernel without either is no reason to stop, and never unnoticed. */
static void agentd_log_confinement(const struct agentd *agentd)
{
    struct confinement_support support = confinement_support();

    gt_info("device=%s sessions are confined landlock=%d seccomp=%d", device_name(&agentd->device),
            support.landlock, support.has_seccomp);
}

int agentd_run(struct setup *setup, const struct gt_config_args *args, const char *fault)
{
    static const struct device_events events = {
        .on_change = agentd_on_change,
        .on_offline = agentd_on_offline,
    };
    struct agentd agentd = {.state = AGENTD_SERVING, .exit_status = GT_EXIT_SUCCESS};
    char services[SETUP_SERVICES_TEXT];
    int r = -ENOMEM;

    agentd.loop = ev_default_loop(EVFLAG_AUTO);
    device_init(&agentd.device, agentd.loop, setup, args, &events, &agentd);
    device_set_fault(&agentd.device, fault);
    if (agentd.loop) {
        agentd_watch(&agentd);
        r = device_start(&agentd.device);
    }
    if (r) {
        gt_error_errno(r < 0 ? r : 0, "device=%s cannot start", device_name(&agentd.device));
        return GT_EXIT_INTERNAL; /* the process exits: nothing is freed */
    }
    setup_remember(setup);
    setup_services_text(setup, services, sizeof(services));
    gt_info("device=%s started version=%s services=\"%s\" policy=%s pins=%zu permit=\"%s\"",
            device_name(&agentd.device), GOTTHARD_VERSION, services, setup_policy_name(setup),
            gt_trust_count(&setup->trust), setup_permit_text(setup));
    agentd_log_confinement(&agentd);
    gt_notify("READY=1");
    agentd_notify(&agentd);
    ev_run(agentd.loop, 0);
    gt_reload_server_close(&agentd.reload_server);
    device_deinit(&agentd.device);
    return agentd.exit_status;
}
