/* SPDX-License-Identifier: ISC */
/*
 * liveness.c: probe times, timeouts and doubt, without a clock.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>

#include "gotthard/base/clock.h"
#include "gotthard/tunnel/liveness.h"

#define START 1000. /* seconds; a multiple of every grid step below */

static struct gt_liveness liveness_of(enum gt_role role, double heartbeat_s, double timeout_s)
{
    struct gt_liveness liveness;

    gt_liveness_init(&liveness, role, heartbeat_s, timeout_s);
    gt_liveness_received(&liveness, START);
    return liveness;
}

static void assert_seconds(double actual, double expected)
{
    if (actual < expected - 1e-6 || actual > expected + 1e-6)
        fail_msg("%f s, expected %f s", actual, expected);
}

static void test_clock_grid_rounds_down(void **state)
{
    assert_true(gt_clock_grid(0, 5) == 0);
    assert_true(gt_clock_grid(4.999, 5) == 0);
    assert_true(gt_clock_grid(5, 5) == 5);
    for (double at = 1e6; at < 1e6 + 60; at += .37)
        assert_true(gt_clock_grid(at, 5) <= at && at - gt_clock_grid(at, 5) < 5);
}

static void test_liveness_defaults(void **state)
{
    struct gt_liveness liveness = liveness_of(GT_ROLE_OPERATOR, 0, 0);

    assert_seconds(liveness.heartbeat_s, GT_LIVENESS_HEARTBEAT_S);
    assert_seconds(liveness.timeout_s, GT_LIVENESS_TIMEOUT_S);
}

/* The operator probes at the end of the interval, the device one step of the grid later. */
static void test_liveness_probe_time_by_role(void **state)
{
    static const struct {
        enum gt_role role;
        double received_at, probe_at;
    } rows[] = {
        {GT_ROLE_OPERATOR, START, START + 10},       {GT_ROLE_DEVICE, START, START + 12},
        {GT_ROLE_OPERATOR, START + 1.9, START + 10}, /* up to a step early, never late */
        {GT_ROLE_OPERATOR, START + 2, START + 12},   {GT_ROLE_DEVICE, START + 1.9, START + 12},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        struct gt_liveness liveness = liveness_of(rows[i].role, 10, 30);

        gt_liveness_received(&liveness, rows[i].received_at);
        assert_seconds(gt_liveness_next(&liveness, START + 2), rows[i].probe_at - START - 2);
        assert_false(gt_liveness_is_probe_due(&liveness, rows[i].probe_at - .01));
        assert_true(gt_liveness_is_probe_due(&liveness, rows[i].probe_at + .01));
    }
}

static void test_liveness_probe_is_not_repeated_at_once(void **state)
{
    struct gt_liveness liveness = liveness_of(GT_ROLE_OPERATOR, 10, 30);

    gt_liveness_probed(&liveness, START + 10);
    assert_false(gt_liveness_is_probe_due(&liveness, START + 19.9));
    assert_true(gt_liveness_is_probe_due(&liveness, START + 20));
    assert_seconds(gt_liveness_time_left(&liveness, START + 20), 10); /* a probe proves nothing */
}

static void test_liveness_silence_ends_at_timeout(void **state)
{
    struct gt_liveness liveness = liveness_of(GT_ROLE_DEVICE, 10, 30);

    assert_true(gt_liveness_time_left(&liveness, START + 29.9) > 0);
    assert_true(gt_liveness_time_left(&liveness, START + 30) <= 0);
    assert_seconds(gt_liveness_next(&liveness, START + 31), 0);
    gt_liveness_received(&liveness, START + 30);
    assert_seconds(gt_liveness_time_left(&liveness, START + 30), 30);
}

static void test_liveness_doubt_shortens_the_timeout(void **state)
{
    struct gt_liveness liveness = liveness_of(GT_ROLE_OPERATOR, 10, 30);

    gt_liveness_doubt(&liveness, START + 1, false);
    assert_true(gt_liveness_is_doubted(&liveness));
    assert_seconds(gt_liveness_time_left(&liveness, START + 1), GT_LIVENESS_DOUBT_S);
    gt_liveness_received(&liveness, START + 2);
    assert_false(gt_liveness_is_doubted(&liveness));
    assert_seconds(gt_liveness_time_left(&liveness, START + 2), 30);
}

static void test_liveness_doubt_never_extends_the_timeout(void **state)
{
    struct gt_liveness liveness = liveness_of(GT_ROLE_OPERATOR, 10, 30);

    gt_liveness_doubt(&liveness, START + 28, false);
    assert_seconds(gt_liveness_time_left(&liveness, START + 28), 2);
}

static void test_liveness_suspend_is_not_silence(void **state)
{
    struct gt_liveness liveness = liveness_of(GT_ROLE_OPERATOR, 10, 30);

    gt_liveness_doubt(&liveness, START + 3600, true);
    assert_seconds(gt_liveness_time_left(&liveness, START + 3600), GT_LIVENESS_DOUBT_S);
}

static void test_liveness_is_fresh_for_three_seconds(void **state)
{
    struct gt_liveness liveness = liveness_of(GT_ROLE_OPERATOR, 10, 30);

    assert_true(gt_liveness_is_fresh(&liveness, START));
    assert_true(gt_liveness_is_fresh(&liveness, START + GT_LIVENESS_FRESH_S));
    assert_false(gt_liveness_is_fresh(&liveness, START + GT_LIVENESS_FRESH_S + .01));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clock_grid_rounds_down),
        cmocka_unit_test(test_liveness_defaults),
        cmocka_unit_test(test_liveness_probe_time_by_role),
        cmocka_unit_test(test_liveness_probe_is_not_repeated_at_once),
        cmocka_unit_test(test_liveness_silence_ends_at_timeout),
        cmocka_unit_test(test_liveness_doubt_shortens_the_timeout),
        cmocka_unit_test(test_liveness_doubt_never_extends_the_timeout),
        cmocka_unit_test(test_liveness_suspend_is_not_silence),
        cmocka_unit_test(test_liveness_is_fresh_for_three_seconds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
