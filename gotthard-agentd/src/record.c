/* SPDX-License-Identifier: ISC */
/*
 * Files of living sessions; see the header. flock(2) locks belong to the open file, which parent
 * and child share, so the lock outlives the listener that took it.
 */
#include "record.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "gotthard/log.h"

#define MAGIC     0x47545732u /* "GTW2" */
#define MAGIC_OLD 0x47545731u /* "GTW1", of 0.1: without the relay */
static const char suffix[] = ".session";

void record_deinit(struct record *record)
{
    targets_deinit(&record->services);
    *record = (struct record){0};
}

int record_encode(const struct record *record, uint8_t ret[static HANDOVER_MAX], size_t *ret_n)
{
    struct gt_writer w = gt_writer(ret, HANDOVER_MAX);

    gt_write_u32(&w, MAGIC);
    gt_write_u32(&w, (uint32_t)record->pid);
    gt_write_string(&w, record->device);
    gt_write_string(&w, record->operator_);
    gt_write_bytes(&w, record->rid, GT_RID_SIZE);
    gt_write_u8(&w, record->has_pin);
    gt_write_bytes(&w, record->fingerprint, GT_KEY_SIZE);
    gt_write_u64(&w, record->ends_at_ms);
    targets_encode(&record->services, &w);
    target_encode(&record->relay, &w);
    if (w.failed)
        return RECORD_E_BAD;
    *ret_n = w.n;
    return 0;
}

int record_decode(struct gt_span bytes, struct record *ret)
{
    struct gt_reader r = gt_reader(bytes.data, bytes.n);
    struct record record = {0};

    uint32_t magic = gt_read_u32(&r);
    record.pid = (pid_t)(gt_read_u32(&r) & INT32_MAX);
    gt_read_string(&r, record.device, sizeof(record.device));
    gt_read_string(&r, record.operator_, sizeof(record.operator_));
    gt_read_into(&r, record.rid, GT_RID_SIZE);
    record.has_pin = gt_read_u8(&r);
    gt_read_into(&r, record.fingerprint, GT_KEY_SIZE);
    record.ends_at_ms = gt_read_u64(&r);
    int err = targets_decode(&r, &record.services);
    if (magic == MAGIC)
        target_decode(&r, &record.relay);
    else if (magic != MAGIC_OLD && !err)
        err = RECORD_E_BAD;
    if (!err && (!gt_reader_is_done(&r) || record.pid < 2))
        err = RECORD_E_BAD;
    if (err)
        record_deinit(&record);
    else
        *ret = record;
    return err;
}

int record_create(const char *folder, char ret_path[static RECORD_PATH_MAX])
{
    char path[RECORD_PATH_MAX], name[2 * 8 + 1];
    uint8_t random[8];

    int r = gt_random(random, sizeof(random));
    if (r)
        return r;
    gt_text_hex(random, sizeof(random), name);
    if (snprintf(path, sizeof(path), "%s/%s%s", folder, name, suffix) >= (int)sizeof(path))
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

int record_write(int fd, const struct record *record)
{
    uint8_t bytes[HANDOVER_MAX];
    size_t n;

    int r = record_encode(record, bytes, &n);
    if (r)
        return r < 0 ? r : -EMSGSIZE;
    ssize_t written = pwrite(fd, bytes, n, 0);
    return written < 0 ? -errno : (size_t)written == n ? 0 : -ENOSPC;
}

static bool is_locked(int fd)
{
    return flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

/* The process that holds the lock, as a descriptor that can be no other's; or -1. */
static int open_process(int fd, pid_t pid)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

    if (pidfd >= 0 && !is_locked(fd)) /* it ended in between: the number may be another's */
        gt_close(&pidfd);
    return pidfd;
}

static int read_record(int fd, struct record *ret)
{
    uint8_t bytes[HANDOVER_MAX];

    ssize_t n = pread(fd, bytes, sizeof(bytes), 0);
    return n < 0 ? -errno : record_decode(gt_span(bytes, (size_t)n), ret);
}

void record_empty(int fd)
{
    if (ftruncate(fd, 0) < 0)
        gt_warn_errno(errno, "the record of this session stays");
}

bool record_is_left(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 && status.st_size > 0;
}

/* 1: alive. */
static unsigned scan_locked(int fd, const char *path, const struct record_events *events,
                            void *userdata)
{
    struct record record;

    if (read_record(fd, &record) != 0)
        return 0;
    int pidfd = open_process(fd, record.pid);
    if (pidfd >= 0)
        events->on_alive(userdata, &record, pidfd, path);
    record_deinit(&record);
    return pidfd >= 0;
}

static void scan_left(int fd, const char *path, const struct record_events *events, void *userdata)
{
    struct record record;

    if (read_record(fd, &record) != 0) { /* it was emptied, or never filled */
        unlink(path);
        return;
    }
    events->on_killed(userdata, &record, path);
    record_deinit(&record);
}

static unsigned scan_file(const char *path, const struct record_events *events, void *userdata)
{
    unsigned n = 0;

    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return 0;
    if (is_locked(fd))
        n = scan_locked(fd, path, events, userdata);
    else
        scan_left(fd, path, events, userdata);
    close(fd);
    return n;
}

unsigned record_scan(const char *folder, const struct record_events *events, void *userdata)
{
    char path[RECORD_PATH_MAX];
    unsigned n = 0;
    DIR *dir = opendir(folder);

    if (!dir)
        return 0;
    for (const struct dirent *entry; (entry = readdir(dir));) {
        size_t n_name = strlen(entry->d_name), n_suffix = sizeof(suffix) - 1;
        if (n_name <= n_suffix || strcmp(entry->d_name + n_name - n_suffix, suffix) != 0)
            continue;
        if (snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name) < (int)sizeof(path))
            n += scan_file(path, events, userdata);
    }
    closedir(dir);
    return n;
}
