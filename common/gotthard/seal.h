/* SPDX-License-Identifier: ISC */
/*
 * SEAL: authenticated encryption with nothing to persist. The key and IV of each message come from
 * a salt that is itself a keyed hash of fresh randomness and the whole message, so neither a weak
 * random source nor a repeated one reuses a nonce. See docs/protocol.md, section 1.
 */
#pragma once

#include "gotthard/crypto.h"

#define GT_SEAL_OVERHEAD (32 + GT_TAG_SIZE)

/* Writes salt || ciphertext || tag: pt.n + GT_SEAL_OVERHEAD bytes into @ret. */
int gt_seal(const uint8_t key[static GT_KEY_SIZE], struct gt_span ad, struct gt_span pt,
            uint8_t *ret) GT_MUST_CHECK;
/* Writes sealed.n - GT_SEAL_OVERHEAD bytes. GT_CRYPTO_E_BAD: not sealed with this key and @ad. */
int gt_unseal(const uint8_t key[static GT_KEY_SIZE], struct gt_span ad, struct gt_span sealed,
              uint8_t *ret) GT_MUST_CHECK;
