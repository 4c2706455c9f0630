/* SPDX-License-Identifier: ISC */
/* status.c: sums over the data threads, and the form of each line. */
#include "status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_status_collects_all_counters(void **state)
{
    static struct data_thread threads[3];
    static struct registry registry;
    static struct quota quota;
    struct data_threads data_threads = {.all = {&threads[0], &threads[1], &threads[2]}, .n = 3};
    struct client_host clients = {.n_clients = 5};
    const struct status_sources sources = {.registry = &registry,
                                           .clients = &clients,
                                           .quota = &quota,
                                           .data_threads = &data_threads,
                                           .n_wakeups = 1000};
    struct status status;

    quota_init(&quota, &(struct quota_limits){0}, 77);
    assert_true(quota_acquire_fd(&quota));
    assert_int_equal(ports_init(&registry.ports, 7001, 7010, 0), 0);
    ports_mark_in_use(&registry.ports, 7003);
    registry.n_created = 11;
    registry.sessions.n_unexpected = 12;
    for (unsigned i = 0; i < 3; i++) {
        atomic_store(&threads[i].counts.n_session_ports, 1 + i);
        atomic_store(&threads[i].counts.n_tickets, 10 + i);
        atomic_store(&threads[i].counts.n_pairs, 20 + i);
        atomic_store(&threads[i].counts.n_pipes, 30 + i);
        atomic_store(&threads[i].counts.n_bytes, (UINT64_C(5) << 32) + i);
        atomic_store(&threads[i].counts.n_wakeups, 50 + i);
    }
    status_collect(&sources, &status);
    assert_int_equal(status.n_sessions, 0);
    assert_int_equal(status.n_clients, 5);
    assert_int_equal(status.n_ports, 10);
    assert_int_equal(status.n_ports_in_use, 1);
    assert_int_equal(status.quota.n_fds, 1);
    assert_int_equal(status.quota.n_fds_max, 77);
    assert_int_equal(status.n_created, 11);
    assert_int_equal(status.n_unexpected, 12);
    assert_int_equal(status.n_wakeups, 1000 + 50 + 51 + 52);
    assert_int_equal(status.n_tickets, 10 + 11 + 12);
    assert_int_equal(status.n_pairs, 20 + 21 + 22);
    assert_int_equal(status.n_threads, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(status.threads[i].n_sessions, 1 + i);
        assert_int_equal(status.threads[i].n_tickets, 10 + i);
        assert_int_equal(status.threads[i].n_pairs, 20 + i);
        assert_int_equal(status.threads[i].n_pipes, 30 + i);
        assert_int_equal(status.threads[i].n_bytes, (UINT64_C(5) << 32) + i);
        assert_int_equal(status.threads[i].n_wakeups, 50 + i);
    }
    ports_deinit(&registry.ports);
    quota_deinit(&quota);
}

static void test_status_lines_have_their_form(void **state)
{
    const struct status status = {
        .n_sessions = 1,
        .n_clients = 2,
        .n_pairs = 3,
        .n_tickets = 4,
        .n_ports_in_use = 5,
        .n_ports = 6,
        .quota = {.n_fds = 7, .n_fds_max = 8, .n_preauths = 9, .n_evicted = 10},
        .n_created = 11,
        .n_unexpected = 12,
        .n_wakeups = 13,
        .n_threads = 2,
        .threads = {[1] = {14, 15, 16, 17, 18, 19}},
    };
    const struct session_status session = {
        .tag = "0123abcd",
        .state = "paired",
        .sides = {{"alice", true}, {"oli", false}},
        .port = 7001,
        .thread = 1,
        .n_connections = 2,
        .load = 3,
        .n_tickets = 4,
        .age_s = 5,
    };
    char line[STATUS_LINE];

    status_format_relay(&status, line);
    assert_string_equal(line, "sessions=1 clients=2 pairs=3 tickets=4 ports=5/6 fds=7/8 preauth=9 "
                              "evicted=10 created=11 unexpected=12 wake-ups=13");
    status_format_thread(&status, 1, line);
    assert_string_equal(line,
                        "thread=1 sessions=14 tickets=15 pairs=16 pipes=17 bytes=18 wake-ups=19");
    status_format_session(&session, line);
    assert_string_equal(line, "session=0123abcd state=paired operator=alice device=oli(absent) "
                              "port=7001 thread=1 connections=2 load=3 tickets=4 seconds=5");
}

/* No line is cut at the largest values. */
static void test_status_lines_fit_at_largest_values(void **state)
{
    char name[GT_NAME_MAX + 1], line[STATUS_LINE];
    struct status status;

    memset(&status, 0xff, sizeof(status));
    memset(name, 'n', GT_NAME_MAX);
    name[GT_NAME_MAX] = 0;
    const struct session_status session = {
        .tag = "0123abcd",
        .state = "waiting",
        .sides = {{name, false}, {name, false}},
        .port = UINT16_MAX,
        .thread = UINT32_MAX,
        .n_connections = SIZE_MAX,
        .load = UINT32_MAX,
        .n_tickets = SIZE_MAX,
        .age_s = UINT64_MAX,
    };
    status_format_relay(&status, line);
    assert_non_null(strstr(line, "wake-ups=18446744073709551615"));
    status_format_thread(&status, 63, line);
    assert_non_null(strstr(line, "wake-ups=18446744073709551615"));
    status_format_session(&session, line);
    assert_non_null(strstr(line, "seconds=18446744073709551615"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status_collects_all_counters),
        cmocka_unit_test(test_status_lines_have_their_form),
        cmocka_unit_test(test_status_lines_fit_at_largest_values),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
