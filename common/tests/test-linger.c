/* SPDX-License-Identifier: ISC */
/*
 * The reset of an endpoint: after the last byte was taken, or when none is taken for too long. The
 * pump is left out: the test writes to the application itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* cmocka needs these before it */
#include <cmocka.h>
#include <poll.h>

#include "gotthard/net/sock.h"
#include "gotthard/tunnel/linger.h"

#define LIMIT_S 0.2

static struct {
    struct ev_loop *loop;
    struct gt_stream stream;
    struct gt_endpoint endpoint;
    struct gt_linger linger;
    int far; /* of the application */
} f;

static void on_event(void *userdata, int revents)
{
}

static void on_again(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    ev_timer_stop(loop, watcher);
    gt_linger_update(watcher->data);
}

/* @near_buffer, @far_buffer: sizes of the kernel's buffers; 0: its own choice. */
static void set_up_with(int near_buffer, int far_buffer)
{
    struct gt_addr addr, peer;

    assert_int_equal(gt_addr_parse("127.0.0.1", 0, &addr), 0);
    int listener = gt_sock_listen(&addr, 1);
    if (far_buffer)
        setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &far_buffer, sizeof(far_buffer));
    assert_int_equal(gt_sock_local(listener, &addr), 0);
    int near = gt_sock_connect(&addr);
    assert_int_equal(poll(&(struct pollfd){.fd = listener, .events = POLLIN}, 1, 10000), 1);
    f.far = gt_sock_accept(listener, &peer);
    close(listener);
    if (near_buffer)
        setsockopt(near, SOL_SOCKET, SO_SNDBUF, &near_buffer, sizeof(near_buffer));
    gt_stream_init(&f.stream, GT_ROLE_OPERATOR, 1, "ssh", GT_RING_MIN);
    gt_endpoint_init(&f.endpoint, f.loop, 0, on_event, NULL);
    gt_endpoint_open(&f.endpoint, gt_endpoint_fds(near));
    gt_linger_init(&f.linger, f.loop, &f.stream, &f.endpoint, LIMIT_S, on_again, &f.linger);
}

static int set_up(void **state)
{
    memset(&f, 0, sizeof(f));
    f.loop = ev_loop_new(0);
    set_up_with(0, 0);
    return 0;
}

static int tear_down(void **state)
{
    gt_linger_deinit(&f.linger);
    gt_endpoint_close(&f.endpoint, false);
    gt_stream_deinit(&f.stream);
    gt_close(&f.far);
    ev_loop_destroy(f.loop);
    return 0;
}

static void write_bytes(size_t n)
{
    static char bytes[1 << 20];
    size_t done;

    assert_int_equal(gt_endpoint_write(&f.endpoint, &(struct iovec){bytes, n}, 1, &done), 0);
    assert_int_equal(done, n);
}

static void peer_was_reset(void)
{
    f.stream.tx_stop = f.stream.rx_end = GT_RST_LOCAL;
    f.stream.is_end_received = true;
}

/* Reads what the application has. Returns the number of bytes before the reset; -1: no reset. */
static ssize_t read_to_reset(void)
{
    char buf[65536];
    ssize_t total = 0, n;

    while ((n = recv(f.far, buf, sizeof(buf), 0)) > 0)
        total += n;
    return n < 0 && errno == ECONNRESET ? total : -1;
}

static void test_open_stream_is_left_alone(void **state)
{
    write_bytes(10);
    gt_linger_update(&f.linger);
    assert_true(gt_endpoint_is_open(&f.endpoint));
    assert_false(ev_is_active(&f.linger.again));
}

static void test_reset_follows_the_last_byte(void **state)
{
    write_bytes(1000);
    peer_was_reset();
    gt_linger_update(&f.linger);
    ev_run(f.loop, 0); /* until nothing is waited for */
    assert_false(gt_endpoint_is_open(&f.endpoint));
    assert_true(f.stream.is_end_delivered);
    assert_int_equal(f.stream.rx_stop, GT_RST_NONE);
    assert_int_equal(read_to_reset(), 1000);
}

/* The END is still on its way. */
static void test_reset_waits_for_the_end(void **state)
{
    f.stream.tx_stop = GT_RST_LOCAL;
    gt_linger_update(&f.linger);
    ev_run(f.loop, 0);
    assert_true(gt_endpoint_is_open(&f.endpoint));
    peer_was_reset();
    gt_linger_update(&f.linger);
    assert_false(gt_endpoint_is_open(&f.endpoint));
}

static void test_application_that_takes_nothing_is_reset(void **state)
{
    tear_down(state);
    f.loop = ev_loop_new(0);
    set_up_with(1 << 19, 4096);
    write_bytes(200000);
    peer_was_reset();
    gt_linger_update(&f.linger);
    assert_true(gt_endpoint_is_open(&f.endpoint));
    ev_run(f.loop, 0);
    assert_false(gt_endpoint_is_open(&f.endpoint));
    assert_int_equal(f.stream.rx_stop, GT_RST_LOCAL); /* the remainder is dropped */
    assert_in_range(read_to_reset(), 1, 199999);
}

static void test_socket_that_was_reset_is_closed_after_its_last_byte(void **state)
{
    gt_stream_local_stop(&f.stream, GT_RST_LOCAL);
    gt_linger_update(&f.linger);
    assert_true(gt_endpoint_is_open(&f.endpoint)); /* it may have unread bytes */
    gt_stream_local_end(&f.stream, GT_RST_LOCAL);
    gt_linger_update(&f.linger);
    assert_false(gt_endpoint_is_open(&f.endpoint));
}

int main(void)
{
#define linger_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        linger_test(test_open_stream_is_left_alone),
        linger_test(test_reset_follows_the_last_byte),
        linger_test(test_reset_waits_for_the_end),
        linger_test(test_application_that_takes_nothing_is_reset),
        linger_test(test_socket_that_was_reset_is_closed_after_its_last_byte),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
