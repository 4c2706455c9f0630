/* SPDX-License-Identifier: ISC */
/*
 * Waiting for the files of a configuration; see the header. The files are tried again by a timer: a
 * watch cannot cover a folder that does not exist yet.
 */
#include "gotthard/config/config-wait.h"

#include <ev.h>
#include <signal.h>
#include <stdio.h>

#include "gotthard/base/exit-status.h"
#include "gotthard/base/log.h"
#include "gotthard/base/notify.h"
#include "gotthard/base/reload-server.h"

#define FIRST_S 0.5
#define LAST_S  10.

struct wait {
    struct ev_loop *loop;
    gt_config_load_fn load;
    void *userdata;
    char *error;
    char shown[GT_CONFIG_ERROR_MAX]; /* the reason that was reported last */
    double delay_s;
    int result;
    ev_timer timer;
    ev_signal signals[5];
    struct gt_watchdog watchdog;
    struct gt_reload_server reload_server;
};

/* Reports a reason once. The time between attempts starts again with each new one. */
static void wait_report(struct wait *wait)
{
    if (strcmp(wait->shown, wait->error) == 0)
        return;
    snprintf(wait->shown, sizeof(wait->shown), "%s", wait->error);
    wait->delay_s = FIRST_S;
    gt_warn("waiting: %s", wait->error);
    gt_notify("READY=1\nSTATUS=waiting: %s", wait->error);
}

static void wait_try(struct wait *wait)
{
    wait->result = wait->load(wait->userdata, wait->error);
    if (wait->result != GT_CONFIG_E_FILE) {
        ev_break(wait->loop, EVBREAK_ALL);
        return;
    }
    wait_report(wait);
    ev_timer_stop(wait->loop, &wait->timer);
    ev_timer_set(&wait->timer, wait->delay_s, 0.);
    ev_timer_start(wait->loop, &wait->timer);
    wait->delay_s = GT_MIN(2 * wait->delay_s, LAST_S);
}

static void wait_on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
    wait_try(timer->data);
}

/* After a success the service closes the clients with its loop. They ask it again when it runs. */
static void wait_on_reload(void *userdata)
{
    struct wait *wait = userdata;

    gt_reload_server_begin(&wait->reload_server);
    wait_try(wait);
    if (wait->result == GT_CONFIG_E_FILE)
        gt_reload_server_finish(&wait->reload_server, GT_EXIT_CONFIGURATION, wait->error);
}

static void wait_on_signal(struct ev_loop *loop, ev_signal *signal, int revents)
{
    struct wait *wait = signal->data;

    if (signal->signum == SIGTERM || signal->signum == SIGINT) {
        wait->result = GT_CONFIG_E_STOPPED;
        ev_break(loop, EVBREAK_ALL);
        return;
    }
    gt_info("waiting: %s", wait->shown);
    wait_try(wait);
}

static void wait_watch(struct wait *wait)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};

    for (size_t i = 0; i < GT_ARRAY_SIZE(wait->signals); i++) {
        ev_signal_init(&wait->signals[i], wait_on_signal, numbers[i]);
        wait->signals[i].data = wait;
        ev_signal_start(wait->loop, &wait->signals[i]);
    }
    ev_timer_init(&wait->timer, wait_on_timer, FIRST_S, 0.);
    wait->timer.data = wait;
    gt_watchdog_start(&wait->watchdog, wait->loop);
    gt_reload_server_open(&wait->reload_server, wait->loop, wait_on_reload, wait);
    gt_reload_server_set_state(&wait->reload_server, GT_EXIT_CONFIGURATION, wait->error);
}

static void wait_end(struct wait *wait)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(wait->signals); i++)
        ev_signal_stop(wait->loop, &wait->signals[i]);
    ev_timer_stop(wait->loop, &wait->timer);
    gt_watchdog_stop(&wait->watchdog, wait->loop);
    gt_reload_server_close(&wait->reload_server);
    ev_loop_destroy(wait->loop);
}

int gt_config_wait(gt_config_load_fn load, void *userdata,
                   char ret_error[static GT_CONFIG_ERROR_MAX])
{
    struct wait wait = {.load = load, .userdata = userdata, .error = ret_error};

    wait.result = load(userdata, ret_error);
    if (wait.result != GT_CONFIG_E_FILE)
        return wait.result;
    wait.loop = ev_loop_new(EVFLAG_AUTO);
    if (!wait.loop)
        return -ENOMEM;
    wait_watch(&wait);
    wait_try(&wait);
    if (wait.result == GT_CONFIG_E_FILE)
        ev_run(wait.loop, 0);
    wait_end(&wait);
    return wait.result;
}
