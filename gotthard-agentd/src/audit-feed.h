/* SPDX-License-Identifier: ISC */
/*
 * Gives the audit to an operator who may read it: the listener writes its length (u64) and its
 * bytes into a socket whose other end is a stream of that operator's session. The worker, which
 * opens no file, carries bytes only, and gets the socket only in a session that was granted for
 * this.
 */
#pragma once

#include <ev.h>

#include "gotthard/state/audit-files.h"

struct audit_feed;

/* Opens the files in @folder as they are now. *ret_fd: the worker's end, which the caller closes
 * when the worker has it. A negative errno. */
int audit_feed_new(struct ev_loop *loop, const char *folder, struct audit_feed **ret,
                   int *ret_fd) GT_MUST_CHECK;
/* Takes NULL; returns NULL. */
struct audit_feed *audit_feed_free(struct audit_feed *feed);
