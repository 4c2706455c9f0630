/* SPDX-License-Identifier: ISC */
/*
 * Changes of the text of an access list (trust/access-list.h), line by line: comments and the order
 * of lines stay. A *body* is a text without the lines serial, issued and signature, which belong to
 * one signed list. A removed name leaves a line `revoked`, because the relay's key of a name
 * follows from the name. Pure.
 */
#pragma once

#include "gotthard/base/base.h"
#include "gotthard/base/bytes.h"

#define ACCESS_TEXT_WHY 320 /* bytes of a reason with its NUL */

enum { ACCESS_TEXT_E_REFUSED = 1 }; /* for the reason in @ret_why */

/* Returns the body of a list, or of a body; the caller frees it. NULL without memory. */
char *access_text_body(const char *text) GT_MUST_CHECK;
/* Returns the text that is signed: the head and @body. @issued: unix time. NULL without memory. */
char *access_text_with_head(const char *body, uint64_t serial, time_t issued) GT_MUST_CHECK;

/* Appends an entry. @words: "NAME FINGERPRINT [services=...]". Refuses a malformed one, a revoked
 * name, and a key of an entry of the other kind. Returns 0 and a body that the caller frees,
 * E_REFUSED, or -ENOMEM. */
int access_text_add(const char *body, bool is_operator, const char *words, char **ret,
                    char ret_why[static ACCESS_TEXT_WHY]) GT_MUST_CHECK;
/* Removes all entries of a name, and adds a line `revoked` unless there is one. *ret_n: removed
 * entries. Returns 0 and a body that the caller frees, or -ENOMEM. */
int access_text_revoke(const char *body, bool is_operator, const char *name, char **ret,
                       size_t *ret_n) GT_MUST_CHECK;
/* Removes all entries of a name, and adds nothing: another key of the same name follows. Returns
 * as access_text_revoke(). */
int access_text_drop(const char *body, bool is_operator, const char *name, char **ret,
                     size_t *ret_n) GT_MUST_CHECK;
bool access_text_is_revoked(const char *body, bool is_operator, const char *name);
bool access_text_has(const char *body, bool is_operator, const char *name);
/* Returns true if a name of @before has neither an entry nor a line `revoked` in @after, or a
 * revoked one is not revoked any more. Writes the first one to @ret_why. Without memory: true. */
bool access_text_loses(const char *before, const char *after, char ret_why[static ACCESS_TEXT_WHY]);

typedef void (*access_text_device_fn)(void *userdata, const char *name);
/* Calls @on_device for each entry of a device, also for one that is revoked. */
void access_text_each_device(const char *body, access_text_device_fn on_device, void *userdata);
