/* SPDX-License-Identifier: ISC */
/*
 * The contents of the messages are not used: their arrival is enough, and so is an overflow of the
 * socket (ENOBUFS). A burst is reported once. It must never block, and never turn the thousand
 * routes of a router into a thousand checks.
 *
 * Sleep: while the machine is suspended, CLOCK_MONOTONIC stops and CLOCK_BOOTTIME does not. A timer
 * with TFD_TIMER_CANCEL_ON_SET (timerfd_create(2)) is cancelled whenever the wall clock is set, and
 * also on resume. The difference between the two clocks shows which of the two it was.
 */
#include "gotthard/net/netwatch.h"

#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"

#define SETTLE_S      .1 /* from the first message of a burst until its report */
#define APART_S       .3 /* between two reports, at least */
#define SLEPT_S       5. /* no peer's heartbeat timeout is as short */
#define READS         64
#define NEVER_SECONDS (sizeof(time_t) > 4 ? (time_t)(INT64_MAX / 2000000000) : (time_t)INT32_MAX)

/* The seconds since boot in which the machine was suspended. */
static double total_asleep_s(void)
{
    struct timespec awake;

    clock_gettime(CLOCK_MONOTONIC, &awake);
    return gt_clock() - ((double)awake.tv_sec + (double)awake.tv_nsec / 1e9);
}

static void netwatch_report(struct gt_netwatch *watch)
{
    double total = total_asleep_s(), slept = total - watch->asleep_s;

    watch->asleep_s = total;
    watch->reported_at = gt_clock();
    if (slept > SLEPT_S)
        gt_debug("netwatch slept=%.0fs", slept);
    watch->on_event(watch->userdata, slept > SLEPT_S ? GT_NETWATCH_WOKEN : GT_NETWATCH_CHANGED);
}

static void netwatch_on_settled(struct ev_loop *loop, ev_timer *w, int revents)
{
    netwatch_report(w->data);
}

/* The first message of a burst starts the timer, later ones do not restart it. */
static void netwatch_settle(struct gt_netwatch *watch)
{
    double left = watch->reported_at + APART_S - gt_clock();

    if (ev_is_active(&watch->settle))
        return;
    ev_now_update(watch->loop);
    ev_timer_set(&watch->settle, GT_MAX(left, SETTLE_S), 0);
    ev_timer_start(watch->loop, &watch->settle);
}

/* --- rtnetlink -------------------------------------------------------------------------------- */

static bool is_temporary(int err)
{
    return err == EINTR || err == ENOBUFS;
}

static void netwatch_on_netlink(struct ev_loop *loop, ev_io *w, int revents)
{
    struct gt_netwatch *watch = w->data;
    uint8_t ignored[8192];
    ssize_t n = 0;

    for (int i = 0; i < READS && (n >= 0 || is_temporary(errno)); i++)
        n = recv(watch->netlink, ignored, sizeof(ignored), MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN && !is_temporary(errno)) {
        gt_debug("netwatch: rtnetlink failed: %s", strerror(errno));
        ev_io_stop(loop, w);
    }
    netwatch_settle(watch);
}

static int netlink_open(void)
{
    struct sockaddr_nl groups = {
        .nl_family = AF_NETLINK,
        .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR |
                     RTMGRP_IPV6_ROUTE,
    };
    gt_cleanup(gt_close) int fd =
        socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

    if (fd < 0 || bind(fd, (struct sockaddr *)&groups, sizeof(groups)) < 0)
        return -errno;
    return gt_steal_fd(&fd);
}

/* --- sleep ------------------------------------------------------------------------------------ */

static int timer_arm(int fd)
{
    const struct itimerspec never = {.it_value.tv_sec = NEVER_SECONDS};
    int r = timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL);

    return r < 0 && errno != ECANCELED ? -errno : 0; /* armed, although the clock was set */
}

static void netwatch_on_timer(struct ev_loop *loop, ev_io *w, int revents)
{
    struct gt_netwatch *watch = w->data;
    uint64_t n;
    ssize_t r = read(watch->timer_fd, &n, sizeof(n));
    bool is_canceled = r < 0 && errno == ECANCELED;

    if (r >= 0 || (is_canceled && timer_arm(watch->timer_fd)))
        ev_io_stop(loop, w); /* expired or broken: it would stay readable */
    if (total_asleep_s() - watch->asleep_s > SLEPT_S) /* else the wall clock was set */
        netwatch_settle(watch);
}

static int timer_open(void)
{
    gt_cleanup(gt_close) int fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);

    if (fd < 0)
        return -errno;
    int r = timer_arm(fd);
    return r ? r : gt_steal_fd(&fd);
}

/* --- start and stop --------------------------------------------------------------------------- */

static void netwatch_watch(struct gt_netwatch *watch, ev_io *io, int fd, const char *source)
{
    if (fd < 0) {
        gt_debug("netwatch: %s not available: %s", source, strerror(-fd));
        return;
    }
    ev_io_set(io, fd, EV_READ);
    ev_io_start(watch->loop, io);
}

void gt_netwatch_start(struct gt_netwatch *watch, struct ev_loop *loop, gt_netwatch_fn on_event,
                       void *userdata)
{
    *watch = (struct gt_netwatch){.loop = loop, .on_event = on_event, .userdata = userdata};
    ev_init(&watch->netlink_io, netwatch_on_netlink);
    ev_init(&watch->timer_io, netwatch_on_timer);
    ev_init(&watch->settle, netwatch_on_settled);
    watch->netlink_io.data = watch->timer_io.data = watch->settle.data = watch;
    watch->asleep_s = total_asleep_s();
    watch->netlink = netlink_open();
    watch->timer_fd = timer_open();
    netwatch_watch(watch, &watch->netlink_io, watch->netlink, "rtnetlink");
    netwatch_watch(watch, &watch->timer_io, watch->timer_fd, "timerfd");
}

void gt_netwatch_stop(struct gt_netwatch *watch)
{
    if (!watch->loop)
        return;
    ev_io_stop(watch->loop, &watch->netlink_io);
    ev_io_stop(watch->loop, &watch->timer_io);
    ev_timer_stop(watch->loop, &watch->settle);
    gt_close(&watch->netlink);
    gt_close(&watch->timer_fd);
    watch->loop = NULL;
}
