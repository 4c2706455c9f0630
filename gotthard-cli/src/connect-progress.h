/* SPDX-License-Identifier: ISC */
/*
 * The line that a terminal shows while a command waits for something: the step, and its seconds
 * once it takes longer than 3 s. It is rewritten in place every second, and the next line of output
 * replaces it. Elsewhere only the calls of the describing function remain.
 */
#pragma once

#include <ev.h>

#include "print.h"

/* Writes the text of this second, for at most @width columns (0: unknown). */
typedef void (*connect_progress_fn)(void *userdata, unsigned width, char *ret, size_t cap);

struct connect_progress {
    struct ev_loop *loop; /* keeps */
    struct print *print;  /* keeps */
    ev_timer tick;
    char step[256];
    double since, until;         /* seconds of gt_clock(); until: the deadline, or 0 */
    connect_progress_fn on_tick; /* describes in place of ->step; or NULL */
    void *userdata;
};

void connect_progress_init(struct connect_progress *progress, struct ev_loop *loop,
                           struct print *print);
/* Shows a step. Its seconds count from the first call with the same text. */
void connect_progress_step(struct connect_progress *progress, const char *fmt, ...) GT_PRINTF(2, 3);
/* The step ends at @until at the latest, in seconds of gt_clock(); 0: no deadline. */
void connect_progress_deadline(struct connect_progress *progress, double until);
/* Writes the line for at most @columns (0: unknown): the step, its @seconds from 3 on, and @until
 * (a time of day, or "") if there is room. A long step is shortened, the seconds are not. */
void connect_progress_format(const char *step, double seconds, const char *until, unsigned columns,
                             char *ret, size_t cap);
/* Calls @on_tick now and every second, and shows its text. */
void connect_progress_describe(struct connect_progress *progress, connect_progress_fn on_tick,
                               void *userdata);
/* Nothing is awaited any more. May be called repeatedly. */
void connect_progress_stop(struct connect_progress *progress);
