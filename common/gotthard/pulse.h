/* SPDX-License-Identifier: ISC */
/*
 * Is the relay still there? A PING now and then, and anything at all that is heard within three
 * times as long says yes; when there is reason to doubt it, only the answer to a PING of its own
 * does, and soon. It neither sends nor hears: its link does, and is told when to, and when not to
 * hope any longer.
 */
#pragma once

#include <ev.h>

#include "gotthard/base.h"

struct gt_pulse_events {
    void (*on_beat)(void *userdata, uint64_t ping); /* say PING */
    /* Nothing came for too long. Comes again after as long, unless it is stopped. */
    void (*on_silent)(void *userdata);
};

struct gt_pulse { /* a part of its whole */
    struct ev_loop *loop;
    struct gt_pulse_events events;
    void *userdata;
    const char *identity; /* for the log */
    ev_timer beat, silence;
    ev_tstamp interval_s;
    uint64_t n_pings;
    uint64_t proof; /* the PING whose answer will dispel a doubt; 0: there is none */
};

/* Keeps @identity. Nothing beats yet. */
void gt_pulse_init(struct gt_pulse *pulse, struct ev_loop *loop, const char *identity,
                   const struct gt_pulse_events *events, void *userdata);
/* How often, as WELCOME says: any number; 0: 15 s. Before it starts. */
void gt_pulse_set(struct gt_pulse *pulse, uint32_t interval_ms);
void gt_pulse_start(struct gt_pulse *pulse);
/* Also one that never started. */
void gt_pulse_stop(struct gt_pulse *pulse);

/* Something came. */
void gt_pulse_heard(struct gt_pulse *pulse);
/* And it was a PONG. */
void gt_pulse_heard_pong(struct gt_pulse *pulse, uint64_t ping);
/* Says PING at once (on_beat comes from inside), and has 5 s for the answer, whatever else comes;
 * nothing, while there is a doubt already. */
void gt_pulse_doubt(struct gt_pulse *pulse);
