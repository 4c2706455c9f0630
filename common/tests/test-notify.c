/* SPDX-License-Identifier: ISC */
/* notify.c against a notification socket of our own, and outside systemd. */
#include "gotthard/notify.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

/* Listens at @path ('@': abstract) as the service manager does, and says so in the environment. */
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

static void assert_heard(int fd, const char *text)
{
    char heard[1024] = "";
    ssize_t n = recv(fd, heard, sizeof(heard) - 1, 0);
    assert_true(n > 0);
    assert_string_equal(heard, text);
}

static void manager_is_told(void **state)
{
    char path[64];
    snprintf(path, sizeof(path), "@test-notify-%d", getpid());
    int fd = manager(path);
    gt_notify("READY=1\nSTATUS=%u tunnels", 3);
    assert_heard(fd, "READY=1\nSTATUS=3 tunnels");
    close(fd);
    gt_notify("STOPPING=1"); /* the manager is gone: nothing happens */
    snprintf(path, sizeof(path), "/tmp/test-notify-%d", getpid());
    fd = manager(path);
    gt_notify("READY=1");
    assert_heard(fd, "READY=1");
    close(fd);
    unlink(path);
}

static void strange_sockets_are_ignored(void **state)
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

static void full_manager_does_not_block(void **state)
{
    char path[64];
    snprintf(path, sizeof(path), "@test-notify-full-%d", getpid());
    int fd = manager(path);
    for (unsigned i = 0; i < 10000; i++)
        gt_notify("STATUS=%u", i);
    close(fd);
    unsetenv("NOTIFY_SOCKET");
}

/* In a child, whose descriptors from 3 on may be what they like. */
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

static int takes_descriptors(void)
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

static int takes_nothing_of_others(void)
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
    set_listen(getpid(), "1"); /* it says one, and there is none */
    return gt_notify_listen_fds() == 0 ? 0 : 4;
}

static void descriptors_are_taken(void **state)
{
    assert_int_equal(in_child(takes_descriptors), 0);
    assert_int_equal(in_child(takes_nothing_of_others), 0);
}

static unsigned n_heard;

static void manager_on_readable(struct ev_loop *loop, ev_io *io, int revents)
{
    char heard[64] = "";
    assert_true(recv(io->fd, heard, sizeof(heard) - 1, 0) > 0);
    assert_string_equal(heard, "WATCHDOG=1");
    if (++n_heard == 4)
        ev_break(loop, EVBREAK_ALL);
}

static void watchdog_is_fed(void **state)
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
    setenv("WATCHDOG_PID", "1", 1); /* another process is watched */
    gt_watchdog_start(&watchdog, loop);
    assert_int_equal(ev_run(loop, 0), 0);
    gt_watchdog_stop(&watchdog, loop);
    unsetenv("WATCHDOG_PID");
    gt_watchdog_start(&watchdog, loop);
    assert_int_equal(ev_run(loop, 0), 0); /* alone, it does not keep the loop */
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
        cmocka_unit_test(manager_is_told),
        cmocka_unit_test(strange_sockets_are_ignored),
        cmocka_unit_test(full_manager_does_not_block),
        cmocka_unit_test(descriptors_are_taken),
        cmocka_unit_test(watchdog_is_fed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
