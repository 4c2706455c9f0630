/* SPDX-License-Identifier: ISC */
/*
 * The user of the program at the other end of a connection within this machine: of a TCP connection
 * by the kernel's socket table (sock_diag(7)), of a Unix socket by SO_PEERCRED (unix(7)). It is the
 * user who created the socket, or who connected the Unix socket; a descriptor may have been passed
 * on since. Nothing blocks: the kernel answers within the call.
 *
 * A program may have closed its TCP socket before it is accepted. Since Linux 6.17 its user stays
 * known while the end of the connection is held (fin-hold.h).
 */
#pragma once

#include <sys/types.h>

#include "gotthard/net/sock.h"

enum {
    GT_PEER_UID_E_CLOSED = 1, /* the program has closed its end: its user is no longer known */
    /* Not found: no sock_diag (a container, a sandbox), a peer outside of this machine or of its
     * network namespace, or a user without an id in this user namespace. */
    GT_PEER_UID_E_UNKNOWN,
};

/* Returns true if that works on this system. The first call tries it with a connection of its own.
 */
bool gt_peer_uid_is_kept(void);
/* Lookups of many connections over one netlink socket, which is opened for the first of them. */
struct gt_peer_uids {
    int netlink; /* owned; -1: none */
    uint32_t seq;
};
void gt_peer_uids_init(struct gt_peer_uids *uids);
void gt_peer_uids_deinit(struct gt_peer_uids *uids);
/* gt_peer_uid for a TCP connection with the addresses @own and @peer. */
int gt_peer_uids_find(struct gt_peer_uids *uids, int fd, const struct gt_addr *own,
                      const struct gt_addr *peer, uid_t *ret) GT_MUST_CHECK;
/* @fd: a connected TCP or Unix socket. Returns 0, E_CLOSED or E_UNKNOWN. */
int gt_peer_uid(int fd, uid_t *ret) GT_MUST_CHECK;
