/* SPDX-License-Identifier: ISC */
/*
 * Runs this program again as the worker of one session: /proc/self/exe, so that the version is the
 * same even while an upgrade replaces the file. The worker gets none of our environment variables,
 * no blocked or ignored signal, and at most six descriptors: the pipe of its parameters, its
 * session file, the pipe of its reports, its lifeline, the pipe of its events, and a socket with
 * the audit.
 */
#pragma once

#include <sys/types.h>

#include "gotthard/base/base.h"

#define WORKER_LIFELINE_FD 6 /* the worker's descriptor of its lifeline (lifeline.h) */
#define WORKER_AUDIT_FD    8 /* of a session for the audit: a socket with its bytes */
#define WORKER_FDS_END     9 /* the worker has no descriptor from here on */

struct worker_fds { /* borrowed; -1: none */
    int session_file, lifeline, events, audit;
};

struct worker_process {
    pid_t pid;
    int parameters; /* the write end of the pipe of its parameters */
    int reports;    /* the read end of the pipe of its reports */
};

/*
 * @title: the process's name in ps(1). @fds: for the worker. The descriptors of @ret belong to the
 * caller and do not block. Returns 0, or the negative errno of pipe2(2), fcntl(2) or
 * posix_spawn(3).
 */
int worker_spawn(const char *title, const struct worker_fds *fds,
                 struct worker_process *ret) GT_MUST_CHECK;
