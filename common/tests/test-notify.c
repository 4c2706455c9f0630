/* SPDX-License-Identifier: ISC */
/* notify.c with a notification socket of the test, and outside systemd. */
#include "gotthard/base/notify.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

/* Listens at @path ('@': abstract) as the service manager does, and sets the environment variable.
 */
static int manager(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    memcpy(addr.sun_path, path, strlen(path));
    if (path[0] == '@')
        addr.sun_path[0] = 0;
    socklen_t n = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, n), 0);
    setenv("NOTIFY_SOCKET", path, 1);
    return fd;
}

static void assert_received(int fd, const char *text)
{
    char received[1024] = "";
    ssize_t n = recv(fd, received, sizeof(received) - 1, 0);

    assert_true(n > 0);
    assert_string_equal(received, text);
}

static void test_notify_reaches_each_kind_of_address(void **state)
{
    char path[64];

    snprintf(path, sizeof(path), "@test-notify-%d", getpid());
    int fd = manager(path);
    gt_notify("READY=1\nSTATUS=%u tunnels", 3);
    assert_received(fd, "READY=1\nSTATUS=3 tunnels");
    close(fd);
    gt_notify("STOPPING=1"); /* no receiver: no effect */
    snprintf(path, sizeof(path), "/tmp/test-notify-%d", getpid());
    fd = manager(path);
    gt_notify("READY=1");
    assert_received(fd, "READY=1");
    gt_notify("STATUS=waiting: %s", "x\nMAINPID=1"); /* text adds no assignment */
    assert_received(fd, "STATUS=waiting: x\\x0aMAINPID=1");
    close(fd);
    unlink(path);
}

static void test_store_fds_attaches_them(void **state)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(GT_NOTIFY_FDS_MAX * sizeof(int))];
    const int fds[GT_NOTIFY_FDS_MAX + 1] = {0};
    char path[64], text[64] = "";
    struct iovec iov = {text, sizeof(text) - 1};

    snprintf(path, sizeof(path), "@test-notify-%d", getpid());
    int fd = manager(path);
    for (size_t n = 1; n <= GT_NOTIFY_FDS_MAX; n++) {
        struct msghdr message = {.msg_iov = &iov,
                                 .msg_iovlen = 1,
                                 .msg_control = control,
                                 .msg_controllen = sizeof(control)};

        gt_notify_store_fds("some", fds, n);
        assert_true(recvmsg(fd, &message, 0) > 0);
        assert_string_equal(text, "FDSTORE=1\nFDNAME=some\nFDPOLL=0");
        assert_int_equal(CMSG_FIRSTHDR(&message)->cmsg_len, CMSG_LEN(n * sizeof(int)));
        const int *received = (const void *)CMSG_DATA(CMSG_FIRSTHDR(&message));

        for (size_t i = 0; i < n; i++)
            close(received[i]);
    }
    gt_notify_store_fds("some", fds, GT_NOTIFY_FDS_MAX + 1);
    assert_int_equal(recv(fd, text, sizeof(text), 0), -1);
    close(fd);
}

static void test_notify_ignores_invalid_addresses(void **state)
{
    char path[200];

    memset(path, 'x', sizeof(path));
    path[0] = '/';
    path[sizeof(path) - 1] = 0;
    setenv("NOTIFY_SOCKET", path, 1);
    gt_notify("READY=1");
    setenv("NOTIFY_SOCKET", "relative", 1);
    gt_notify("READY=1");
    setenv("NOTIFY_SOCKET", "", 1);
    gt_notify("READY=1");
    unsetenv("NOTIFY_SOCKET");
    gt_notify("READY=1");
}

static void test_notify_does_not_block_on_a_full_socket(void **state)
{
    char path[64];

    snprintf(path, sizeof(path), "@test-notify-full-%d", getpid());
    int fd = manager(path);
    for (unsigned i = 0; i < 10000; i++)
        gt_notify("STATUS=%u", i);
    close(fd);
    unsetenv("NOTIFY_SOCKET");
}

/* Runs @fn in a child process, whose descriptors from 3 on it may change. */
static int in_child(int (*fn)(void))
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(fn());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void set_listen(pid_t pid, const char *fds)
{
    char text[32];

    snprintf(text, sizeof(text), "%d", pid);
    setenv("LISTEN_PID", text, 1);
    setenv("LISTEN_FDS", fds, 1);
    setenv("LISTEN_FDNAMES", "relay", 1);
}

static int accepts_descriptors(void)
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0 || dup2(fds[0], 3) < 0 || dup2(fds[1], 4) < 0)
        return 1;
    fcntl(3, F_SETFD, 0);
    fcntl(4, F_SETFD, 0);
    set_listen(getpid(), "2");
    if (gt_notify_listen_fds() != 2)
        return 2;
    for (int fd = 3; fd < 5; fd++) {
        if (!(fcntl(fd, F_GETFD) & FD_CLOEXEC) || !(fcntl(fd, F_GETFL) & O_NONBLOCK))
            return 3;
    }
    if (getenv("LISTEN_PID") || getenv("LISTEN_FDS") || getenv("LISTEN_FDNAMES"))
        return 4;
    return gt_notify_listen_fds() == 0 ? 0 : 5;
}

static int ignores_descriptors_of_others(void)
{
    set_listen(getppid(), "1");
    if (gt_notify_listen_fds() != 0 || getenv("LISTEN_FDS"))
        return 1;
    set_listen(getpid(), "x");
    if (gt_notify_listen_fds() != 0)
        return 2;
    set_listen(getpid(), "4294967297");
    if (gt_notify_listen_fds() != 0)
        return 3;
    closefrom(3);
    set_listen(getpid(), "1"); /* announces one, and none is open */
    return gt_notify_listen_fds() == 0 ? 0 : 4;
}

static void test_listen_fds_are_accepted_for_this_process_only(void **state)
{
    assert_int_equal(in_child(accepts_descriptors), 0);
    assert_int_equal(in_child(ignores_descriptors_of_others), 0);
}

static unsigned n_heard;

static void manager_on_readable(struct ev_loop *loop, ev_io *io, int revents)
{
    char received[64] = "";

    assert_true(recv(io->fd, received, sizeof(received) - 1, 0) > 0);
    assert_string_equal(received, "WATCHDOG=1");
    if (++n_heard == 4)
        ev_break(loop, EVBREAK_ALL);
}

static void test_watchdog_is_notified_in_time(void **state)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct gt_watchdog watchdog;
    char path[64], pid[16];

    snprintf(path, sizeof(path), "@test-notify-dog-%d", getpid());
    int fd = manager(path);
    ev_io io;
    ev_io_init(&io, manager_on_readable, fd, EV_READ);
    ev_io_start(loop, &io);
    snprintf(pid, sizeof(pid), "%d", getpid());
    setenv("WATCHDOG_USEC", "100000", 1);
    setenv("WATCHDOG_PID", pid, 1);
    gt_watchdog_start(&watchdog, loop);
    ev_tstamp begun = ev_time();
    ev_run(loop, 0);
    assert_true(ev_time() - begun > 0.1 && ev_time() - begun < 5); /* at once, then 3 times 50 ms */
    gt_watchdog_stop(&watchdog, loop);
    gt_watchdog_stop(&watchdog, loop);

    ev_io_stop(loop, &io);
    setenv("WATCHDOG_PID", "1", 1); /* another process's watchdog */
    gt_watchdog_start(&watchdog, loop);
    assert_int_equal(ev_run(loop, 0), 0);
    gt_watchdog_stop(&watchdog, loop);
    unsetenv("WATCHDOG_PID");
    gt_watchdog_start(&watchdog, loop);
    assert_int_equal(ev_run(loop, 0), 0); /* the watchdog alone does not keep the loop running */
    gt_watchdog_stop(&watchdog, loop);
    unsetenv("WATCHDOG_USEC");
    gt_watchdog_start(&watchdog, loop);
    gt_watchdog_stop(&watchdog, loop);
    close(fd);
    ev_loop_destroy(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_notify_reaches_each_kind_of_address),
        cmocka_unit_test(test_store_fds_attaches_them),
        cmocka_unit_test(test_notify_ignores_invalid_addresses),
        cmocka_unit_test(test_notify_does_not_block_on_a_full_socket),
        cmocka_unit_test(test_listen_fds_are_accepted_for_this_process_only),
        cmocka_unit_test(test_watchdog_is_notified_in_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
