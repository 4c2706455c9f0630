/* SPDX-License-Identifier: ISC */
/*
 * Reports that the network of this machine may have changed: an interface, an address or a route
 * (the groups of rtnetlink(7)), or that the machine has slept. It does not report which change:
 * its owner checks the connections that it has with net/route.h.
 *
 * Without rtnetlink (in a sandbox) nothing is reported, and heartbeats have to suffice.
 */
#pragma once

#include <ev.h>

#include "gotthard/base/base.h"

enum gt_netwatch_event {
    GT_NETWATCH_CHANGED, /* the network, possibly */
    GT_NETWATCH_WOKEN,   /* the machine slept for more than 5 s, and the network may have changed */
};

typedef void (*gt_netwatch_fn)(void *userdata, enum gt_netwatch_event event);

struct gt_netwatch { /* embedded in its owner; a zeroed one may be passed to _stop */
    struct ev_loop *loop;
    gt_netwatch_fn on_event;
    void *userdata;
    int netlink, timer_fd; /* owned; -1: not available */
    ev_io netlink_io, timer_io;
    ev_timer settle;    /* active from the first message of a burst until its report */
    double reported_at; /* by gt_clock() */
    double asleep_s;    /* the total since boot, at the last report */
};

/* Never fails: a source that cannot be watched is not reported. @on_event is called from the loop,
 * at most once in 0.3 s. */
void gt_netwatch_start(struct gt_netwatch *watch, struct ev_loop *loop, gt_netwatch_fn on_event,
                       void *userdata);
/* May be called twice, and without _start. */
void gt_netwatch_stop(struct gt_netwatch *watch);
