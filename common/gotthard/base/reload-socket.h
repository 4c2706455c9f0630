/* SPDX-License-Identifier: ISC */
/*
 * The socket on which a running service answers `PROGRAM --reload`. It is in the runtime directory,
 * which only the service's user and root can enter.
 *
 *     client:  "reload\n", or "state\n" for the result of the last reload or start
 *     server:  "begun\n" when the reload begins, then "<exit status> <sentence>\n", and closes
 *
 * A service that executes another program in its place, or ends, closes without a result. The
 * client then connects again. It asks for the state if its reload had begun, else again for a
 * reload.
 */
#pragma once

#include <sys/un.h>

#include "gotthard/base/base.h"

#define GT_RELOAD_REQUEST "reload"
#define GT_RELOAD_STATE   "state"
#define GT_RELOAD_BEGUN   "begun"
/* Bytes of an answer with its newline and NUL. */
#define GT_RELOAD_ANSWER_MAX 640

/* Writes the address of the socket in the first folder of $RUNTIME_DIRECTORY. Returns false if
 * there is no such folder, or its name is too long for a socket. */
bool gt_reload_socket_address(struct sockaddr_un *ret);
