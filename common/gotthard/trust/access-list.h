/* SPDX-License-Identifier: ISC */
/*
 * The access list: a text, signed by the authority, that states who may do what in a whole fleet.
 * Lines are those of lines.h:
 *
 *     serial 42
 *     issued 2026-11-30T14:05:00Z
 *     operator NAME SPKI-SHA256 [role=operator|admin] [services=a,b] [devices=a,b*] [until=DATE]
 *     device NAME SPKI-SHA256 [until=DATE]
 *     revoked o:NAME | d:NAME | d:enroll-*
 *     signature BASE64
 *
 * serial and issued come first, signature is the last line and covers all bytes before it. The
 * words of operator and device are those of pin.h. Of several entries for one name and key, the
 * first one that is valid for the device decides. A name that is revoked has no entry, whatever
 * else the list has. One malformed line rejects the list, since a line that was skipped might be a
 * revocation. See docs/protocol.md, section 7. Pure.
 */
#pragma once

#include "gotthard/trust/access-signature.h"
#include "gotthard/trust/pin.h"

#define GT_ACCESS_TEXT_MAX    (1024 * 1024) /* bytes of a list with its signature */
#define GT_ACCESS_ENTRIES_MAX 10000         /* operators, devices and revoked names together */
#define GT_ACCESS_SERIAL_MAX  UINT64_C(999999999999999)

struct gt_access_list;

enum {
    GT_ACCESS_E_SYNTAX = 1,
    GT_ACCESS_E_SIGNATURE, /* none, or not of this authority */
};

#define GT_ACCESS_WHY 160 /* bytes of a reason with its NUL */

/* Parses a text without a signature line. Returns 0, E_SYNTAX with the line and the reason in
 * @ret_why, or -ENOMEM. The list keeps nothing of @text. */
int gt_access_list_parse(struct gt_span text, struct gt_access_list **ret,
                         char ret_why[static GT_ACCESS_WHY]) GT_MUST_CHECK;
/* Verifies the signature of a whole text, and then parses it. Returns 0, E_SIGNATURE or E_SYNTAX
 * with a reason, or a negative errno. */
int gt_access_list_open(struct gt_span text, const uint8_t authority[static GT_KEY_SIZE],
                        struct gt_access_list **ret,
                        char ret_why[static GT_ACCESS_WHY]) GT_MUST_CHECK;
/* Makes a whole text of one without a signature line, which ends with a newline: appends the line.
 * @key: the authority's private key. The caller frees *ret. Returns as gt_access_list_parse(): a
 * text that receivers would reject is not signed. */
int gt_access_list_sign(struct gt_span text, const uint8_t key[static GT_KEY_SIZE], char **ret,
                        size_t *ret_n, char ret_why[static GT_ACCESS_WHY]) GT_MUST_CHECK;
struct gt_access_list *gt_access_list_free(struct gt_access_list *list);

uint64_t gt_access_list_serial(const struct gt_access_list *list);
/* When the authority signed it (wall clock of the authority). */
time_t gt_access_list_issued(const struct gt_access_list *list);
size_t gt_access_list_count(const struct gt_access_list *list);

/*
 * Returns the entry by which the owner of the key @fingerprint may act as operator @name on
 * @device, or NULL. Owned by the list. The caller checks its services. @now: a time that never goes
 * back; it is taken as no earlier than the time when the list was issued.
 */
const struct gt_pin *gt_access_list_operator(const struct gt_access_list *list, const char *name,
                                             const uint8_t fingerprint[static GT_KEY_SIZE],
                                             const char *device, time_t now);
/* Likewise for a device, as operators check it. */
const struct gt_pin *gt_access_list_device(const struct gt_access_list *list, const char *name,
                                           const uint8_t fingerprint[static GT_KEY_SIZE],
                                           time_t now);
bool gt_access_list_is_revoked(const struct gt_access_list *list, bool is_operator,
                               const char *name);
/* Returns true if the list was issued more than @max_age_s before @now. 0: never. */
bool gt_access_list_is_too_old(const struct gt_access_list *list, time_t now, uint64_t max_age_s);
