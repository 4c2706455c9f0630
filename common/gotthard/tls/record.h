/* SPDX-License-Identifier: ISC */
/*
 * The records of TLS 1.3 after the handshake (RFC 8446, sections 5.2, 5.3, 7.1 and 7.2): one
 * direction of one connection, which seals or opens records with a traffic secret of the handshake.
 * Pure: the only copy of a byte is its encryption.
 *
 * The record layer of OpenSSL copies each byte three times and allocates memory. OpenSSL still does
 * the handshakes. tls.c processes the content of records (alerts, key updates).
 */
#pragma once

#include "gotthard/crypto/crypto.h"

#define GT_RECORD_HEADER 5
#define GT_RECORD_MAX    ((size_t)1 << 14) /* bytes of content */
#define GT_RECORD_OVERHEAD \
    ((size_t)GT_RECORD_HEADER + 1 + GT_TAG_SIZE) /* bytes added to the content */
#define GT_RECORD_SIZE \
    ((size_t)GT_RECORD_HEADER + GT_RECORD_MAX + 256) /* limit of a received record */

enum gt_record_type { GT_RECORD_ALERT = 21, GT_RECORD_HANDSHAKE = 22, GT_RECORD_DATA = 23 };

enum gt_record_suite { GT_RECORD_AES128 = 0x1301, GT_RECORD_CHACHA20 = 0x1303 };

enum { GT_RECORD_E_BAD = 1 }; /* malformed, or not authentic */

struct gt_record {
    struct evp_cipher_ctx_st *cipher; /* owned */
    enum gt_record_suite suite;
    bool is_sealing;
    uint64_t n_records; /* number of records with the current key: the nonce */
    uint8_t secret[GT_KEY_SIZE], iv[GT_GCM_IV];
};

/* @secret is copied. Returns 0, -ENOMEM or -EIO. Call gt_record_deinit() after a failure as well.
 */
int gt_record_init(struct gt_record *record, enum gt_record_suite suite,
                   const uint8_t secret[static GT_KEY_SIZE], bool is_sealing) GT_MUST_CHECK;
/* Frees the cipher and wipes the keys. A zeroed record is valid. */
void gt_record_deinit(struct gt_record *record);
/* Derives the next secret (KeyUpdate, RFC 8446, section 7.2). Returns 0 or -EIO. */
int gt_record_update(struct gt_record *record) GT_MUST_CHECK;

/* Writes one record of @parts (together at most GT_RECORD_MAX bytes) to @ret, which has room for
 * GT_RECORD_OVERHEAD bytes more. Returns 0 or -EIO. */
int gt_record_seal(struct gt_record *record, enum gt_record_type type, const struct gt_span *parts,
                   size_t n_parts, uint8_t *ret) GT_MUST_CHECK;

/* Returns in *ret the size of the record with this header, header included. Returns 0, or
 * GT_RECORD_E_BAD if it is not the header of an encrypted record. */
int gt_record_size(const uint8_t header[static GT_RECORD_HEADER], size_t *ret) GT_MUST_CHECK;
/*
 * Opens a complete record of @n bytes to @ret, which has room for gt_record_room(@n) bytes and may
 * be the record's own bytes after the header. The content is the first *ret_n bytes of @ret, of
 * type *ret_type (not 0). Returns 0 or GT_RECORD_E_BAD. After the latter, neither @ret nor any
 * later record may be used.
 */
int gt_record_open(struct gt_record *record, const uint8_t *sealed, size_t n, uint8_t *ret,
                   size_t *ret_n, unsigned *ret_type) GT_MUST_CHECK;
static inline size_t gt_record_room(size_t n)
{
    return n - GT_RECORD_HEADER - GT_TAG_SIZE;
}
