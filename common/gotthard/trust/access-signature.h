/* SPDX-License-Identifier: ISC */
/*
 * The authority: the Ed25519 key that signs the access list, and its two halves as texts. The
 * public half is configured on every machine, the private one stays with the fleet key. See
 * docs/protocol.md, section 7. Pure.
 */
#pragma once

#include "gotthard/crypto/ed25519.h"

#define GT_AUTHORITY_PUBLIC_PREFIX  "gk1a."
#define GT_AUTHORITY_PRIVATE_PREFIX "gk1a-private."
#define GT_AUTHORITY_TEXT_MAX       64 /* bytes of either text with its NUL */

enum { GT_AUTHORITY_E_SYNTAX = 1 };

/* Write a text of GT_AUTHORITY_TEXT_MAX; the private one is a secret. */
void gt_authority_format_public(const uint8_t public_key[static GT_KEY_SIZE],
                                char ret[static GT_AUTHORITY_TEXT_MAX]);
void gt_authority_format_private(const uint8_t key[static GT_KEY_SIZE],
                                 char ret[static GT_AUTHORITY_TEXT_MAX]);
/* Return 0, or E_SYNTAX with a static reason for users. */
int gt_authority_parse_public(const char *text, uint8_t ret[static GT_KEY_SIZE],
                              const char **ret_why) GT_MUST_CHECK;
int gt_authority_parse_private(const char *text, uint8_t ret[static GT_KEY_SIZE],
                               const char **ret_why) GT_MUST_CHECK;

/* What a signature is for: one for the whole list is none for a part of it. */
enum gt_access_context { GT_ACCESS_CONTEXT_LIST, GT_ACCESS_CONTEXT_PART };

enum { GT_ACCESS_SIGNATURE_E_BAD = 1 }; /* not signed by this authority */

/* Sign and verify 64 x 0x20 || context || 0 || SHA256(@data), as all signatures of the protocol.
 * Return 0, E_BAD (verify only), or a negative errno. */
int gt_access_sign(const uint8_t key[static GT_KEY_SIZE], enum gt_access_context context,
                   struct gt_span data,
                   uint8_t ret[static GT_ED25519_SIGNATURE_SIZE]) GT_MUST_CHECK;
int gt_access_verify(const uint8_t public_key[static GT_KEY_SIZE], enum gt_access_context context,
                     struct gt_span data,
                     const uint8_t signature[static GT_ED25519_SIGNATURE_SIZE]) GT_MUST_CHECK;
