/* SPDX-License-Identifier: ISC */
/*
 * Reports on their way to the operators: each has a greater seq, the latest one is repeated when
 * the broker connection returns, and nothing follows the last one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "reports.h"

static const uint8_t key[GT_KEY_SIZE] = "the key of a session";

struct env {
    struct ev_loop *loop;
    struct reports reports;
    unsigned n_published;
    struct gt_report latest;
};

static void publish(void *userdata, const char *topic, struct gt_span payload)
{
    struct env *env = userdata;

    env->n_published++;
    assert_int_equal(gt_report_open(key, topic, payload, &env->latest), 0);
}

static void start(struct env *env)
{
    *env = (struct env){.loop = ev_loop_new(0)};
    reports_init(&env->reports, env->loop, publish, env);
}

static void stop(struct env *env)
{
    reports_deinit(&env->reports);
    ev_loop_destroy(env->loop);
}

static void test_reports_are_numbered(void **state)
{
    struct gt_report report = {.kind = GT_REPORT_UNREACHABLE, .why = "no answer"};
    struct env env;

    start(&env);
    struct session_reports *session = reports_add(&env.reports, "p/d/dev/rsp/alice", key);
    for (unsigned i = 1; i <= 3; i++) {
        reports_send(&env.reports, session, &report);
        assert_int_equal(env.latest.seq, i);
    }
    assert_string_equal(env.latest.why, "no answer");
    report.is_last = true;
    reports_send(&env.reports, session, &report);
    reports_send(&env.reports, session, &report);
    assert_int_equal(env.n_published, 4);
    stop(&env);
}

static void test_latest_report_is_repeated(void **state)
{
    struct gt_report report = {.kind = GT_REPORT_REJECTED, .is_last = true};
    struct env env;

    start(&env);
    struct session_reports *quiet = reports_add(&env.reports, "p/d/dev/rsp/bob", key);
    struct session_reports *session = reports_add(&env.reports, "p/d/dev/rsp/alice", key);
    reports_send(&env.reports, session, &report);
    reports_close(&env.reports, session);
    reports_repeat(&env.reports);
    assert_int_equal(env.n_published, 2);
    assert_int_equal(env.latest.seq, 1);
    while (env.n_published < 3) /* by the timer */
        ev_run(env.loop, EVRUN_ONCE);
    reports_drop(quiet);
    stop(&env);
}

static void test_report_is_repeated_after_it_was_sent(void **state)
{
    struct gt_report report = {.kind = GT_REPORT_REJECTED, .is_last = true};
    struct env env;

    start(&env);
    struct session_reports *session = reports_add(&env.reports, "p/d/dev/rsp/alice", key);
    reports_send(&env.reports, session, &report);
    reports_close(&env.reports, session);
    while (env.n_published < 2)
        ev_run(env.loop, EVRUN_ONCE);
    assert_int_equal(env.latest.seq, 1);
    stop(&env);
}

static void test_reports_of_ended_sessions_are_limited(void **state)
{
    struct gt_report report = {.kind = GT_REPORT_ENDED, .is_last = true};
    struct env env;

    start(&env);
    struct session_reports *open = reports_add(&env.reports, "p/d/dev/rsp/alice", key);
    reports_send(&env.reports, open, &report);
    for (unsigned i = 0; i < 200; i++) {
        struct session_reports *session = reports_add(&env.reports, "p/d/dev/rsp/alice", key);

        reports_send(&env.reports, session, &report);
        reports_close(&env.reports, session);
    }
    env.n_published = 0;
    reports_repeat(&env.reports);
    assert_int_equal(env.n_published, 65);
    assert_null(reports_drop(NULL));
    reports_close(&env.reports, NULL);
    stop(&env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reports_are_numbered),
        cmocka_unit_test(test_latest_report_is_repeated),
        cmocka_unit_test(test_report_is_repeated_after_it_was_sent),
        cmocka_unit_test(test_reports_of_ended_sessions_are_limited),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
