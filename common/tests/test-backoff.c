/* SPDX-License-Identifier: ISC */
/*
 * The back-off: how the delays grow, their maximum, and their jitter.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs these before it */
#include <cmocka.h>

#include "gotthard/net/backoff.h"

static void test_backoff_doubles_up_to_ten_seconds(void **state)
{
    static const double expected[] = {.5, 1, 2, 4, 8, 10, 10, 10};

    for (int round = 0; round < 200; round++) {
        struct gt_backoff backoff = {0};

        for (size_t i = 0; i < GT_ARRAY_SIZE(expected); i++) {
            double wait = gt_backoff_next(&backoff);

            assert_true(wait >= expected[i] * .799 && wait <= expected[i] * 1.201);
        }
        assert_int_equal(backoff.n_tries, GT_ARRAY_SIZE(expected));
    }
}

static void test_backoff_delays_are_spread(void **state)
{
    unsigned n_short = 0, n_long = 0;

    for (int i = 0; i < 200; i++) {
        double wait = gt_backoff_next(&(struct gt_backoff){0});

        n_short += wait < .45;
        n_long += wait > .55;
    }
    assert_true(n_short > 10 && n_long > 10);
}

static void test_backoff_does_not_overflow(void **state)
{
    struct gt_backoff backoff = {.n_tries = 1000000};

    assert_true(gt_backoff_next(&backoff) <= 12.);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backoff_doubles_up_to_ten_seconds),
        cmocka_unit_test(test_backoff_delays_are_spread),
        cmocka_unit_test(test_backoff_does_not_overflow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
