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

#define HIGHEST UINT64_MAX

static unsigned miss(struct gt_mqtt_retry *retry, enum gt_mqtt_effect effect, uint64_t random)
{
    return gt_mqtt_retry_next(retry, &(struct gt_mqtt_retry_end){.effect = effect}, random);
}

static unsigned lose(struct gt_mqtt_retry *retry, enum gt_mqtt_effect effect, double lasted_s,
                     uint64_t random)
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

static void test_busy_broker_gets_no_more_than_a_long_spread(void **state)
{
    enum { HOUR_MS = 3600000 };
    struct gt_mqtt_retry hour = {.spread_ms = HOUR_MS}, minute = {.spread_ms = 60000};
    unsigned hour_ms = 0, minute_ms = 0;

    for (int i = 0; i < 10; i++) {
        hour_ms = miss(&hour, GT_MQTT_EFFECT_SPREAD, LOWEST);
        minute_ms = miss(&minute, GT_MQTT_EFFECT_SPREAD, LOWEST);
    }
    assert_int_equal(hour_ms, HOUR_MS / 2);
    assert_int_equal(minute_ms, 4 * SPREAD_MS / 2);
}

static void test_change_of_own_network_ends_the_spread(void **state)
{
    static const enum gt_mqtt_effect own[] = {GT_MQTT_EFFECT_NETWORK, GT_MQTT_EFFECT_QUICK,
                                              GT_MQTT_EFFECT_SILENT};

    for (size_t i = 0; i < GT_ARRAY_SIZE(own); i++) {
        struct gt_mqtt_retry retry = {.spread_ms = SPREAD_MS};

        (void)lose(&retry, GT_MQTT_EFFECT_SPREAD, 1000, HIGHEST);
        (void)miss(&retry, own[i], HIGHEST);
        assert_true(gt_mqtt_retry_network_changed(&retry));
        assert_int_equal(miss(&retry, GT_MQTT_EFFECT_RETRY, HIGHEST), 1250);
    }
}

/* A container that starts is a change of the network as well. */
static void test_change_of_own_network_is_no_reason_to_disturb_a_broker(void **state)
{
    static const enum gt_mqtt_effect answers[] = {GT_MQTT_EFFECT_RETRY, GT_MQTT_EFFECT_SPREAD,
                                                  GT_MQTT_EFFECT_RIVAL};

    for (size_t i = 0; i < GT_ARRAY_SIZE(answers); i++) {
        struct gt_mqtt_retry retry = {.spread_ms = SPREAD_MS};

        (void)lose(&retry, GT_MQTT_EFFECT_SPREAD, 1000, HIGHEST);
        assert_false(gt_mqtt_retry_network_changed(&retry));
        (void)miss(&retry, GT_MQTT_EFFECT_NETWORK, HIGHEST);
        (void)miss(&retry, answers[i], HIGHEST);
        assert_false(gt_mqtt_retry_network_changed(&retry));
        assert_in_range(miss(&retry, GT_MQTT_EFFECT_RETRY, LOWEST), SPREAD_MS / 2, HIGHEST);
    }
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

/* Only the guess may be a broker that restarts. Its two parts have random bits of their own. */
static void test_guessed_rival_is_spread(void **state)
{
    enum { RIVAL_MS = 5000 };
    static const uint64_t high_half = 0xffffffffull << 32, low_half = 0xffffffffull;
    static const struct {
        uint64_t random;
        unsigned wait_ms;
    } cases[] = {
        {LOWEST, RIVAL_MS + 1},
        {low_half, RIVAL_MS * 5 / 4 + 1},
        {high_half, RIVAL_MS + SPREAD_MS + 1},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_mqtt_retry guessed = {.spread_ms = SPREAD_MS}, named = guessed;

        (void)lose(&guessed, GT_MQTT_EFFECT_SPREAD, 1, LOWEST);
        assert_int_equal(lose(&guessed, GT_MQTT_EFFECT_SPREAD, 1, cases[i].random),
                         cases[i].wait_ms);
        assert_int_equal(miss(&guessed, GT_MQTT_EFFECT_RETRY, LOWEST), SPREAD_MS / 2);
        assert_int_equal(lose(&named, GT_MQTT_EFFECT_RIVAL, 1, high_half), RIVAL_MS);
    }
}

/* The connection of days is judged although only the network ended it; a short one is no rival. */
static void test_loss_of_own_network_judges_the_connection(void **state)
{
    struct gt_mqtt_retry rival = {0}, network = {0};

    for (int i = 0; i < 5; i++)
        (void)lose(&rival, GT_MQTT_EFFECT_SPREAD, 1, LOWEST);
    assert_true(gt_mqtt_retry_has_rival(&rival));
    assert_int_equal(lose(&rival, GT_MQTT_EFFECT_QUICK, 200000, LOWEST), 1000);
    assert_false(gt_mqtt_retry_has_rival(&rival));
    assert_int_equal(rival.n_failures, 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(lose(&network, GT_MQTT_EFFECT_QUICK, 1, LOWEST), 1000);
    assert_false(gt_mqtt_retry_has_rival(&network));
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

static uint64_t next_random(void)
{
    static uint64_t x = 88172645463325252; /* a seed: the test is the same each time */

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return x;
}

/* Counts the successful reconnects of each second after the last loss; returns the largest count.
 * @n_restarts: of the broker shortly before, each 3 s after the agent's connect. */
static unsigned busiest_second(unsigned n_restarts, double outage_s, double *ret_last_s)
{
    static unsigned n_in[N_SECONDS];
    unsigned most = 0;

    memset(n_in, 0, sizeof(n_in));
    for (int agent = 0; agent < N_AGENTS; agent++) {
        struct gt_mqtt_retry retry = {.spread_ms = SPREAD_MS};
        double at = lose(&retry, GT_MQTT_EFFECT_SPREAD, 1000, next_random()) / 1e3;

        for (unsigned i = 0; i < n_restarts; i++)
            at = lose(&retry, GT_MQTT_EFFECT_SPREAD, 3, next_random()) / 1e3;
        while (at < outage_s)
            at += miss(&retry, GT_MQTT_EFFECT_RETRY, next_random()) / 1e3;
        assert_true(at < N_SECONDS);
        *ret_last_s = GT_MAX(*ret_last_s, at - outage_s);
        unsigned n = ++n_in[(size_t)at];
        most = GT_MAX(most, n);
    }
    return most;
}

static void assert_even(unsigned n_restarts, unsigned max, double max_s)
{
    static const double outages_s[] = {0, 5, 30, 60, 300};

    for (size_t i = 0; i < GT_ARRAY_SIZE(outages_s); i++) {
        double last_s = 0;
        unsigned most = busiest_second(n_restarts, outages_s[i], &last_s);

        print_message("%u restarts, outage of %3.0f s: %u reconnects in the busiest second, the "
                      "last after %.0f s\n",
                      n_restarts, outages_s[i], most, last_s);
        assert_true(most < max); /* 75 are even */
        assert_true(last_s < max_s);
    }
}

static void test_fleet_comes_back_evenly(void **state)
{
    assert_even(0, 125, 61);
}

/* From the second restart on each agent also waits for a rival, which may be the cause. */
static void test_fleet_comes_back_evenly_after_several_restarts(void **state)
{
    assert_even(1, 125, 61);
    assert_even(2, 150, 61);
    assert_even(3, 150, 61);
    assert_even(5, 150, 91); /* 40 s to 50 s for the rival */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waits_double_up_to_a_minute),
        cmocka_unit_test(test_first_retry_is_spread_after_a_loss),
        cmocka_unit_test(test_small_spread_grows_with_failures),
        cmocka_unit_test(test_who_is_not_delayed),
        cmocka_unit_test(test_busy_broker_gets_no_more_than_a_long_spread),
        cmocka_unit_test(test_change_of_own_network_ends_the_spread),
        cmocka_unit_test(test_change_of_own_network_is_no_reason_to_disturb_a_broker),
        cmocka_unit_test(test_rival_waits_for_minutes),
        cmocka_unit_test(test_guessed_rival_is_spread),
        cmocka_unit_test(test_loss_of_own_network_judges_the_connection),
        cmocka_unit_test(test_busy_broker_gets_more_time),
        cmocka_unit_test(test_busy_broker_gets_fewer_attempts),
        cmocka_unit_test(test_silence_is_judged_by_the_age_of_the_connection),
        cmocka_unit_test(test_fleet_comes_back_evenly),
        cmocka_unit_test(test_fleet_comes_back_evenly_after_several_restarts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
