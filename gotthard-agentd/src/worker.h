/* SPDX-License-Identifier: ISC */
/*
 * The process of one session: a tunnel in the role of the device, and a dial for each stream that
 * names a service. It has the keys of this session only. Its crash does not affect the listener or
 * other sessions, and the listener's crash does not affect it.
 */
#pragma once

#include <signal.h>

/* The signal for a session that is no longer granted. SIGTERM closes one that is. */
#define WORKER_WITHDRAW SIGUSR2
/* The session's file has another grant: the worker applies and acknowledges it (session-file.h).
 * Ignored by default, so that a worker of an earlier version survives until it is withdrawn. */
#define WORKER_CHANGE SIGURG

/* Receives the parameters from WORKER_PARAMETERS_FD and runs the session. Returns the exit status
 * (exit-status.h). */
int worker_main(void);
