/* SPDX-License-Identifier: ISC */
/*
 * The states of the relay: one table of their names, actions and successors. A first SIGTERM
 * drains, a second one ends the relay at once.
 */
#include <ev.h>

#include "control/restart-notice.h"
#include "gotthard/base/exit-status.h"
#include "gotthard/base/log.h"
#include "relayd.h"

#define FLUSH_S 1.0 /* for the last frames */

static void set_deadline(struct relayd *relayd, double seconds)
{
    ev_timer_stop(relayd->loop, &relayd->deadline);
    ev_timer_set(&relayd->deadline, seconds, 0.);
    ev_timer_start(relayd->loop, &relayd->deadline);
}

static void enter_upgrading(struct relayd *relayd)
{
    ev_break(relayd->loop, EVBREAK_ALL);
}

static void enter_draining(struct relayd *relayd)
{
    uint32_t window_ms = restart_notice_window_ms(&relayd->clients, RESTART_PROCESS);

    rehearsal_cancel(&relayd->rehearsal);
    gt_reload_server_finish(&relayd->reload_server, GT_EXIT_TRY_AGAIN, "the relay is stopping");
    ev_break(relayd->loop, EVBREAK_CANCEL); /* of an upgrade that was about to be executed */
    gt_notify("STOPPING=1\nSTATUS=Draining");
    gt_info("draining sessions=%zu clients=%zu window=%ums", registry_n_sessions(&relayd->registry),
            relayd->clients.n_clients, window_ms);
    audit_note(&relayd->audit, GT_AUDIT_STOP, "drains");
    main_listener_close(&relayd->main_listener);
    registry_drain(&relayd->registry);
    restart_notice_send(&relayd->clients, window_ms);
    set_deadline(relayd, (double)relayd->settings->drain_ms / 1000);
}

static bool is_drained(const struct relayd *relayd)
{
    return !registry_is_busy(&relayd->registry);
}

static void enter_closing(struct relayd *relayd)
{
    registry_close(&relayd->registry, GT_CODE_SHUTDOWN);
    gt_list_for_each_safe (at, next, &relayd->clients.open) {
        struct client *client = gt_list_entry(at, struct client, of_host);

        client_send_code(client, GT_CONTROL_BYE, NULL, GT_CODE_SHUTDOWN);
        client_close(client, "the relay is stopping");
    }
    set_deadline(relayd, FLUSH_S);
}

static bool is_closed(const struct relayd *relayd)
{
    return relayd->clients.n_clients == 0;
}

static void enter_ended(struct relayd *relayd)
{
    ev_break(relayd->loop, EVBREAK_ALL);
}

#define TO(state) (RELAYD_##state + 1) /* 0: the event is not listed */

static const struct {
    const char *name;
    void (*enter)(struct relayd *relayd);         /* NULL: nothing to do */
    bool (*is_done)(const struct relayd *relayd); /* NULL: never */
    uint8_t next[RELAYD_N_EVENTS];
} states[RELAYD_N_STATES] = {
    [RELAYD_RUNNING] =
        {.name = "running",
         .next = {[RELAYD_TERMINATED] = TO(DRAINING), [RELAYD_REHEARSED] = TO(UPGRADING)}},
    [RELAYD_UPGRADING] =
        {.name = "upgrading",
         .enter = enter_upgrading,
         .next = {[RELAYD_TERMINATED] = TO(DRAINING), [RELAYD_UPGRADE_FAILED] = TO(RUNNING)}},
    [RELAYD_DRAINING] = {.name = "draining",
                         .enter = enter_draining,
                         .is_done = is_drained,
                         .next = {[RELAYD_TERMINATED] = TO(ENDED),
                                  [RELAYD_DONE] = TO(CLOSING),
                                  [RELAYD_TIMED_OUT] = TO(CLOSING)}},
    [RELAYD_CLOSING] = {.name = "closing",
                        .enter = enter_closing,
                        .is_done = is_closed,
                        .next = {[RELAYD_TERMINATED] = TO(ENDED),
                                 [RELAYD_DONE] = TO(ENDED),
                                 [RELAYD_TIMED_OUT] = TO(ENDED)}},
    [RELAYD_ENDED] = {.name = "ended", .enter = enter_ended},
};

void relayd_handle(struct relayd *relayd, enum relayd_event event)
{
    uint8_t next = states[relayd->state].next[event];

    if (!next)
        return;
    gt_debug("state %s -> %s", states[relayd->state].name, states[next - 1].name);
    relayd->state = (enum relayd_state)(next - 1);
    if (states[relayd->state].enter)
        states[relayd->state].enter(relayd);
}

void relayd_check_done(struct relayd *relayd)
{
    enum relayd_state state;

    do {
        state = relayd->state;
        if (states[state].is_done && states[state].is_done(relayd))
            relayd_handle(relayd, RELAYD_DONE);
    } while (relayd->state != state);
}

static void on_deadline(struct ev_loop *loop, ev_timer *timer, int revents)
{
    relayd_handle(gt_container_of(timer, struct relayd, deadline), RELAYD_TIMED_OUT);
}

void relayd_init_states(struct relayd *relayd)
{
    ev_init(&relayd->deadline, on_deadline);
}
