/* SPDX-License-Identifier: ISC */
/*
 * The audit of the relay: its clients and sessions, in the state directory (state/audit-log.h,
 * docs/audit.md). Only authenticated clients cause events: refused handshakes are in the log.
 */
#pragma once

#include "gotthard/state/audit-log.h"

/* Of events that clients cause as they like. */
#define AUDIT_PER_S 50
#define AUDIT_BURST 5000

struct audit {
    struct gt_audit_log log;
    uint64_t serial; /* of the access list in force; 0: none */
};

/* Opens it in the first folder of $STATE_DIRECTORY, if that is of this user alone; otherwise, and
 * without the variable, there is none (logged). Off until it is configured. */
void audit_open(struct audit *audit);
/* @size, @n_files: as gt_audit_log_configure(). */
void audit_configure(struct audit *audit, uint64_t size, uint64_t n_files);
void audit_close(struct audit *audit);
/* Records @event, with the serial. Takes NULL. */
void audit_write(struct audit *audit, const struct gt_audit_event *event);
/* Records an event that has a reason only. */
void audit_note(struct audit *audit, enum gt_audit_kind kind, const char *reason);
