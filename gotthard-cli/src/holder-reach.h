/* SPDX-License-Identifier: ISC */
/*
 * The client's way to its holder: finds the one of this device and these settings, or starts it.
 * Two commands at once share one, because a lock decides which of them starts it. The unused socket
 * of a killed holder, and that of one that does not answer, is replaced.
 */
#pragma once

#include "gotthard/tunnel/endpoint.h"
#include "holder.h"

#define HOLDER_REACH_S 5. /* for an answer of a holder, which never blocks */

enum { HOLDER_REACH_E_FAILED = 1 };

/* Requests a stream to @service for @fds, which stay the caller's. Returns 0 with a connection on
 * which the result arrives, or E_FAILED with @ret_failure. Waits for at most some 10 s. Warns if
 * the session cannot be shared, because no folder is private. */
int holder_reach(const struct holder_settings *settings, const char *service,
                 const struct gt_endpoint_fds *fds, struct print *print, int *ret_fd,
                 struct failure *ret_failure) GT_MUST_CHECK;
/* Sends the request @query to the socket @path. Returns 0 with the answer of type @wanted, or
 * E_FAILED if there is none; *ret_is_unused if no program listens there. */
int holder_query(const char *path, enum holder_message_type query, enum holder_message_type wanted,
                 struct holder_message *ret, bool *ret_is_unused) GT_MUST_CHECK;
