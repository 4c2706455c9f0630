/* SPDX-License-Identifier: ISC */
/*
 * Running this very program again as the process of one session: /proc/self/exe, so that it is the
 * same version even while an upgrade replaces the file; with no variable of ours, no signal blocked
 * or ignored, and two descriptors.
 */
#pragma once

#include <sys/types.h>

#include "gotthard/base.h"

/* @title: what `ps` shows. @fds: become HANDOVER_FD and RECORD_FD (-1: none); both above RECORD_FD.
 */
int launch_worker(const char *title, const int fds[static 2], pid_t *ret_pid) GT_MUST_CHECK;
/* @fd (takes) with a number above those that the worker's own get. Or a negative errno. */
int launch_move_up(int fd) GT_MUST_CHECK;
