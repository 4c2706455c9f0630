/* SPDX-License-Identifier: ISC */
/*
 * One image of the relay after another, in the same process: what SIGUSR2 brings about here
 * (upgrade.h), and what the next one does with what it is left (heir.h, estate.h).
 */
#pragma once

#include "relayd.h"

/* Once all handlers of signals are there. */
void succession_init(struct relayd *relayd);
/* SIGUSR2: the installed program rehearses beside us. ->data of @signal is the relay. */
void succession_on_signal(struct ev_loop *loop, ev_signal *signal, int events);
/* UPGRADING, and outside the loop. If it returns, the old life goes on: RUNNING, or told to stop.
 */
void succession_execute(struct relayd *relayd);
/* Takes over, while the planes have no threads yet. */
int succession_inherit(struct relayd *relayd) GT_MUST_CHECK;
