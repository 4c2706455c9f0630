/* SPDX-License-Identifier: ISC */
/*
 * The stream log: a line for each end up to a rate, the others in sums, failures apart, and nothing
 * lost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs these before it */
#include <cmocka.h>

#include "gotthard/tunnel/stream-log.h"
#include "support/fake-clock.h"

static struct {
    struct ev_loop *loop;
    struct gt_stream_log log;
    unsigned n_sums, n_lines;
    struct gt_stream_sum total;
} f;

static void on_sum(void *userdata, const struct gt_stream_sum *sum)
{
    assert_ptr_equal(userdata, &f);
    assert_true(sum->n_streams > 0);
    f.n_sums++;
    f.total.n_streams += sum->n_streams;
    f.total.n_failed += sum->n_failed;
    f.total.n_up += sum->n_up;
    f.total.n_down += sum->n_down;
}

static int set_up(void **state)
{
    fake_clock_start();
    memset(&f, 0, sizeof(f));
    f.loop = ev_loop_new(0);
    gt_stream_log_init(&f.log, f.loop, on_sum, &f);
    return 0;
}

static int tear_down(void **state)
{
    gt_stream_log_flush(&f.log);
    ev_loop_destroy(f.loop);
    return 0;
}

static void end(unsigned n, enum gt_rst code)
{
    for (unsigned i = 0; i < n; i++)
        f.n_lines += gt_stream_log_end(&f.log, code, 3, 5);
}

static void test_each_end_has_a_line_up_to_the_rate(void **state)
{
    end(20, GT_RST_NONE);
    assert_int_equal(f.n_lines, 20);
    gt_stream_log_flush(&f.log);
    assert_int_equal(f.n_sums, 0);
}

static void test_ends_beyond_the_rate_are_summed(void **state)
{
    end(4000, GT_RST_NONE);
    assert_in_range(f.n_lines, 20, 21);
    assert_int_equal(f.n_sums, 0);
    ev_run(f.loop, 0); /* until the timer has reported */
    assert_int_equal(f.n_sums, 1);
    assert_int_equal(f.total.n_streams + f.n_lines, 4000);
    assert_int_equal(f.total.n_up, 3 * f.total.n_streams);
    assert_int_equal(f.total.n_down, 5 * f.total.n_streams);
    end(5, GT_RST_NONE); /* a second later there is room again */
    assert_int_equal(f.total.n_streams + f.n_lines, 4005);
    assert_int_equal(f.n_sums, 1);
}

static void test_failures_have_a_share_of_their_own(void **state)
{
    end(1000, GT_RST_NONE);
    f.n_lines = 0;
    end(100, GT_RST_REFUSED);
    assert_in_range(f.n_lines, 5, 6);
    gt_stream_log_flush(&f.log);
    assert_int_equal(f.total.n_failed + f.n_lines, 100);
    gt_stream_log_flush(&f.log);
    assert_int_equal(f.n_sums, 1);
}

static void test_wanted_ends_are_no_failures(void **state)
{
    for (unsigned code = GT_RST_NONE; code <= GT_RST_LAST; code++)
        assert_int_equal(gt_stream_log_is_failure(code),
                         code != GT_RST_NONE && code != GT_RST_LOCAL && code != GT_RST_CLOSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_each_end_has_a_line_up_to_the_rate, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ends_beyond_the_rate_are_summed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failures_have_a_share_of_their_own, set_up, tear_down),
        cmocka_unit_test(test_wanted_ends_are_no_failures),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
