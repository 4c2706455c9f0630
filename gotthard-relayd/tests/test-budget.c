/* SPDX-License-Identifier: ISC */
/* budget.c: nobody is given a descriptor that is not there, however few there are. */
#include "budget.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "plane.h"

static void all_of_it_and_no_more(void **state)
{
    for (size_t n_planes = 1; n_planes <= 64; n_planes++) {
        for (size_t n = 0; n < 3000; n++) {
            struct budget budget;
            bool is_enough = !budget_make(n, n_planes, &budget);
            assert_int_equal(is_enough, n >= budget_least(n_planes));
            if (!is_enough)
                continue;
            size_t n_given = budget.n_connections + n_planes * (2 * budget.n_pipes + PLANE_N_FDS);
            assert_true(budget.n_pipes >= 1 && budget.n_connections >= 16);
            assert_true(n_given + 16 == n);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_of_it_and_no_more)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
