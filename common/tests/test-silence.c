/* SPDX-License-Identifier: ISC */
/*
 * The silence of a TCP peer: one that vanishes idle, with data in flight or with a closed window,
 * and those that only read slowly. A socket filter that drops every packet stands for a machine
 * that was switched off.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* cmocka needs these before it */
#include <cmocka.h>
#include <linux/filter.h>
#include <poll.h>

#include "gotthard/base/clock.h"
#include "gotthard/net/sock.h"
#include "gotthard/tunnel/silence.h"

#define SHORT_S 0.3

static struct {
    struct ev_loop *loop;
    struct gt_silence silence;
    int near, far; /* watched; of the application */
    unsigned n_vanished;
} f;

static void on_vanished(void *userdata)
{
    assert_ptr_equal(userdata, &f);
    f.n_vanished++;
}

static void connect_pair(void)
{
    struct gt_addr addr, peer;

    assert_int_equal(gt_addr_parse("127.0.0.1", 0, &addr), 0);
    int listener = gt_sock_listen(&addr, 1);
    assert_true(listener >= 0);
    assert_int_equal(gt_sock_local(listener, &addr), 0);
    f.near = gt_sock_connect(&addr);
    assert_true(f.near >= 0);
    assert_int_equal(poll(&(struct pollfd){.fd = listener, .events = POLLIN}, 1, 10000), 1);
    f.far = gt_sock_accept(listener, &peer);
    assert_true(f.far >= 0);
    close(listener);
}

static int set_up(void **state)
{
    memset(&f, 0, sizeof(f));
    f.loop = ev_loop_new(0);
    connect_pair();
    gt_silence_prepare(f.near, SHORT_S);
    gt_silence_init(&f.silence, f.loop, SHORT_S, on_vanished, &f);
    return 0;
}

static int tear_down(void **state)
{
    gt_silence_stop(&f.silence);
    gt_silence_stop(&f.silence);
    gt_close(&f.near);
    gt_close(&f.far);
    ev_loop_destroy(f.loop);
    return 0;
}

static void vanish(void)
{
    struct sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
    struct sock_fprog program = {.len = 1, .filter = &drop};

    assert_int_equal(setsockopt(f.far, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)), 0);
}

static void on_timeout(struct ev_loop *loop, ev_timer *timer, int revents)
{
    ev_break(loop, EVBREAK_ALL);
}

static void run_for(double seconds)
{
    ev_timer timer;

    ev_timer_init(&timer, on_timeout, seconds, 0);
    ev_now_update(f.loop);
    ev_timer_start(f.loop, &timer);
    ev_run(f.loop, 0);
}

static void run_until_vanished(void)
{
    for (int i = 0; i < 600 && f.n_vanished == 0; i++)
        run_for(.1);
    assert_int_equal(f.n_vanished, 1);
}

static void fill(void)
{
    static const uint8_t bytes[65536];

    for (int n_full = 0; n_full < 3;) {
        if (send(f.near, bytes, sizeof(bytes), MSG_NOSIGNAL) > 0) {
            gt_silence_written(&f.silence);
            continue;
        }
        n_full++;
        run_for(.05);
    }
}

static void test_unacknowledged_data_is_silence(void **state)
{
    double begun = gt_clock();

    gt_silence_start(&f.silence, f.near);
    vanish();
    assert_int_equal(send(f.near, "x", 1, 0), 1);
    gt_silence_written(&f.silence);
    run_until_vanished();
    assert_true(gt_clock() - begun >= SHORT_S);
    run_for(.2);
    assert_int_equal(f.n_vanished, 1);
}

static void test_data_after_a_long_pause_is_no_silence(void **state)
{
    gt_silence_start(&f.silence, f.near);
    assert_int_equal(send(f.near, "x", 1, 0), 1);
    gt_silence_written(&f.silence);
    run_for(3 * SHORT_S);
    assert_false(ev_is_active(&f.silence.check)); /* nothing in flight: no wake-ups */
    assert_int_equal(send(f.near, "x", 1, 0), 1);
    gt_silence_written(&f.silence);
    run_for(SHORT_S / 2);
    assert_int_equal(f.n_vanished, 0);
}

static void test_closed_window_is_no_silence_until_the_peer_vanishes(void **state)
{
    struct gt_sock_answers answers;

    gt_silence_start(&f.silence, f.near);
    fill();
    run_for(5 * SHORT_S);
    assert_int_equal(gt_sock_get_answers(f.near, &answers), 0);
    assert_true(answers.is_in_flight);
    assert_int_equal(f.n_vanished, 0);
    vanish();
    run_until_vanished();
}

static void test_slow_reader_is_no_silence(void **state)
{
    static uint8_t bytes[65536];

    gt_silence_start(&f.silence, f.near);
    fill();
    for (int i = 0; i < 10; i++) {
        assert_true(recv(f.far, bytes, sizeof(bytes), 0) > 0);
        run_for(.1);
    }
    assert_int_equal(f.n_vanished, 0);
}

static void test_end_of_file_in_flight_is_judged_as_data(void **state)
{
    gt_silence_start(&f.silence, f.near);
    vanish();
    assert_int_equal(shutdown(f.near, SHUT_WR), 0);
    gt_silence_written(&f.silence);
    run_until_vanished();
}

/* The kernel's probes: their unit is a second. */
static void test_idle_connection_breaks(void **state)
{
    double begun = gt_clock();

    gt_sock_set_keepalive(f.near, 2);
    vanish();
    assert_int_equal(poll(&(struct pollfd){.fd = f.near, .events = POLLIN}, 1, 60000), 1);
    assert_in_range(-gt_sock_error(f.near), 1, 200);
    assert_true(gt_clock() - begun > 1);
}

static void test_answered_probes_keep_an_idle_connection(void **state)
{
    gt_sock_set_keepalive(f.near, 1);
    assert_int_equal(poll(&(struct pollfd){.fd = f.near, .events = POLLIN}, 1, 2500), 0);
}

static void test_reset_connection_and_other_sockets_are_not_judged(void **state)
{
    struct gt_sock_answers answers;
    int pair[2];

    gt_silence_written(&f.silence); /* before the start */
    assert_int_equal(gt_sock_pair(pair), 0);
    assert_true(gt_sock_get_answers(pair[0], &answers) < 0);
    gt_silence_start(&f.silence, pair[0]);
    gt_silence_written(&f.silence);
    run_for(2 * SHORT_S);
    gt_silence_stop(&f.silence);
    gt_silence_start(&f.silence, f.near);
    fill();
    gt_sock_reset(gt_steal_fd(&f.far));
    run_for(5 * SHORT_S);
    assert_false(ev_is_active(&f.silence.check));
    assert_int_equal(f.n_vanished, 0);
    close(pair[0]);
    close(pair[1]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_unacknowledged_data_is_silence),
        TEST(test_data_after_a_long_pause_is_no_silence),
        TEST(test_closed_window_is_no_silence_until_the_peer_vanishes),
        TEST(test_slow_reader_is_no_silence),
        TEST(test_end_of_file_in_flight_is_judged_as_data),
        TEST(test_idle_connection_breaks),
        TEST(test_answered_probes_keep_an_idle_connection),
        TEST(test_reset_connection_and_other_sockets_are_not_judged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
