/* SPDX-License-Identifier: ISC */
/*
 * Opening of the standard descriptors; see the header. Each open() gets the number wanted, because
 * it is the lowest one that is free (POSIX, open(2)).
 */
#include "gotthard/base/standard-fds.h"

#include <fcntl.h>

int gt_standard_fds_open(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) >= 0)
            continue;
        if (open("/dev/null", fd == STDERR_FILENO ? O_RDWR : O_RDONLY) < 0)
            return -errno;
    }
    return 0;
}
