/* SPDX-License-Identifier: ISC */
/* The heartbeat by its timers, which the test fires: intervals, timeouts and probes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs these before it */
#include <cmocka.h>

#include "gotthard/net/heartbeat.h"

struct fixture {
    struct ev_loop *loop;
    struct gt_heartbeat heartbeat;
    unsigned n_pings_sent, n_timeouts;
    uint64_t ping;
};

static void on_heartbeat(void *userdata, uint64_t ping)
{
    struct fixture *f = userdata;

    f->n_pings_sent++;
    f->ping = ping;
}

static void on_timeout(void *userdata)
{
    struct fixture *f = userdata;

    f->n_timeouts++;
}

static struct fixture *fixture_new(uint32_t interval_ms)
{
    static const struct gt_heartbeat_events events = {.on_heartbeat = on_heartbeat,
                                                      .on_timeout = on_timeout};
    static struct fixture f;

    f = (struct fixture){.loop = ev_loop_new(EVFLAG_AUTO)};
    assert_non_null(f.loop);
    gt_heartbeat_init(&f.heartbeat, f.loop, "operator", &events, &f);
    gt_heartbeat_set_interval(&f.heartbeat, interval_ms);
    gt_heartbeat_start(&f.heartbeat);
    return &f;
}

static void fixture_free(struct fixture *f)
{
    gt_heartbeat_stop(&f->heartbeat);
    assert_false(ev_is_active(&f->heartbeat.next_ping) || ev_is_active(&f->heartbeat.timeout));
    ev_loop_destroy(f->loop);
}

static void fire(struct fixture *f, ev_timer *timer)
{
    ev_invoke(f->loop, timer, EV_TIMER);
}

static double time_left(struct fixture *f)
{
    return ev_timer_remaining(f->loop, &f->heartbeat.timeout);
}

static bool is_about(double seconds, double expected)
{
    return seconds > expected - .01 && seconds < expected + .01;
}

/* The relay sets the interval, within limits; the timeout is three intervals. */
static void test_heartbeat_interval_is_limited(void **state)
{
    static const struct {
        uint32_t requested_ms;
        double interval_s;
    } rows[] = {{0, 15},     {1, .5},     {500, .5},       {501, .501},
                {15000, 15}, {15001, 15}, {UINT32_MAX, 15}};

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        struct fixture *f = fixture_new(rows[i].requested_ms);
        double next_ping = ev_timer_remaining(f->loop, &f->heartbeat.next_ping);

        assert_true(next_ping > .79 * rows[i].interval_s && next_ping < 1.21 * rows[i].interval_s);
        assert_true(is_about(time_left(f), 3 * rows[i].interval_s));
        assert_int_equal(f->n_pings_sent, 0);
        fixture_free(f);
    }
}

static void test_heartbeat_pings_are_numbered_and_spread(void **state)
{
    struct fixture *f = fixture_new(1000);
    double least = 10, most = 0;

    for (uint64_t i = 1; i <= 200; i++) {
        fire(f, &f->heartbeat.next_ping);
        assert_int_equal(f->ping, i);
        double pause = ev_timer_remaining(f->loop, &f->heartbeat.next_ping);
        least = GT_MIN(least, pause);
        most = GT_MAX(most, pause);
    }
    assert_int_equal(f->n_pings_sent, 200);
    assert_true(least < .9 && most > 1.1); /* 200 draws of +-20 % */
    fire(f, &f->heartbeat.timeout);
    assert_int_equal(f->n_timeouts, 1);
    fixture_free(f);
}

/* Bytes in flight before the probe do not count; the PONG of its PING does. */
static void test_heartbeat_probe_needs_its_own_pong(void **state)
{
    struct fixture *f = fixture_new(0);

    fire(f, &f->heartbeat.next_ping);
    gt_heartbeat_probe(&f->heartbeat);
    assert_int_equal(f->ping, 2);
    assert_true(is_about(time_left(f), 5));
    gt_heartbeat_received(&f->heartbeat);
    gt_heartbeat_received_pong(&f->heartbeat, 1);
    gt_heartbeat_probe(&f->heartbeat); /* in progress: no second PING */
    assert_int_equal(f->n_pings_sent, 2);
    assert_true(is_about(time_left(f), 5));
    gt_heartbeat_received_pong(&f->heartbeat, 2);
    assert_true(is_about(time_left(f), 45));
    gt_heartbeat_received_pong(&f->heartbeat, 3); /* not requested */
    assert_true(is_about(time_left(f), 45));
    fixture_free(f);
}

/* The timeout that was set before the probe stays if it is earlier. */
static void test_heartbeat_probe_never_extends_the_timeout(void **state)
{
    struct fixture *f = fixture_new(500);

    gt_heartbeat_probe(&f->heartbeat);
    assert_true(is_about(time_left(f), 1.5));
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heartbeat_interval_is_limited),
        cmocka_unit_test(test_heartbeat_pings_are_numbered_and_spread),
        cmocka_unit_test(test_heartbeat_probe_needs_its_own_pong),
        cmocka_unit_test(test_heartbeat_probe_never_extends_the_timeout),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
