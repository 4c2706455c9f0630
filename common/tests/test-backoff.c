/* SPDX-License-Identifier: ISC */
/*
 * The waits between tries: how they grow, where they stop, and that no two sides keep step.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>

#include "gotthard/backoff.h"

static void waits_double_up_to_ten_seconds(void **state)
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

static void waits_are_spread(void **state)
{
    unsigned n_short = 0, n_long = 0;
    for (int i = 0; i < 200; i++) {
        double wait = gt_backoff_next(&(struct gt_backoff){0});
        n_short += wait < .45;
        n_long += wait > .55;
    }
    assert_true(n_short > 10 && n_long > 10);
}

static void patience_never_overflows(void **state)
{
    struct gt_backoff backoff = {.n_tries = 1000000};
    assert_true(gt_backoff_next(&backoff) <= 12.);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_double_up_to_ten_seconds),
        cmocka_unit_test(waits_are_spread),
        cmocka_unit_test(patience_never_overflows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
