/* SPDX-License-Identifier: ISC */
/* lifeline.c: the pipe of the process, and the pipe that a service manager keeps or does not. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

#include "lifeline.h"

static bool has_ended(int fd)
{
    struct pollfd polled = {.fd = fd, .events = POLLIN};

    return poll(&polled, 1, 0) > 0;
}

/* Listens as a service manager does. */
static int manager(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    char path[64];
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    int n = snprintf(path, sizeof(path), "@test-lifeline-%d", getpid());
    memcpy(addr.sun_path + 1, path + 1, (size_t)n - 1);
    socklen_t n_addr = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, n_addr), 0);
    setenv("NOTIFY_SOCKET", path, 1);
    return fd;
}

/* Takes both ends out of the notification. */
static void receive(int fd, int ret[2])
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(4 * sizeof(int))];
    char text[256] = "";
    struct iovec iov = {text, sizeof(text) - 1};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};

    assert_true(recvmsg(fd, &message, MSG_CMSG_CLOEXEC) > 0);
    assert_string_equal(text, "FDSTORE=1\nFDNAME=sessions\nFDPOLL=0");
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    assert_non_null(header);
    assert_int_equal(header->cmsg_len, CMSG_LEN(2 * sizeof(int)));
    memcpy(ret, CMSG_DATA(header), 2 * sizeof(int));
}

static void test_lifeline_of_process_ends_with_it(void **state)
{
    struct lifelines lifelines;

    unsetenv("NOTIFY_SOCKET");
    assert_int_equal(lifelines_open(&lifelines, 0, false), 0);
    assert_int_equal(lifelines_for_worker(&lifelines, true), -1);
    int worker = fcntl(lifelines_for_worker(&lifelines, false), F_DUPFD_CLOEXEC, 0);
    assert_false(has_ended(worker));
    lifelines_close(&lifelines); /* as the kernel does at its exit */
    assert_true(has_ended(worker));
    close(worker);
}

static void test_lifeline_without_manager_is_not_used(void **state)
{
    struct lifelines lifelines;

    unsetenv("NOTIFY_SOCKET");
    assert_int_equal(lifelines_open(&lifelines, 0, true), 0);
    assert_int_equal(lifelines_for_worker(&lifelines, true), -1);
    lifelines_close(&lifelines);
}

static void test_lifeline_that_the_manager_drops_is_not_used(void **state)
{
    struct lifelines lifelines;
    int fd = manager(), stored[2];

    assert_int_equal(lifelines_open(&lifelines, 0, true), 0);
    receive(fd, stored);
    close(stored[0]);
    close(stored[1]);
    assert_int_equal(lifelines_for_worker(&lifelines, true), -1);
    assert_true(lifelines_for_worker(&lifelines, false) >= 0);
    lifelines_close(&lifelines);
    close(fd);
}

/* The next listener gets both ends, among other descriptors. */
static void test_lifeline_of_service_outlives_the_process(void **state)
{
    struct lifelines lifelines;
    int fd = manager(), stored[2];

    assert_int_equal(lifelines_open(&lifelines, 0, true), 0);
    receive(fd, stored);
    int worker = fcntl(lifelines_for_worker(&lifelines, true), F_DUPFD_CLOEXEC, 20);
    lifelines_close(&lifelines);
    assert_false(has_ended(worker));
    for (int order = 0; order < 2; order++) {
        assert_int_equal(dup2(0, 3), 3);
        assert_int_equal(dup2(stored[order], 4), 4);
        assert_int_equal(dup2(stored[!order], 5), 5);
        assert_int_equal(lifelines_open(&lifelines, 3, true), 0);
        assert_int_equal(lifelines_for_worker(&lifelines, true), 4 + order);
        lifelines_close(&lifelines);
        assert_int_equal(fcntl(3, F_GETFD), -1);
        assert_false(has_ended(worker));
    }
    close(stored[0]);
    close(stored[1]);
    while (recv(fd, stored, sizeof(stored), 0) > 0) /* closes descriptors in flight */
        ;
    assert_true(has_ended(worker));
    close(worker);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lifeline_of_process_ends_with_it),
        cmocka_unit_test(test_lifeline_without_manager_is_not_used),
        cmocka_unit_test(test_lifeline_that_the_manager_drops_is_not_used),
        cmocka_unit_test(test_lifeline_of_service_outlives_the_process),
    };

    for (int fd = 3; fd <= 5; fd++) /* the numbers of passed descriptors: nothing else has them */
        if (dup2(STDIN_FILENO, fd) != fd)
            return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
