/* SPDX-License-Identifier: ISC */
/* connect-streams.c: one line for each connection, sums above the rate, and problems. */
#include "connect-streams.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "gotthard/base/clock.h"

static struct {
    struct ev_loop *loop;
    struct print print;
    struct connect_streams streams;
    struct local_peer peer;
    int saved; /* standard error */
    FILE *captured;
    char text[65536];
} f;

static int set_up(void **state)
{
    memset(&f, 0, sizeof(f));
    f.loop = ev_loop_new(0);
    f.print.style = PRINT_LINES;
    f.captured = tmpfile();
    assert_non_null(f.captured);
    f.saved = dup(STDERR_FILENO);
    dup2(fileno(f.captured), STDERR_FILENO);
    gt_log_open("gotthard-cli", GT_LOG_INFO);
    assert_int_equal(gt_addr_parse("127.0.0.1", 4242, &f.peer.addr), 0);
    connect_streams_init(&f.streams, f.loop, &f.print, "GatewayOli");
    return 0;
}

/* Ends the capture. Returns the number of lines. */
static unsigned captured(void)
{
    unsigned n = 0;

    connect_streams_deinit(&f.streams);
    dup2(f.saved, STDERR_FILENO);
    close(f.saved);
    rewind(f.captured);
    f.text[fread(f.text, 1, sizeof(f.text) - 1, f.captured)] = 0;
    fclose(f.captured);
    for (const char *at = f.text; *at; at++)
        n += *at == '\n';
    return n;
}

static int tear_down(void **state)
{
    ev_loop_destroy(f.loop);
    return 0;
}

static void open_and_end(uint32_t number, enum gt_rst code)
{
    connect_streams_opened(&f.streams, "ssh", number, &f.peer);
    connect_streams_ended(&f.streams, "ssh", number, code, 3, 5);
}

static void test_connection_has_one_line_at_its_end(void **state)
{
    connect_streams_opened(&f.streams, "ssh", 1, &f.peer);
    connect_streams_opened(&f.streams, "web", 2, &f.peer);
    connect_streams_ended(&f.streams, "ssh", 1, GT_RST_NONE, 3, 5);
    assert_int_equal(captured(), 1);
    assert_non_null(strstr(f.text, "stream=1 service=ssh ended peer=127.0.0.1:4242 up=3 down=5 "));
    assert_non_null(strstr(f.text, "reason=\"closed\""));
}

/* 20 lines, one more for each twentieth of a second that this takes, and the sum. */
static void test_connections_above_the_rate_are_summed(void **state)
{
    double begun = gt_clock();
    char sum[64];

    for (uint32_t number = 1; number <= 100; number++)
        open_and_end(number, GT_RST_NONE);
    unsigned n_more = (unsigned)((gt_clock() - begun + .001) * 20), n = captured();
    assert_in_range(n, 21, 21 + n_more);
    snprintf(sum, sizeof(sum), "streams=%u ended up=%u down=%u failed=0 ", 101 - n, (101 - n) * 3,
             (101 - n) * 5);
    assert_non_null(strstr(f.text, sum));
}

/* Whatever the order of their ends, the line of each has its address. */
static void test_thousands_of_connections_end_in_any_order(void **state)
{
    const uint32_t n = 2048, step = 797; /* without a common divisor */

    for (uint32_t i = 0; i < n; i++)
        connect_streams_opened(&f.streams, "ssh", i + 1, &f.peer);
    for (uint32_t i = 0; i < n; i++)
        connect_streams_ended(&f.streams, "ssh", i * step % n + 1, GT_RST_NONE, 3, 5);
    assert_null(f.streams.open);
    assert_true(captured() < n);
    assert_null(strstr(f.text, "peer=? ")); /* the line of a stream that was not found */
}

static void test_failures_are_warnings_and_counted(void **state)
{
    for (uint32_t number = 1; number <= 8; number++)
        open_and_end(number, GT_RST_REFUSED);
    assert_int_equal(captured(), 7);
    assert_non_null(strstr(f.text, "warn gotthard-cli: connection to ssh failed: the target "));
    assert_non_null(strstr(f.text, "; start the program on GatewayOli, or see gotthard-cli doctor "
                                   "GatewayOli [GTD-E46]\n"));
    assert_non_null(strstr(f.text, "warn gotthard-cli: 3 more connections failed"));
}

static void test_terminal_shows_only_problems(void **state)
{
    f.print.style = PRINT_HUMAN;
    for (uint32_t number = 1; number <= 100; number++)
        open_and_end(number, GT_RST_NONE);
    open_and_end(101, GT_RST_TARGET_VANISHED);
    assert_int_equal(captured(), 1);
    assert_non_null(strstr(f.text, "the target vanished"));
}

static void test_full_is_noted_once(void **state)
{
    for (int i = 0; i < 100; i++)
        connect_streams_full(&f.streams, 64);
    connect_streams_refused(&f.streams, "ssh", 1);
    connect_streams_refused(&f.streams, "ssh", -EMFILE);
    assert_int_equal(captured(), 3);
    assert_non_null(strstr(f.text, "64 connections are open, the maximum of GatewayOli"));
    assert_non_null(strstr(f.text, "rejected: too many connections"));
}

/* Any user of the machine can cause it: one line, and a sum in the next one. */
static void test_connections_of_other_users_have_one_line(void **state)
{
    f.peer.is_uid_known = true;
    f.peer.uid = 1001;
    for (int i = 0; i < 100; i++)
        connect_streams_turned_away(&f.streams, "ssh", &f.peer, LOCAL_REFUSED_USER);
    f.peer.is_uid_known = false;
    connect_streams_turned_away(&f.streams, "ssh", &f.peer, LOCAL_REFUSED_CLOSED);
    f.streams.turned_away_noted_at -= 11;
    connect_streams_turned_away(&f.streams, "ssh", &f.peer, LOCAL_REFUSED_UID);
    assert_int_equal(captured(), 2);
    assert_non_null(strstr(f.text, "connection to ssh rejected: it is of the user with uid 1001; "
                                   "--share admits every user of this machine\n"));
    assert_non_null(strstr(f.text, "connection to ssh rejected: this system does not report its "
                                   "user; --share admits every user of this machine (99 more "
                                   "suppressed)\n"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_connection_has_one_line_at_its_end),
        TEST(test_connections_above_the_rate_are_summed),
        TEST(test_thousands_of_connections_end_in_any_order),
        TEST(test_failures_are_warnings_and_counted),
        TEST(test_terminal_shows_only_problems),
        TEST(test_full_is_noted_once),
        TEST(test_connections_of_other_users_have_one_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
