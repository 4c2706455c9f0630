/* SPDX-License-Identifier: ISC */
/*
 * Writing session files; see the header. A flock(2) lock belongs to the open file description,
 * which parent and child share. The lock therefore outlives the listener that took it.
 */
#include "session-file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "gotthard/base/log.h"
#include "session-file-private.h"
#include "worker-events.h"

int session_file_create(const char *folder, char ret_path[static SESSION_FILE_PATH_MAX])
{
    char path[SESSION_FILE_PATH_MAX], name[2 * 8 + 1];
    uint8_t random[8];

    int r = gt_random(random, sizeof(random));
    if (r)
        return r;
    gt_text_hex(random, sizeof(random), name);
    if (snprintf(path, sizeof(path), "%s/%s" SESSION_FILE_SUFFIX, folder, name) >=
        (int)sizeof(path))
        return -ENAMETOOLONG;
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        r = -errno;
        close(fd);
        unlink(path);
        return r;
    }
    memcpy(ret_path, path, sizeof(path));
    return fd;
}

int session_file_create_anonymous(void)
{
    int fd = memfd_create("session", MFD_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

int session_file_write(int fd, const struct session_info *info)
{
    uint8_t bytes[WORKER_PARAMETERS_MAX];
    size_t n;

    int r = session_info_encode(info, bytes, &n);
    if (r)
        return r < 0 ? r : -EMSGSIZE;
    ssize_t written = pwrite(fd, bytes, n, 0);
    if (written < 0 || (size_t)written != n)
        return written < 0 ? -errno : -ENOSPC;
    return ftruncate(fd, (off_t)n) < 0 ? -errno : 0;
}

static int session_file_open(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);

    return fd < 0 ? -errno : fd;
}

int session_file_write_at(const char *path, const struct session_info *info)
{
    int fd = session_file_open(path);
    int r = fd < 0 ? fd : session_file_write(fd, info);

    gt_close(&fd);
    return r;
}

int session_file_read(int fd, struct session_info *ret)
{
    uint8_t bytes[WORKER_PARAMETERS_MAX];

    ssize_t n = pread(fd, bytes, sizeof(bytes), 0);
    return n < 0 ? -errno : session_info_decode(gt_span(bytes, (size_t)n), ret);
}

void session_file_acknowledge(int fd, uint8_t grant)
{
    if (pwrite(fd, &grant, 1, SESSION_INFO_APPLIED_AT) != 1)
        gt_warn_errno(errno, "cannot acknowledge the new grant of this session");
}

bool session_file_is_acknowledged(int fd, const char *path)
{
    struct session_info info = {0};
    int opened = path ? session_file_open(path) : -1;

    bool is_read = session_file_read(path ? opened : fd, &info) == 0;
    bool is_acknowledged = is_read && info.applied == info.grant;
    session_info_deinit(&info);
    gt_close(&opened);
    return is_acknowledged;
}

int session_file_hold(int fd)
{
    const struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    return fcntl(fd, F_SETLK, &lock) < 0 ? -errno : 0;
}

void session_file_clear(int fd)
{
    if (ftruncate(fd, 0) < 0)
        gt_warn_errno(errno, "cannot empty the file of this session");
}

void session_file_unlink(const char *path)
{
    unlink(path);
    event_pipe_unlink(path);
}

bool session_file_is_abandoned(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 && status.st_size > 0;
}
