/* SPDX-License-Identifier: ISC */
/*
 * The fleet's access list at this device (docs/protocol.md, section 7): receives its parts from the
 * broker, and stores it. What the list grants is decided by gt_trust_check() and recheck.h.
 */
#pragma once

#include "gotthard/base/log.h"
#include "gotthard/state/access-store.h"
#include "gotthard/trust/access-parts.h"
#include "message-budget.h"

struct access { /* fields are private */
    const char *device;
    struct gt_access_store store;
    struct gt_access_assembly assembly;
    struct message_budget budget; /* of parts that are rejected */
    struct gt_log_rate rejected, old, unstored;
    bool is_open, is_incomplete;
};

/* Reads the stored list. Faults are logged, and leave no list. @device: keeps, for logs. @folder:
 * the state folder, or NULL. */
void access_open(struct access *access, const char *device, const char *folder,
                 const uint8_t authority[static GT_KEY_SIZE]);
/* May be called more than once. The list becomes invalid. */
void access_close(struct access *access);
/* Returns true if the authority is the one of access_open(). */
bool access_has_authority(const struct access *access, const uint8_t authority[static GT_KEY_SIZE]);
/* Returns the list in force, or NULL. Valid until access_receive() returns true. */
const struct gt_access_list *access_list(const struct access *access);
/* Handles a message with a part. @now_ms: CLOCK_BOOTTIME. Returns true if another list is in force
 * now. */
bool access_receive(struct access *access, struct gt_span payload, uint64_t now_ms);
/* Returns the number of parts of the list that is being received, 0 for none. */
size_t access_parts(const struct access *access);
/* Stores a list that could not be stored before. Returns true if parts of a list are missing, which
 * the broker should send again. Call it about every 30 s. */
bool access_tick(struct access *access);
