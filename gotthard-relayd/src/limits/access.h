/* SPDX-License-Identifier: ISC */
/*
 * The fleet's access list at the relay (docs/protocol.md, section 7): receives its parts from
 * clients, keeps it in memory, in a folder where one is configured, and through a live upgrade. The
 * relay uses only its revocations (limits/admission.h).
 *
 * Any client may send parts: at most one list is assembled, and only signed parts of the authority
 * take up memory.
 */
#pragma once

#include "gotthard/base/log.h"
#include "gotthard/state/access-store.h"
#include "gotthard/trust/access-parts.h"
#include "snapshot/saved-layout.h"

#define ACCESS_TICK_S 30 /* interval of access_tick() */

struct access { /* fields are private; zero-initialize */
    struct gt_access_store store;
    struct gt_access_assembly assembly;
    struct gt_log_rate rejected, old, unstored;
    uint8_t hash[GT_KEY_SIZE]; /* SHA-256 of the list in force */
    uint64_t part_at;          /* ms; of the last accepted part */
    bool is_open;              /* an authority is configured */
};

enum access_result {
    ACCESS_ADDED,         /* a part of the authority; others are missing */
    ACCESS_REPEATED,      /* a part that is known; others are missing */
    ACCESS_IN_FORCE,      /* a new list is in force: check all identities again */
    ACCESS_KNOWN,         /* of the list in force */
    ACCESS_OTHER,         /* a newer list is known, or another one with this serial */
    ACCESS_UNUSED,        /* no authority is configured */
    ACCESS_REJECTED,      /* malformed, damaged or of another authority */
    ACCESS_LIST_REJECTED, /* the list is so, in parts of the authority */
};

/* Uses this authority and folder, NULL for none, from now on, and reads the folder if one of them
 * is new. Keeps the list in force if the authority is the same. Faults are logged; the list is then
 * in memory only. */
void access_configure(struct access *access, const uint8_t *authority, const char *folder);
void access_deinit(struct access *access);
/* Returns the serial of the list in force, or of the last one if that is lost; 0: none. */
uint64_t access_serial(const struct access *access);
/* Returns the list in force, or NULL. Valid until the next call with a list or settings. */
const struct gt_access_list *access_list(const struct access *access);

/* Handles a part from @client, whose name is logged. @now_ms: gt_clock_ms(), here and below. */
enum access_result access_receive(struct access *access, const char *client, struct gt_span part,
                                  uint64_t now_ms);
/* Returns true if access_tick() has something to do. */
bool access_is_pending(const struct access *access);
/* Stores a list that could not be stored before. Drops the parts of a list that has got none for a
 * minute. */
void access_tick(struct access *access, uint64_t now_ms);

/* --- snapshot --------------------------------------------------------------------------------- */

struct saved_access {
    struct gt_span text; /* whole, with its signature */
};

extern const struct saved_layout access_layout;

/* Writes a record if a list is in force. */
void access_save(const struct access *access, struct gt_writer *writer);
/* Takes the list if it is of this authority, and newer than the one in force. */
void access_restore(struct access *access, const struct saved_access *saved);
