/* SPDX-License-Identifier: ISC */
/*
 * Shortens and interrupts the calls of the library that move bytes. The linker option --wrap
 * (meson.build) redirects them to this file.
 */
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include "gotthard/base/base.h"

extern bool short_io_is_on;
extern int short_io_full_fd;     /* accepts nothing until data is received from it; -1: none */
extern bool short_io_fills_next; /* the next socket with a large send becomes the full one */
extern uint64_t short_io_seed;
extern unsigned short_io_n_sends; /* calls of send(2) by the library that moved bytes */

/* The calls themselves, for the peers of the library. */
ssize_t __real_recv(int fd, void *data, size_t n, int flags);
ssize_t __real_send(int fd, const void *data, size_t n, int flags);
ssize_t __real_readv(int fd, const struct iovec *iov, int n_iov);
ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
