/* SPDX-License-Identifier: ISC */
/*
 * The service manager's protocol, both ways: sd_notify(3) datagrams, sd_listen_fds(3) descriptors
 * and the watchdog, by hand. All of it does nothing outside systemd.
 */
#pragma once

#include <ev.h>

#include "gotthard/base.h"

/* Sends e.g. "READY=1\nSTATUS=...". Errors are ignored: nobody can act on them. */
void gt_notify(const char *fmt, ...) GT_PRINTF(1, 2);
/* That a reload has begun: until the next READY=1. */
void gt_notify_reloading(void);
/* Descriptors passed in (LISTEN_FDS for this pid), from 3 on; 0 if none. Unsets the variables,
 * makes them close-on-exec and non-blocking. */
unsigned gt_notify_listen_fds(void);

/* WATCHDOG=1 at half the interval that $WATCHDOG_USEC asks for, from the loop itself. */
struct gt_watchdog {
    ev_timer timer;
};
void gt_watchdog_start(struct gt_watchdog *watchdog, struct ev_loop *loop);
void gt_watchdog_stop(struct gt_watchdog *watchdog, struct ev_loop *loop);
