/* SPDX-License-Identifier: ISC */
/* See the header. */
#include "connect-progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/format.h"
#include "print-width.h"

#define SECONDS_FROM 3. /* a step that takes longer shows its seconds */

void connect_progress_format(const char *step, double seconds, const char *until, unsigned columns,
                             char *ret, size_t cap)
{
    char took[32], end[64];

    snprintf(ret, cap, "%s", step);
    if (seconds < SECONDS_FROM)
        return;
    int n = snprintf(took, sizeof(took), ", %.0f s", seconds);
    int n_end = snprintf(end, sizeof(end), "%s, until %s", took, until);
    size_t n_step = print_columns(step);
    bool has_room = *until && (columns == 0 || n_step + (size_t)n_end <= columns);
    if (columns > (unsigned)n)
        print_shorten(ret, columns - (unsigned)n);
    size_t n_text = strlen(ret);
    snprintf(ret + n_text, cap - n_text, "%s", has_room ? end : took);
}

/* Writes the time of day of the deadline, or nothing. */
static void progress_until(const struct connect_progress *progress, char *ret, size_t cap)
{
    time_t at = time(NULL) + (time_t)(progress->until - gt_clock() + .5);
    struct tm local;

    *ret = 0;
    if (progress->until > 0 && localtime_r(&at, &local))
        strftime(ret, cap, "%H:%M:%S", &local);
}

static void progress_show(struct connect_progress *progress)
{
    char text[sizeof(progress->step) + 64], until[16];
    unsigned width = print_terminal_width(STDERR_FILENO);

    if (progress->on_tick) {
        progress->on_tick(progress->userdata, width, text, sizeof(text));
    } else {
        progress_until(progress, until, sizeof(until));
        connect_progress_format(progress->step, gt_clock() - progress->since, until,
                                width > PRINT_PROGRESS_MARK ? width - PRINT_PROGRESS_MARK : 0, text,
                                sizeof(text));
    }
    print_progress(progress->print, "%s", text);
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
        progress->until = 0;
    }
    progress->on_tick = NULL;
    progress_start(progress);
}

void connect_progress_deadline(struct connect_progress *progress, double until)
{
    progress->until = until;
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
