/* SPDX-License-Identifier: ISC */
/*
 * A diagnosis does one thing after the other. Each check starts something with callbacks, runs the
 * loop until a callback has called gt_check_wake(), and gives up at its deadline. Signal handlers
 * may call gt_check_wake() as well.
 */
#pragma once

#include <ev.h>

/* Runs the loop until gt_check_wake(), for at most @limit_s seconds. */
void gt_check_wait(struct ev_loop *loop, double limit_s);
void gt_check_wake(struct ev_loop *loop);
