/* SPDX-License-Identifier: ISC */
/*
 * The file of a listening Unix socket (unix(7)). Only its owner can connect to it, from the moment
 * at which the file appears, and it appears when a connection is accepted. A file that another
 * program still uses, that is no socket, or that belongs to another user is never replaced, and a
 * folder in which other users can replace files is not used.
 */
#pragma once

#include <sys/types.h>

#include "gotthard/base/base.h"

#define LOCAL_SOCKET_PATH_MAX 100 /* bytes without the NUL; the temporary name needs a few more */
#define LOCAL_SOCKET_WHY      560 /* bytes of a reason with its NUL */

struct local_socket {
    char path[LOCAL_SOCKET_PATH_MAX + 1]; /* "": none */
    dev_t device;
    ino_t inode;
};

enum {
    LOCAL_SOCKET_E_BUSY = 1, /* a program listens at @path */
    LOCAL_SOCKET_E_UNUSABLE, /* the path, its folder or the file there; a reason was written */
};

/* Listens at @path with a socket of @type (SOCK_STREAM, SOCK_SEQPACKET); replaces the unused socket
 * of a program that was killed. @is_shared: every user can connect. Returns a descriptor in
 * *ret_fd, which the caller closes, or a condition with a text in @ret_why. */
int local_socket_listen(const char *path, int type, bool is_shared, struct local_socket *ret,
                        int *ret_fd, char ret_why[static LOCAL_SOCKET_WHY]) GT_MUST_CHECK;
/* Removes the socket of a program that was killed. Returns 0 if nothing is at @path any more, or a
 * condition with a text in @ret_why: E_BUSY if a program listens there, also one that has begun
 * meanwhile. */
int local_socket_clear(const char *path, char ret_why[static LOCAL_SOCKET_WHY]) GT_MUST_CHECK;
/* Removes the file, unless another one has taken its place. Takes a zeroed struct, and a removed
 * one. */
void local_socket_remove(struct local_socket *socket);
