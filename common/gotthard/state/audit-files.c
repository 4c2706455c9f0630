/* SPDX-License-Identifier: ISC */
/*
 * The newest file is opened first: a rotation meanwhile moves files to greater numbers, so that one
 * may be found twice, but none is missed.
 */
#include "gotthard/state/audit-files.h"

#include <fcntl.h>
#include <sys/stat.h>

static bool is_same_file(int a, int b)
{
    struct stat x, y;

    return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static void add(struct gt_audit_files *files, int fd)
{
    if (files->n > 0 && is_same_file(fd, files->fds[files->n - 1]))
        close(fd);
    else
        files->fds[files->n++] = fd;
}

int gt_audit_files_open(const char *folder, struct gt_audit_files *ret)
{
    struct gt_audit_files files = {.n = 0};

    for (unsigned n = 0; n <= GT_AUDIT_LOG_FILES_MAX; n++) {
        int fd = gt_audit_log_open_file(folder, n);

        if (fd == -ENOENT && n > 0)
            break;
        if (fd >= 0)
            add(&files, fd);
        else if (fd != -ENOENT) {
            gt_audit_files_close(&files);
            return fd;
        }
    }
    *ret = files;
    return 0;
}

int gt_audit_files_open_one(const char *path, struct gt_audit_files *ret)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    if (fd < 0)
        return -errno;
    gt_audit_files_use(fd, ret);
    return 0;
}

void gt_audit_files_use(int fd, struct gt_audit_files *ret)
{
    *ret = (struct gt_audit_files){.fds = {fd}, .n = 1};
}

uint64_t gt_audit_files_size(const struct gt_audit_files *files)
{
    struct stat status;
    uint64_t n = 0;

    for (unsigned i = 0; i < files->n; i++)
        n += fstat(files->fds[i], &status) == 0 ? (uint64_t)status.st_size : 0;
    return n;
}

ssize_t gt_audit_files_read(struct gt_audit_files *files, void *ret, size_t cap)
{
    while (files->n > 0) {
        ssize_t n = read(files->fds[files->n - 1], ret, cap);

        if (n != 0)
            return n < 0 ? -errno : n;
        gt_close(&files->fds[--files->n]);
    }
    return 0;
}

void gt_audit_files_close(struct gt_audit_files *files)
{
    while (files->n > 0)
        gt_close(&files->fds[--files->n]);
}
