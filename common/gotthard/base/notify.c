/* SPDX-License-Identifier: ISC */
/*
 * The protocol of the service manager: three environment variables and a datagram. libsystemd would
 * add a hundred times as much code to a program that is reachable from the internet. Nothing here
 * fails: the program runs without a service manager as well.
 */
#include "gotthard/base/notify.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "gotthard/base/format.h"
#include "gotthard/base/text.h"

#define FIRST_LISTEN_FD 3

/* Returns the value of the variable @name, or 0 if it is unset or not a number. */
static uint64_t env_number(const char *name)
{
    const char *text = getenv(name);
    uint64_t value;

    if (!text || gt_text_number(text, 0, INT64_MAX, &value) != 0)
        return 0;
    return value;
}

/* @fds: attached, unix(7); @n_fds may be 0. */
static void send_datagram(const char *text, size_t n, const int *fds, size_t n_fds)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(GT_NOTIFY_FDS_MAX * sizeof(int))] = {0};
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct iovec iov = {(void *)text, n};
    struct msghdr message = {.msg_name = &addr, .msg_iov = &iov, .msg_iovlen = 1};
    const char *path = getenv("NOTIFY_SOCKET");
    size_t n_path = path ? strlen(path) : 0;

    if (n_path == 0 || (path[0] != '/' && path[0] != '@') || n_path >= sizeof(addr.sun_path) ||
        n_fds > GT_NOTIFY_FDS_MAX)
        return;
    memcpy(addr.sun_path, path, n_path);
    if (path[0] == '@') /* an abstract address, unix(7) */
        addr.sun_path[0] = 0;
    gt_cleanup(gt_close) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    message.msg_namelen = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n_path);
    if (n_fds > 0) {
        message.msg_control = control;
        message.msg_controllen = (socklen_t)CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = (socklen_t)CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(header), fds, n_fds * sizeof(int));
    }
    sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void gt_notify(const char *fmt, ...)
{
    char text[512];
    va_list args;

    va_start(args, fmt);
    size_t n = gt_vformat(GT_FORMAT_TEXT, text, sizeof(text), fmt, args);
    va_end(args);
    if (n > 0)
        send_datagram(text, GT_MIN(n, sizeof(text) - 1), NULL, 0);
}

/* FDPOLL=0: the manager does not drop a pipe that has no reader for the moment. */
void gt_notify_store_fds(const char *name, const int *fds, size_t n)
{
    char text[128];

    size_t length =
        gt_format(GT_FORMAT_TEXT, text, sizeof(text), "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
    if (length < sizeof(text))
        send_datagram(text, length, fds, n);
}

void gt_notify_reloading(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now); /* required by Type=notify-reload, systemd.service(5) */
    gt_notify("RELOADING=1\nMONOTONIC_USEC=%lld",
              (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
}

unsigned gt_notify_listen_fds(void)
{
    uint64_t pid = env_number("LISTEN_PID"), n_fds = env_number("LISTEN_FDS");

    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    if (pid != (uint64_t)getpid() || n_fds > 1024)
        return 0;
    for (int fd = FIRST_LISTEN_FD; fd < FIRST_LISTEN_FD + (int)n_fds; fd++) {
        int flags = fcntl(fd, F_GETFL);

        if (flags < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
            return 0;
        if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
            return 0;
    }
    return (unsigned)n_fds;
}

static void watchdog_on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
    gt_notify("WATCHDOG=1");
}

void gt_watchdog_start(struct gt_watchdog *watchdog, struct ev_loop *loop)
{
    uint64_t usec = env_number("WATCHDOG_USEC"), pid = env_number("WATCHDOG_PID");
    double interval = (double)usec / 2e6;

    ev_timer_init(&watchdog->timer, watchdog_on_timer, interval, interval);
    if (!usec || (getenv("WATCHDOG_PID") && pid != (uint64_t)getpid()))
        return;
    gt_notify("WATCHDOG=1");
    ev_timer_start(loop, &watchdog->timer);
    ev_unref(loop); /* the watchdog alone does not keep the loop running */
}

void gt_watchdog_stop(struct gt_watchdog *watchdog, struct ev_loop *loop)
{
    if (!ev_is_active(&watchdog->timer))
        return;
    ev_ref(loop);
    ev_timer_stop(loop, &watchdog->timer);
}
