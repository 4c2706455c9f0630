/* SPDX-License-Identifier: ISC */
/*
 * The listener process: it is online at the broker, handles operators' requests, and starts a
 * worker process for each session. It carries no tunnel data. Neither its exit nor the loss of the
 * broker ends a session.
 */
#pragma once

#include "setup.h"

/* Runs until a signal ends it. Returns the exit status (exit-status.h). @setup: takes. @args:
 * keeps, for reloads. @fault: why @setup is the last good configuration; or empty. */
int agentd_run(struct setup *setup, const struct gt_config_args *args, const char *fault);
