/* SPDX-License-Identifier: ISC */
/*
 * The process of one session, from its hand-over to its end: a tunnel in the role of the device,
 * and a dial for each stream that names a service. It holds the session's keys and nothing else, so
 * that its crash, or the listener's, is nobody else's.
 */
#pragma once

/* An exit code: it ended in order, but could not tell the operator so. */
#define WORKER_EXIT_UNHEARD 79
/* It ended in the middle of whatever it was at: libev or libcrypto had no memory, and leave from
 * where they are; or the loader had not all of its libraries, and it never began. */
#define WORKER_EXIT_INTERNAL  70
#define WORKER_EXIT_NOT_BEGUN 127

/* Reads its hand-over from HANDOVER_FD. Returns the exit code of the process. */
int worker_main(void);
