/* SPDX-License-Identifier: ISC */
/*
 * The acceptor: its budget, stop and pause, and each kind of error of accept4(2), which a wrapper
 * returns in place of the kernel.
 */
#include "gotthard/net/acceptor.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define BUDGET 64

struct fixture {
    struct ev_loop *loop;
    struct gt_acceptor acceptor;
    struct gt_reserve_fd reserve;
    struct gt_addr addr;
    unsigned n_accepted;
    enum { KEEP_ON, STOP, PAUSE, DEINIT } reaction; /* of the callback */
};

static struct {
    int err;         /* what accept4 fails with; 0: it works */
    unsigned n_left; /* how often it fails */
    unsigned n_calls;
} faults;

int __real_accept4(int fd, struct sockaddr *addr, socklen_t *n, int flags);
int __wrap_accept4(int fd, struct sockaddr *addr, socklen_t *n, int flags);

int __wrap_accept4(int fd, struct sockaddr *addr, socklen_t *n, int flags)
{
    faults.n_calls++;
    if (faults.n_left == 0)
        return __real_accept4(fd, addr, n, flags);
    faults.n_left--;
    errno = faults.err;
    return -1;
}

static void fail_next(int err, unsigned n)
{
    faults.err = err;
    faults.n_left = n;
    faults.n_calls = 0;
}

static void on_accept(void *userdata, int fd, const struct gt_addr *peer)
{
    struct fixture *fixture = userdata;

    assert_true(gt_addr_is_loopback(peer));
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    fixture->n_accepted++;
    close(fd);
    switch (fixture->reaction) {
    case KEEP_ON: return;
    case STOP: gt_acceptor_stop(&fixture->acceptor); return;
    case PAUSE: gt_acceptor_pause(&fixture->acceptor); return;
    case DEINIT: gt_acceptor_deinit(&fixture->acceptor); return;
    }
}

static void set_up_with(struct fixture *fixture, struct gt_reserve_fd *reserve)
{
    int fd;

    fail_next(0, 0);
    *fixture = (struct fixture){.loop = ev_loop_new(EVFLAG_AUTO)};
    assert_int_equal(gt_addr_parse("127.0.0.1", 0, &fixture->addr), 0);
    fd = gt_sock_listen(&fixture->addr, 256);
    assert_true(fd >= 0);
    assert_int_equal(gt_sock_local(fd, &fixture->addr), 0);
    gt_reserve_fd_init(&fixture->reserve);
    gt_acceptor_init(&fixture->acceptor, fixture->loop, fd, reserve, on_accept, fixture);
    gt_acceptor_start(&fixture->acceptor);
}

static void set_up(struct fixture *fixture)
{
    set_up_with(fixture, &fixture->reserve);
}

static void tear_down(struct fixture *fixture)
{
    gt_acceptor_deinit(&fixture->acceptor);
    gt_acceptor_deinit(&fixture->acceptor);
    gt_reserve_fd_deinit(&fixture->reserve);
    gt_reserve_fd_deinit(&fixture->reserve);
    ev_loop_destroy(fixture->loop);
}

/* A connection in the backlog: on loopback it is there when connect(2) has succeeded. */
static int connect_to(const struct fixture *fixture)
{
    int fd = gt_sock_connect(&fixture->addr);
    struct pollfd poller = {.fd = fd, .events = POLLOUT};

    assert_true(fd >= 0);
    assert_int_equal(poll(&poller, 1, 5000), 1);
    assert_int_equal(gt_sock_error(fd), 0);
    return fd;
}

static bool is_closed_by_peer(int fd)
{
    struct pollfd poller = {.fd = fd, .events = POLLIN};
    uint8_t byte;

    return poll(&poller, 1, 0) == 1 && recv(fd, &byte, 1, MSG_DONTWAIT) <= 0;
}

static void turn(struct fixture *fixture)
{
    ev_run(fixture->loop, EVRUN_NOWAIT);
}

/* Runs until @n were accepted; returns the seconds that took, at most 5. */
static double run_until(struct fixture *fixture, unsigned n)
{
    double start = ev_time();

    while (fixture->n_accepted < n && ev_time() - start < 5) {
        ev_run(fixture->loop, EVRUN_NOWAIT);
        poll(NULL, 0, 1);
    }
    return ev_time() - start;
}

static void test_acceptor_accepts_at_most_its_budget_per_turn(void **state)
{
    struct fixture fixture;
    int fds[BUDGET + 3];

    set_up(&fixture);
    for (size_t i = 0; i < GT_ARRAY_SIZE(fds); i++)
        fds[i] = connect_to(&fixture);
    turn(&fixture);
    assert_int_equal(fixture.n_accepted, BUDGET);
    turn(&fixture);
    assert_int_equal(fixture.n_accepted, BUDGET + 3);
    turn(&fixture);
    assert_int_equal(fixture.n_accepted, BUDGET + 3);
    for (size_t i = 0; i < GT_ARRAY_SIZE(fds); i++)
        close(fds[i]);
    tear_down(&fixture);
}

static void test_acceptor_accepts_nothing_before_start(void **state)
{
    struct fixture fixture;

    set_up(&fixture);
    gt_acceptor_stop(&fixture.acceptor);
    gt_acceptor_stop(&fixture.acceptor);
    int fd = connect_to(&fixture);
    turn(&fixture);
    assert_int_equal(fixture.n_accepted, 0);
    gt_acceptor_start(&fixture.acceptor);
    gt_acceptor_start(&fixture.acceptor);
    turn(&fixture);
    assert_int_equal(fixture.n_accepted, 1);
    close(fd);
    tear_down(&fixture);
}

static void test_acceptor_obeys_its_callback_within_the_turn(void **state)
{
    for (unsigned reaction = STOP; reaction <= DEINIT; reaction++) {
        struct fixture fixture;

        set_up(&fixture);
        fixture.reaction = reaction;
        int first = connect_to(&fixture), second = connect_to(&fixture);
        turn(&fixture);
        turn(&fixture);
        assert_int_equal(fixture.n_accepted, 1);
        close(first);
        close(second);
        tear_down(&fixture);
    }
}

static void test_acceptor_pause_ends_after_a_tenth_of_a_second(void **state)
{
    struct fixture fixture;

    set_up(&fixture);
    int fd = connect_to(&fixture);
    gt_acceptor_pause(&fixture.acceptor);
    double took = run_until(&fixture, 1);
    assert_int_equal(fixture.n_accepted, 1);
    assert_true(took > .05 && took < 3.);
    close(fd);
    tear_down(&fixture);
}

static void test_acceptor_started_in_a_pause_waits_for_its_end(void **state)
{
    struct fixture fixture;

    set_up(&fixture);
    gt_acceptor_stop(&fixture.acceptor);
    gt_acceptor_pause(&fixture.acceptor);
    int fd = connect_to(&fixture);
    gt_acceptor_start(&fixture.acceptor);
    turn(&fixture);
    assert_int_equal(fixture.n_accepted, 0);
    run_until(&fixture, 1);
    assert_int_equal(fixture.n_accepted, 1);
    close(fd);
    tear_down(&fixture);
}

static void test_acceptor_stopped_in_a_pause_stays_stopped(void **state)
{
    struct fixture fixture;

    set_up(&fixture);
    int fd = connect_to(&fixture);
    gt_acceptor_pause(&fixture.acceptor);
    gt_acceptor_stop(&fixture.acceptor);
    for (double end = ev_time() + .25; ev_time() < end; poll(NULL, 0, 5))
        turn(&fixture);
    assert_int_equal(fixture.n_accepted, 0);
    close(fd);
    tear_down(&fixture);
}

static void test_acceptor_with_reserve_closes_one_connection_without_descriptors(void **state)
{
    static const int errors[] = {EMFILE, ENFILE};

    for (size_t i = 0; i < GT_ARRAY_SIZE(errors); i++) {
        struct fixture fixture;

        set_up(&fixture);
        int first = connect_to(&fixture), second = connect_to(&fixture);
        fail_next(errors[i], 1);
        turn(&fixture);
        assert_int_equal(fixture.n_accepted, 0);
        assert_true(is_closed_by_peer(first));
        assert_false(is_closed_by_peer(second));
        assert_true(fixture.reserve.fd >= 0);
        turn(&fixture);
        assert_int_equal(fixture.n_accepted, 1); /* without a pause */
        close(first);
        close(second);
        tear_down(&fixture);
    }
}

static void test_acceptor_pauses_when_the_reserve_does_not_help(void **state)
{
    struct fixture fixture;

    set_up(&fixture);
    int fd = connect_to(&fixture);
    fail_next(ENFILE, 2);
    turn(&fixture);
    assert_int_equal(faults.n_calls, 2);
    turn(&fixture);
    assert_int_equal(faults.n_calls, 2);
    assert_false(is_closed_by_peer(fd));
    run_until(&fixture, 1);
    assert_int_equal(fixture.n_accepted, 1);
    close(fd);
    tear_down(&fixture);
}

static void test_acceptor_reopens_a_missing_reserve(void **state)
{
    struct fixture fixture;

    set_up(&fixture);
    gt_close(&fixture.reserve.fd);
    int fd = connect_to(&fixture);
    fail_next(EMFILE, 1);
    turn(&fixture);
    assert_int_equal(faults.n_calls, 1);
    assert_true(fixture.reserve.fd >= 0);
    run_until(&fixture, 1);
    assert_int_equal(fixture.n_accepted, 1);
    close(fd);
    tear_down(&fixture);
}

static void test_acceptor_without_reserve_leaves_connections_in_the_backlog(void **state)
{
    struct fixture fixture;

    set_up_with(&fixture, NULL);
    int fd = connect_to(&fixture);
    fail_next(EMFILE, 1);
    turn(&fixture);
    turn(&fixture);
    assert_int_equal(faults.n_calls, 1);
    assert_false(is_closed_by_peer(fd));
    assert_true(run_until(&fixture, 1) > .05);
    assert_int_equal(fixture.n_accepted, 1);
    close(fd);
    tear_down(&fixture);
}

static void test_acceptor_pauses_on_any_error_that_would_repeat(void **state)
{
    static const int errors[] = {ENOMEM, ENOBUFS, EPERM, EBADF};

    for (size_t i = 0; i < GT_ARRAY_SIZE(errors); i++) {
        struct fixture fixture;

        set_up(&fixture);
        int fd = connect_to(&fixture);
        fail_next(errors[i], 1);
        turn(&fixture);
        turn(&fixture);
        assert_int_equal(faults.n_calls, 1);
        assert_int_equal(run_until(&fixture, 1) < 5., true);
        assert_int_equal(fixture.n_accepted, 1);
        close(fd);
        tear_down(&fixture);
    }
}

static void test_acceptor_skips_a_connection_that_failed(void **state)
{
    static const int errors[] = {ECONNABORTED, EINTR, EPROTO, EHOSTUNREACH};

    for (size_t i = 0; i < GT_ARRAY_SIZE(errors); i++) {
        struct fixture fixture;

        set_up(&fixture);
        int fd = connect_to(&fixture);
        fail_next(errors[i], 1);
        turn(&fixture);
        assert_int_equal(fixture.n_accepted, 1);
        close(fd);
        tear_down(&fixture);
    }
}

static void test_acceptor_budget_limits_failed_connections(void **state)
{
    struct fixture fixture;

    set_up(&fixture);
    int fd = connect_to(&fixture);
    fail_next(ECONNABORTED, BUDGET);
    turn(&fixture);
    assert_int_equal(faults.n_calls, BUDGET);
    assert_int_equal(fixture.n_accepted, 0);
    turn(&fixture);
    assert_int_equal(fixture.n_accepted, 1);
    close(fd);
    tear_down(&fixture);
}

static void test_acceptor_deinit_ignores_a_zeroed_one(void **state)
{
    struct gt_acceptor acceptor = {0};

    gt_acceptor_deinit(&acceptor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_acceptor_accepts_at_most_its_budget_per_turn),
        cmocka_unit_test(test_acceptor_accepts_nothing_before_start),
        cmocka_unit_test(test_acceptor_obeys_its_callback_within_the_turn),
        cmocka_unit_test(test_acceptor_pause_ends_after_a_tenth_of_a_second),
        cmocka_unit_test(test_acceptor_started_in_a_pause_waits_for_its_end),
        cmocka_unit_test(test_acceptor_stopped_in_a_pause_stays_stopped),
        cmocka_unit_test(test_acceptor_with_reserve_closes_one_connection_without_descriptors),
        cmocka_unit_test(test_acceptor_pauses_when_the_reserve_does_not_help),
        cmocka_unit_test(test_acceptor_reopens_a_missing_reserve),
        cmocka_unit_test(test_acceptor_without_reserve_leaves_connections_in_the_backlog),
        cmocka_unit_test(test_acceptor_pauses_on_any_error_that_would_repeat),
        cmocka_unit_test(test_acceptor_skips_a_connection_that_failed),
        cmocka_unit_test(test_acceptor_budget_limits_failed_connections),
        cmocka_unit_test(test_acceptor_deinit_ignores_a_zeroed_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
