/* SPDX-License-Identifier: ISC */
/*
 * The start of a service whose files may come later: a folder that is not mounted yet, a key that
 * is being provisioned, a certificate that is half written. The service waits for them and shows
 * why.
 */
#pragma once

#include "gotthard/config/config.h"

enum { GT_CONFIG_E_STOPPED = 3 }; /* SIGTERM or SIGINT ended the wait */

/* Returns 0, GT_CONFIG_E_FILE with one line in @ret_error, or another result that ends the wait. */
typedef int (*gt_config_load_fn)(void *userdata, char *ret_error);

/*
 * Calls @load until its result is not E_FILE: after 0.5 s, then after twice the time, at most 10 s,
 * and at once on SIGHUP, SIGUSR1, SIGUSR2 and a request for a reload. Each new reason is logged and
 * shown by the service manager, which is notified that the service is ready. Returns the result, or
 * E_STOPPED. Has a loop of its own.
 */
int gt_config_wait(gt_config_load_fn load, void *userdata,
                   char ret_error[static GT_CONFIG_ERROR_MAX]) GT_MUST_CHECK;
