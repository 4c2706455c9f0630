/* SPDX-License-Identifier: ISC */
/*
 * What a listener leaves behind of each session, so that the one that follows it (an upgrade, a
 * crash) can count, review and close the workers that lived on: a small file in the runtime folder,
 * without any key. The worker inherits the file locked: as long as the lock is held, the process
 * the file names is alive and no other; when it is free, the session is over, whoever has the
 * number of the process now.
 */
#pragma once

#include "handover.h"

#define RECORD_FD       4 /* where the worker holds the lock */
#define RECORD_PATH_MAX 4096

struct record {
    pid_t pid;
    char device[GT_NAME_MAX + 1], operator_[GT_NAME_MAX + 1];
    uint8_t rid[GT_RID_SIZE];
    bool has_pin;
    uint8_t fingerprint[GT_KEY_SIZE];
    uint64_t ends_at_ms;     /* CLOCK_BOOTTIME */
    struct targets services; /* owned */
};

enum { RECORD_E_BAD = 1 };

void record_deinit(struct record *record);
/* The bytes of a record; E_BAD when it would not fit, or is not exactly one. */
int record_encode(const struct record *record, uint8_t ret[static HANDOVER_MAX],
                  size_t *ret_n) GT_MUST_CHECK;
int record_decode(struct gt_span bytes, struct record *ret) GT_MUST_CHECK;

/* A new, empty, locked file in @folder. Its descriptor, or a negative errno. */
int record_create(const char *folder, char ret_path[static RECORD_PATH_MAX]) GT_MUST_CHECK;
int record_write(int fd, const struct record *record) GT_MUST_CHECK;

/*
 * Calls @found for each session in @folder whose process is alive: @pidfd is its to close, @record
 * borrowed. Removes the files of the others. Returns how many were found.
 */
unsigned record_scan(const char *folder,
                     void (*found)(void *userdata, const struct record *record, int pidfd,
                                   const char *path),
                     void *userdata);
