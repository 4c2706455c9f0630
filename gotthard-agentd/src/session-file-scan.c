/* SPDX-License-Identifier: ISC */
/*
 * Reading the session files of an earlier listener; see session-file.h. Whatever is in them, the
 * listener signals only a process that holds the record lock of a file that is trusted.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "gotthard/base/log.h"
#include "session-file-private.h"
#include "session-file.h"

/* A worker that was started by a listener that has just been killed may not have its lock yet. */
#define STARTING_STEPS   50
#define STARTING_STEP_NS 10000000l

struct scan {
    const struct session_file_events *events;
    void *userdata;
    unsigned n_alive;
};

static const char *file_check(int fd)
{
    struct stat status;

    if (fstat(fd, &status) < 0)
        return strerror(errno);
    if (!S_ISREG(status.st_mode))
        return "not a regular file";
    if (status.st_uid != geteuid())
        return "owned by another user";
    if (status.st_mode & (S_IWGRP | S_IWOTH))
        return "writable by other users";
    return status.st_nlink == 1 ? NULL : "it has several links";
}

static bool is_locked(int fd)
{
    return flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

/* Returns the process that holds the record lock, or 0. */
static pid_t lock_holder(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (fcntl(fd, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
        return 0;
    return lock.l_pid;
}

static pid_t wait_for_holder(int fd)
{
    const struct timespec step = {.tv_nsec = STARTING_STEP_NS};
    pid_t pid = lock_holder(fd);

    for (unsigned i = 0; pid <= 0 && i < STARTING_STEPS && is_locked(fd); i++) {
        nanosleep(&step, NULL);
        pid = lock_holder(fd);
    }
    return pid;
}

/* Returns a pidfd of the worker, or -1. The holder is asked for again after pidfd_open(2): if the
 * worker exited in between, its number may be another's. */
static int open_worker(int fd, pid_t *ret_pid)
{
    pid_t pid = wait_for_holder(fd);

    if (pid < 2)
        return -1;
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd >= 0 && lock_holder(fd) != pid)
        gt_close(&pidfd);
    *ret_pid = pid;
    return pidfd;
}

/* What a worker was granted cannot be judged: it ends. A worker that empties its file is about to
 * exit. */
static void end_unreadable(int fd, const char *path, int pidfd, pid_t pid)
{
    struct stat status;

    if (fstat(fd, &status) == 0 && status.st_size == 0) {
        close(pidfd);
        return;
    }
    gt_warn("%s cannot be read: its worker is ended pid=%d", path, (int)pid);
    (void)syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0);
    close(pidfd);
}

static void scan_locked(struct scan *scan, int fd, const char *path)
{
    struct session_info info;
    pid_t pid;
    int pidfd = open_worker(fd, &pid);

    if (pidfd < 0) {
        gt_warn("%s is ignored: it is locked, but not by a worker", path);
        return;
    }
    int r = session_file_read(fd, &info);
    if (r == 0 && info.pid == pid) {
        scan->n_alive++;
        scan->events->on_alive(scan->userdata, &info, pidfd, path);
        return;
    }
    if (r == 0)
        session_info_deinit(&info);
    end_unreadable(fd, path, pidfd, pid);
}

static void scan_unlocked(struct scan *scan, int fd, const char *path)
{
    struct session_info info;

    if (session_file_read(fd, &info) == 0)
        scan->events->on_killed(scan->userdata, &info, path);
    else
        session_file_unlink(path); /* emptied by its worker, or never written */
}

static void scan_file(struct scan *scan, const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    const char *why = fd < 0 ? strerror(errno) : file_check(fd);

    if (why)
        gt_warn("%s is ignored: %s", path, why);
    else if (is_locked(fd))
        scan_locked(scan, fd, path);
    else
        scan_unlocked(scan, fd, path);
    gt_close(&fd);
}

unsigned session_file_scan(const char *folder, const struct session_file_events *events,
                           void *userdata)
{
    const size_t n_suffix = sizeof(SESSION_FILE_SUFFIX) - 1;
    struct scan scan = {.events = events, .userdata = userdata};
    char path[SESSION_FILE_PATH_MAX];
    DIR *dir = opendir(folder);

    if (!dir)
        return 0;
    for (const struct dirent *entry; (entry = readdir(dir));) {
        size_t n_name = strlen(entry->d_name);

        if (n_name <= n_suffix ||
            strcmp(entry->d_name + n_name - n_suffix, SESSION_FILE_SUFFIX) != 0)
            continue;
        if (snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name) < (int)sizeof(path))
            scan_file(&scan, path);
    }
    closedir(dir);
    return scan.n_alive;
}
