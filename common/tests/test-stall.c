/* SPDX-License-Identifier: ISC */
/*
 * stall.c: when a data connection is given up, when the size of packets is the cause, and which
 * silences are left alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>

#include "gotthard/tunnel/stall.h"

struct path {
    struct gt_stall stall;
    struct gt_stall_facts facts;
    bool is_relay_silent;
    bool is_older; /* the next connection was there before the loss of the last one */
    unsigned n_asked;
};

/* Looks once a second for up to @seconds. Returns the first verdict other than ASK. */
static enum gt_stall_verdict look(struct path *path, int seconds)
{
    for (int i = 0; i < seconds; i++) {
        path->facts.now += 1;
        enum gt_stall_verdict verdict = gt_stall_judge(&path->stall, &path->facts);
        if (verdict == GT_STALL_ASK) {
            path->n_asked++;
            if (!path->is_relay_silent)
                path->facts.relay_at = path->facts.now;
        } else if (verdict != GT_STALL_NONE) {
            gt_stall_restart(&path->stall, path->facts.now, path->facts.acked);
            if (!path->is_older)
                path->facts.connected_at = path->facts.now + .1;
            return verdict;
        }
    }
    return GT_STALL_NONE;
}

static struct path path_new(void)
{
    struct path path = {.facts = {.now = 1000, .acked = 5000, .sent = 90000}};

    gt_stall_restart(&path.stall, path.facts.now, path.facts.acked);
    return path;
}

static double blocked_after(struct path *path, enum gt_stall_verdict expected)
{
    double before = path->facts.now;

    assert_int_equal(look(path, 100), expected);
    return path->facts.now - before;
}

static void test_stall_second_loss_at_one_offset_is_a_black_hole(void **state)
{
    struct path path = path_new();

    assert_true(blocked_after(&path, GT_STALL_BLOCKED) <= 8);
    assert_int_equal(path.n_asked, 1);
    assert_true(blocked_after(&path, GT_STALL_BLACK_HOLE) <= 4);
    assert_true(blocked_after(&path, GT_STALL_BLACK_HOLE) <= 4); /* smaller ones are lost too */
    for (int i = 0; i < 10; i++)                                 /* and of every size */
        blocked_after(&path, GT_STALL_BLACK_HOLE);
    assert_in_range((uintmax_t)blocked_after(&path, GT_STALL_BLACK_HOLE), 25, 45);
}

/* Whatever has blocked the connection that was given up, the next one may have been blocked at the
 * same moment. Only one that was handshaken afterwards lets small packets pass. */
static void test_stall_over_an_older_connection_is_no_black_hole(void **state)
{
    struct path path = path_new();

    path.is_older = true;
    blocked_after(&path, GT_STALL_BLOCKED);
    path.is_older = false;
    assert_true(blocked_after(&path, GT_STALL_BLOCKED) <= 8);
    blocked_after(&path, GT_STALL_BLACK_HOLE);
}

static void test_stall_progress_is_no_stall(void **state)
{
    struct path path = path_new();

    for (int i = 0; i < 50; i++) {
        assert_int_equal(look(&path, 6), GT_STALL_NONE);
        path.facts.acked += 1000;
    }
    path.facts.acked = path.facts.sent; /* nothing to acknowledge: an idle stream */
    assert_int_equal(look(&path, 1000), GT_STALL_NONE);
    path.facts.sent += 100;
    assert_int_equal(look(&path, 6), GT_STALL_NONE);
}

/* On a slow link, the data of each stream in a shared connection waits for that of many others. */
static void test_stall_another_stream_shows_that_the_connection_carries_data(void **state)
{
    struct path path = path_new();

    for (int i = 0; i < 20; i++) {
        path.facts.acked_at = path.facts.now;
        assert_int_equal(look(&path, 4), GT_STALL_NONE);
    }
    assert_in_range((uintmax_t)blocked_after(&path, GT_STALL_BLOCKED), 4, 9);
    path.facts.acked_at = path.facts.now + 1; /* small data at first, then none */
    assert_in_range((uintmax_t)blocked_after(&path, GT_STALL_BLACK_HOLE), 3, 6);
}

/* The whole network is away, or the relay is stopped: another data connection is of no use. */
static void test_stall_without_an_answer_of_the_relay_is_not_judged(void **state)
{
    struct path path = path_new();

    path.is_relay_silent = true;
    path.facts.relay_at = path.facts.now + 1; /* before the question */
    assert_int_equal(look(&path, 100), GT_STALL_NONE);
    assert_int_equal(path.n_asked, 1);
    path.facts.relay_at = path.facts.now; /* a late answer */
    assert_int_equal(look(&path, 1), GT_STALL_BLOCKED);
}

/* This process was stopped, or the machine slept: the other side gets the time to answer. */
static void test_stall_time_counts_from_the_question(void **state)
{
    struct path path = path_new();

    path.facts.now += 1000;
    assert_int_equal(look(&path, 6), GT_STALL_NONE);
    assert_int_equal(path.n_asked, 1);
    path.facts.acked = path.facts.sent;
    assert_int_equal(look(&path, 10), GT_STALL_NONE);
}

/* A path that is only slow costs few connections. */
static void test_stall_limit_doubles_after_wrong_verdicts(void **state)
{
    struct path path = path_new();
    double last = 0;

    for (int i = 0; i < 7; i++) { /* 8 s three times: small packets of a lossy link arrive */
        double took = blocked_after(&path, GT_STALL_BLOCKED);
        assert_true(i < 3 || i == 6 ? took >= last : took >= 2 * last - 1);
        last = took;
        path.facts.acked += 100; /* it arrived after all */
    }
    assert_true(last > 45);
}

static void test_stall_limit_includes_the_round_trip(void **state)
{
    struct path path = path_new();

    path.facts.rtt_s = 2;
    assert_true(blocked_after(&path, GT_STALL_BLOCKED) >= 16);
}

static void test_stall_is_suspect_while_only_the_relay_answers(void **state)
{
    struct path path = path_new();

    path.is_relay_silent = true;
    (void)look(&path, 5);
    assert_false(gt_stall_is_suspect(&path.stall, &path.facts));
    path.facts.relay_at = path.facts.now;
    assert_true(gt_stall_is_suspect(&path.stall, &path.facts));
    path.facts.acked += 100;
    (void)look(&path, 1);
    assert_false(gt_stall_is_suspect(&path.stall, &path.facts));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stall_second_loss_at_one_offset_is_a_black_hole),
        cmocka_unit_test(test_stall_over_an_older_connection_is_no_black_hole),
        cmocka_unit_test(test_stall_progress_is_no_stall),
        cmocka_unit_test(test_stall_another_stream_shows_that_the_connection_carries_data),
        cmocka_unit_test(test_stall_without_an_answer_of_the_relay_is_not_judged),
        cmocka_unit_test(test_stall_time_counts_from_the_question),
        cmocka_unit_test(test_stall_limit_doubles_after_wrong_verdicts),
        cmocka_unit_test(test_stall_limit_includes_the_round_trip),
        cmocka_unit_test(test_stall_is_suspect_while_only_the_relay_answers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
