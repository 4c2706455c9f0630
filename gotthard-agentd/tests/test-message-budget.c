/* SPDX-License-Identifier: ISC */
/* message-budget.c: half of a CPU on average, for messages of any cost. */
#include "message-budget.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define SECONDS 10

/* Messages arrive back to back, each as soon as the one before is done. Returns the CPU time used,
 * in microseconds. */
static uint64_t flood(uint64_t cost_us, uint64_t cost_of_drop_us)
{
    struct message_budget budget;
    uint64_t now_us = 0, used_us = 0;

    message_budget_init(&budget);
    while (now_us < SECONDS * UINT64_C(1000000)) {
        if (!message_budget_begin(&budget, now_us / 1000)) {
            now_us += cost_of_drop_us;
            continue;
        }
        now_us += cost_us;
        used_us += cost_us;
        message_budget_charge(&budget, cost_us, now_us / 1000);
    }
    return used_us;
}

static void test_budget_is_half_of_a_cpu(void **state)
{
    static const uint64_t costs_us[] = {10, 100, 400, 600, 800, 1000, 1500, 5000, 300000};

    for (size_t i = 0; i < GT_ARRAY_SIZE(costs_us); i++) {
        uint64_t used_us = flood(costs_us[i], 50), half_us = SECONDS * UINT64_C(500000);

        if (used_us < half_us * 95 / 100 || used_us > half_us + 250000 + 2 * costs_us[i])
            print_message("%llu us a message: %llu us\n", (unsigned long long)costs_us[i],
                          (unsigned long long)used_us);
        assert_in_range(used_us, half_us * 95 / 100, half_us + 250000 + 2 * costs_us[i]);
    }
}

static void test_budget_recovers_after_an_expensive_message(void **state)
{
    struct message_budget budget;

    message_budget_init(&budget);
    assert_true(message_budget_begin(&budget, 0));
    message_budget_charge(&budget, 1250000, 0);        /* five times the burst */
    assert_false(message_budget_begin(&budget, 2000)); /* 2.5 s less the burst */
    assert_true(message_budget_begin(&budget, 2001));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_budget_is_half_of_a_cpu),
        cmocka_unit_test(test_budget_recovers_after_an_expensive_message),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
