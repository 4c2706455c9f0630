/* SPDX-License-Identifier: ISC */
/*
 * A process that resolves names for another one, which may open no file. A query is one message
 * with the name and the descriptor to which the answer goes (lookup.h).
 */
#pragma once

#include "gotthard/base/base.h"

/* Answers the queries that arrive at @fd (SOCK_SEQPACKET, borrowed) until the other end is closed.
 * At most 64 lookups run; later queries wait in the socket. Blocks. */
void gt_resolver_serve(int fd);
/* Sends @host (at most GT_HOST_MAX bytes) and @answer_fd (borrowed) to the process behind @fd.
 * Returns 0 or the negative errno of sendmsg(2): -EAGAIN if too many queries wait. */
int gt_resolver_ask(int fd, const char *host, int answer_fd) GT_MUST_CHECK;
