/* SPDX-License-Identifier: ISC */
/*
 * attempt-policy.c: which attempt is accepted, and when another one is worth it, without a network.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>

#include "gotthard/tunnel/attempt-policy.h"

#define WINDOW 120. /* seconds */

static void policy_dial(struct gt_attempt_policy *policy)
{
    uint32_t attempt = gt_attempt_policy_request(policy);

    assert_true(gt_attempt_policy_accepts(policy, attempt));
    gt_attempt_policy_dialed(policy, attempt);
}

/* The first data connection was up, and was lost at 1000 s. */
static struct gt_attempt_policy policy_after_loss(void)
{
    struct gt_attempt_policy policy;

    gt_attempt_policy_init(&policy, WINDOW, 900);
    policy_dial(&policy);
    gt_attempt_policy_up(&policy);
    gt_attempt_policy_wait(&policy, 1000);
    return policy;
}

static void test_attempt_retry_before_first_success(void **state)
{
    struct gt_attempt_policy policy;

    gt_attempt_policy_init(&policy, WINDOW, 1000);
    assert_true(gt_attempt_policy_may_retry(&policy, 1000 + GT_ATTEMPT_FIRST_S - .1));
    assert_false(gt_attempt_policy_may_retry(&policy, 1000 + GT_ATTEMPT_FIRST_S));
    for (int i = 0; i < GT_ATTEMPT_TRIES; i++) {
        assert_true(gt_attempt_policy_may_retry(&policy, 1001));
        gt_backoff_next(&policy.backoff);
    }
    assert_false(gt_attempt_policy_may_retry(&policy, 1001));
}

static void test_attempt_retry_within_window(void **state)
{
    struct gt_attempt_policy policy = policy_after_loss();

    for (int i = 0; i < 2 * GT_ATTEMPT_TRIES; i++)
        gt_backoff_next(&policy.backoff);
    assert_true(gt_attempt_policy_may_retry(&policy, 1000 + WINDOW - .1));
    assert_false(gt_attempt_policy_may_retry(&policy, 1000 + WINDOW));
}

static void test_attempt_never_without_window(void **state)
{
    struct gt_attempt_policy policy;

    gt_attempt_policy_init(&policy, 0, 1000);
    assert_false(gt_attempt_policy_may_retry(&policy, 1000));
}

static void test_attempt_accepts_only_newer_attempts(void **state)
{
    struct gt_attempt_policy policy;

    gt_attempt_policy_init(&policy, WINDOW, 1000);
    assert_int_equal(gt_attempt_policy_attempt(&policy), 0);
    assert_true(gt_attempt_policy_accepts(&policy, 1)); /* the device requests nothing */
    assert_int_equal(gt_attempt_policy_request(&policy), 1);
    assert_int_equal(gt_attempt_policy_request(&policy), 2);
    assert_false(gt_attempt_policy_accepts(&policy, 1)); /* an older request */
    gt_attempt_policy_dialed(&policy, 2);
    assert_false(gt_attempt_policy_accepts(&policy, 2)); /* never twice */
    gt_attempt_policy_dialed(&policy, 7);
    assert_int_equal(gt_attempt_policy_request(&policy), 8);
    assert_int_equal(gt_attempt_policy_attempt(&policy), 8);
}

/* A data connection that is lost at once would otherwise be replaced without a pause. */
static void test_attempt_success_keeps_the_backoff(void **state)
{
    struct gt_attempt_policy policy;

    gt_attempt_policy_init(&policy, WINDOW, 1000);
    gt_backoff_next(&policy.backoff);
    policy_dial(&policy);
    gt_attempt_policy_up(&policy);
    assert_int_equal(policy.backoff.n_tries, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attempt_retry_before_first_success),
        cmocka_unit_test(test_attempt_retry_within_window),
        cmocka_unit_test(test_attempt_never_without_window),
        cmocka_unit_test(test_attempt_accepts_only_newer_attempts),
        cmocka_unit_test(test_attempt_success_keeps_the_backoff),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
