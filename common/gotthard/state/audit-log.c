/* SPDX-License-Identifier: ISC */
/*
 * Files, rotation and failures of the audit; see the header.
 *
 * The file is open for writing only while a line is written: its file system can become read-only
 * at any time. The descriptor that stays open is for the lock.
 *
 * The place in the chain is kept in memory while the process lives: a file that another program
 * changes meanwhile does not become the truth, and the chain shows the change.
 */
#include "gotthard/state/audit-log.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "gotthard/audit/audit-chain.h"
#include "gotthard/base/clock.h"

#define NAME     "audit.log"
#define RETRY_MS 1000 /* after a failure */

/* --- files ------------------------------------------------------------------------------------ */

static void make_path(const char *folder, unsigned n, char *ret)
{
    if (n == 0)
        snprintf(ret, PATH_MAX, "%s/" NAME, folder); /* init checked the length */
    else
        snprintf(ret, PATH_MAX, "%s/" NAME ".%u", folder, n);
}

int gt_audit_log_open_file(const char *folder, unsigned n)
{
    char path[PATH_MAX];
    struct stat status;

    make_path(folder, n, path);
    gt_cleanup(gt_close) int fd =
        open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &status) < 0)
        return -errno;
    return S_ISREG(status.st_mode) ? gt_steal_fd(&fd) : -EINVAL;
}

/* Returns 0 or a negative errno: another user, or another process, could write the file as well. */
static int check_own(int fd, struct stat *ret)
{
    if (fstat(fd, ret) < 0)
        return -errno;
    if (!S_ISREG(ret->st_mode) || ret->st_uid != geteuid() || ret->st_nlink != 1 ||
        ret->st_mode & (S_IWGRP | S_IWOTH))
        return -EACCES;
    return flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
}

static int open_own(const struct gt_audit_log *log, int flags, struct stat *ret_status)
{
    char path[PATH_MAX];

    make_path(log->folder, 0, path);
    gt_cleanup(gt_close) int fd = open(
        path, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | flags, 0640);
    if (fd < 0)
        return -errno;
    int r = check_own(fd, ret_status);
    if (r == 0 && ret_status->st_size == 0 && fchmod(fd, 0640) < 0) /* whatever the umask is */
        r = -errno;
    return r ? r : gt_steal_fd(&fd);
}

/* Feeds @chain with the file. Returns 0 or a negative errno. */
static int scan(int fd, struct gt_audit_chain *chain)
{
    uint8_t bytes[4096];
    off_t at = 0;
    ssize_t n;

    while ((n = pread(fd, bytes, sizeof(bytes), at)) > 0) {
        int r = gt_audit_chain_feed(chain, gt_span(bytes, (size_t)n));

        if (r)
            return r < 0 ? r : -EIO;
        at += n;
    }
    return n < 0 ? -errno : 0;
}

/* An empty file continues the one before. */
static int scan_before(const struct gt_audit_log *log, struct gt_audit_chain *chain)
{
    gt_cleanup(gt_close) int fd = gt_audit_log_open_file(log->folder, 1);

    return fd == -ENOENT ? 0 : fd < 0 ? fd : scan(fd, chain);
}

/* --- appending -------------------------------------------------------------------------------- */

/* Returns a descriptor of the file for one write, or a negative errno: -ESTALE if another program
 * has replaced the file. */
static int open_for_write(const struct gt_audit_log *log)
{
    char path[PATH_MAX];
    struct stat status;

    make_path(log->folder, 0, path);
    gt_cleanup(gt_close) int fd =
        open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &status) < 0)
        return -errno;
    return status.st_dev == log->device && status.st_ino == log->inode ? gt_steal_fd(&fd) : -ESTALE;
}

/* A part that was written is taken back, or is found when the file is opened again. */
static int write_whole(struct gt_audit_log *log, const char *bytes, size_t n)
{
    gt_cleanup(gt_close) int fd = open_for_write(log);

    if (fd < 0)
        return fd;
    ssize_t written = write(fd, bytes, n);
    int r = written < 0 ? -errno : -ENOSPC;
    if (written == (ssize_t)n) {
        log->size += n;
        return 0;
    }
    if (written > 0 && ftruncate(fd, (off_t)log->size) < 0)
        gt_close(&log->fd);
    return r;
}

static uint64_t wall_clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Appends to the open file, whatever its size. */
static int append_line(struct gt_audit_log *log, const char *line, size_t n)
{
    struct gt_audit_head head = {.seq = log->head.seq + 1};
    const struct gt_span bytes = gt_span(line, n);
    int r = gt_sha256(&bytes, 1, head.hash);

    if (r == 0)
        r = write_whole(log, line, n);
    if (r == 0)
        log->head = head;
    return r > 0 ? -EIO : r;
}

static int append_event(struct gt_audit_log *log, const struct gt_audit_event *event)
{
    char line[GT_AUDIT_LINE_MAX + 1];
    size_t n = gt_audit_line_encode(event, &log->head, wall_clock_ms(), line);

    return append_line(log, line, n);
}

/* --- opening ---------------------------------------------------------------------------------- */

static int end_torn_line(struct gt_audit_log *log, struct gt_audit_chain *chain)
{
    int r = 0;

    if (gt_audit_chain_is_incomplete(chain)) {
        r = write_whole(log, "\n", 1);
        if (r == 0)
            r = gt_audit_chain_feed(chain, gt_span("\n", 1));
    }
    return r > 0 ? -EIO : r;
}

/* Continues the chain of the file, or the one in memory if this process has written it. */
static int join_chain(struct gt_audit_log *log, const struct gt_audit_chain *chain)
{
    static const struct gt_audit_event torn = {
        .kind = GT_AUDIT_TORN, .reason = "the bytes before this line are not a line"};
    bool has_own = log->head.seq > 0;

    if (!gt_audit_chain_is_torn(chain)) {
        if (!has_own)
            log->head = chain->head;
        else if (memcmp(&log->head, &chain->head, sizeof(log->head)) != 0)
            gt_error("%s/" NAME " was changed by another program", log->folder);
        return 0;
    }
    gt_warn("%s/" NAME ": the last line is not complete", log->folder);
    log->head.seq = GT_MAX(log->head.seq, chain->head.seq);
    memcpy(log->head.hash, chain->head.hash, GT_KEY_SIZE);
    return append_event(log, &torn);
}

/* Another program may have moved, removed or changed the file. */
static bool is_as_written(const struct gt_audit_log *log)
{
    char path[PATH_MAX];
    struct stat status;

    make_path(log->folder, 0, path);
    return lstat(path, &status) == 0 && status.st_dev == log->device &&
           status.st_ino == log->inode && (uint64_t)status.st_size == log->size;
}

/* @status: of @fd, which is taken. */
static void use_file(struct gt_audit_log *log, int fd, const struct stat *status)
{
    log->fd = fd;
    log->size = (uint64_t)status->st_size;
    log->device = status->st_dev;
    log->inode = status->st_ino;
}

static int open_log(struct gt_audit_log *log)
{
    struct gt_audit_chain chain;
    struct stat status;
    int fd = open_own(log, 0, &status);

    if (fd < 0)
        return fd;
    use_file(log, fd, &status);
    gt_audit_chain_init(&chain, NULL, NULL);
    int r = log->size > 0 ? scan(fd, &chain) : scan_before(log, &chain);
    if (r == 0 && chain.n_broken > 0)
        gt_error("%s/" NAME ": the chain is broken, lines were changed or removed", log->folder);
    if (r == 0)
        r = end_torn_line(log, &chain);
    if (r == 0)
        r = join_chain(log, &chain);
    if (r)
        gt_close(&log->fd);
    return r;
}

static int ensure_open(struct gt_audit_log *log)
{
    if (log->fd >= 0 && !is_as_written(log))
        gt_close(&log->fd);
    return log->fd >= 0 ? 0 : open_log(log);
}

/* --- rotation --------------------------------------------------------------------------------- */

static void remove_beyond(const struct gt_audit_log *log)
{
    char path[PATH_MAX];

    for (unsigned n = GT_MAX(log->n_files, 1u); n <= GT_AUDIT_LOG_FILES_MAX; n++) {
        make_path(log->folder, n, path);
        unlink(path);
    }
}

/* Moves the files by one number. The last one is replaced, or removed if it is the only one. */
static int move_files(const struct gt_audit_log *log)
{
    char from[PATH_MAX], to[PATH_MAX];

    if (log->n_files == 1) {
        make_path(log->folder, 0, from);
        return unlink(from) < 0 ? -errno : 0;
    }
    for (unsigned n = log->n_files - 1; n > 0; n--) {
        make_path(log->folder, n - 1, from);
        make_path(log->folder, n, to);
        if (rename(from, to) < 0 && (errno != ENOENT || n == 1))
            return -errno;
    }
    return 0;
}

static int rotate(struct gt_audit_log *log)
{
    struct stat status;
    int r = move_files(log);

    if (r)
        return r;
    gt_close(&log->fd);
    r = open_own(log, O_EXCL, &status);
    if (r < 0)
        return r;
    use_file(log, r, &status);
    return 0;
}

static int append(struct gt_audit_log *log, const struct gt_audit_event *event)
{
    char line[GT_AUDIT_LINE_MAX + 1];
    int r = ensure_open(log);

    if (r)
        return r;
    size_t n = gt_audit_line_encode(event, &log->head, wall_clock_ms(), line);
    if (log->size > 0 && log->size + n > log->size_max)
        r = rotate(log);
    return r ? r : append_line(log, line, n);
}

/* --- failures --------------------------------------------------------------------------------- */

static void note_failure(struct gt_audit_log *log, int r)
{
    log->retry_at_ms = gt_clock_ms() + RETRY_MS;
    snprintf(log->why, sizeof(log->why), "cannot write: %.40s", strerror(-r));
    if (!log->is_failing)
        gt_error_errno(r, "%s/" NAME " cannot be written, events are counted only", log->folder);
    log->is_failing = true;
}

static bool try_append(struct gt_audit_log *log, const struct gt_audit_event *event)
{
    if (log->is_failing && gt_clock_ms() < log->retry_at_ms)
        return false;
    int r = append(log, event);
    if (r) {
        note_failure(log, r);
        return false;
    }
    if (log->is_failing)
        gt_info("%s/" NAME " is written again lost=%llu", log->folder,
                (unsigned long long)log->n_unwritten);
    log->is_failing = false;
    return true;
}

/* Returns false if events are still to be reported as lost. */
static bool report_lost(struct gt_audit_log *log, uint64_t *n, const char *why)
{
    const struct gt_audit_event lost = {.kind = GT_AUDIT_LOST, .n_lost = *n, .reason = why};

    if (*n > 0 && try_append(log, &lost))
        *n = 0;
    return *n == 0;
}

static bool report_all_lost(struct gt_audit_log *log)
{
    return report_lost(log, &log->n_unwritten, log->why) &&
           report_lost(log, &log->n_limited, "more events than the audit takes in a second");
}

void gt_audit_log_write(struct gt_audit_log *log, const struct gt_audit_event *event)
{
    if (!gt_audit_log_is_on(log))
        return;
    if (gt_audit_kind_is_limited(event->kind) &&
        !gt_token_bucket_take(&log->rate, 1, gt_clock_ms()))
        log->n_limited++;
    else if (!report_all_lost(log) || !try_append(log, event))
        log->n_unwritten++;
}

void gt_audit_log_tick(struct gt_audit_log *log)
{
    if (gt_audit_log_is_on(log))
        (void)report_all_lost(log);
}

/* --- beginning and end ------------------------------------------------------------------------ */

int gt_audit_log_init(struct gt_audit_log *log, const char *folder, uint32_t per_second,
                      uint32_t burst)
{
    *log = (struct gt_audit_log){.fd = -1};
    gt_token_bucket_init(&log->rate, per_second, burst, gt_clock_ms());
    if (!folder)
        return 0;
    if (strlen(folder) > PATH_MAX - 32)
        return -ENAMETOOLONG;
    log->folder = strdup(folder);
    return log->folder ? 0 : -ENOMEM;
}

void gt_audit_log_configure(struct gt_audit_log *log, uint64_t size_max, unsigned n_files)
{
    log->size_max = size_max;
    log->n_files = GT_MIN(n_files, (unsigned)GT_AUDIT_LOG_FILES_MAX);
    if (!gt_audit_log_is_on(log))
        gt_close(&log->fd);
    else
        remove_beyond(log);
}

void gt_audit_log_deinit(struct gt_audit_log *log)
{
    gt_close(&log->fd);
    free(log->folder);
    *log = (struct gt_audit_log){.fd = -1};
}

bool gt_audit_log_is_on(const struct gt_audit_log *log)
{
    return log->folder && log->n_files > 0;
}
