/* SPDX-License-Identifier: ISC */
/*
 * The proof by which the main port admits a connection: its ClientHello was made with a key that
 * this relay knows (limits/admission.h), and was not admitted before. It is checked before anything
 * is allocated for the connection. A proof admits a connection whatever other connections of its
 * source have done.
 *
 * A ClientHello costs one calculation of a binder for each key of the relay. An unknown identity
 * costs as much as a known one.
 */
#pragma once

#include "gotthard/tls/client-hello.h"
#include "limits/admission.h"
#include "limits/seen-binders.h"

/* The key that a ClientHello was made with. Secret. */
struct proof {
    char identity[GT_IDENTITY_MAX + 1]; /* "g1:o:alice" */
    uint8_t psk[GT_KEY_SIZE];
    uint8_t key_id[GT_KEY_ID_SIZE]; /* of the relay's key that the PSK is derived from */
};

enum {
    PROOF_E_WRONG_KEY = 1, /* made with another key, or the identity is unknown or refused */
    PROOF_E_REPLAYED,      /* admitted before */
};

/* Decides about @hello, and adds an admitted one to @seen. E_WRONG_KEY, E_REPLAYED. */
int proof_check(const struct admission *admission, struct seen_binders *seen,
                const struct gt_client_hello *hello, struct proof *ret) GT_MUST_CHECK;
