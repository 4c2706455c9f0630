/* SPDX-License-Identifier: ISC */
/*
 * Internal state of a connection and of its context, private to tls.c, tls-handshake.c and
 * tls-context.c.
 */
#pragma once

#include <openssl/ssl.h>
#include <time.h>

#include "gotthard/tls/record.h"
#include "gotthard/tls/tls.h"

#define GT_TLS_IDENTITY_MAX 256
#define GT_TLS_ALPN_MAX     64

struct gt_tls_context {
    SSL_CTX *ssl;
    BIO_METHOD *method;
    uint8_t alpn[1 + GT_TLS_ALPN_MAX]; /* length and name, as in the ALPN extension (RFC 7301) */
};

enum tls_state {
    TLS_HANDSHAKE,
    TLS_OPEN,
    TLS_CLOSED, /* close_notify received; writing is still possible */
    TLS_BROKEN,
};

enum { TLS_SECRET_OF_CLIENT = 1, TLS_SECRET_OF_SERVER = 2 };

struct gt_tls {
    SSL *ssl; /* owned; NULL after the handshake */
    enum tls_state state;
    bool is_refused;       /* the handshake failed by an alert or a check */
    bool is_out_of_memory; /* the handshake failed on this side; no alert is sent */
    const char *why;
    struct gt_iobuf iobuf;
    const struct gt_tls_context *context;

    gt_tls_psk_fn find; /* server */
    void *userdata;
    uint8_t identity[GT_TLS_IDENTITY_MAX];
    size_t n_identity;
    bool is_psk_offered;      /* server: the client offered a PSK, known or not */
    uint8_t psk[GT_KEY_SIZE]; /* client, wiped after the handshake */

    /* The traffic secrets of the handshake: the client's and the server's sending direction. */
    uint8_t secrets[2][GT_KEY_SIZE];
    unsigned has_secrets; /* bits TLS_SECRET_OF_x */
    const char *suite;
    struct gt_record reading, writing;
    struct gt_span plain; /* decrypted, and not yet returned by gt_tls_read() */
    unsigned n_empty;     /* consecutive records without data */

    uint64_t key_bytes, key_bytes_max; /* written with the current key, and their limit */
    time_t key_since;
    bool is_update_requested; /* the peer requested an update of our key */
    time_t update_second;     /* CLOCK_MONOTONIC: the second of ->n_updates */
    unsigned n_updates;
};

/* Returns seconds of CLOCK_MONOTONIC_COARSE: cheap, and exact enough for limits. */
static inline time_t tls_now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return now.tv_sec;
}

/* Marks @tls as failed. The first reason is kept. Returns GT_TLS_E_BROKEN. */
static inline int tls_break(struct gt_tls *tls, const char *why)
{
    if (tls->state != TLS_BROKEN) {
        tls->state = TLS_BROKEN;
        tls->why = why;
    }
    return GT_TLS_E_BROKEN;
}
