/* SPDX-License-Identifier: ISC */
/*
 * Reads the files of an audit (audit-log.h) as one sequence of bytes, the oldest line first, also
 * while another process writes and rotates them.
 */
#pragma once

#include "gotthard/state/audit-log.h"

struct gt_audit_files { /* fields are private */
    int fds[GT_AUDIT_LOG_FILES_MAX + 1];
    unsigned n;
};

/* Opens all files in @folder. Returns 0, also if there is none, or a negative errno. */
int gt_audit_files_open(const char *folder, struct gt_audit_files *ret) GT_MUST_CHECK;
/* The same for one file, whatever its name; or one that is open (takes @fd). */
int gt_audit_files_open_one(const char *path, struct gt_audit_files *ret) GT_MUST_CHECK;
void gt_audit_files_use(int fd, struct gt_audit_files *ret);
/* Returns the number of bytes in all files now. */
uint64_t gt_audit_files_size(const struct gt_audit_files *files);
/* Returns the number of bytes that were read, 0 at the end of the last file, or a negative errno.
 * Closes files that were read. */
ssize_t gt_audit_files_read(struct gt_audit_files *files, void *ret, size_t cap) GT_MUST_CHECK;
/* May be called again, and for zeros. */
void gt_audit_files_close(struct gt_audit_files *files);
