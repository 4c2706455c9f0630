/* SPDX-License-Identifier: ISC */
/*
 * What a listener leaves behind of each session, so that the one that follows it (an upgrade, a
 * crash, a power cut) can count, review and close the workers that lived on, and say goodbye for
 * those that did not: a small file without any key, in a folder that outlives a reboot. The worker
 * inherits the file locked: as long as the lock is held, the process the file names is alive and no
 * other; when it is free, the session is over, whoever has the number of the process now. A worker
 * that said goodbye itself empties its file.
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
    struct target relay;     /* where it went; port 0: a listener of long ago did not say */
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

/* In the worker: the other side knows that the session is over. */
void record_empty(int fd);
/* Is there anything in it: was the process that had it killed? */
bool record_is_left(const char *path);

struct record_events { /* @record is borrowed */
    /* A session whose process is alive; @pidfd is the callee's to close. */
    void (*on_alive)(void *userdata, const struct record *record, int pidfd, const char *path);
    /* One whose process was killed, and said goodbye to nobody; the file stays, and is the callee's
     * to remove. */
    void (*on_killed)(void *userdata, const struct record *record, const char *path);
};
/* Looks at all records in @folder, and removes those of sessions that are over in order. Returns
 * how many are alive. */
unsigned record_scan(const char *folder, const struct record_events *events, void *userdata);
