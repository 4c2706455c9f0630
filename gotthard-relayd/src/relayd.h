/* SPDX-License-Identifier: ISC */
/*
 * The relay as a whole: its sockets, its threads, its signals, and its life from start to drain.
 */
#pragma once

#include "settings.h"

enum {
    RELAYD_E_LISTEN = 1, /* the main port cannot be had; logged */
    RELAYD_E_SMALL,      /* too few descriptors to do anything useful; logged */
};

/* Takes @config and @keys; borrows @args for reloads. Returns when the relay has ended in order. */
int relayd_run(struct gt_config *config, struct settings_keys *keys,
               const struct gt_config_args *args) GT_MUST_CHECK;
