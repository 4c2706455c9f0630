/* SPDX-License-Identifier: ISC */
/*
 * Ed25519 signatures (RFC 8032) with plain keys of 32 bytes, without certificates. Thread-safe.
 * Return 0, a negative errno if libcrypto itself failed, or GT_CRYPTO_E_BAD.
 */
#pragma once

#include "gotthard/crypto/crypto.h"

#define GT_ED25519_SIGNATURE_SIZE 64

/* @key: the private key, any 32 random bytes. */
int gt_ed25519_public(const uint8_t key[static GT_KEY_SIZE],
                      uint8_t ret[static GT_KEY_SIZE]) GT_MUST_CHECK;
int gt_ed25519_sign(const uint8_t key[static GT_KEY_SIZE], struct gt_span message,
                    uint8_t ret[static GT_ED25519_SIGNATURE_SIZE]) GT_MUST_CHECK;
/* Returns 0 if @signature is valid for @message and the public key, else E_BAD. */
int gt_ed25519_verify(const uint8_t public_key[static GT_KEY_SIZE], struct gt_span message,
                      const uint8_t signature[static GT_ED25519_SIGNATURE_SIZE]) GT_MUST_CHECK;
