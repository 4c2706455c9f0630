/* SPDX-License-Identifier: ISC */
/*
 * Tells when the network under this process may have changed: a link, an address or a route (the
 * kernel's rtnetlink groups), or when the machine has slept. It does not say what changed, because
 * nobody could act on that: whoever is told asks way.h about the connections it has.
 *
 * Where there is no rtnetlink (a sandbox) nothing is ever told, and heartbeats have to do.
 */
#pragma once

#include <ev.h>

#include "gotthard/base.h"

enum gt_netwatch_event {
    GT_NETWATCH_CHANGED, /* the network, perhaps */
    GT_NETWATCH_WOKEN,   /* the machine slept for more than a few seconds; the network, too */
};

typedef void (*gt_netwatch_fn)(void *userdata, enum gt_netwatch_event event);

struct gt_netwatch {
    struct ev_loop *loop;
    gt_netwatch_fn on_event;
    void *userdata;
    int netlink, jumps; /* -1: not to be had */
    ev_io news, jump;
    ev_timer settle;
    double told_at;
    double asleep; /* since boot, as far as it was told */
};

/* Never fails: what cannot be watched is not told. The first event comes from the loop. */
void gt_netwatch_start(struct gt_netwatch *watch, struct ev_loop *loop, gt_netwatch_fn on_event,
                       void *userdata);
/* Takes one that was zeroed and never started, too. */
void gt_netwatch_stop(struct gt_netwatch *watch);
