/* SPDX-License-Identifier: ISC */
/* Two timers: the next PING, and the end of patience. Must never shorten the latter for a relay
 * that answers, nor lengthen it in doubt by what was under way before. */
#include "gotthard/pulse.h"

#include "gotthard/crypto.h"
#include "gotthard/log.h"

#define INTERVAL_MS      15000
#define INTERVAL_MIN_MS  500
#define BEATS_UNTIL_DEAD 3
#define PROOF_S          5.

void gt_pulse_set(struct gt_pulse *pulse, uint32_t interval_ms)
{
    uint32_t ms =
        interval_ms == 0 ? INTERVAL_MS : GT_MIN(GT_MAX(interval_ms, INTERVAL_MIN_MS), INTERVAL_MS);
    pulse->interval_s = ms / 1000.;
}

/* The next PING, 20 % sooner or later than regular, so that many links do not beat as one. */
static void pulse_beat_later(struct gt_pulse *pulse)
{
    uint16_t random = 0;
    if (gt_random(&random, sizeof random))
        random = 0;
    pulse->beat.repeat = pulse->interval_s * (.8 + .4 * random / UINT16_MAX);
    ev_timer_again(pulse->loop, &pulse->beat);
}

static void pulse_hope(struct gt_pulse *pulse, ev_tstamp seconds)
{
    pulse->silence.repeat = seconds;
    ev_timer_again(pulse->loop, &pulse->silence);
}

static void pulse_beat(struct gt_pulse *pulse)
{
    pulse->events.on_beat(pulse->userdata, ++pulse->n_pings);
}

static void pulse_on_beat(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct gt_pulse *pulse = w->data;
    pulse_beat_later(pulse);
    pulse_beat(pulse);
}

static void pulse_on_silence(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct gt_pulse *pulse = w->data;
    pulse->events.on_silent(pulse->userdata);
}

void gt_pulse_heard(struct gt_pulse *pulse)
{
    if (!pulse->proof)
        pulse_hope(pulse, BEATS_UNTIL_DEAD * pulse->interval_s);
}

void gt_pulse_heard_pong(struct gt_pulse *pulse, uint64_t ping)
{
    if (!pulse->proof || ping < pulse->proof)
        return;
    gt_debug("link=%.8s has proved itself", pulse->identity);
    pulse->proof = 0;
    gt_pulse_heard(pulse);
}

void gt_pulse_doubt(struct gt_pulse *pulse)
{
    if (pulse->proof)
        return;
    gt_debug("link=%.8s is to prove itself", pulse->identity);
    pulse_beat(pulse);
    pulse->proof = pulse->n_pings;
    pulse_hope(pulse, GT_MIN(ev_timer_remaining(pulse->loop, &pulse->silence), PROOF_S));
}

void gt_pulse_start(struct gt_pulse *pulse)
{
    pulse_beat_later(pulse);
    gt_pulse_heard(pulse);
}

void gt_pulse_stop(struct gt_pulse *pulse)
{
    ev_timer_stop(pulse->loop, &pulse->beat);
    ev_timer_stop(pulse->loop, &pulse->silence);
}

void gt_pulse_init(struct gt_pulse *pulse, struct ev_loop *loop, const char *identity,
                   const struct gt_pulse_events *events, void *userdata)
{
    *pulse = (struct gt_pulse){
        .loop = loop, .events = *events, .userdata = userdata, .identity = identity};
    gt_pulse_set(pulse, 0);
    ev_init(&pulse->beat, pulse_on_beat);
    ev_init(&pulse->silence, pulse_on_silence);
    pulse->beat.data = pulse->silence.data = pulse;
}
