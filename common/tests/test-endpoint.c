/* SPDX-License-Identifier: ISC */
/* endpoint.c: the kinds of descriptors and their differences. TCP is in test-channel.c. */
#include "gotthard/tunnel/endpoint.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "gotthard/net/sock.h"

static struct {
    struct ev_loop *loop;
    struct gt_endpoint endpoint;
    int app_in, app_out; /* the application's: it reads from the first, and writes to the second */
    int again;           /* a second descriptor of the endpoint's output, as a shell has it */
    int events;
} f;

static void on_event(void *userdata, int revents)
{
    f.events |= revents;
}

static int set_up(void **state)
{
    memset(&f, 0, sizeof(f));
    signal(SIGPIPE, SIG_IGN);
    f.loop = ev_loop_new(0);
    f.app_in = f.app_out = f.again = -1;
    gt_endpoint_init(&f.endpoint, f.loop, 0, on_event, NULL);
    return 0;
}

static int tear_down(void **state)
{
    gt_endpoint_close(&f.endpoint, true);
    gt_close(&f.app_in);
    gt_close(&f.app_out);
    gt_close(&f.again);
    ev_loop_destroy(f.loop);
    return 0;
}

static void open_pipes(void)
{
    int input[2], output[2];

    assert_int_equal(pipe2(input, O_CLOEXEC), 0);
    assert_int_equal(pipe2(output, O_CLOEXEC), 0);
    f.app_out = input[1];
    f.app_in = output[0];
    f.again = dup(output[1]);
    gt_endpoint_open(&f.endpoint, (struct gt_endpoint_fds){.in = input[0], .out = output[1]});
}

static void open_unix(void)
{
    int fds[2];

    assert_int_equal(gt_sock_pair(fds), 0);
    f.app_in = fds[0];
    gt_endpoint_open(&f.endpoint, gt_endpoint_fds(fds[1]));
}

static int endpoint_read(char *ret, size_t cap, size_t *ret_n)
{
    return gt_endpoint_read(&f.endpoint, &(struct iovec){ret, cap}, 1, ret_n);
}

static int endpoint_write(const char *text, size_t *ret_n)
{
    return gt_endpoint_write(&f.endpoint, &(struct iovec){(char *)text, strlen(text)}, 1, ret_n);
}

static bool is_blocking(int fd)
{
    return !(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

static void test_pipes_carry_bytes_and_both_ends(void **state)
{
    char text[8];
    size_t n;

    open_pipes();
    assert_int_equal(endpoint_read(text, sizeof(text), &n), GT_ENDPOINT_E_AGAIN);
    assert_int_equal(write(f.app_out, "hello", 5), 5);
    assert_int_equal(endpoint_read(text, sizeof(text), &n), 0);
    assert_int_equal(n, 5);
    assert_int_equal(endpoint_write("bye", &n), 0);
    assert_int_equal(read(f.app_in, text, sizeof(text)), 3);
    gt_close(&f.again);
    assert_int_equal(gt_endpoint_half_close(&f.endpoint), 0);
    assert_int_equal(read(f.app_in, text, sizeof(text)), 0);
    assert_true(gt_endpoint_is_open(&f.endpoint));
    assert_int_equal(gt_endpoint_take_error(&f.endpoint), 0);
    assert_int_equal(write(f.app_out, "late", 4), 4);
    assert_int_equal(endpoint_read(text, sizeof(text), &n), 0);
    gt_close(&f.app_out);
    assert_int_equal(endpoint_read(text, sizeof(text), &n), GT_ENDPOINT_E_EOF);
}

/* The write that fills it returns at once. Afterwards it blocks, as the shell expects. */
static void test_pipe_is_nonblocking_while_it_is_used(void **state)
{
    char block[4097];
    size_t n;
    int r = 0;

    memset(block, 'x', sizeof(block) - 1);
    block[sizeof(block) - 1] = 0;
    open_pipes();
    assert_false(is_blocking(f.again));
    for (int i = 0; i < 1000 && r == 0; i++)
        r = endpoint_write(block, &n);
    assert_int_equal(r, GT_ENDPOINT_E_AGAIN);
    gt_endpoint_close(&f.endpoint, true);
    assert_true(is_blocking(f.again));
}

static void test_half_close_makes_pipe_blocking_again(void **state)
{
    open_pipes();
    assert_int_equal(gt_endpoint_half_close(&f.endpoint), 0);
    assert_true(is_blocking(f.again));
}

/* A program in the place of the endpoint would end by SIGPIPE: both directions end. */
static void test_pipe_without_reader_is_reset(void **state)
{
    size_t n;

    open_pipes();
    assert_int_equal(gt_endpoint_take_error(&f.endpoint), 0);
    gt_close(&f.app_in);
    assert_int_equal(gt_endpoint_take_error(&f.endpoint), ECONNRESET);
    assert_int_equal(endpoint_write("hello", &n), GT_ENDPOINT_E_BROKEN);
    assert_int_equal(errno, ECONNRESET);
}

/* Its reader is called although the application sends nothing. */
static void test_stopped_pipe_ends_at_once(void **state)
{
    char text[8];
    size_t n;

    open_pipes();
    gt_endpoint_stop_reading(&f.endpoint);
    gt_endpoint_watch_read(&f.endpoint, true);
    ev_run(f.loop, EVRUN_NOWAIT);
    assert_int_equal(f.events, EV_READ);
    assert_int_equal(endpoint_read(text, sizeof(text), &n), GT_ENDPOINT_E_EOF);
}

static void test_closed_unix_socket_is_found(void **state)
{
    open_unix();
    assert_int_equal(gt_endpoint_take_error(&f.endpoint), 0);
    shutdown(f.app_in, SHUT_WR); /* a half-close is no end */
    assert_int_equal(gt_endpoint_take_error(&f.endpoint), 0);
    gt_close(&f.app_in);
    assert_int_equal(gt_endpoint_take_error(&f.endpoint), EPIPE);
}

static void test_reset_unix_socket_is_found(void **state)
{
    size_t n;

    open_unix();
    assert_int_equal(endpoint_write("unread", &n), 0);
    assert_int_equal(gt_endpoint_unsent(&f.endpoint), 0);
    gt_close(&f.app_in);
    assert_int_equal(gt_endpoint_take_error(&f.endpoint), ECONNRESET);
}

static void test_fds_reset(void **state)
{
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    gt_endpoint_fds_reset((struct gt_endpoint_fds){.in = fds[0], .out = fds[1]});
    assert_int_equal(fcntl(fds[0], F_GETFD), -1);
    assert_int_equal(fcntl(fds[1], F_GETFD), -1);
    gt_endpoint_fds_reset(gt_endpoint_fds(-1));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

/* Connects to @listener. */
static int connect_to(int listener)
{
    struct gt_addr at;

    assert_int_equal(gt_sock_local(listener, &at), 0);
    int fd = gt_sock_connect(&at);
    assert_int_equal(gt_sock_connect_again(fd, &at), 0);
    return fd;
}

/* The options of the listener serve in place of those that are set one by one, also at the end. */
static void test_accepted_socket_needs_no_options_of_its_own(void **state)
{
    struct gt_addr addr, peer;

    assert_int_equal(gt_addr_parse("127.0.0.1", 0, &addr), 0);
    gt_cleanup(gt_close) int listener = gt_sock_listen(&addr, 4);
    gt_endpoint_prepare(listener, 80.);
    for (int is_orderly = 0; is_orderly < 2; is_orderly++) {
        gt_cleanup(gt_close) int app = connect_to(listener);
        int fd = gt_sock_accept_inheriting(listener, gt_sock_inherited(listener), &peer);
        int idle = 0;
        socklen_t n = sizeof(idle);
        char byte;

        gt_endpoint_open(&f.endpoint, gt_endpoint_fds_accepted(fd));
        assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, &n), 0);
        assert_int_equal(idle, 40);
        gt_endpoint_close(&f.endpoint, is_orderly);
        assert_int_equal(recv(app, &byte, 1, 0), is_orderly ? 0 : -1);
        assert_true(is_orderly || errno == ECONNRESET);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_pipes_carry_bytes_and_both_ends),
        TEST(test_pipe_is_nonblocking_while_it_is_used),
        TEST(test_half_close_makes_pipe_blocking_again),
        TEST(test_pipe_without_reader_is_reset),
        TEST(test_stopped_pipe_ends_at_once),
        TEST(test_closed_unix_socket_is_found),
        TEST(test_reset_unix_socket_is_found),
        TEST(test_fds_reset),
        TEST(test_accepted_socket_needs_no_options_of_its_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
