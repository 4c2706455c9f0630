/* SPDX-License-Identifier: ISC */
/*
 * The protocol of the service manager: sd_notify(3) datagrams, sd_listen_fds(3) descriptors and the
 * watchdog, without libsystemd. Outside systemd nothing here has an effect.
 */
#pragma once

#include <ev.h>

#include "gotthard/base/base.h"

/* Sends for example "READY=1\nSTATUS=...". Errors are ignored, since the caller could do nothing.
 */
void gt_notify(const char *fmt, ...) GT_PRINTF(1, 2);
/* Reports the beginning of a reload, which lasts until the next READY=1. */
void gt_notify_reloading(void);
#define GT_NOTIFY_FDS_MAX 4
/* Asks the service manager to keep copies of these @n descriptors (at most FDS_MAX) under @name,
 * and to pass them to the next process of the service: FDSTORE=1 of sd_notify(3). It needs
 * FileDescriptorStoreMax= in the unit, and closes them when the service is stopped. */
void gt_notify_store_fds(const char *name, const int *fds, size_t n);
/* Returns the number of descriptors that were passed (LISTEN_FDS for this pid), from 3 on, or 0.
 * Unsets the variables, and makes the descriptors close-on-exec and non-blocking. */
unsigned gt_notify_listen_fds(void);

/* Sends WATCHDOG=1 from the loop itself, at half the interval in $WATCHDOG_USEC. */
struct gt_watchdog {
    ev_timer timer;
};
void gt_watchdog_start(struct gt_watchdog *watchdog, struct ev_loop *loop);
void gt_watchdog_stop(struct gt_watchdog *watchdog, struct ev_loop *loop);
