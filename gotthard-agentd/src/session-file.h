/* SPDX-License-Identifier: ISC */
/*
 * Session files: a small file for each session (session-info.h), without any key, in a folder that
 * survives a reboot. After an upgrade, a crash or a power cut the next listener reads them. It
 * counts, rechecks and closes the workers that are still running, and sends the BYE of those that
 * were killed.
 *
 * A file is trusted only if this user alone can have written it: a regular file with one link, in
 * a folder, both owned by this user and not writable by others. Its worker is proven by the kernel:
 *
 * - an flock(2) lock, taken by the listener and inherited by the worker, is held as long as the
 *   worker lives; once it is free, the session is over, even if another process has the same number
 * - a record lock (fcntl(2), F_SETLK), taken by the worker, names its holder to any other process
 *
 * No other process is ever signalled. A worker that ends its session itself empties its file.
 */
#pragma once

#include "gotthard/config/protected-file.h"
#include "session-info.h"

#define SESSION_FILE_FD       4 /* the worker's descriptor, which holds the locks */
#define SESSION_FILE_PATH_MAX 4096

/* Returns an anonymous file for a session without a folder, or a negative errno of
 * memfd_create(2). */
int session_file_create_anonymous(void) GT_MUST_CHECK;
/* Creates an empty, locked file in @folder. Returns its descriptor, or a negative errno of open(2)
 * or flock(2). */
int session_file_create(const char *folder,
                        char ret_path[static SESSION_FILE_PATH_MAX]) GT_MUST_CHECK;
/* Replaces the content. A later write of the same services and relay has the same length: it needs
 * no more space on the disk. -EMSGSIZE: too long; -ENOSPC; or the errno of pwrite(2) or
 * ftruncate(2). */
int session_file_write(int fd, const struct session_info *info) GT_MUST_CHECK;
/* The same for the file of another listener, which is at @path. Or the errno of open(2). */
int session_file_write_at(const char *path, const struct session_info *info) GT_MUST_CHECK;
/* SESSION_INFO_E_BAD; the negative errno of pread(2); -ENOMEM. */
int session_file_read(int fd, struct session_info *ret) GT_MUST_CHECK;
/* In the worker: the grant of this number applies from now on. */
void session_file_acknowledge(int fd, uint8_t grant);
/* Returns true if the worker has acknowledged the last grant. @path: NULL: of the file @fd. */
bool session_file_is_acknowledged(int fd, const char *path);

/* In the worker: takes the lock that proves who it is. A negative errno of fcntl(2). */
int session_file_hold(int fd) GT_MUST_CHECK;
/* In the worker: empties the file once the peer has been notified that the session is over. */
void session_file_clear(int fd);
/* Removes the file, and the FIFO of its worker's events. */
void session_file_unlink(const char *path);
/* Returns true if the file is not empty: its worker, which has exited, was killed. */
bool session_file_is_abandoned(const char *path);

struct session_file_events {
    /* The worker is alive. @info: takes (the callee deinits it), @pidfd: takes; see
     * pidfd_open(2). */
    void (*on_alive)(void *userdata, struct session_info *info, int pidfd, const char *path);
    /* The worker was killed before it sent BYE. @info: takes. The callee removes the file. */
    void (*on_killed)(void *userdata, struct session_info *info, const char *path);
};
/* Reads all session files in @folder, and removes those that are empty and not locked. Files that
 * are not trusted stay, with a warning. A worker whose file cannot be read is ended. Returns the
 * number of live sessions. */
unsigned session_file_scan(const char *folder, const struct session_file_events *events,
                           void *userdata);
