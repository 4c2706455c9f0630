/* SPDX-License-Identifier: ISC */
/*
 * All that a newcomer needs to be a device, an operator or a relay of the fleet: the plaintext of
 * the answer to its request (enrolment.h), and the content of the bundle file of a newcomer without
 * a network, which has a private key as well and so is a secret:
 *
 *     "GTB1" || kind u8 || entries of type u8 || size u32 || bytes
 *
 * Each entry is a text, and occurs once at most. Unknown types from 80 on are skipped. Pure.
 */
#pragma once

#include "gotthard/trust/token.h"

#define GT_BUNDLE_MAX \
    (1536 * 1024)         /* bytes of an encoded bundle; an access list has a MiB at most */
#define GT_BUNDLE_WHY 200 /* bytes of a reason with its NUL */

enum gt_bundle_entry {
    GT_BUNDLE_NAME = 1,      /* of the device or operator */
    GT_BUNDLE_KEY,           /* gk1d, gk1o or gk1r */
    GT_BUNDLE_CERTIFICATE,   /* for the broker: PEM, the newcomer's own first */
    GT_BUNDLE_AUTHORITIES,   /* the broker's certificate authorities: PEM */
    GT_BUNDLE_PRIVATE_KEY,   /* of the certificate: PEM. In files only */
    GT_BUNDLE_RELAY,         /* HOST:PORT */
    GT_BUNDLE_BROKER,        /* as mqtt.endpoint */
    GT_BUNDLE_AUTHORITY,     /* of the access list: gk1a */
    GT_BUNDLE_ACCESS_LIST,   /* whole, with its signature. With AUTHORITY only */
    GT_BUNDLE_CONFIGURATION, /* further settings, in the syntax of a configuration file */
    GT_BUNDLE_DEVICE_KEYS,   /* operator of some devices: their keys (device-keys.h) */
};
#define GT_BUNDLE_N 12 /* entries are indexed by their type */

struct gt_bundle {
    enum gt_token_kind kind;
    struct gt_span entries[GT_BUNDLE_N]; /* borrow; empty: absent */
};

enum { GT_BUNDLE_E_BAD = 1 }; /* a reason for users was written to @ret_why */

/* Returns "certificate", "access list", ... */
const char *gt_bundle_entry_text(enum gt_bundle_entry entry);
/* Returns the number of bytes of the encoded bundle. */
size_t gt_bundle_size(const struct gt_bundle *bundle);
/* Encodes. @cap: bytes of @ret. E_BAD: an entry, or the whole, is too long for its limit or @cap.
 */
int gt_bundle_encode(const struct gt_bundle *bundle, uint8_t *ret, size_t cap, size_t *ret_n,
                     char ret_why[static GT_BUNDLE_WHY]) GT_MUST_CHECK;
/* Decodes; @ret borrows from @bytes. Returns 0 or E_BAD. */
int gt_bundle_decode(struct gt_span bytes, struct gt_bundle *ret,
                     char ret_why[static GT_BUNDLE_WHY]) GT_MUST_CHECK;
/*
 * Checks the entries that a newcomer of bundle->kind needs: which are there, and that the key is
 * one of this kind and name. @is_file: a bundle file, which must have a private key if it has a
 * certificate; an answer must not have any. Certificates, list and configuration are texts here.
 * Returns 0 or E_BAD.
 */
int gt_bundle_check(const struct gt_bundle *bundle, bool is_file,
                    char ret_why[static GT_BUNDLE_WHY]) GT_MUST_CHECK;
/* Copies an entry as a text. Returns false if it is absent or longer than @cap - 1 bytes. */
bool gt_bundle_text(const struct gt_bundle *bundle, enum gt_bundle_entry entry, char *ret,
                    size_t cap);
