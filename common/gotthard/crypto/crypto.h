/* SPDX-License-Identifier: ISC */
/*
 * The primitives, each a few lines over libcrypto's EVP interface, with the checks that OpenSSL
 * 3.0 leaves to its caller. Besides this file only trust.c (signatures) and record.c
 * (the way of the bytes) know EVP.
 *
 * A negative return is a failure of libcrypto itself (-ENOMEM, -EIO); GT_CRYPTO_E_BAD means that
 * the input did not verify or was not acceptable.
 */
#pragma once

#include "gotthard/bytes.h"

#define GT_KEY_SIZE 32 /* of every symmetric key, hash, X25519 key and PSK */
#define GT_TAG_SIZE 16
#define GT_GCM_IV   12
#define GT_KEYIV    (GT_KEY_SIZE + GT_GCM_IV) /* key || iv, as the schedule derives them */

enum { GT_CRYPTO_E_BAD = 1 };

void gt_wipe(void *data, size_t n);                       /* OPENSSL_cleanse */
bool gt_is_equal(const void *a, const void *b, size_t n); /* constant time */
int gt_random(void *ret, size_t n) GT_MUST_CHECK;

int gt_sha256(const struct gt_span *parts, size_t n_parts,
              uint8_t ret[static GT_KEY_SIZE]) GT_MUST_CHECK;
int gt_hmac(struct gt_span key, const struct gt_span *parts, size_t n_parts,
            uint8_t ret[static GT_KEY_SIZE]) GT_MUST_CHECK;
/* RFC 5869 with SHA-256. An empty @ikm is refused (E_BAD): libcrypto would take it. */
int gt_hkdf_extract(struct gt_span salt, struct gt_span ikm,
                    uint8_t ret[static GT_KEY_SIZE]) GT_MUST_CHECK;
int gt_hkdf_expand(const uint8_t prk[static GT_KEY_SIZE], struct gt_span info, void *ret,
                   size_t n) GT_MUST_CHECK;
/* Expand with info = "gotthard/1 " || label || 0 || context: the schedule's one step, X() in
 * docs/protocol.md. E_BAD when @context is longer than 256 bytes. */
int gt_hkdf_label(const uint8_t key[static GT_KEY_SIZE], const char *label, struct gt_span context,
                  void *ret, size_t n) GT_MUST_CHECK;
/* RFC 7914, N=2^14 r=8 p=1. */
int gt_scrypt(struct gt_span passphrase, struct gt_span salt,
              uint8_t ret[static GT_KEY_SIZE]) GT_MUST_CHECK;

/* RFC 7748. E_BAD when @peer is a low-order point (the result would be all zero). */
int gt_x25519_public(const uint8_t key[static GT_KEY_SIZE],
                     uint8_t ret[static GT_KEY_SIZE]) GT_MUST_CHECK;
int gt_x25519(const uint8_t key[static GT_KEY_SIZE], const uint8_t peer[static GT_KEY_SIZE],
              uint8_t ret[static GT_KEY_SIZE]) GT_MUST_CHECK;

/* AES-256-GCM, 16-byte tag after the ciphertext: @ret has room for pt.n + 16, or ct.n - 16. */
int gt_aead_seal(const uint8_t keyiv[static GT_KEYIV], struct gt_span ad, struct gt_span pt,
                 uint8_t *ret) GT_MUST_CHECK;
/* Releases nothing into @ret unless the tag is right. E_BAD otherwise, or when ct.n < 16. */
int gt_aead_open(const uint8_t keyiv[static GT_KEYIV], struct gt_span ad, struct gt_span ct,
                 uint8_t *ret) GT_MUST_CHECK;
