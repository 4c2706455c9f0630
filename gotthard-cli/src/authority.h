/* SPDX-License-Identifier: ISC */
/*
 * The authority of a fleet on this machine: its private key (trust.authority_key), and beside it,
 * in KEY.list, the text of the last list that it has signed. Both are replaced by rename(2) or
 * never. A command that changes the list holds a lock of the key's file meanwhile.
 */
#pragma once

#include "failure.h"
#include "gotthard/trust/access-list.h"
#include "settings.h"

struct authority {
    uint8_t key[GT_KEY_SIZE], public_key[GT_KEY_SIZE];
    char *list_path; /* owned */
    char *text;      /* owned; the whole signed list, or NULL if there is none yet */
    size_t n_text;
    struct gt_access_list *list; /* owned; of ->text */
    int lock;                    /* descriptor, -1: none */
};

/* Each returns 0, or 1 with @ret_failure. */
/* Makes the key. A file that exists is never overwritten. */
int authority_create(const struct settings *settings, char ret_public[static GT_AUTHORITY_TEXT_MAX],
                     struct failure *ret_failure) GT_MUST_CHECK;
/* Loads key and list. @is_locked: for a command that changes the list. The caller calls
 * authority_deinit() in any case. */
int authority_load(const struct settings *settings, bool is_locked, struct authority *ret,
                   struct failure *ret_failure) GT_MUST_CHECK;
/* Signs @body (access-text.h) with the serial after the present one, and takes the result in place
 * of ->text. It is not stored yet. */
int authority_sign(struct authority *authority, const char *body,
                   struct failure *ret_failure) GT_MUST_CHECK;
/* Takes a whole list that another machine has signed with this key, in place of ->text. */
int authority_take(struct authority *authority, struct gt_span text,
                   struct failure *ret_failure) GT_MUST_CHECK;
/* Writes ->text to its file. */
int authority_store(const struct authority *authority, struct failure *ret_failure) GT_MUST_CHECK;
/* Returns the serial of ->text, 0 without one. */
uint64_t authority_serial(const struct authority *authority);
void authority_deinit(struct authority *authority);
