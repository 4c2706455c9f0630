/* SPDX-License-Identifier: ISC */
/*
 * Cryptographic primitives over the EVP interface of libcrypto, with the checks that OpenSSL 3.0
 * leaves to its caller. Only ed25519.c, trust.c (signatures) and record.c (TLS records) use EVP as
 * well.
 *
 * All functions return 0, a negative errno if libcrypto itself failed (-ENOMEM, -EIO), or
 * GT_CRYPTO_E_BAD. On failure @ret has no valid content. Thread-safe.
 */
#pragma once

#include "gotthard/base/bytes.h"

#define GT_KEY_SIZE 32 /* bytes of each symmetric key, hash, X25519 key and PSK */
#define GT_TAG_SIZE 16
#define GT_GCM_IV   12
#define GT_KEYIV    (GT_KEY_SIZE + GT_GCM_IV) /* key || IV, as the key schedule derives them */

enum { GT_CRYPTO_E_BAD = 1 }; /* the input did not verify, or is not acceptable */

/* Overwrites @n bytes, which the compiler must not optimize away (OPENSSL_cleanse(3)). */
void gt_wipe(void *data, size_t n);
/* Compares in constant time. */
bool gt_is_equal(const void *a, const void *b, size_t n);
int gt_random(void *ret, size_t n) GT_MUST_CHECK;

/* Hashes the concatenation of @parts. */
int gt_sha256(const struct gt_span *parts, size_t n_parts,
              uint8_t ret[static GT_KEY_SIZE]) GT_MUST_CHECK;
/* HMAC-SHA256 (RFC 2104) of the concatenation of @parts. */
int gt_hmac(struct gt_span key, const struct gt_span *parts, size_t n_parts,
            uint8_t ret[static GT_KEY_SIZE]) GT_MUST_CHECK;
/* HKDF (RFC 5869) with SHA-256. Returns GT_CRYPTO_E_BAD for an empty @ikm, which libcrypto accepts.
 */
int gt_hkdf_extract(struct gt_span salt, struct gt_span ikm,
                    uint8_t ret[static GT_KEY_SIZE]) GT_MUST_CHECK;
int gt_hkdf_expand(const uint8_t prk[static GT_KEY_SIZE], struct gt_span info, void *ret,
                   size_t n) GT_MUST_CHECK;
/* HKDF-Expand with info = "gotthard/1 " || @label || 0 || @context: the single step of the key
 * schedule, X() in docs/protocol.md. @context: at most 256 bytes, else GT_CRYPTO_E_BAD. */
int gt_hkdf_label(const uint8_t key[static GT_KEY_SIZE], const char *label, struct gt_span context,
                  void *ret, size_t n) GT_MUST_CHECK;
/* HKDF-Expand-Label of TLS 1.3 (RFC 8446, section 7.1). @label: without "tls13 ", at most 12 bytes;
 * @context: at most 32 bytes. */
int gt_hkdf_expand_label(const uint8_t secret[static GT_KEY_SIZE], const char *label,
                         struct gt_span context, void *ret, size_t n) GT_MUST_CHECK;
/* scrypt (RFC 7914) with N = 2^14, r = 8, p = 1. */
int gt_scrypt(struct gt_span passphrase, struct gt_span salt,
              uint8_t ret[static GT_KEY_SIZE]) GT_MUST_CHECK;

/* X25519 (RFC 7748). gt_x25519() returns GT_CRYPTO_E_BAD if @peer is a low-order point, for which
 * the shared secret is zero. */
int gt_x25519_public(const uint8_t key[static GT_KEY_SIZE],
                     uint8_t ret[static GT_KEY_SIZE]) GT_MUST_CHECK;
int gt_x25519(const uint8_t key[static GT_KEY_SIZE], const uint8_t peer[static GT_KEY_SIZE],
              uint8_t ret[static GT_KEY_SIZE]) GT_MUST_CHECK;

/* AES-256-GCM with the tag of 16 bytes after the ciphertext. @ret has room for pt.n + 16 or ct.n -
 * 16 bytes. @ad: additional authenticated data. */
int gt_aead_seal(const uint8_t keyiv[static GT_KEYIV], struct gt_span ad, struct gt_span pt,
                 uint8_t *ret) GT_MUST_CHECK;
/* Writes to @ret only if the tag is valid. Otherwise, or if ct.n < 16, returns GT_CRYPTO_E_BAD. */
int gt_aead_open(const uint8_t keyiv[static GT_KEYIV], struct gt_span ad, struct gt_span ct,
                 uint8_t *ret) GT_MUST_CHECK;
