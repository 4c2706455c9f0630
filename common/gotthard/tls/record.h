/* SPDX-License-Identifier: ISC */
/*
 * The records of TLS 1.3 after its handshake (RFC 8446 sections 5.2, 5.3, 7.1 and 7.2): one
 * direction of one connection, sealing or opening record after record with a traffic secret that
 * the handshake left. Pure: bytes in, bytes out, and exactly one copy, which is the encryption.
 *
 * OpenSSL's own record layer copies each byte three times and allocates on the way. Handshakes stay
 * OpenSSL's; what these records mean (alerts, key updates) is tls.c's.
 */
#pragma once

#include "gotthard/crypto.h"

#define GT_RECORD_HEADER 5
#define GT_RECORD_MAX    ((size_t)1 << 14)                                /* content */
#define GT_RECORD_SPARE  ((size_t)GT_RECORD_HEADER + 1 + GT_TAG_SIZE)     /* around the content */
#define GT_RECORD_SIZE   ((size_t)GT_RECORD_HEADER + GT_RECORD_MAX + 256) /* at most, of a peer */

enum gt_record_type { GT_RECORD_ALERT = 21, GT_RECORD_HANDSHAKE = 22, GT_RECORD_DATA = 23 };

enum gt_record_suite { GT_RECORD_AES128 = 0x1301, GT_RECORD_CHACHA20 = 0x1303 };

enum { GT_RECORD_E_BAD = 1 }; /* no record, or not by who holds the key */

struct gt_record {
    struct evp_cipher_ctx_st *cipher; /* owned */
    enum gt_record_suite suite;
    bool is_sealing;
    uint64_t n_records; /* with the present key: the nonce */
    uint8_t secret[GT_KEY_SIZE], iv[GT_GCM_IV];
};

/* @secret is copied. -ENOMEM, -EIO. Deinit it also on failure, and a zeroed one is fine too. */
int gt_record_init(struct gt_record *record, enum gt_record_suite suite,
                   const uint8_t secret[static GT_KEY_SIZE], bool is_sealing) GT_MUST_CHECK;
/* Wipes. */
void gt_record_deinit(struct gt_record *record);
/* On to the next secret (KeyUpdate); there is no way back. */
int gt_record_update(struct gt_record *record) GT_MUST_CHECK;

/* Writes one record of @parts (GT_RECORD_MAX bytes at most together) to @ret, which has room for
 * GT_RECORD_SPARE more. -EIO. */
int gt_record_seal(struct gt_record *record, enum gt_record_type type, const struct gt_span *parts,
                   size_t n_parts, uint8_t *ret) GT_MUST_CHECK;

/* Of the whole record that begins so, header included: E_BAD when no sealed record does. */
int gt_record_size(const uint8_t header[static GT_RECORD_HEADER], size_t *ret) GT_MUST_CHECK;
/*
 * Opens a whole record of @n bytes into @ret, which has room for gt_record_room(n) and may be the
 * record's own bytes behind the header. The content is the first *ret_n of it, of *ret_type (any
 * number but 0). E_BAD: nothing of @ret may be used, and nothing of what follows.
 */
int gt_record_open(struct gt_record *record, const uint8_t *sealed, size_t n, uint8_t *ret,
                   size_t *ret_n, unsigned *ret_type) GT_MUST_CHECK;
static inline size_t gt_record_room(size_t n)
{
    return n - GT_RECORD_HEADER - GT_TAG_SIZE;
}
