/* SPDX-License-Identifier: ISC */
/*
 * settling.c against simulated brokers: one that keeps the order, one that sends retained messages
 * on its own time, one that pauses. Time is simulated.
 */
#include "settling.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define STEP       .001
#define N_MESSAGES 1000
#define N_ANSWERS  64

static const struct broker {
    const char *what;
    double round_trip_s, interval_s; /* between two retained messages */
    bool is_ordered;                 /* answers come behind the messages that are queued */
    double pause_at, pause_s;        /* packets arrive afterwards */
    double start_s; /* an unordered one begins to send this long after the SUBACK */
    double most_s;  /* for the whole, after the last message */
} brokers[] = {
    {"near", .0005, .0001, true, 0, 0, 0, .4},
    {"300 ms away", .3, .001, true, 0, 0, 0, 2.6},
    {"600 ms away", .6, .002, true, 0, 0, 0, 5},
    {"a pause of 0.35 s", .001, .001, true, .5, .35, 0, .5},
    {"a pause of 9 s", .001, .001, true, .5, 9, 0, .5},
    {"a pause of 50 s", .02, .001, true, .3, 50, 0, .5},
    {"messages that trickle", .1, .25, true, 0, 0, 0, 1.5},
    {"without order", .05, .001, false, 0, 0, 0, 1},
    {"without order, late", .05, .001, false, 0, 0, .25, 1},
    {"without order, far away, late", .6, .001, false, 0, 0, 1.2, 7},
};

struct run {
    const struct broker *broker;
    double answers[N_ANSWERS]; /* when each request's answer arrives */
    size_t n_requests, n_answered, n_received;
};

/* Returns when something that would arrive at @at without a pause arrives. */
static double arrival(const struct broker *broker, double at)
{
    bool is_paused = at >= broker->pause_at && at < broker->pause_at + broker->pause_s;

    return is_paused ? broker->pause_at + broker->pause_s : at;
}

static double message_at(const struct broker *broker, size_t i)
{
    double first = broker->round_trip_s + (broker->is_ordered ? 0 : broker->start_s);

    return arrival(broker, first + (double)i * broker->interval_s);
}

static void request(struct run *run, double now)
{
    const struct broker *broker = run->broker;
    double at = now + broker->round_trip_s;

    if (broker->is_ordered)
        at = GT_MAX(at, message_at(broker, N_MESSAGES - 1));
    assert_true(run->n_requests < N_ANSWERS);
    run->answers[run->n_requests++] = arrival(broker, at);
}

static double simulate(const struct broker *broker)
{
    struct run run = {.broker = broker};
    struct settling settling;
    double until, now = 0;

    settling_begin(&settling, .3, now);
    request(&run, now);
    for (;; now += STEP) {
        while (run.n_received < N_MESSAGES && message_at(broker, run.n_received) <= now) {
            settling_received(&settling, true, now);
            run.n_received++;
        }
        if (run.n_answered < run.n_requests && run.answers[run.n_answered] <= now) {
            settling_answered(&settling, now);
            run.n_answered++;
        }
        switch (settling_next(&settling, now, &until)) {
        case SETTLING_WAIT: break;
        case SETTLING_MARK:
            settling_marked(&settling, now);
            request(&run, now);
            break;
        case SETTLING_DONE:
            if (run.n_received < N_MESSAGES)
                fail_msg("%s: done after %zu messages", broker->what, run.n_received);
            return now;
        case SETTLING_SILENT:
        case SETTLING_OVERDUE: fail_msg("%s: given up at %f", broker->what, now);
        }
    }
}

static void test_settling_waits_for_all_and_not_longer(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(brokers); i++) {
        double took = simulate(&brokers[i]) - message_at(&brokers[i], N_MESSAGES - 1);

        if (took > brokers[i].most_s)
            fail_msg("%s: %.2f s after the last message", brokers[i].what, took);
    }
}

/* Messages that change nothing, as those of a fleet that publishes continuously, extend nothing. */
static void test_settling_ignores_repetitions(void **state)
{
    struct settling settling;
    double until, now = 0;
    enum settling_action action = SETTLING_WAIT;

    settling_begin(&settling, .3, now);
    for (; now < 5 && action != SETTLING_DONE; now += .01) {
        settling_received(&settling, false, now);
        if (settling.is_outstanding)
            settling_answered(&settling, now);
        action = settling_next(&settling, now, &until);
        if (action == SETTLING_MARK)
            settling_marked(&settling, now);
    }
    assert_int_equal(action, SETTLING_DONE);
    assert_true(now < 1);
}

static void test_settling_ends_without_an_answer(void **state)
{
    struct settling settling;
    double until = 0;

    settling_begin(&settling, .3, 0);
    assert_int_equal(settling_next(&settling, 1, &until), SETTLING_WAIT);
    assert_true(until > 20 && until < 100);
    settling_received(&settling, false, until - 1); /* the broker still sends */
    assert_int_equal(settling_next(&settling, until, &until), SETTLING_WAIT);
    assert_int_equal(settling_next(&settling, until, &until), SETTLING_SILENT);
}

static void test_settling_ends_with_endless_new_messages(void **state)
{
    struct settling settling;
    double until, now = 0;
    enum settling_action action = SETTLING_WAIT;

    settling_begin(&settling, .3, now);
    settling_answered(&settling, now);
    for (; now < 10000 && action != SETTLING_OVERDUE; now += .1) {
        settling_received(&settling, true, now);
        settling_answered(&settling, now);
        action = settling_next(&settling, now, &until);
        assert_int_not_equal(action, SETTLING_DONE);
        if (action == SETTLING_MARK)
            settling_marked(&settling, now);
    }
    assert_int_equal(action, SETTLING_OVERDUE);
}

static void test_settling_ignores_answers_to_nothing(void **state)
{
    struct settling settling;
    double until = 0;

    settling_begin(&settling, .3, 0);
    for (int i = 0; i < 5; i++)
        settling_answered(&settling, .1);
    assert_int_equal(settling.n_quiet, 0);
    assert_int_equal(settling_next(&settling, .1, &until), SETTLING_MARK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settling_waits_for_all_and_not_longer),
        cmocka_unit_test(test_settling_ignores_repetitions),
        cmocka_unit_test(test_settling_ends_without_an_answer),
        cmocka_unit_test(test_settling_ends_with_endless_new_messages),
        cmocka_unit_test(test_settling_ignores_answers_to_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
