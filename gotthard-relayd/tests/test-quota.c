/* SPDX-License-Identifier: ISC */
/* quota.c: limits in all and per source, early drops, penalties, the budget of descriptors. */
#include "quota.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct quota_limits limits = {
    .n_strangers = 256,
    .n_early = 64,
    .n_per_source = 16,
    .penalty_failed_ms = 5000,
    .penalty_timeout_ms = 10000,
    .penalty_max_ms = 600000,
};

static struct quota quota;
static struct quota_charge charges[512];

static void begin(const struct quota_limits *with, size_t n_fds)
{
    memset(charges, 0, sizeof(charges));
    quota_init(&quota, with, n_fds, 0x5eed);
}

static int admit(unsigned source, uint64_t now, struct quota_charge *ret)
{
    uint8_t bytes[QUOTA_SOURCE] = {0};
    memcpy(bytes, &source, sizeof(source));
    return quota_admit(&quota, bytes, now, ret);
}

static struct quota_counts counts(void)
{
    struct quota_counts c;
    quota_count(&quota, &c);
    return c;
}

static void one_source_has_its_limit(void **state)
{
    begin(&limits, 1000);
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(admit(1, 0, &charges[i]), 0);
    assert_int_equal(admit(1, 0, &charges[16]), QUOTA_E_SOURCE);
    assert_int_equal(charges[16].state, CHARGE_NONE);
    assert_int_equal(admit(2, 0, &charges[17]), 0);
    quota_know(&charges[0]); /* not a stranger any more */
    assert_int_equal(admit(1, 0, &charges[18]), 0);
    assert_int_equal(counts().n_strangers, 17);
    assert_int_equal(counts().n_known, 1);
    for (unsigned i = 0; i < 20; i++)
        quota_release(&charges[i]);
    assert_int_equal(counts().n_fds, 0);
    quota_release(&charges[0]); /* twice is fine */
    assert_int_equal(counts().n_fds, 0);
}

static void the_fuller_the_more_are_dropped(void **state)
{
    unsigned n_admitted = 0, n_dropped_early = 0, n_dropped_late = 0;
    begin(&limits, 100000);
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(admit(i, 0, &charges[n_admitted++]), 0);
    for (unsigned i = 64; n_admitted < 256 && i < 1000000; i++) {
        int r = admit(i, 0, &charges[n_admitted]);
        assert_true(r == 0 || r == QUOTA_E_FULL);
        n_dropped_early += r && n_admitted < 160;
        n_dropped_late += r && n_admitted >= 160;
        n_admitted += !r;
    }
    assert_int_equal(n_admitted, 256);
    assert_true(n_dropped_early > 0);
    assert_true(n_dropped_late > 2 * n_dropped_early);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(admit(2000000 + i, 0, &charges[300]), QUOTA_E_FULL);
    assert_int_equal(counts().n_strangers, 256);
}

static void penalties_add_up_and_pass(void **state)
{
    begin(&limits, 1000);
    assert_int_equal(admit(1, 0, &charges[0]), 0);
    quota_punish(&charges[0], QUOTA_FAILED, 0);
    assert_int_equal(admit(1, 4999, &charges[1]), QUOTA_E_PENALTY);
    assert_int_equal(admit(2, 4999, &charges[1]), 0);
    assert_int_equal(admit(1, 5000, &charges[2]), 0);
    quota_punish(&charges[2], QUOTA_TIMEOUT, 5000);
    quota_punish(&charges[0], QUOTA_FAILED, 5000); /* 15 s from here */
    assert_int_equal(admit(1, 19999, &charges[3]), QUOTA_E_PENALTY);
    assert_int_equal(admit(1, 20000, &charges[3]), 0);
    for (unsigned i = 0; i < 1000; i++)
        quota_punish(&charges[0], QUOTA_TIMEOUT, 20000);
    assert_int_equal(admit(1, 619999, &charges[4]), QUOTA_E_PENALTY);
    assert_int_equal(admit(1, 620000, &charges[4]), 0);
}

static void no_penalty_when_switched_off(void **state)
{
    struct quota_limits lenient = limits;
    lenient.penalty_failed_ms = 0;
    begin(&lenient, 1000);
    assert_int_equal(admit(1, 7, &charges[0]), 0);
    quota_punish(&charges[0], QUOTA_FAILED, 7);
    assert_int_equal(admit(1, 7, &charges[1]), 0);
}

/* 100,000 sources misbehave: nothing grows, and the table still holds about what it can. */
static void the_table_is_fixed(void **state)
{
    unsigned n_held = 0;
    begin(&limits, 1000);
    for (unsigned i = 0; i < 100000; i++) {
        assert_int_equal(admit(i, 0, &charges[0]), 0);
        quota_punish(&charges[0], QUOTA_TIMEOUT, 0);
        quota_release(&charges[0]);
    }
    for (unsigned i = 0; i < 100000; i++) {
        n_held += admit(i, 1, &charges[0]) == QUOTA_E_PENALTY;
        quota_release(&charges[0]);
    }
    assert_in_range(n_held, QUOTA_N_PENALTIES * 9 / 10, QUOTA_N_PENALTIES);
}

static void the_budget_is_for_all(void **state)
{
    uint8_t source[QUOTA_SOURCE] = {9};
    begin(&limits, 3);
    assert_int_equal(admit(1, 0, &charges[0]), 0);
    assert_true(quota_take_fd(&quota));
    assert_int_equal(quota_admit_known(&quota, source, &charges[1]), 0);
    assert_int_equal(admit(2, 0, &charges[2]), QUOTA_E_FDS);
    assert_int_equal(quota_admit_known(&quota, source, &charges[2]), QUOTA_E_FDS);
    assert_false(quota_take_fd(&quota));
    quota_release(&charges[1]);
    assert_true(quota_take_fd(&quota));
    quota_give_fd(&quota);
    quota_give_fd(&quota);
    quota_release(&charges[0]);
    assert_int_equal(counts().n_fds, 0);
}

static void a_charge_moves_with_what_it_pays_for(void **state)
{
    begin(&limits, 100);
    assert_int_equal(admit(1, 0, &charges[0]), 0);
    assert_int_equal(admit(1, 0, &charges[1]), 0);
    quota_move(&charges[0], &charges[10]);
    memset(&charges[0], 0xff, sizeof(charges[0])); /* freed memory may look like anything */
    assert_int_equal(counts().n_strangers, 2);
    quota_know(&charges[10]);
    quota_move(&charges[10], &charges[11]);
    quota_release(&charges[10]);
    quota_release(&charges[11]);
    quota_release(&charges[1]);
    assert_int_equal(counts().n_strangers + counts().n_known + counts().n_fds, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_source_has_its_limit),
        cmocka_unit_test(the_fuller_the_more_are_dropped),
        cmocka_unit_test(penalties_add_up_and_pass),
        cmocka_unit_test(no_penalty_when_switched_off),
        cmocka_unit_test(the_table_is_fixed),
        cmocka_unit_test(the_budget_is_for_all),
        cmocka_unit_test(a_charge_moves_with_what_it_pays_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
