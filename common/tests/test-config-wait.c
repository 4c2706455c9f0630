/* SPDX-License-Identifier: ISC */
/* config-wait.c: attempts until the files are there, signals meanwhile, and faults that end it. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "gotthard/base/clock.h"
#include "gotthard/config/config-wait.h"

struct attempts {
    unsigned n, n_missing; /* of all; the first ones find no file */
    int last;              /* result of those after */
    int number;            /* a signal sent by the second attempt, or 0 */
};

static int attempt(void *userdata, char *ret_error)
{
    struct attempts *attempts = userdata;

    if (++attempts->n == 2 && attempts->number)
        raise(attempts->number);
    snprintf(ret_error, GT_CONFIG_ERROR_MAX, "attempt of %s", attempts->n < 3 ? "now" : "later");
    return attempts->n <= attempts->n_missing ? GT_CONFIG_E_FILE : attempts->last;
}

static void test_wait_ends_with_the_first_other_result(void **state)
{
    static const int results[] = {0, GT_CONFIG_E_BAD, -EIO};
    char error[GT_CONFIG_ERROR_MAX];

    for (size_t i = 0; i < GT_ARRAY_SIZE(results); i++)
        for (unsigned n_missing = 0; n_missing < 4; n_missing++) {
            struct attempts attempts = {.n_missing = n_missing, .last = results[i]};

            if (n_missing == 3 && i > 0)
                continue; /* it takes a second */
            assert_int_equal(gt_config_wait(attempt, &attempts, error), results[i]);
            assert_int_equal(attempts.n, n_missing + 1);
        }
}

static void test_wait_is_stopped_by_a_signal(void **state)
{
    static const int numbers[] = {SIGTERM, SIGINT};
    char error[GT_CONFIG_ERROR_MAX];

    for (size_t i = 0; i < GT_ARRAY_SIZE(numbers); i++) {
        struct attempts attempts = {.n_missing = UINT32_MAX, .number = numbers[i]};

        assert_int_equal(gt_config_wait(attempt, &attempts, error), GT_CONFIG_E_STOPPED);
    }
}

static void test_other_signals_try_at_once(void **state)
{
    static const int numbers[] = {SIGHUP, SIGUSR1, SIGUSR2};
    char error[GT_CONFIG_ERROR_MAX];

    for (size_t i = 0; i < GT_ARRAY_SIZE(numbers); i++) {
        struct attempts attempts = {.n_missing = 2, .number = numbers[i]};
        uint64_t start = gt_clock_ms();

        assert_int_equal(gt_config_wait(attempt, &attempts, error), 0);
        assert_true(gt_clock_ms() - start < 400);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wait_ends_with_the_first_other_result),
        cmocka_unit_test(test_wait_is_stopped_by_a_signal),
        cmocka_unit_test(test_other_signals_try_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
