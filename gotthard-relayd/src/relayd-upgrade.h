/* SPDX-License-Identifier: ISC */
/*
 * The upgrade of the relay to the installed program, within the same process: SIGUSR2 starts a
 * rehearsal (upgrade/rehearsal.h), the relay executes the program, and the next image restores the
 * state (upgrade/restore.h, upgrade/snapshot.h).
 */
#pragma once

#include "relayd.h"

/* Once the signal watchers exist. */
void relayd_init_upgrade(struct relayd *relayd);
/* SIGUSR2: starts a rehearsal, if the relay is running and no other is in progress. ->data of
 * @signal is the relay. Clients of its reload socket get the result. */
void relayd_on_upgrade(struct ev_loop *loop, ev_signal *signal, int revents);
/* The same for a client of the reload socket; gt_reload_fn. @userdata: the relay. */
void relayd_on_reload_request(void *userdata);
/* Executes the installed program; called in UPGRADING, outside the loop. Returns only if that
 * failed or a signal to end arrived; the state has changed then. */
void relayd_upgrade(struct relayd *relayd);
/* Restores the state of the previous image. The data threads exist, but do not run yet. A negative
 * errno. */
int relayd_restore(struct relayd *relayd) GT_MUST_CHECK;
