/* SPDX-License-Identifier: ISC */
/*
 * The network watcher, in a network namespace of the test. Sleep is simulated: the test changes the
 * total that was recorded before.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs these before it */
#include <cmocka.h>

#include <sys/resource.h>
#include <sys/socket.h>

#include "gotthard/net/netwatch.h"
#include "netns.h"

static struct ev_loop *loop;
static struct gt_netwatch watch;
static unsigned n_changed, n_woken;

static void on_event(void *userdata, enum gt_netwatch_event event)
{
    assert_ptr_equal(userdata, &watch);
    n_changed += event == GT_NETWATCH_CHANGED;
    n_woken += event == GT_NETWATCH_WOKEN;
}

static void on_timer(struct ev_loop *l, ev_timer *timer, int revents)
{
    ev_break(l, EVBREAK_ALL);
}

static void run_for(double seconds)
{
    ev_timer timer;

    ev_now_update(loop);
    ev_timer_init(&timer, on_timer, seconds, 0);
    ev_timer_start(loop, &timer);
    ev_run(loop, 0);
    ev_timer_stop(loop, &timer);
}

static int start(void **state)
{
    loop = ev_loop_new(0);
    n_changed = n_woken = 0;
    gt_netwatch_start(&watch, loop, on_event, &watch);
    return 0;
}

static int stop(void **state)
{
    gt_netwatch_stop(&watch);
    gt_netwatch_stop(&watch); /* may be called twice */
    ev_loop_destroy(loop);
    return 0;
}

static void test_netwatch_reports_nothing_without_a_change(void **state)
{
    run_for(.5);
    assert_int_equal(n_changed + n_woken, 0);
}

static void test_netwatch_reports_a_burst_once(void **state)
{
    needs_netns();
    run_for(.5);
    n_changed = 0;
    for (int i = 0; i < 5; i++) {
        ip("address add 192.0.2.77/24 dev near");
        ip("address del 192.0.2.77/24 dev near");
    }
    run_for(.25);
    assert_int_equal(n_changed, 1);
    run_for(.5);
    assert_int_equal(n_changed, 1);
    ip("route del default");
    run_for(.25);
    assert_int_equal(n_changed, 2);
    assert_int_equal(n_woken, 0);
}

static void test_netwatch_reports_a_socket_that_overflowed(void **state)
{
    needs_netns();
    run_for(.5);
    assert_int_equal(setsockopt(watch.netlink, SOL_SOCKET, SO_RCVBUF, &(int){1}, sizeof(int)), 0);
    n_changed = 0;
    for (int i = 0; i < 20; i++) {
        ip("address add 192.0.2.77/24 dev near");
        ip("address del 192.0.2.77/24 dev near");
    }
    run_for(.5);
    assert_int_equal(n_changed, 1);
    ip("link set near down");
    run_for(.5);
    assert_int_equal(n_changed, 2);
}

static void test_netwatch_reports_sleep(void **state)
{
    watch.asleep_s -= 60; /* as if the machine had slept for a minute since */
    ev_feed_event(loop, &watch.timer_io, EV_READ);
    run_for(.3);
    assert_int_equal(n_woken, 1);
    ev_feed_event(loop, &watch.timer_io, EV_READ);
    run_for(.5);
    assert_int_equal(n_woken, 1);
    assert_true(ev_is_active(&watch.timer_io));
}

static void test_netwatch_ignores_a_wall_clock_that_is_set(void **state)
{
    watch.asleep_s -= 2;
    ev_feed_event(loop, &watch.timer_io, EV_READ);
    run_for(.3);
    assert_int_equal(n_woken + n_changed, 0);
}

static void test_netwatch_without_descriptors_reports_nothing(void **state)
{
    struct rlimit before, none = {0, 0};

    gt_netwatch_stop(&watch);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    gt_netwatch_start(&watch, loop, on_event, &watch);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_true(watch.netlink < 0 && watch.timer_fd < 0);
    assert_false(ev_is_active(&watch.netlink_io) || ev_is_active(&watch.timer_io));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_netwatch_reports_sleep, start, stop),
        cmocka_unit_test_setup_teardown(test_netwatch_ignores_a_wall_clock_that_is_set, start,
                                        stop),
        cmocka_unit_test_setup_teardown(test_netwatch_without_descriptors_reports_nothing, start,
                                        stop),
        cmocka_unit_test_setup_teardown(test_netwatch_reports_a_burst_once, start, stop),
        cmocka_unit_test_setup_teardown(test_netwatch_reports_nothing_without_a_change, start,
                                        stop),
        cmocka_unit_test_setup_teardown(test_netwatch_reports_a_socket_that_overflowed, start,
                                        stop),
    };

    return cmocka_run_group_tests(tests, netns_enter, NULL);
}
