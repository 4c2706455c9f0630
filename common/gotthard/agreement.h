/* SPDX-License-Identifier: ISC */
/*
 * What the two sides of REQ and ACK compute alike: from X25519 and the device's key to the key of
 * the ACK and to the session's keys. See docs/protocol.md, section 2. The names follow it: th1 is
 * the hash of what was asked, prk the secret both come to.
 */
#pragma once

#include "gotthard/message.h"

/* "GTM1" 02 || req_id || gy, before the box. */
#define GT_ACK_HEADER (GT_MESSAGE_HEADER + GT_REQ_ID_SIZE + GT_KEY_SIZE)

/* What both sides know before the ACK is written or opened. */
struct gt_agreement {
    const uint8_t *mix; /* K_mix; borrows */
    const char *topic;  /* the rsp topic; borrows */
    uint8_t id[GT_REQ_ID_SIZE];
    uint8_t th1[GT_KEY_SIZE];
    uint8_t gy[GT_KEY_SIZE];
    uint8_t prk[GT_KEY_SIZE]; /* secret; gt_agreement_meet sets it */
};

/* prk from the own private key and the other's public one. GT_CRYPTO_E_BAD: a low-order point. */
int gt_agreement_meet(struct gt_agreement *agreement, const uint8_t own[static GT_KEY_SIZE],
                      const uint8_t other[static GT_KEY_SIZE]) GT_MUST_CHECK;
/* Writes the whole ACK into @ret (GT_MESSAGE_MAX). GT_MESSAGE_E_BAD: it would not fit. */
int gt_agreement_seal(const struct gt_agreement *agreement, struct gt_span inner, uint8_t *ret,
                      size_t *ret_n) GT_MUST_CHECK;
/* @ack: at most GT_MESSAGE_MAX bytes. Writes inner2 (room for GT_MESSAGE_MAX). GT_MESSAGE_E_BAD:
 * not sealed with this. */
int gt_agreement_open(const struct gt_agreement *agreement, struct gt_span ack, uint8_t *ret_inner,
                      size_t *ret_n) GT_MUST_CHECK;
/* K_sess and rid, from the whole ACK as it was on the wire. */
int gt_agreement_session(const struct gt_agreement *agreement, struct gt_span ack,
                         struct gt_session_keys *ret) GT_MUST_CHECK;
