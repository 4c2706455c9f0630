/* SPDX-License-Identifier: ISC */
/*
 * libev only notes a signal, and its handler runs when the loop does. A write that waits for a slow
 * reader would delay that without limit. So the wait is in ppoll(2), which a signal always ends.
 */
#include "print-wait.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "gotthard/base/base.h"

static volatile sig_atomic_t is_interrupted;

void print_wait_set_interrupted(bool value)
{
    is_interrupted = value;
}

/* Between the check and the wait every signal is blocked. Returns 0 or a positive errno. */
static int wait_until_writable(int fd)
{
    struct pollfd writable = {.fd = fd, .events = POLLOUT};
    sigset_t all, before;
    int n = poll(&writable, 1, 0);

    sigfillset(&all);
    while (n <= 0) {
        pthread_sigmask(SIG_BLOCK, &all, &before);
        int err = is_interrupted ? EINTR : 0;
        n = err ? 0 : ppoll(&writable, 1, NULL, &before);
        if (n < 0 && errno != EINTR)
            err = errno;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (err)
            return err;
    }
    return 0;
}

/* A pipe that is writable takes PIPE_BUF bytes at once. */
int print_wait_write(int fd, const char *text, size_t n)
{
    while (n > 0) {
        int err = wait_until_writable(fd);

        if (err)
            return err;
        ssize_t written = write(fd, text, GT_MIN(n, (size_t)PIPE_BUF));
        if (written < 0 && errno != EINTR && errno != EAGAIN)
            return errno;
        if (written > 0) {
            text += written;
            n -= (size_t)written;
        }
    }
    return 0;
}
