/* SPDX-License-Identifier: ISC */
/*
 * The key agreement of REQ and ACK, computed equally by both sides: from X25519 (RFC 7748) and the
 * device's key to the key of the ACK and to the session's keys. See docs/protocol.md, section 2.
 * The names are those of the document: th1 is the hash of the request, prk the shared secret.
 */
#pragma once

#include "gotthard/signaling/message.h"

/* "GTM1" 02 || req_id || gy, before the box. */
#define GT_ACK_HEADER (GT_MESSAGE_HEADER + GT_REQ_ID_SIZE + GT_KEY_SIZE)

/* The values that both sides have before the ACK is written or opened. */
struct gt_key_agreement {
    const uint8_t *mix; /* K_mix; borrows */
    const char *topic;  /* the rsp topic; borrows */
    uint8_t id[GT_REQ_ID_SIZE];
    uint8_t th1[GT_KEY_SIZE];
    uint8_t gy[GT_KEY_SIZE];
    uint8_t prk[GT_KEY_SIZE]; /* secret; set by gt_key_agreement_derive() */
};

/* Computes ->prk from this side's private key and the other side's public key. Returns 0,
 * GT_CRYPTO_E_BAD for a low-order point, or a negative errno. */
int gt_key_agreement_derive(struct gt_key_agreement *agreement,
                            const uint8_t own[static GT_KEY_SIZE],
                            const uint8_t other[static GT_KEY_SIZE]) GT_MUST_CHECK;
/* Writes the whole ACK into @ret (GT_MESSAGE_MAX). Returns 0, GT_MESSAGE_E_BAD if it does not fit,
 * or a negative errno. */
int gt_key_agreement_seal(const struct gt_key_agreement *agreement, struct gt_span inner,
                          uint8_t *ret, size_t *ret_n) GT_MUST_CHECK;
/* @ack: at most GT_MESSAGE_MAX bytes. Writes the plaintext into @ret_inner (GT_MESSAGE_MAX).
 * Returns 0, GT_MESSAGE_E_BAD if it was not sealed with this agreement, or a negative errno. */
int gt_key_agreement_open(const struct gt_key_agreement *agreement, struct gt_span ack,
                          uint8_t *ret_inner, size_t *ret_n) GT_MUST_CHECK;
/* Derives K_sess and rid from the whole ACK, exactly as transmitted. Returns 0 or a negative
 * errno. */
int gt_key_agreement_session(const struct gt_key_agreement *agreement, struct gt_span ack,
                             struct gt_session_keys *ret) GT_MUST_CHECK;
