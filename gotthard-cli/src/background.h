/* SPDX-License-Identifier: ISC */
/*
 * `connect --background`: a child process does the work. Its parent stays in the foreground until
 * the tunnel is up, or until the child has failed, and then exits with its status.
 */
#pragma once

#include <ev.h>

#include "gotthard/base/bytes.h"

struct background {
    int ready; /* the child's end of a pipe to its parent; -1: none, or the parent has left */
};

/* Starts the child. In the child returns 0, in a session (setsid) of its own. In the parent waits,
 * passes SIGINT, SIGTERM and SIGHUP on, and returns 1 with the exit status in @ret_code. Returns a
 * negative errno if there is no child. The child has no descriptor beyond standard error but its
 * own, and another default loop in @loop. Call it before there are threads and watchers. */
int background_start(struct ev_loop **loop, struct background *ret, int *ret_code) GT_MUST_CHECK;
/* In the child: standard input, output and error become /dev/null, and the parent exits with 0. */
void background_detach(struct background *background);
