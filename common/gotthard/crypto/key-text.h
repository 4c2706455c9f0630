/* SPDX-License-Identifier: ISC */
/*
 * The texts of keys and salts as people write them: 64 hex digits, base64, or a passphrase. A text
 * that resembles a damaged key is rejected with its cause. It must never silently be another
 * secret.
 */
#pragma once

#include "gotthard/crypto/key.h"

#define GT_KEYTEXT_IV_MAX 64 /* bytes */

/*
 * Decodes a key: @ret has the 32 bytes, and *ret_is_passphrase is false; or the text is a
 * passphrase, and *ret_passphrase points to it within @text. Returns 0, GT_KEY_E_ZERO, E_SYNTAX or
 * one of the conditions of a damaged text.
 */
int gt_keytext_decode(const char *text, uint8_t ret[static GT_KEY_SIZE], bool *ret_is_passphrase,
                      const char **ret_passphrase) GT_MUST_CHECK;

/* Decodes a salt to 16 bytes, or copies a literal text. Returns 0, GT_KEY_E_IV, or GT_KEY_OF_IV
 * with one of the conditions of a damaged text. NULL is GT_KEY_E_IV. */
int gt_keytext_decode_iv(const char *text, uint8_t ret[static GT_KEYTEXT_IV_MAX],
                         size_t *ret_n) GT_MUST_CHECK;

/* Decodes 64 hex digits, or 43-44 base64 characters. */
bool gt_keytext_decode_exact(const char *text, uint8_t ret[static GT_KEY_SIZE]);
