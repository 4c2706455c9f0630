/* SPDX-License-Identifier: ISC */
/*
 * The private key of a certificate that does not exist yet: ECDSA P-256 (FIPS 186-5). It is made on
 * the machine that will use it, asks for its certificate by a request (PKCS #10, RFC 2986), and
 * signs statements of the protocol. certificate-request.h is the other side.
 *
 * Functions return 0, or a negative errno if libcrypto failed.
 */
#pragma once

#include "gotthard/crypto/certificate-request.h"
#include "gotthard/crypto/statement.h"

struct gt_certificate_key;

int gt_certificate_key_new(struct gt_certificate_key **ret) GT_MUST_CHECK;
/* Takes NULL; returns NULL. */
struct gt_certificate_key *gt_certificate_key_free(struct gt_certificate_key *key);

/* The private key in PEM (PKCS #8), not encrypted: terminated, the NUL is not counted. The
 * caller wipes and frees it. */
int gt_certificate_key_format(const struct gt_certificate_key *key, char **ret,
                              size_t *ret_n) GT_MUST_CHECK;
/* Writes a certificate request in DER whose subject is CN=@name. A certificate authority must not
 * take the name from it. @ret: GT_CERTIFICATE_REQUEST_MAX bytes. */
int gt_certificate_key_request(const struct gt_certificate_key *key, const char *name, uint8_t *ret,
                               size_t *ret_n) GT_MUST_CHECK;
/* Writes the SHA-256 of the SubjectPublicKeyInfo. */
int gt_certificate_key_fingerprint(const struct gt_certificate_key *key,
                                   uint8_t ret[static GT_KEY_SIZE]) GT_MUST_CHECK;
/* Signs by ecdsa_secp256r1_sha256. */
int gt_certificate_key_sign(const struct gt_certificate_key *key,
                            const struct gt_statement *statement,
                            uint8_t ret[static GT_CERTIFICATE_KEY_SIGNATURE_MAX],
                            size_t *ret_n) GT_MUST_CHECK;
