/* SPDX-License-Identifier: ISC */
/*
 * The ClientHello of an unauthenticated peer, before anything is allocated for it: whether it is
 * complete, whom it names, and whether that key made its binder. Pure. See RFC 8446,
 * sections 4.1.2, 4.2.11 and 5.1.
 */
#pragma once

#include "gotthard/crypto/crypto.h"

#define GT_CLIENT_HELLO_IDENTITY_MAX 256  /* bytes */
#define GT_CLIENT_HELLO_MAX          4096 /* bytes; our clients' have about 300 */
#define GT_CLIENT_HELLO_RECORD_MAX   (5 + GT_CLIENT_HELLO_MAX) /* with the head of its record */

struct gt_client_hello {     /* borrows the bytes that it was parsed from */
    struct gt_span message;  /* with its handshake header */
    struct gt_span identity; /* of its only PSK: 1 to GT_CLIENT_HELLO_IDENTITY_MAX bytes */
    struct gt_span binder;   /* GT_KEY_SIZE bytes; the end of the message */
};

enum {
    GT_CLIENT_HELLO_E_AGAIN = 1, /* it may become one with more bytes */
    GT_CLIENT_HELLO_E_FOREIGN,   /* no ClientHello, or one that no client of Gotthard sends */
};

/*
 * Parses @bytes, the beginning of what a peer has sent. Accepts one record with exactly one
 * ClientHello of at most GT_CLIENT_HELLO_MAX bytes, which offers exactly one PSK with a binder of
 * SHA-256. Bytes after the record are ignored. Other fields are OpenSSL's to judge. E_AGAIN,
 * E_FOREIGN.
 */
int gt_client_hello_parse(struct gt_span bytes, struct gt_client_hello *ret) GT_MUST_CHECK;
/*
 * Returns true if the binder of @hello was made with the external PSK @psk: its sender has the key,
 * or repeats the bytes of one who has. The caller must recognize repeated binders.
 */
bool gt_client_hello_proves(const struct gt_client_hello *hello,
                            const uint8_t psk[static GT_KEY_SIZE]);
