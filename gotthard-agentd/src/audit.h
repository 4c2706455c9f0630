/* SPDX-License-Identifier: ISC */
/*
 * The audit of this device: requests, grants, refusals, sessions and their connections, in the
 * state directory (state/audit-log.h, docs/audit.md). Each event gets the serial of the access list
 * in force.
 */
#pragma once

#include "gotthard/state/audit-log.h"
#include "settings.h"

/* Of events that operators cause as they like. */
#define AUDIT_PER_S 10
#define AUDIT_BURST 1000

struct audit {
    struct gt_audit_log log;
    uint64_t serial; /* of the access list in force; 0: none */
};

/* @folder: the state directory, checked; NULL: there is no audit (logged). */
void audit_open(struct audit *audit, const char *folder, const struct settings *settings);
/* After a reload. */
void audit_configure(struct audit *audit, const struct settings *settings);
void audit_close(struct audit *audit);
/* Returns true if events are recorded. Takes NULL. */
bool audit_is_on(const struct audit *audit);
/* Records @event, with the serial. Takes NULL. */
void audit_write(struct audit *audit, const struct gt_audit_event *event);
/* Records an event that has a reason only. */
void audit_note(struct audit *audit, enum gt_audit_kind kind, const char *reason);
