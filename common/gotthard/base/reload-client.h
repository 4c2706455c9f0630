/* SPDX-License-Identifier: ISC */
/*
 * `PROGRAM --reload`, which ExecReload= of the units runs: it asks the running service to reload
 * and waits for the result (reload-socket.h). It reads no configuration and no credential.
 */
#pragma once

#include "gotthard/base/base.h"

/* Less than the watchdog's time, and than the time that the service manager gives a reload. */
#define GT_RELOAD_DEADLINE_MS 25000

/*
 * Prints the result to standard error. @signal: sent to the process $MAINPID if that has no socket,
 * as it is an older version or was started without a runtime directory. Its result is not known
 * then.
 *
 * Returns the service's exit status (exit-status.h): 0 if the present files are in use. Or
 * GT_EXIT_UNAVAILABLE if there is no answer in @deadline_ms, or no socket. Blocks.
 */
int gt_reload_client_run(const char *program, int signal, uint64_t deadline_ms);
