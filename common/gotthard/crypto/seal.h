/* SPDX-License-Identifier: ISC */
/*
 * SEAL: authenticated encryption without persistent state. Key and IV of each message are derived
 * from a salt, which is a keyed hash of fresh random bytes and the whole message. Therefore neither
 * a weak nor a repeating random source reuses a nonce. See docs/protocol.md, section 1.
 */
#pragma once

#include "gotthard/crypto/crypto.h"

#define GT_SEAL_OVERHEAD (32 + GT_TAG_SIZE) /* bytes */

/* Writes salt || ciphertext || tag to @ret: pt.n + GT_SEAL_OVERHEAD bytes. @ad (at most 65535
 * bytes) is authenticated as well. Returns as the functions of crypto.h. */
int gt_seal(const uint8_t key[static GT_KEY_SIZE], struct gt_span ad, struct gt_span pt,
            uint8_t *ret) GT_MUST_CHECK;
/* Writes sealed.n - GT_SEAL_OVERHEAD bytes to @ret. Returns GT_CRYPTO_E_BAD if @sealed was not made
 * with this key and @ad. */
int gt_unseal(const uint8_t key[static GT_KEY_SIZE], struct gt_span ad, struct gt_span sealed,
              uint8_t *ret) GT_MUST_CHECK;
