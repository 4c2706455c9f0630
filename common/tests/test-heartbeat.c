/* SPDX-License-Identifier: ISC */
/* A pulse by its timers: what is due when, after what was heard and in doubt. No time passes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>

#include "gotthard/pulse.h"

struct fixture {
    struct ev_loop *loop;
    struct gt_pulse pulse;
    unsigned n_beats, n_silences;
    uint64_t ping;
};

static void on_beat(void *userdata, uint64_t ping)
{
    struct fixture *f = userdata;
    f->n_beats++;
    f->ping = ping;
}

static void on_silent(void *userdata)
{
    struct fixture *f = userdata;
    f->n_silences++;
}

static struct fixture *fixture_new(uint32_t interval_ms)
{
    static const struct gt_pulse_events events = {.on_beat = on_beat, .on_silent = on_silent};
    static struct fixture f;
    f = (struct fixture){.loop = ev_loop_new(EVFLAG_AUTO)};
    assert_non_null(f.loop);
    gt_pulse_init(&f.pulse, f.loop, "operator", &events, &f);
    gt_pulse_set(&f.pulse, interval_ms);
    gt_pulse_start(&f.pulse);
    return &f;
}

static void fixture_free(struct fixture *f)
{
    gt_pulse_stop(&f->pulse);
    assert_false(ev_is_active(&f->pulse.beat) || ev_is_active(&f->pulse.silence));
    ev_loop_destroy(f->loop);
}

static void fire(struct fixture *f, ev_timer *timer)
{
    ev_invoke(f->loop, timer, EV_TIMER);
}

static double hope(struct fixture *f)
{
    return ev_timer_remaining(f->loop, &f->pulse.silence);
}

static bool is_about(double seconds, double expected)
{
    return seconds > expected - .01 && seconds < expected + .01;
}

/* The relay asks for an interval: within bounds, and patience is three of them. */
static void the_interval_is_bounded(void **state)
{
    static const struct {
        uint32_t asked_ms;
        double interval_s;
    } rows[] = {{0, 15},     {1, .5},     {500, .5},       {501, .501},
                {15000, 15}, {15001, 15}, {UINT32_MAX, 15}};
    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        struct fixture *f = fixture_new(rows[i].asked_ms);
        double beat = ev_timer_remaining(f->loop, &f->pulse.beat);
        assert_true(beat > .79 * rows[i].interval_s && beat < 1.21 * rows[i].interval_s);
        assert_true(is_about(hope(f), 3 * rows[i].interval_s));
        assert_int_equal(f->n_beats, 0);
        fixture_free(f);
    }
}

static void beats_are_counted_and_spread(void **state)
{
    struct fixture *f = fixture_new(1000);
    double least = 10, most = 0;
    for (uint64_t i = 1; i <= 200; i++) {
        fire(f, &f->pulse.beat);
        assert_int_equal(f->ping, i);
        double pause = ev_timer_remaining(f->loop, &f->pulse.beat);
        least = GT_MIN(least, pause);
        most = GT_MAX(most, pause);
    }
    assert_int_equal(f->n_beats, 200);
    assert_true(least < .9 && most > 1.1); /* 200 draws of +-20 % */
    fire(f, &f->pulse.silence);
    assert_int_equal(f->n_silences, 1);
    fixture_free(f);
}

/* What was under way before the doubt dispels nothing; the answer to its own PING does. */
static void only_its_own_ping_dispels_a_doubt(void **state)
{
    struct fixture *f = fixture_new(0);
    fire(f, &f->pulse.beat);
    gt_pulse_doubt(&f->pulse);
    assert_int_equal(f->ping, 2);
    assert_true(is_about(hope(f), 5));
    gt_pulse_heard(&f->pulse);
    gt_pulse_heard_pong(&f->pulse, 1);
    gt_pulse_doubt(&f->pulse); /* there is one already: nothing more is said */
    assert_int_equal(f->n_beats, 2);
    assert_true(is_about(hope(f), 5));
    gt_pulse_heard_pong(&f->pulse, 2);
    assert_true(is_about(hope(f), 45));
    gt_pulse_heard_pong(&f->pulse, 3); /* nobody asked */
    assert_true(is_about(hope(f), 45));
    fixture_free(f);
}

/* A doubt is no reason to wait longer than without. */
static void a_doubt_never_adds_patience(void **state)
{
    struct fixture *f = fixture_new(500);
    gt_pulse_doubt(&f->pulse);
    assert_true(is_about(hope(f), 1.5));
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_interval_is_bounded),
        cmocka_unit_test(beats_are_counted_and_spread),
        cmocka_unit_test(only_its_own_ping_dispels_a_doubt),
        cmocka_unit_test(a_doubt_never_adds_patience),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
