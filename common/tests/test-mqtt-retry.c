/* SPDX-License-Identifier: ISC */
/*
 * The waits before the next attempt: their bounds, what resets them, and the reconnects of a fleet
 * of 3000 agents after outages of different lengths.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs these before it */
#include <cmocka.h>
#include <string.h>

#include "gotthard/mqtt/mqtt-retry.h"

enum { LOWEST = 0, SPREAD_MS = 40000 };

#define HIGHEST UINT32_MAX

static unsigned miss(struct gt_mqtt_retry *retry, enum gt_mqtt_effect effect, uint32_t random)
{
    return gt_mqtt_retry_next(retry, &(struct gt_mqtt_retry_end){.effect = effect}, random);
}

static unsigned lose(struct gt_mqtt_retry *retry, enum gt_mqtt_effect effect, double lasted_s,
                     uint32_t random)
{
    struct gt_mqtt_retry_end end = {.effect = effect, .was_up = true, .lasted_s = lasted_s};

    gt_mqtt_retry_up(retry);
    return gt_mqtt_retry_next(retry, &end, random);
}

static void test_waits_double_up_to_a_minute(void **state)
{
    static const unsigned waits_ms[] = {1000, 2000, 4000, 8000, 16000, 32000, 48000, 48000};
    struct gt_mqtt_retry low = {0}, high = {0};

    for (size_t i = 0; i < GT_ARRAY_SIZE(waits_ms); i++) {
        assert_int_equal(miss(&low, GT_MQTT_EFFECT_RETRY, LOWEST), waits_ms[i]);
        assert_int_equal(miss(&high, GT_MQTT_EFFECT_RETRY, HIGHEST), waits_ms[i] * 5 / 4);
    }
}

static void test_first_retry_is_spread_after_a_loss(void **state)
{
    struct gt_mqtt_retry retry = {.spread_ms = SPREAD_MS};

    assert_int_equal(lose(&retry, GT_MQTT_EFFECT_SPREAD, 1000, LOWEST), 1);
    assert_int_equal(lose(&retry, GT_MQTT_EFFECT_SPREAD, 1000, HIGHEST), SPREAD_MS + 1);
    assert_int_equal(miss(&retry, GT_MQTT_EFFECT_RETRY, LOWEST), SPREAD_MS / 2);
    assert_int_equal(miss(&retry, GT_MQTT_EFFECT_RETRY, HIGHEST), SPREAD_MS * 3 / 2);
}

static void test_small_spread_grows_with_failures(void **state)
{
    struct gt_mqtt_retry retry = {.spread_ms = 2000};
    unsigned last_ms = 0;

    assert_int_equal(lose(&retry, GT_MQTT_EFFECT_SPREAD, 1000, HIGHEST), 2001);
    assert_int_equal(miss(&retry, GT_MQTT_EFFECT_RETRY, HIGHEST), 3000);
    for (int i = 0; i < 40; i++)
        last_ms = miss(&retry, GT_MQTT_EFFECT_RETRY, HIGHEST);
    assert_int_equal(last_ms, 60000);
}

/* Each of them would be spread over 40 s if the broker were the cause. */
static void test_who_is_not_delayed(void **state)
{
    struct gt_mqtt_retry quick = {.spread_ms = SPREAD_MS}, awaited = quick, none = {0};
    struct gt_mqtt_retry_end end = {
        .effect = GT_MQTT_EFFECT_SPREAD, .was_up = true, .lasted_s = 99, .is_awaited = true};

    assert_int_equal(lose(&quick, GT_MQTT_EFFECT_QUICK, 1000, HIGHEST), 1250);
    assert_int_equal(gt_mqtt_retry_next(&awaited, &end, HIGHEST), 1250);
    assert_int_equal(lose(&none, GT_MQTT_EFFECT_SPREAD, 1000, HIGHEST), 1250);
}

static void test_change_of_own_network_ends_the_spread(void **state)
{
    struct gt_mqtt_retry retry = {.spread_ms = SPREAD_MS};

    (void)lose(&retry, GT_MQTT_EFFECT_SPREAD, 1000, HIGHEST);
    assert_true(gt_mqtt_retry_network_changed(&retry));
    assert_int_equal(miss(&retry, GT_MQTT_EFFECT_RETRY, HIGHEST), 1250);
}

static void test_rival_waits_for_minutes(void **state)
{
    struct gt_mqtt_retry named = {0}, guessed = {0};

    assert_int_equal(lose(&named, GT_MQTT_EFFECT_RIVAL, 1, LOWEST), 5000);
    assert_int_equal(lose(&guessed, GT_MQTT_EFFECT_SPREAD, 1, LOWEST), 1000);
    assert_false(gt_mqtt_retry_has_rival(&guessed));
    assert_int_equal(lose(&guessed, GT_MQTT_EFFECT_SPREAD, 1, LOWEST), 5000);
    assert_true(gt_mqtt_retry_has_rival(&guessed));
    assert_false(gt_mqtt_retry_network_changed(&guessed));
    assert_int_equal(lose(&guessed, GT_MQTT_EFFECT_SPREAD, 1, LOWEST), 10000);
    assert_int_equal(lose(&guessed, GT_MQTT_EFFECT_SPREAD, 30, LOWEST), 1000);
    assert_false(gt_mqtt_retry_has_rival(&guessed));
}

static void test_busy_broker_gets_more_time(void **state)
{
    struct gt_mqtt_retry retry = {0};

    assert_int_equal(gt_mqtt_retry_connack_s(&retry, 20), 20);
    (void)miss(&retry, GT_MQTT_EFFECT_SPREAD, LOWEST);
    assert_int_equal(gt_mqtt_retry_connack_s(&retry, 20), 40);
    for (int i = 0; i < 10; i++)
        (void)miss(&retry, GT_MQTT_EFFECT_SPREAD, LOWEST);
    assert_int_equal(gt_mqtt_retry_connack_s(&retry, 20), 60);
    assert_int_equal(gt_mqtt_retry_connack_s(&retry, 90), 90);
    (void)miss(&retry, GT_MQTT_EFFECT_RETRY, LOWEST);
    assert_int_equal(gt_mqtt_retry_connack_s(&retry, 20), 20);
}

/* Attempts that are given up cost a broker as much as successful ones. */
static void test_busy_broker_gets_fewer_attempts(void **state)
{
    struct gt_mqtt_retry retry = {.spread_ms = SPREAD_MS};

    (void)lose(&retry, GT_MQTT_EFFECT_SPREAD, 1000, LOWEST);
    assert_int_equal(gt_mqtt_retry_connack_s(&retry, 20), 60);
    assert_int_equal(miss(&retry, GT_MQTT_EFFECT_SPREAD, LOWEST), SPREAD_MS);
    assert_int_equal(miss(&retry, GT_MQTT_EFFECT_SPREAD, LOWEST), 2 * SPREAD_MS);
    assert_int_equal(miss(&retry, GT_MQTT_EFFECT_SPREAD, HIGHEST), 6 * SPREAD_MS);
    assert_int_equal(miss(&retry, GT_MQTT_EFFECT_RETRY, LOWEST), SPREAD_MS / 2);
    gt_mqtt_retry_up(&retry);
    assert_int_equal(gt_mqtt_retry_connack_s(&retry, 20), 20);
}

/* Soon after a connection the broker is busy with others; later the network was lost. */
static void test_silence_is_judged_by_the_age_of_the_connection(void **state)
{
    struct gt_mqtt_retry early = {.spread_ms = SPREAD_MS}, late = early;

    assert_int_equal(lose(&early, GT_MQTT_EFFECT_SILENT, 60, HIGHEST), SPREAD_MS + 1);
    assert_int_equal(lose(&late, GT_MQTT_EFFECT_SILENT, 120, HIGHEST), 1250);
}

/* --- a fleet ---------------------------------------------------------------------------------- */

enum { N_AGENTS = 3000, N_SECONDS = 1200 };

static uint32_t next_random(void)
{
    static uint64_t x = 88172645463325252; /* a seed: the test is the same each time */

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return (uint32_t)(x >> 32);
}

/* Counts the successful reconnects of each second; returns the largest count. */
static unsigned busiest_second(double outage_s, double *ret_last_s)
{
    static unsigned n_in[N_SECONDS];
    unsigned most = 0;

    memset(n_in, 0, sizeof(n_in));
    for (int agent = 0; agent < N_AGENTS; agent++) {
        struct gt_mqtt_retry retry = {.spread_ms = SPREAD_MS};
        double at = lose(&retry, GT_MQTT_EFFECT_SPREAD, 1000, next_random()) / 1e3;

        while (at < outage_s)
            at += miss(&retry, GT_MQTT_EFFECT_RETRY, next_random()) / 1e3;
        assert_true(at < N_SECONDS);
        *ret_last_s = GT_MAX(*ret_last_s, at - outage_s);
        unsigned n = ++n_in[(size_t)at];
        most = GT_MAX(most, n);
    }
    return most;
}

static void test_fleet_comes_back_evenly(void **state)
{
    static const double outages_s[] = {0, 5, 30, 60, 300};

    for (size_t i = 0; i < GT_ARRAY_SIZE(outages_s); i++) {
        double last_s = 0;
        unsigned most = busiest_second(outages_s[i], &last_s);

        print_message("outage of %3.0f s: %u reconnects in the busiest second, the last after %.0f "
                      "s\n",
                      outages_s[i], most, last_s);
        assert_true(most < 125); /* 75 are even */
        assert_true(last_s < 61);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waits_double_up_to_a_minute),
        cmocka_unit_test(test_first_retry_is_spread_after_a_loss),
        cmocka_unit_test(test_small_spread_grows_with_failures),
        cmocka_unit_test(test_who_is_not_delayed),
        cmocka_unit_test(test_change_of_own_network_ends_the_spread),
        cmocka_unit_test(test_rival_waits_for_minutes),
        cmocka_unit_test(test_busy_broker_gets_more_time),
        cmocka_unit_test(test_busy_broker_gets_fewer_attempts),
        cmocka_unit_test(test_silence_is_judged_by_the_age_of_the_connection),
        cmocka_unit_test(test_fleet_comes_back_evenly),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
