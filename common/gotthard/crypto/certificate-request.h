/* SPDX-License-Identifier: ISC */
/*
 * A certificate request (PKCS #10, RFC 2986) of a newcomer, as the authority of certificates gets
 * it. Only its public key counts, which must be ECDSA P-256: subject and attributes are
 * unchecked claims of the requester.
 */
#pragma once

#include <openssl/x509.h>

#include "gotthard/crypto/statement.h"

#define GT_CERTIFICATE_REQUEST_MAX       2048   /* bytes of DER */
#define GT_CERTIFICATE_KEY_SIGNATURE_MAX 80     /* bytes of an ECDSA P-256 signature in DER */
#define GT_CERTIFICATE_KEY_ALGORITHM     0x0403 /* ecdsa_secp256r1_sha256, RFC 8446, 4.2.3 */

enum { GT_CERTIFICATE_REQUEST_E_BAD = 1 }; /* malformed, or not signed by its key */

/* Checks that @der is exactly one request with a key of P-256, signed by this key. Returns 0 with
 * the SHA-256 of its SubjectPublicKeyInfo, E_BAD, or a negative errno. */
int gt_certificate_request_check(struct gt_span der,
                                 uint8_t ret_fingerprint[static GT_KEY_SIZE]) GT_MUST_CHECK;
/* Returns 0 if the request's key signed @statement, E_BAD if not. */
int gt_certificate_request_verify(struct gt_span der, const struct gt_statement *statement,
                                  struct gt_span signature) GT_MUST_CHECK;
/* Returns the public key of a request that was checked, for its certificate. The caller frees it by
 * EVP_PKEY_free(). E_BAD, or a negative errno. */
int gt_certificate_request_key(struct gt_span der, EVP_PKEY **ret) GT_MUST_CHECK;
