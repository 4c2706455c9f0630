/* SPDX-License-Identifier: ISC */
/*
 * Wrappers of recv, send, readv and sendmsg. Must never change a byte.
 */
#include "support/short-io.h"

ssize_t __wrap_recv(int fd, void *data, size_t n, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t n, int flags);
ssize_t __wrap_readv(int fd, const struct iovec *iov, int n_iov);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);

bool short_io_is_on;
int short_io_full_fd = -1;
bool short_io_fills_next;
uint64_t short_io_seed = 88172645463325252u;
unsigned short_io_n_sends;

static uint32_t short_io_random(uint32_t n)
{
    short_io_seed ^= short_io_seed << 13;
    short_io_seed ^= short_io_seed >> 7;
    short_io_seed ^= short_io_seed << 17;
    return (uint32_t)((short_io_seed >> 20) % n);
}

/* Returns -1 (errno set) at random, otherwise the part of @n that may pass. */
static ssize_t short_io_limit(size_t n)
{
    size_t some = 1 + short_io_random(5000);
    uint32_t what = short_io_is_on ? short_io_random(12) : 11;

    errno = what == 0 ? EINTR : EAGAIN;
    if (what < 2)
        return -1;
    return (ssize_t)(what == 2 ? GT_MIN(n, (size_t)1) : what < 6 ? GT_MIN(n, some) : n);
}

ssize_t __wrap_recv(int fd, void *data, size_t n, int flags)
{
    ssize_t may = short_io_limit(n);

    if (fd == short_io_full_fd)
        short_io_full_fd = -1;
    return may < 0 ? may : __real_recv(fd, data, (size_t)may, flags);
}

ssize_t __wrap_send(int fd, const void *data, size_t n, int flags)
{
    ssize_t may = short_io_limit(n);

    if (short_io_fills_next && n > 40000) {
        short_io_fills_next = false;
        short_io_full_fd = fd;
    }
    if (fd == short_io_full_fd) {
        errno = EAGAIN;
        return -1;
    }
    if (may < 0)
        return may;
    ssize_t n_sent = __real_send(fd, data, (size_t)may, flags);
    short_io_n_sends += n_sent > 0;
    return n_sent;
}

ssize_t __wrap_readv(int fd, const struct iovec *iov, int n_iov)
{
    ssize_t may = short_io_limit(iov[0].iov_len);

    if (may < 0)
        return may;
    struct iovec first = {iov[0].iov_base, (size_t)may};
    return (size_t)may < iov[0].iov_len ? __real_readv(fd, &first, 1)
                                        : __real_readv(fd, iov, n_iov);
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
    ssize_t may = short_io_limit(message->msg_iov[0].iov_len);

    if (may < 0)
        return may;
    struct iovec first = {message->msg_iov[0].iov_base, (size_t)may};
    struct msghdr shorter = {.msg_iov = &first, .msg_iovlen = 1};
    return __real_sendmsg(fd, (size_t)may < message->msg_iov[0].iov_len ? &shorter : message,
                          flags);
}
