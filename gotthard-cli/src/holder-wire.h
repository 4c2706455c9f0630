/* SPDX-License-Identifier: ISC */
/*
 * Messages (holder-message.h) over a socket of SOCK_SEQPACKET, and the two descriptors beside an
 * OPEN (SCM_RIGHTS in unix(7)). Nothing blocks.
 */
#pragma once

#include "gotthard/tunnel/endpoint.h"
#include "holder-message.h"

enum {
    HOLDER_WIRE_E_AGAIN = 1, /* nothing to receive, or no room to send */
    HOLDER_WIRE_E_END,       /* the other end has closed the socket, or sent no valid message */
};

/* Sends @message, with @fds beside an OPEN, which stay the caller's; else NULL. */
int holder_wire_send(int fd, const struct holder_message *message,
                     const struct gt_endpoint_fds *fds) GT_MUST_CHECK;
/* @ret_fds: the caller's from now on; -1 beside anything but an OPEN. */
int holder_wire_receive(int fd, struct holder_message *ret,
                        struct gt_endpoint_fds *ret_fds) GT_MUST_CHECK;
