/* SPDX-License-Identifier: ISC */
/*
 * The service manager's protocol by hand: it is three environment variables and a datagram, and
 * libsystemd would bring a hundred times that into a program that strangers can reach. Nothing here
 * fails: a program that nobody watches runs the same.
 */
#include "gotthard/notify.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "gotthard/text.h"

#define FIRST_LISTEN_FD 3

/* The variable @name as a number, 0 when it is unset or no number. */
static uint64_t env_number(const char *name)
{
    const char *text = getenv(name);
    uint64_t value;
    if (!text || gt_text_number(text, 0, INT64_MAX, &value) != 0)
        return 0;
    return value;
}

static void send_datagram(const char *path, const char *text, size_t n)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t n_path = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || n_path >= sizeof(addr.sun_path))
        return;
    memcpy(addr.sun_path, path, n_path);
    if (path[0] == '@') /* an abstract address, unix(7) */
        addr.sun_path[0] = 0;
    gt_cleanup(gt_close) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    socklen_t n_addr = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n_path);
    sendto(fd, text, n, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&addr, n_addr);
}

void gt_notify(const char *fmt, ...)
{
    const char *path = getenv("NOTIFY_SOCKET");
    char text[512];
    if (!path)
        return;
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (n > 0)
        send_datagram(path, text, GT_MIN((size_t)n, sizeof(text) - 1));
}

void gt_notify_reloading(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now); /* as Type=notify-reload wants it */
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
    ev_unref(loop); /* being watched is no reason to go on */
}

void gt_watchdog_stop(struct gt_watchdog *watchdog, struct ev_loop *loop)
{
    if (!ev_is_active(&watchdog->timer))
        return;
    ev_ref(loop);
    ev_timer_stop(loop, &watchdog->timer);
}
