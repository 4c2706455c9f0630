/* SPDX-License-Identifier: ISC */
/*
 * The audit in the state folder: appends events as chained lines (audit/audit-line.h).
 *
 *     audit.log       the newest lines
 *     audit.log.1     those before, audit.log.2 ... still older ones
 *
 * A line is written by one write(2). When a file would become larger than its limit, all files move
 * by one number and the oldest one is removed, so that the audit never takes more space than all
 * files together may have. The chain continues over files and restarts. A file is locked
 * (flock(2)): two processes never write one chain.
 *
 * Nothing here ends or delays a service. An event that cannot be written is counted, the log says
 * so once, and the line "lost" follows when writing works again. The kernel writes lines to the
 * disk in its own time (about half a minute): an fsync(2) for each would wear out the flash of a
 * device, and block the loop. After a power cut the chain continues with the line "torn" if the
 * last bytes are no line.
 */
#pragma once

#include <sys/types.h>

#include "gotthard/audit/audit-line.h"
#include "gotthard/base/log.h"
#include "gotthard/base/token-bucket.h"

#define GT_AUDIT_LOG_FILES_MAX 100 /* of the setting */
#define GT_AUDIT_LOG_SIZE_MIN  (16u << 10)
#define GT_AUDIT_LOG_SIZE_MAX  (64u << 20)

struct gt_audit_log { /* fields are private */
    char *folder;     /* owned; NULL: off */
    uint64_t size_max;
    unsigned n_files; /* 0: off */
    int fd;           /* of audit.log, for reading, with the lock; -1: not open */
    uint64_t size;    /* of audit.log, as far as known */
    dev_t device;     /* of audit.log, with the next one */
    ino_t inode;
    struct gt_audit_head head;
    uint64_t n_unwritten, n_limited; /* events since the last line about them */
    char why[64];                    /* the last failure */
    struct gt_token_bucket rate;     /* of limited kinds */
    uint64_t retry_at_ms;
    bool is_failing;
};

/* @folder: of this user, and writable by no other (the caller has checked); copied. NULL: there is
 * no audit. @per_second, @burst: of the kinds whose number is limited. Off until it is configured.
 * -ENOMEM. */
int gt_audit_log_init(struct gt_audit_log *log, const char *folder, uint32_t per_second,
                      uint32_t burst) GT_MUST_CHECK;
/* @size_max: bytes of a file. @n_files: of all together, with the one that is written; 0: off. May
 * be called again; files beyond the number are removed. */
void gt_audit_log_configure(struct gt_audit_log *log, uint64_t size_max, unsigned n_files);
/* Takes NULL fields: after a failed init, or zeros with ->fd = -1. */
void gt_audit_log_deinit(struct gt_audit_log *log);
bool gt_audit_log_is_on(const struct gt_audit_log *log);
/* Appends @event, after a line about lost ones. Failures are counted and logged. */
void gt_audit_log_write(struct gt_audit_log *log, const struct gt_audit_event *event);
/* Writes the line about lost events, if there are any. Call it about every 30 s. */
void gt_audit_log_tick(struct gt_audit_log *log);

/* Opens the file of number @n (0: audit.log) in @folder for reading: a regular file. Returns a
 * descriptor or a negative errno. */
int gt_audit_log_open_file(const char *folder, unsigned n) GT_MUST_CHECK;
