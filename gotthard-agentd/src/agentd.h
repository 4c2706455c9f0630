/* SPDX-License-Identifier: ISC */
/*
 * The listener: it is online at the broker, answers operators, and has a worker process for each
 * session. It carries no byte of a tunnel itself, and neither its death nor the broker's ends one.
 */
#pragma once

#include "setup.h"

/* Serves until a signal ends it; returns the exit code. @setup: takes. @args: for reloads (keeps).
 */
int agentd_run(struct setup *setup, const struct gt_config_args *args);
