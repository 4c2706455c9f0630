/* SPDX-License-Identifier: ISC */
/*
 * Makes a holder (holder.h) of a fork of this process: the settings, with the secrets that came
 * from the environment, need no other way. The new process has a session of its own (setsid(2)), so
 * that neither Ctrl+C nor the end of the terminal or of ssh reaches it, and no descriptor of its
 * caller, who waits for the end of a pipe.
 */
#pragma once

#include "holder.h"

/* Starts a holder that listens on @listener (takes it; -1: none), the socket of @file. Returns 0
 * with the first client's end of a connection, or a negative errno. */
int holder_spawn(const struct holder_settings *settings, int listener,
                 const struct local_socket *file, int *ret_fd) GT_MUST_CHECK;
