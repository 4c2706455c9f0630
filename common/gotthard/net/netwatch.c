/* SPDX-License-Identifier: ISC */
/*
 * What the messages say is not read: that there are some is the news, and a socket that overflowed
 * (ENOBUFS) is news all the same. A burst is told once. Must never make anybody wait, or turn a
 * router's thousand routes into a thousand questions.
 *
 * Sleep: CLOCK_MONOTONIC, which timers count by, stands still while the machine is suspended and
 * CLOCK_BOOTTIME does not. A timer of the wall clock that is cancelled by every jump of it wakes us
 * (the kernel cancels it on resume as well), and the distance of the two clocks says which it was.
 */
#include "gotthard/netwatch.h"

#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include "gotthard/clock.h"
#include "gotthard/log.h"

#define SETTLE_S      .1 /* from the first message of a burst until it is told */
#define APART_S       .3 /* between two tellings, at least */
#define SLEPT_S       5. /* shorter sleep is no matter: nobody has given us up meanwhile */
#define READS         64
#define NEVER_SECONDS (sizeof(time_t) > 4 ? (time_t)(INT64_MAX / 2000000000) : (time_t)INT32_MAX)

static double seconds_asleep(void)
{
    struct timespec awake;
    clock_gettime(CLOCK_MONOTONIC, &awake);
    return gt_clock() - ((double)awake.tv_sec + (double)awake.tv_nsec / 1e9);
}

static void netwatch_tell(struct gt_netwatch *watch)
{
    double asleep = seconds_asleep(), slept = asleep - watch->asleep;
    watch->asleep = asleep;
    watch->told_at = gt_clock();
    if (slept > SLEPT_S)
        gt_debug("netwatch: slept for %.0f s", slept);
    watch->on_event(watch->userdata, slept > SLEPT_S ? GT_NETWATCH_WOKEN : GT_NETWATCH_CHANGED);
}

static void netwatch_on_settled(struct ev_loop *loop, ev_timer *w, int revents)
{
    netwatch_tell(w->data);
}

/* The first message of a burst sets the time, and none puts it off. */
static void netwatch_settle(struct gt_netwatch *watch)
{
    double rest = watch->told_at + APART_S - gt_clock();
    if (ev_is_active(&watch->settle))
        return;
    ev_now_update(watch->loop);
    ev_timer_set(&watch->settle, GT_MAX(rest, SETTLE_S), 0);
    ev_timer_start(watch->loop, &watch->settle);
}

/* --- the kernel's news ------------------------------------------------------------------------ */

static bool is_passing(int err)
{
    return err == EINTR || err == ENOBUFS;
}

static void netwatch_on_news(struct ev_loop *loop, ev_io *w, int revents)
{
    struct gt_netwatch *watch = w->data;
    uint8_t scrap[8192];
    ssize_t n = 0;
    for (int i = 0; i < READS && (n >= 0 || is_passing(errno)); i++)
        n = recv(watch->netlink, scrap, sizeof scrap, MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN && !is_passing(errno)) {
        gt_debug("netwatch: no more news: %s", strerrordesc_np(errno));
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
    if (fd < 0 || bind(fd, (struct sockaddr *)&groups, sizeof groups) < 0)
        return -errno;
    return gt_steal_fd(&fd);
}

/* --- sleep ------------------------------------------------------------------------------------ */

static int jumps_arm(int fd)
{
    const struct itimerspec never = {.it_value.tv_sec = NEVER_SECONDS};
    int r = timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL);
    return r < 0 && errno != ECANCELED ? -errno : 0; /* armed, although the clock has jumped */
}

static void netwatch_on_jump(struct ev_loop *loop, ev_io *w, int revents)
{
    struct gt_netwatch *watch = w->data;
    uint64_t n;
    ssize_t r = read(watch->jumps, &n, sizeof n);
    bool is_canceled = r < 0 && errno == ECANCELED;
    if (r >= 0 || (is_canceled && jumps_arm(watch->jumps)))
        ev_io_stop(loop, w); /* its time has come, or it is broken: it would wake us for ever */
    if (seconds_asleep() - watch->asleep > SLEPT_S) /* else somebody has set the clock */
        netwatch_settle(watch);
}

static int jumps_open(void)
{
    gt_cleanup(gt_close) int fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = jumps_arm(fd);
    return r ? r : gt_steal_fd(&fd);
}

/* --- life ------------------------------------------------------------------------------------- */

static void netwatch_watch(struct gt_netwatch *watch, ev_io *io, int fd, const char *what)
{
    if (fd < 0) {
        gt_debug("netwatch: no %s: %s", what, strerrordesc_np(-fd));
        return;
    }
    ev_io_set(io, fd, EV_READ);
    ev_io_start(watch->loop, io);
}

void gt_netwatch_start(struct gt_netwatch *watch, struct ev_loop *loop, gt_netwatch_fn on_event,
                       void *userdata)
{
    *watch = (struct gt_netwatch){.loop = loop, .on_event = on_event, .userdata = userdata};
    ev_init(&watch->news, netwatch_on_news);
    ev_init(&watch->jump, netwatch_on_jump);
    ev_init(&watch->settle, netwatch_on_settled);
    watch->news.data = watch->jump.data = watch->settle.data = watch;
    watch->asleep = seconds_asleep();
    watch->netlink = netlink_open();
    watch->jumps = jumps_open();
    netwatch_watch(watch, &watch->news, watch->netlink, "rtnetlink");
    netwatch_watch(watch, &watch->jump, watch->jumps, "clock that tells of sleep");
}

void gt_netwatch_stop(struct gt_netwatch *watch)
{
    if (!watch->loop)
        return;
    ev_io_stop(watch->loop, &watch->news);
    ev_io_stop(watch->loop, &watch->jump);
    ev_timer_stop(watch->loop, &watch->settle);
    gt_close(&watch->netlink);
    gt_close(&watch->jumps);
    watch->loop = NULL;
}
