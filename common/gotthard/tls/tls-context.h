/* SPDX-License-Identifier: ISC */
/*
 * What tls.c, tlshandshake.c and tlscontext.c know together and nobody else does: the insides of a
 * connection and of the context it comes from.
 */
#pragma once

#include <openssl/ssl.h>
#include <time.h>

#include "gotthard/record.h"
#include "gotthard/tls.h"

#define GT_TLS_IDENTITY_MAX 256
#define GT_TLS_ALPN_MAX     64

struct gt_tls_context {
    SSL_CTX *ssl;
    BIO_METHOD *method;
    uint8_t alpn[1 + GT_TLS_ALPN_MAX]; /* length and name, as in the extension */
};

enum tls_state {
    TLS_HANDSHAKE,
    TLS_OPEN,
    TLS_CLOSED, /* by the peer's close_notify; writing is still possible */
    TLS_BROKEN,
};

enum { TLS_SECRET_OF_CLIENT = 1, TLS_SECRET_OF_SERVER = 2 };

struct gt_tls {
    SSL *ssl; /* for the handshake; NULL after it */
    enum tls_state state;
    bool is_refused; /* broken by an alert or a failed check, before it was open */
    const char *why;
    struct gt_batch batch;
    const struct gt_tls_context *context;

    gt_tls_psk_fn find;     /* server */
    gt_tls_psk_fn previous; /* server: another key of the same identity, or NULL */
    uint8_t *hello;         /* owned; the ClientHello, kept while ->previous may be asked */
    size_t n_hello;
    void *userdata;
    uint8_t identity[GT_TLS_IDENTITY_MAX];
    size_t n_identity;
    bool is_asked;            /* server: a key was asked for, whether it is known or not */
    uint8_t psk[GT_KEY_SIZE]; /* client, wiped after the handshake */

    /* What the handshake leaves: by whom it is written with, the client's and the server's. */
    uint8_t secrets[2][GT_KEY_SIZE];
    unsigned has_secrets; /* which are there: TLS_SECRET_OF_* */
    const char *suite;
    struct gt_record reading, writing;
    struct gt_span plain; /* opened, and not yet taken by gt_tls_read */
    unsigned n_empty;     /* records in a row */

    uint64_t key_bytes, key_bytes_max; /* written with the present key, and at most */
    time_t key_since;
    bool is_update_asked; /* by the peer, of our key */
    time_t update_second; /* of CLOCK_MONOTONIC: when the updates were counted */
    unsigned n_updates;
};

/* Seconds of CLOCK_MONOTONIC, for what need not be exact. */
static inline time_t tls_now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return now.tv_sec;
}

/* The first reason stays. */
static inline int tls_break(struct gt_tls *tls, const char *why)
{
    if (tls->state != TLS_BROKEN) {
        tls->state = TLS_BROKEN;
        tls->why = why;
    }
    return GT_TLS_E_BROKEN;
}
