/* SPDX-License-Identifier: ISC */
/*
 * path.c: its decisions are remembered, and each is reported once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>

#include <string.h>

#include "gotthard/tunnel/path.h"

enum { MAIN = 7000, SESSION = 7001 };

static unsigned n_notices;
static enum gt_path_notice last;
static char line[400];

static void on_notice(void *userdata, enum gt_path_notice notice, const char *text)
{
    n_notices++;
    last = notice;
    strncpy(line, text, sizeof(line) - 1);
}

static struct gt_path path_new(void)
{
    n_notices = 0;
    return (struct gt_path){.main_port = MAIN, .on_notice = on_notice};
}

static void assert_notice(enum gt_path_notice notice, const char *part)
{
    assert_int_equal(n_notices, 1);
    assert_int_equal(last, notice);
    assert_non_null(strstr(line, part));
    n_notices = 0;
}

static void test_path_patience_follows_the_round_trip(void **state)
{
    struct gt_path path = path_new();

    assert_true(gt_path_patience(&path) > 1.1); /* TCP repeats a lost SYN after one second */
    assert_true(gt_path_patience(&path) < 1.8);
    path.rtt_s = .6;
    assert_true(gt_path_patience(&path) > 5 * path.rtt_s);
    path.rtt_s = 30;
    assert_true(gt_path_patience(&path) < 10);
}

static void test_path_remembers_the_main_port(void **state)
{
    struct gt_path path = path_new();

    assert_false(gt_path_skips_session_port(&path));
    gt_path_on_success(&path, SESSION, SESSION, NULL);
    gt_path_on_success(&path, MAIN, SESSION, NULL); /* the session's port was only slow */
    assert_false(gt_path_skips_session_port(&path));
    assert_int_equal(n_notices, 0);
    gt_path_on_success(&path, MAIN, SESSION, "Connection refused");
    assert_true(gt_path_skips_session_port(&path));
    assert_notice(GT_PATH_MAIN_PORT, "port 7001 is not usable from here (Connection refused)");
    gt_path_on_success(&path, MAIN, 0, NULL);
    gt_path_on_failure(&path, MAIN, GT_PATH_AT_NO_PORT, "no answer");
    gt_path_on_failure(&path, MAIN, GT_PATH_JOINED, "no answer");
    assert_true(gt_path_skips_session_port(&path));
    assert_int_equal(n_notices, 0);
}

/* A network may let the JOIN pass and drop the handshake. */
static void test_path_tries_the_main_port_after_failed_handshakes(void **state)
{
    struct gt_path path = path_new();

    gt_path_on_success(&path, SESSION, SESSION, NULL);
    gt_path_on_failure(&path, SESSION, GT_PATH_JOINED, "too long");
    assert_false(gt_path_skips_session_port(&path));
    gt_path_on_success(&path, SESSION, SESSION, NULL);
    gt_path_on_failure(&path, SESSION, GT_PATH_JOINED, "too long");
    assert_false(gt_path_skips_session_port(&path));
    gt_path_on_failure(&path, SESSION, GT_PATH_JOINED, "too long");
    assert_true(gt_path_skips_session_port(&path));
    gt_path_on_failure(&path, MAIN, GT_PATH_JOINED, "too long"); /* the port is not the cause */
    assert_false(gt_path_skips_session_port(&path));
    gt_path_on_failure(&path, SESSION, GT_PATH_JOINED, "too long");
    gt_path_on_failure(&path, SESSION, GT_PATH_JOINED, "too long");
    assert_int_equal(n_notices, 0);
    gt_path_on_success(&path, MAIN, 0, NULL);
    assert_notice(GT_PATH_MAIN_PORT, "(too long)");
    assert_true(gt_path_skips_session_port(&path));
}

static void test_path_without_a_main_port_has_no_fallback(void **state)
{
    struct gt_path path = {.is_main_only = true};

    assert_false(gt_path_skips_session_port(&path));
}

static void test_path_reports_the_first_failure_before_a_success(void **state)
{
    struct gt_path path = path_new();

    gt_path_on_failure(&path, SESSION, GT_PATH_AT_NO_PORT, "no answer");
    assert_notice(GT_PATH_NO_DATA, "no answer");
    gt_path_on_failure(&path, SESSION, GT_PATH_AT_NO_PORT, "Connection refused");
    assert_int_equal(n_notices, 0);
    assert_string_equal(path.why, "Connection refused");
    path = path_new();
    gt_path_on_failure(&path, SESSION, GT_PATH_RECEIVED, "the other side did not connect");
    assert_notice(GT_PATH_NO_PEER_DATA, "the other side");
    path = path_new();
    gt_path_on_success(&path, SESSION, SESSION, NULL);
    gt_path_on_failure(&path, SESSION, GT_PATH_AT_NO_PORT, "no answer");
    assert_int_equal(n_notices, 0);
}

/* Several streams lose the same packets at once: one step for all of them. */
static void test_path_segments_shrink_in_steps(void **state)
{
    struct gt_path path = path_new();

    assert_true(gt_path_on_black_hole(&path, 0));
    assert_int_equal(path.segment, GT_PATH_SEGMENT_SMALL);
    assert_notice(GT_PATH_SMALL_SEGMENTS, "large packets are lost");
    assert_false(gt_path_on_black_hole(&path, 0));
    assert_true(gt_path_on_black_hole(&path, GT_PATH_SEGMENT_SMALL));
    assert_int_equal(path.segment, GT_PATH_SEGMENT_LEAST);
    assert_notice(GT_PATH_SMALL_SEGMENTS, "536");
    assert_false(gt_path_on_black_hole(&path, GT_PATH_SEGMENT_LEAST));
    assert_int_equal(n_notices, 0);
}

static void test_path_segment_of_the_other_side_is_limited(void **state)
{
    struct gt_path path = path_new();

    gt_path_limit_segment(&path, 0);
    assert_int_equal(path.segment, 0);
    gt_path_limit_segment(&path, 1160);
    assert_int_equal(path.segment, 1160);
    assert_notice(GT_PATH_SMALL_SEGMENTS, "1160");
    gt_path_limit_segment(&path, 1160);
    gt_path_limit_segment(&path, 1400);
    assert_int_equal(path.segment, 1160);
    assert_int_equal(n_notices, 0);
    gt_path_limit_segment(&path, 1);
    assert_int_equal(path.segment, GT_PATH_SEGMENT_LEAST);
    gt_path_limit_segment(&path, 2);
    assert_int_equal(n_notices, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_path_patience_follows_the_round_trip),
        cmocka_unit_test(test_path_remembers_the_main_port),
        cmocka_unit_test(test_path_tries_the_main_port_after_failed_handshakes),
        cmocka_unit_test(test_path_without_a_main_port_has_no_fallback),
        cmocka_unit_test(test_path_reports_the_first_failure_before_a_success),
        cmocka_unit_test(test_path_segments_shrink_in_steps),
        cmocka_unit_test(test_path_segment_of_the_other_side_is_limited),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
