/* SPDX-License-Identifier: ISC */
/*
 * One call of getaddrinfo(3) in a thread of its own. The answer is one message to a socket, so that
 * the thread may belong to this process or to another one (resolver.h), and the other end may be
 * closed at any time.
 */
#pragma once

#include "gotthard/net/sock.h"

#define GT_LOOKUP_MAX 8 /* addresses kept of a result */

struct gt_lookup_answer {
    int err; /* 0, or an EAI_* code of getaddrinfo(3) */
    size_t n_addrs;
    struct gt_addr addrs[GT_LOOKUP_MAX]; /* port 0; the families alternate */
};

/*
 * Starts to look up @host (copied, at most GT_HOST_MAX bytes). @fd (takes) is one end of a
 * SOCK_SEQPACKET pair; it is closed after the answer. @on_end is called by the thread at the very
 * end; NULL: nothing. -ENOMEM, or -EAGAIN if no thread could be started; @fd is closed then too,
 * and @on_end is not called.
 */
int gt_lookup_start(const char *host, int fd, void (*on_end)(void)) GT_MUST_CHECK;
/* Receives an answer. The error is EAI_AGAIN if the other end was closed without one, or has sent
 * anything else. */
void gt_lookup_receive(int fd, struct gt_lookup_answer *ret);
