/* SPDX-License-Identifier: ISC */
/*
 * The token bucket: bursts, refill to the millisecond, clocks that step back or far ahead, and a
 * random sequence against exact arithmetic.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
/* cmocka needs these before it */
#include <cmocka.h>

#include "gotthard/base/token-bucket.h"

static void test_bucket_starts_full(void **state)
{
    static const uint32_t bursts[] = {0, 1, 2, 20, UINT32_MAX};

    for (size_t i = 0; i < GT_ARRAY_SIZE(bursts); i++) {
        struct gt_token_bucket bucket;

        gt_token_bucket_init(&bucket, 5, bursts[i], 1000);
        assert_int_equal(gt_token_bucket_level(&bucket, 1000), bursts[i]);
        assert_true(gt_token_bucket_take(&bucket, bursts[i], 1000));
        assert_int_equal(gt_token_bucket_level(&bucket, 1000), 0);
        assert_false(gt_token_bucket_take(&bucket, 1, 1000));
    }
}

static void test_bucket_refills_at_its_rate(void **state)
{
    struct gt_token_bucket bucket;

    gt_token_bucket_init(&bucket, 5, 20, 0);
    assert_true(gt_token_bucket_take(&bucket, 20, 0));
    assert_false(gt_token_bucket_take(&bucket, 1, 199));
    assert_true(gt_token_bucket_take(&bucket, 1, 200));
    assert_false(gt_token_bucket_take(&bucket, 1, 200));
    assert_int_equal(gt_token_bucket_level(&bucket, 200 + 3999), 19);
    assert_int_equal(gt_token_bucket_level(&bucket, 200 + 4000), 20);
    assert_int_equal(gt_token_bucket_level(&bucket, 200 + 4001), 20);
}

static void test_bucket_of_rate_zero_never_refills(void **state)
{
    struct gt_token_bucket bucket;

    gt_token_bucket_init(&bucket, 0, 1, 0);
    assert_true(gt_token_bucket_take(&bucket, 1, 0));
    assert_false(gt_token_bucket_take(&bucket, 1, UINT64_MAX));
}

static void test_bucket_does_not_overflow_after_a_long_time(void **state)
{
    struct gt_token_bucket bucket;

    gt_token_bucket_init(&bucket, UINT32_MAX, UINT32_MAX, 0);
    assert_true(gt_token_bucket_take(&bucket, UINT32_MAX, 0));
    assert_int_equal(gt_token_bucket_level(&bucket, UINT64_MAX), UINT32_MAX);
}

static void test_bucket_ignores_a_clock_that_steps_back(void **state)
{
    struct gt_token_bucket bucket;

    gt_token_bucket_init(&bucket, 1, 1, 10000);
    assert_true(gt_token_bucket_take(&bucket, 1, 10000));
    assert_false(gt_token_bucket_take(&bucket, 1, 5000));
    assert_false(gt_token_bucket_take(&bucket, 1, 5999));
    assert_true(gt_token_bucket_take(&bucket, 1, 6000));
}

static void test_bucket_take_is_all_or_nothing(void **state)
{
    struct gt_token_bucket bucket;

    gt_token_bucket_init(&bucket, 1, 10, 0);
    assert_false(gt_token_bucket_take(&bucket, 11, 0));
    assert_int_equal(gt_token_bucket_level(&bucket, 0), 10);
}

static void test_bucket_drain_takes_as_many_as_there_are(void **state)
{
    struct gt_token_bucket bucket;

    gt_token_bucket_init(&bucket, 1, 10, 0);
    gt_token_bucket_drain(&bucket, 4, 0);
    assert_int_equal(gt_token_bucket_level(&bucket, 0), 6);
    gt_token_bucket_drain(&bucket, 100, 0);
    assert_int_equal(gt_token_bucket_level(&bucket, 0), 0);
}

static void test_bucket_change_applies_to_the_present_level(void **state)
{
    struct gt_token_bucket bucket;

    gt_token_bucket_init(&bucket, 1, 10, 0);
    gt_token_bucket_change(&bucket, 1000, 4, 0);
    assert_int_equal(gt_token_bucket_level(&bucket, 0), 4);
    gt_token_bucket_drain(&bucket, 4, 0);
    assert_int_equal(gt_token_bucket_level(&bucket, 3), 3);
    gt_token_bucket_change(&bucket, 1, 20, 3); /* tokens of the time before are kept */
    assert_int_equal(gt_token_bucket_level(&bucket, 1003), 4);
}

static void test_bucket_random_sequence_is_exact(void **state)
{
    unsigned seed = (unsigned)time(NULL);
    uint64_t now = 0, level;
    struct gt_token_bucket bucket;

    print_message("seed %u\n", seed);
    srand(seed);
    gt_token_bucket_init(&bucket, 7, 30, now);
    level = 30 * 1000;
    for (int i = 0; i < 100000; i++) {
        uint64_t step = (uint64_t)rand() % 300;
        uint32_t n = (uint32_t)rand() % 5;

        now += step;
        level = GT_MIN(level + 7 * step, 30u * 1000u);
        bool is_allowed = level >= n * 1000;
        assert_int_equal(gt_token_bucket_take(&bucket, n, now), is_allowed);
        if (is_allowed)
            level -= n * 1000;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bucket_starts_full),
        cmocka_unit_test(test_bucket_refills_at_its_rate),
        cmocka_unit_test(test_bucket_of_rate_zero_never_refills),
        cmocka_unit_test(test_bucket_does_not_overflow_after_a_long_time),
        cmocka_unit_test(test_bucket_ignores_a_clock_that_steps_back),
        cmocka_unit_test(test_bucket_take_is_all_or_nothing),
        cmocka_unit_test(test_bucket_drain_takes_as_many_as_there_are),
        cmocka_unit_test(test_bucket_change_applies_to_the_present_level),
        cmocka_unit_test(test_bucket_random_sequence_is_exact),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
