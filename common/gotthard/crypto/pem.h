/* SPDX-License-Identifier: ISC */
/*
 * Certificates and private keys in PEM (RFC 7468), from the bytes of a file. A file that is not
 * usable gets a precise reason: a reader that skips damaged blocks would trust less, or other
 * authorities, than the file's author intended. Pure.
 */
#pragma once

#include <openssl/x509.h>

#include "gotthard/base/bytes.h"

#define GT_PEM_WHY 160 /* bytes of a reason with its NUL */

enum { GT_PEM_E_BAD = 1 }; /* a reason for people, without the file, was written to @ret_why */

/*
 * Parses every certificate of @text, of at least one. LF and CRLF, a UTF-8 byte order mark, text
 * between the blocks and blocks of another kind are accepted. A block that is cut off or damaged is
 * not. *ret: in the order of the file; the caller frees it by gt_pem_certificates_free(). Returns
 * 0, E_BAD or -ENOMEM.
 */
int gt_pem_certificates(struct gt_span text, struct stack_st_X509 **ret,
                        char ret_why[static GT_PEM_WHY]) GT_MUST_CHECK;
struct stack_st_X509 *gt_pem_certificates_free(struct stack_st_X509 *certificates);

/* Parses the only private key of @text, which must not be encrypted. The caller frees it by
 * EVP_PKEY_free(). Returns as above. */
int gt_pem_key(struct gt_span text, EVP_PKEY **ret, char ret_why[static GT_PEM_WHY]) GT_MUST_CHECK;

/* Writes @key in PEM (PKCS #8), not encrypted. *ret: terminated, the NUL is not counted; the caller
 * wipes and frees it. Returns 0 or a negative errno. */
int gt_pem_format_key(EVP_PKEY *key, char **ret, size_t *ret_n) GT_MUST_CHECK;
/* Writes public DER in PEM. @label: "CERTIFICATE". The caller frees *ret. Returns 0 or a negative
 * errno. */
int gt_pem_format(const char *label, struct gt_span der, char **ret) GT_MUST_CHECK;
