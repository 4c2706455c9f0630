/* SPDX-License-Identifier: ISC */
/* clock.h: both units of the one clock, timers of the event loop, and the grid of timers. */
#include "gotthard/base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>

#include "gotthard/base/base.h"
#include "support/fake-clock.h"

static void test_seconds_and_milliseconds_are_the_same_clock(void **state)
{
    double before = gt_clock();
    uint64_t ms = gt_clock_ms();
    double after = gt_clock();

    assert_true(before > 0 && before <= after);
    assert_true((double)ms / 1000 > before - 0.001 && (double)ms / 1000 <= after);
}

static void test_timer_is_at_least_a_millisecond(void **state)
{
    static const struct {
        uint64_t now, at;
        double seconds;
    } cases[] = {
        {1000, 0, 0.001},    {1000, 999, 0.001},  {1000, 1000, 0.001},
        {1000, 1001, 0.001}, {1000, 1002, 0.002}, {1000, 61000, 60},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++)
        assert_true(gt_clock_seconds_until(cases[i].now, cases[i].at) == cases[i].seconds);
}

static void test_grid_rounds_down_to_a_multiple(void **state)
{
    static const struct {
        double at, step, expected;
    } cases[] = {
        {0, 5, 0}, {4.9, 5, 0}, {5, 5, 5}, {5.1, 5, 5}, {1e9 + 3, 5, 1e9}, {0.7, 0.25, 0.5},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++)
        assert_true(gt_clock_grid(cases[i].at, cases[i].step) == cases[i].expected);
}

/* The last test, as the clock stays slow. */
static void test_fake_clock_is_slow_on_request(void **state)
{
    const struct timespec pause = {.tv_nsec = 50000000};
    double before = gt_clock();

    setenv("GOTTHARD_TEST_SLOWNESS", "10", 1);
    fake_clock_slow();
    double real_begun = fake_clock_real(), begun = gt_clock();
    assert_true(before <= begun && begun <= real_begun);
    nanosleep(&pause, NULL);
    double past = gt_clock() - begun, real_past = fake_clock_real() - real_begun;
    assert_true(past >= .0049 && past <= real_past / 10 + 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seconds_and_milliseconds_are_the_same_clock),
        cmocka_unit_test(test_timer_is_at_least_a_millisecond),
        cmocka_unit_test(test_grid_rounds_down_to_a_multiple),
        cmocka_unit_test(test_fake_clock_is_slow_on_request),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
