/* SPDX-License-Identifier: ISC */
/*
 * The secrets that were taken out of the environment, kept for a reload. See
 * gt_config_each_taken() of config.h for a program that executes itself.
 */
#pragma once

#include "gotthard/config/config.h"

/* Moves the variables of all secrets of @program out of the environment. They are unset even on
 * failure. Returns 0 or -ENOMEM. */
int gt_configtaken_take(const struct gt_config_program *program) GT_MUST_CHECK;
/* Returns the secret that @variable had, or NULL; valid until it is taken or kept again. */
const char *gt_configtaken_find(const char *variable);
/* Wipes all of them. A later load has none. */
void gt_configtaken_forget(void);
