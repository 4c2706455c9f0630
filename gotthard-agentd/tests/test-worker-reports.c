/* SPDX-License-Identifier: ISC */
/*
 * The pipe from a worker to its listener: each end of a tunnel has its kind of report, the report
 * "at the relay" waits a moment, and a listener that has exited or does not read does no harm.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker-reports.h"

static const struct gt_host_port relay = {"relay.example.org", 7000}, ipv6 = {"2001:db8::1", 7000};

struct env {
    struct ev_loop *loop;
    struct worker_reports reports;
    int listener;
    struct worker_report record;
};

static void start(struct env *env, const struct gt_host_port *address)
{
    int ends[2];

    *env = (struct env){.loop = ev_loop_new(0)};
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    env->listener = ends[0];
    worker_reports_init(&env->reports, env->loop, ends[1], address);
}

static void stop(struct env *env)
{
    worker_reports_deinit(&env->reports);
    gt_close(&env->listener);
    ev_loop_destroy(env->loop);
}

static int receive(struct env *env)
{
    return worker_report_receive(env->listener, &env->record);
}

static void test_report_of_each_end(void **state)
{
    static const struct {
        enum gt_end_reason cause;
        enum gt_report_kind kind;
    } cases[] = {
        {GT_END_UNREACHABLE, GT_REPORT_UNREACHABLE}, {GT_END_LOST, GT_REPORT_UNREACHABLE},
        {GT_END_REFUSED, GT_REPORT_REJECTED},        {GT_END_RELAY, GT_REPORT_ERROR},
        {GT_END_PEER, GT_REPORT_AT_RELAY},           {GT_END_CLOSED, GT_REPORT_ENDED},
        {GT_END_EXPIRED, GT_REPORT_ENDED},           {GT_END_INTERNAL, GT_REPORT_ENDED},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct env env;

        start(&env, &relay);
        worker_reports_retry(&env.reports, GT_END_UNREACHABLE, "Connection refused");
        worker_reports_down(&env.reports, cases[i].cause, GT_CODE_NO_PORT, "the reason");
        assert_int_equal(receive(&env), 0);
        assert_int_equal(env.record.report.kind, GT_REPORT_UNREACHABLE);
        assert_int_equal(env.record.presence, WORKER_JOINING);
        assert_false(env.record.report.is_last);
        assert_string_equal(env.record.report.relay, "relay.example.org:7000");
        assert_string_equal(env.record.report.why, "Connection refused");
        assert_int_equal(receive(&env), 0);
        assert_int_equal(env.record.report.kind, cases[i].kind);
        assert_true(env.record.report.is_last);
        assert_int_equal(env.record.report.code,
                         cases[i].kind == GT_REPORT_ERROR ? GT_CODE_NO_PORT : GT_CODE_NONE);
        assert_int_equal(receive(&env), WORKER_REPORT_E_END);
        stop(&env);
    }
}

static void test_report_has_brackets_around_ipv6(void **state)
{
    struct env env;

    start(&env, &ipv6);
    worker_reports_retry(&env.reports, GT_END_UNREACHABLE, "");
    assert_int_equal(receive(&env), 0);
    assert_string_equal(env.record.report.relay, "[2001:db8::1]:7000");
    stop(&env);
}

static void test_report_of_waiting_is_delayed(void **state)
{
    struct env env;

    start(&env, &relay);
    worker_reports_waiting(&env.reports);
    assert_int_equal(receive(&env), WORKER_REPORT_E_NONE);
    while (receive(&env) == WORKER_REPORT_E_NONE)
        ev_run(env.loop, EVRUN_ONCE);
    assert_int_equal(env.record.report.kind, GT_REPORT_AT_RELAY);
    stop(&env);
}

static void test_report_of_a_session_that_is_up(void **state)
{
    struct env env;

    start(&env, &relay);
    worker_reports_waiting(&env.reports);
    worker_reports_peer(&env.reports, false); /* not yet: no session is up */
    worker_reports_up(&env.reports);
    worker_reports_peer(&env.reports, false);
    worker_reports_peer(&env.reports, true);
    worker_reports_retry(&env.reports, GT_END_UNREACHABLE, "not for an operator");
    worker_reports_down(&env.reports, GT_END_LOST, GT_CODE_NONE, "much later");
    assert_int_equal(receive(&env), 0);
    assert_int_equal(env.record.presence, WORKER_UP);
    assert_int_equal(receive(&env), 0);
    assert_int_equal(env.record.presence, WORKER_ALONE);
    assert_int_equal(receive(&env), 0);
    assert_int_equal(env.record.presence, WORKER_UP);
    assert_int_equal(receive(&env), WORKER_REPORT_E_END);
    assert_false(ev_is_active(&env.reports.waiting));
    stop(&env);
}

/* Each report of a session that is up has all that is known of it. */
static void test_report_of_usage_and_of_the_relay(void **state)
{
    static const struct worker_usage_counts usage = {.n_streams = 3, .n_up = 1, .n_down = 2};
    struct env env;

    start(&env, &relay);
    assert_false(worker_reports_usage(&env.reports, &usage));
    worker_reports_up(&env.reports);
    assert_int_equal(receive(&env), 0);
    assert_true(worker_reports_usage(&env.reports, &usage));
    worker_reports_relay(&env.reports, false, "timed out");
    worker_reports_relay(&env.reports, true, "");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(receive(&env), 0);
        assert_int_equal(env.record.presence, WORKER_UP);
        assert_memory_equal(&env.record.usage, &usage, sizeof(usage));
        assert_int_equal(env.record.is_relay_lost, i == 1);
        assert_string_equal(env.record.report.why, i == 1 ? "timed out" : "");
    }
    stop(&env);
}

static void test_report_after_the_operators_bye_is_left_out(void **state)
{
    struct env env;

    start(&env, &relay);
    worker_reports_down(&env.reports, GT_END_CLOSED, GT_CODE_BYE, "closed by the operator");
    assert_int_equal(receive(&env), WORKER_REPORT_E_END);
    stop(&env);
}

static void test_report_to_a_listener_that_does_not_read_or_is_gone(void **state)
{
    struct env env;

    start(&env, &relay);
    for (int i = 0; i < 1000; i++)
        worker_reports_retry(&env.reports, GT_END_LOST, "");
    assert_true(env.reports.fd >= 0);
    gt_close(&env.listener);
    worker_reports_retry(&env.reports, GT_END_LOST, "");
    assert_int_equal(env.reports.fd, -1);
    worker_reports_retry(&env.reports, GT_END_LOST, "");
    stop(&env);
}

static void test_decode_accepts_only_what_encode_writes(void **state)
{
    struct worker_report report = {.report = {.kind = GT_REPORT_ENDED, .is_last = true, .code = 7}},
                         got;
    uint8_t bytes[WORKER_REPORT_SIZE];

    memset(report.report.relay, 'r', GT_REPORT_RELAY_MAX);
    memset(report.report.why, 'w', GT_REPORT_WHY_MAX);
    worker_report_encode(&report, bytes);
    assert_true(worker_report_decode(bytes, &got));
    assert_memory_equal(&got, &report, sizeof(report));
    static const struct {
        size_t at;
        uint8_t value;
    } faults[] = {{0, 3},    {1, 2},    {20, GT_REPORT_ENDED + 1},
                  {21, 255}, {24, 255}, {WORKER_REPORT_SIZE - 1, 1}};
    for (size_t i = 0; i < GT_ARRAY_SIZE(faults); i++) {
        worker_report_encode(&report, bytes);
        bytes[faults[i].at] = faults[i].value;
        assert_false(worker_report_decode(bytes, &got));
    }
}

static void test_malformed_report_ends_the_reports(void **state)
{
    static const uint8_t bytes[WORKER_REPORT_SIZE] = {9};

    for (size_t n = 1; n <= sizeof(bytes); n = n * 2 + 1) {
        struct env env;

        start(&env, &relay);
        assert_int_equal(write(env.reports.fd, bytes, GT_MIN(n, sizeof(bytes))),
                         GT_MIN(n, sizeof(bytes)));
        assert_int_equal(receive(&env), WORKER_REPORT_E_END);
        stop(&env);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_report_of_each_end),
        cmocka_unit_test(test_decode_accepts_only_what_encode_writes),
        cmocka_unit_test(test_malformed_report_ends_the_reports),
        cmocka_unit_test(test_report_has_brackets_around_ipv6),
        cmocka_unit_test(test_report_of_waiting_is_delayed),
        cmocka_unit_test(test_report_of_usage_and_of_the_relay),
        cmocka_unit_test(test_report_of_a_session_that_is_up),
        cmocka_unit_test(test_report_after_the_operators_bye_is_left_out),
        cmocka_unit_test(test_report_to_a_listener_that_does_not_read_or_is_gone),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
