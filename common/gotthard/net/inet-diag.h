/* SPDX-License-Identifier: ISC */
/*
 * Messages of sock_diag(7) about one TCP socket of this machine, which is named by the addresses of
 * its two ends. Pure: peer-uid.c sends and receives them. An answer that is not about exactly that
 * socket must never be accepted.
 */
#pragma once

#include <sys/types.h>

#include "gotthard/base/bytes.h"
#include "gotthard/net/sock.h"

#define GT_INET_DIAG_REQUEST_SIZE 72 /* bytes: a netlink header and inet_diag_req_v2 */

struct gt_inet_diag_owner {
    uid_t uid;     /* the file system's user id of the process that created the socket */
    bool is_open;  /* false: closed by its last process. The kernel may then have uid 0 */
    uint8_t state; /* TCP_ESTABLISHED and so on (netinet/tcp.h) */
};

enum {
    GT_INET_DIAG_E_NONE = 1, /* the kernel has no such socket, or cannot look it up */
    GT_INET_DIAG_E_BAD,      /* no answer to this request */
};

/* Composes the request about the TCP socket whose own end is @own. Both ends: IPv4, or IPv6 with
 * IPv4-mapped addresses. @seq: any number; its answer has the same. */
void gt_inet_diag_request(const struct gt_addr *own, const struct gt_addr *peer, uint32_t seq,
                          uint8_t ret[static GT_INET_DIAG_REQUEST_SIZE]);
/* Parses the kernel's answer to that request. Returns 0, E_NONE or E_BAD. */
int gt_inet_diag_parse(struct gt_span answer, const struct gt_addr *own, const struct gt_addr *peer,
                       uint32_t seq, struct gt_inet_diag_owner *ret) GT_MUST_CHECK;
