/* SPDX-License-Identifier: ISC */
/*
 * The access list in force, in memory and in the state folder. A list replaces it only if it is
 * signed by the authority and has a greater serial. Both files are replaced by rename(2) after
 * fsync(2), so that a restart never returns to an older list:
 *
 *     access.list    the whole text as the authority signed it; verified again when it is read
 *     access.serial  its serial and the authority; written first. If the list is lost or damaged,
 *                    no older one is accepted in its place, and until a newer one or the same one
 *                    arrives, there is none
 *
 * One implementation for device, relay and command line.
 */
#pragma once

#include "gotthard/trust/access-list.h"

#define GT_ACCESS_STORE_WHY 400 /* bytes of a reason with its NUL */

struct gt_access_store {         /* fields are private, but ->list */
    struct gt_access_list *list; /* owned; NULL: none */
    uint8_t authority[GT_KEY_SIZE];
    uint64_t serial_min; /* of the file; a list with a smaller one is not accepted */
    char *folder;        /* owned; NULL: nothing is stored */
    char *text;          /* owned; the whole text of ->list */
    size_t n_text;
    bool is_stored; /* the file has it */
};

enum {
    GT_ACCESS_STORE_E_BAD = 1, /* not a valid list of this authority */
    GT_ACCESS_STORE_E_OLD,  /* the list in force, or the last one, has this serial or a greater */
    GT_ACCESS_STORE_E_FILE, /* a file of the folder cannot be used or written */
};

/*
 * Reads the stored list. @folder: of this user and writable by no other (the caller has checked),
 * or NULL. Returns 0, also without a stored list; E_FILE with a reason if there is one that cannot
 * be used, or a serial without it: ->list is NULL then, and the store is usable. Or a negative
 * errno.
 */
int gt_access_store_init(struct gt_access_store *store, const char *folder,
                         const uint8_t authority[static GT_KEY_SIZE],
                         char ret_why[static GT_ACCESS_STORE_WHY]) GT_MUST_CHECK;
void gt_access_store_deinit(struct gt_access_store *store);
/* Returns the serial of the list in force, 0 without one. */
uint64_t gt_access_store_serial(const struct gt_access_store *store);
/* Returns the whole text of the list in force, empty without one. Valid as long as the list is. */
struct gt_span gt_access_store_text(const struct gt_access_store *store);
/* Returns true if the list in force has to be stored: gt_access_store_save() failed. */
bool gt_access_store_is_unsaved(const struct gt_access_store *store);
/* Returns the greatest serial that is not accepted. */
uint64_t gt_access_store_floor(const struct gt_access_store *store);
/*
 * Takes a whole text, which is copied. Returns 0: it is in force, and all entries of the list
 * before are invalid; E_BAD with a reason; E_OLD; or a negative errno. It is not stored yet: call
 * gt_access_store_save().
 */
int gt_access_store_take(struct gt_access_store *store, struct gt_span text,
                         char ret_why[static GT_ACCESS_STORE_WHY]) GT_MUST_CHECK;
/* Stores a list that is in force only; without one, or without a folder, does nothing. Returns 0,
 * or E_FILE with a reason: call it again later. Blocks for the time of two fsync(2). */
int gt_access_store_save(struct gt_access_store *store,
                         char ret_why[static GT_ACCESS_STORE_WHY]) GT_MUST_CHECK;
