/* SPDX-License-Identifier: ISC */
/*
 * The device's side of an exchange; lives as long as the agent. Bytes in and bytes out: no MQTT, no
 * clock (the time is a parameter), no file. The order of its checks is the protocol's
 * (docs/protocol.md, section 2), cheapest first, and everything that a stranger could send ends in
 * a drop with its reason.
 */
#pragma once

#include "gotthard/agreement.h"
#include "gotthard/trust.h"

#define GT_SEEN_MAX       1024 /* answers remembered in an epoch; then the epoch rotates */
#define GT_EPOCH_GRACE_MS 60000
#define GT_EPOCH_LIFE_MS  (24 * 3600 * 1000ull)
#define GT_REQ_RATE_PER_S 5
#define GT_REQ_BURST      20

struct gt_responder;

struct gt_responder_settings {
    const char *prefix, *device;    /* copies */
    const struct gt_signer *signer; /* keeps; may be NULL */
    const struct gt_trust *trust;   /* keeps */
};

/* @previous may be NULL. @now_ms: CLOCK_BOOTTIME, as everywhere below. */
int gt_responder_new(const struct gt_responder_settings *settings,
                     const uint8_t of_device[static GT_KEY_SIZE], const uint8_t *previous,
                     uint64_t now_ms, struct gt_responder **ret) GT_MUST_CHECK;
struct gt_responder *gt_responder_free(struct gt_responder *responder);
const char *gt_responder_req_topic(const struct gt_responder *responder);
const char *gt_responder_state_topic(const struct gt_responder *responder);
/* Rotates the epoch when its time has come (or when forced). True: STATE must be published anew. */
bool gt_responder_tick(struct gt_responder *responder, uint64_t now_ms);
/* After a reload; keeps epochs and what was seen. Both kept. */
void gt_responder_set_trust(struct gt_responder *responder, const struct gt_signer *signer,
                            const struct gt_trust *trust);

/* A STATE message (retained, and the will when !is_online) into @ret (GT_MESSAGE_MAX). */
int gt_responder_state(struct gt_responder *responder, bool is_online,
                       const struct gt_extensions *extensions, uint8_t *ret,
                       size_t *ret_n) GT_MUST_CHECK;

enum gt_verdict {
    GT_VERDICT_DROP,  /* say nothing; ->why is for a rate-limited log line */
    GT_VERDICT_REPLY, /* publish ->reply on ->rsp_topic: a NAK, the stored answer to a duplicate, or
                         the no of the policy (is_denied) */
    GT_VERDICT_REQUEST, /* a new, authentic, trusted REQ: decide, then _grant or _deny it */
    GT_VERDICT_CLOSE,   /* an authentic, trusted CLOSE: act, then _closed */
};

struct gt_incoming {
    enum gt_verdict verdict;
    const char *why;       /* static: why it was dropped, or answered like that */
    bool is_epoch_rotated; /* publish STATE anew */
    bool is_denied;        /* sealed well, refused by the policy; ->reply says so already */
    char rsp_topic[GT_TOPIC_MAX + 1];
    uint8_t reply[GT_MESSAGE_MAX];
    size_t n_reply;
    struct gt_req req;        /* REQUEST, and is_denied */
    struct gt_close close;    /* CLOSE */
    const struct gt_pin *pin; /* of the operator; NULL under psk. Borrows from trust */

    /* private to responder.c */
    const struct gt_message_keys *keys; /* those that opened it */
    struct gt_agreement agreement;
};

/*
 * @now_ms: CLOCK_BOOTTIME; @now: wall clock, for pins only. Negative: libcrypto failed. What gave
 * REQUEST holds secrets until it was granted or denied.
 */
int gt_responder_receive(struct gt_responder *responder, uint64_t now_ms, time_t now,
                         const char *topic, bool is_retained, struct gt_span payload,
                         struct gt_incoming *ret) GT_MUST_CHECK;
/* Answers with an ACK (status OK): fills in->reply, remembers it, and gives the session's keys.
 * Extensions that would not fit into one message are left out. */
int gt_responder_grant(struct gt_responder *responder, struct gt_incoming *in,
                       const struct gt_ack *ack, struct gt_session_keys *ret) GT_MUST_CHECK;
/* Answers with an ACK that says no. */
int gt_responder_deny(struct gt_responder *responder, struct gt_incoming *in,
                      enum gt_ack_status status) GT_MUST_CHECK;
/* Answers a CLOSE. */
int gt_responder_closed(struct gt_responder *responder, struct gt_incoming *in,
                        enum gt_nak_code code, uint16_t n_closed) GT_MUST_CHECK;
