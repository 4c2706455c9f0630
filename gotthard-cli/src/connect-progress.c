/* SPDX-License-Identifier: ISC */
/* See the header. */
#include "connect-progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/format.h"
#include "print-width.h"

#define SECONDS_FROM 3. /* a step that takes longer shows its seconds */

static void progress_show(struct connect_progress *progress)
{
    double seconds = gt_clock() - progress->since;
    char text[sizeof(progress->step)];

    if (progress->on_tick) {
        unsigned width = print_terminal_width(STDERR_FILENO);

        progress->on_tick(progress->userdata, width, text, sizeof(text));
        print_progress(progress->print, "%s", text);
    } else if (seconds >= SECONDS_FROM) {
        print_progress(progress->print, "%s, %.0f s", progress->step, seconds);
    } else {
        print_progress(progress->print, "%s", progress->step);
    }
}

static void progress_on_tick(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    progress_show(watcher->data);
}

void connect_progress_init(struct connect_progress *progress, struct ev_loop *loop,
                           struct print *print)
{
    *progress = (struct connect_progress){.loop = loop, .print = print};
    ev_timer_init(&progress->tick, progress_on_tick, 1., 1.);
    progress->tick.data = progress;
}

static void progress_start(struct connect_progress *progress)
{
    progress_show(progress);
    ev_timer_again(progress->loop, &progress->tick);
}

void connect_progress_step(struct connect_progress *progress, const char *fmt, ...)
{
    char step[sizeof(progress->step)];
    va_list args;

    va_start(args, fmt);
    gt_vformat(GT_FORMAT_TEXT, step, sizeof(step), fmt, args);
    va_end(args);
    if (progress->on_tick || strcmp(progress->step, step) != 0) {
        memcpy(progress->step, step, sizeof(step));
        progress->since = gt_clock();
    }
    progress->on_tick = NULL;
    progress_start(progress);
}

void connect_progress_describe(struct connect_progress *progress, connect_progress_fn on_tick,
                               void *userdata)
{
    progress->on_tick = on_tick;
    progress->userdata = userdata;
    progress_start(progress);
}

void connect_progress_stop(struct connect_progress *progress)
{
    ev_timer_stop(progress->loop, &progress->tick);
    progress->on_tick = NULL;
    progress->step[0] = 0;
    print_clear_progress(progress->print);
}
