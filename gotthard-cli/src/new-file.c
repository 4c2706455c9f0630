/* SPDX-License-Identifier: ISC */
/* See the header. A text may be a private key: it must not be copied. */
#include "new-file.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

static int write_all(int fd, struct gt_span text)
{
    while (text.n > 0) {
        ssize_t n = write(fd, text.data, text.n);

        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        text = gt_span(text.data + n, text.n - (size_t)n);
    }
    return fsync(fd) == 0 ? 0 : -errno;
}

int new_file_write(const char *path, mode_t mode, struct gt_span text)
{
    gt_cleanup(gt_close) int fd =
        open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);

    if (fd < 0)
        return -errno;
    int r = write_all(fd, text);
    if (r != 0)
        unlink(path);
    return r;
}

int new_file_sync_folder(const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');

    snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - path) + 1 : 1,
             slash ? path : ".");
    gt_cleanup(gt_close) int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

int new_file_replace(const char *path, mode_t mode, struct gt_span text)
{
    char temporary[PATH_MAX];

    if ((size_t)snprintf(temporary, sizeof(temporary), "%s.new", path) >= sizeof(temporary))
        return -ENAMETOOLONG;
    unlink(temporary); /* of a command that was interrupted */
    int r = new_file_write(temporary, mode, text);
    if (r == 0 && rename(temporary, path) < 0) {
        r = -errno;
        unlink(temporary);
    }
    return r == 0 ? new_file_sync_folder(path) : r;
}
