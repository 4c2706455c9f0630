/* SPDX-License-Identifier: ISC */
/*
 * A certificate authority of a fleet's own: its key, its root certificate, and the certificates
 * that it issues to clients of the broker (RFC 5280). Of a certificate request only the public key
 * is used: name and validity are the caller's. Pure.
 */
#pragma once

#include <time.h>

#include "gotthard/crypto/certificate-request.h"

#define GT_CERTIFICATE_NAME_MAX 64  /* bytes of a common name: RFC 5280, appendix A.1 */
#define GT_ISSUER_WHY           192 /* bytes of a reason with its NUL */

enum { GT_ISSUER_E_BAD = 1 }; /* a reason for people was written to @ret_why */

struct gt_issuer;

/* Makes a key (ECDSA P-256) and its root certificate, valid from @now for @days. Both texts are
 * PEM; the caller frees them, and wipes the key before. Returns 0 or a negative errno. */
int gt_issuer_create(const char *name, time_t now, unsigned days, char **ret_key,
                     char **ret_certificate) GT_MUST_CHECK;

/* Parses the two PEM texts: the first certificate must be one of an authority, and belong to the
 * key. Returns 0, E_BAD or a negative errno. */
int gt_issuer_load(struct gt_span certificate, struct gt_span key, struct gt_issuer **ret,
                   char ret_why[static GT_ISSUER_WHY]) GT_MUST_CHECK;
/* Takes NULL; returns NULL. */
struct gt_issuer *gt_issuer_free(struct gt_issuer *issuer);

#define GT_CERTIFICATE_SERIAL_TEXT                                 \
    (2 * 16 + 1) /* bytes of a serial in hexadecimal, with its NUL \
                  */

struct gt_issued {
    char *pem; /* owned by the caller */
    char serial[GT_CERTIFICATE_SERIAL_TEXT];
    time_t not_after;
};

/*
 * Issues a certificate for the key of @request (DER), with the subject "CN=@name", from an hour
 * before @now until @not_after, or until the authority itself ends if that is earlier. It is for
 * clients of TLS, and can issue none itself. Refuses a request that
 * gt_certificate_request_check() refuses, and a time outside of the authority's own. Returns 0,
 * E_BAD or a negative errno.
 */
int gt_issuer_issue(const struct gt_issuer *issuer, struct gt_span request, const char *name,
                    time_t now, time_t not_after, struct gt_issued *ret,
                    char ret_why[static GT_ISSUER_WHY]) GT_MUST_CHECK;

/* Writes the SHA-256 of the SubjectPublicKeyInfo of the first certificate of a PEM text, which
 * another authority has issued. Returns 0, E_BAD or a negative errno. */
int gt_certificate_fingerprint(struct gt_span pem, uint8_t ret[static GT_KEY_SIZE],
                               char ret_why[static GT_ISSUER_WHY]) GT_MUST_CHECK;
