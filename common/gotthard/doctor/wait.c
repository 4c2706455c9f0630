/* SPDX-License-Identifier: ISC */
/* See the header. */
#include "gotthard/doctor/wait.h"

static void on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
    gt_check_wake(loop);
}

void gt_check_wait(struct ev_loop *loop, double limit_s)
{
    ev_timer timer;

    ev_now_update(loop);
    ev_timer_init(&timer, on_timer, limit_s > 0 ? limit_s : 1e-6, 0.);
    ev_timer_start(loop, &timer);
    ev_run(loop, 0);
    ev_timer_stop(loop, &timer);
}

void gt_check_wake(struct ev_loop *loop)
{
    ev_break(loop, EVBREAK_ALL);
}
