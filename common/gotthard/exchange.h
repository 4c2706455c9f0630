/* SPDX-License-Identifier: ISC */
/*
 * The two sides of REQ and ACK, bytes in and bytes out: no MQTT, no clock (the time is a
 * parameter), no file. The operator's side is a struct gt_ask, one question; the device's is a
 * struct gt_responder, which lives as long as the agent. The order of the device's checks is the
 * protocol's (docs/protocol.md, section 2), cheapest first, and everything that a stranger could
 * send ends in a drop with its reason.
 */
#pragma once

#include "gotthard/trust.h"

/* --- the operator's side: ask once, at most one retry after a NAK ------------------------------
 */

struct gt_ask_settings {
    const char *prefix, *operator_, *device, *service,
        *relay; /* keep; relay "" = the device's first */
    uint32_t lifetime_s;
    const struct gt_signer *signer; /* keeps; may be NULL */
    const struct gt_trust *trust;   /* keeps: whom to believe that he is the device */
};

struct gt_ask {
    struct gt_ask_settings settings;
    struct gt_message_keys keys, previous; /* previous: tried on opening, when has_previous */
    bool has_previous;
    char req_topic[GT_TOPIC_MAX + 1], rsp_topic[GT_TOPIC_MAX + 1], state_topic[GT_TOPIC_MAX + 1];
    uint8_t id[GT_REQ_ID_SIZE];
    uint8_t x[GT_KEY_SIZE], gx[GT_KEY_SIZE], th1[GT_KEY_SIZE];
    bool is_outstanding, is_close;
    unsigned n_naks;
};

enum {
    GT_ASK_E_IGNORE = 1, /* not an answer to this question: go on waiting */
    GT_ASK_E_RETRY,      /* a NAK: ask again with the epoch given (once only) */
    GT_ASK_E_REFUSED,    /* an authentic answer that says no: *ret_status */
    GT_ASK_E_UNTRUSTED,  /* sealed well, but not proven to be the device by this side's policy */
};

/* @of_device, @previous (may be NULL): K_dev now and before rotation. GT_MESSAGE_E_BAD: a bad name.
 */
int gt_ask_init(struct gt_ask *ask, const struct gt_ask_settings *settings,
                const uint8_t of_device[static GT_KEY_SIZE], const uint8_t *previous) GT_MUST_CHECK;
void gt_ask_deinit(struct gt_ask *ask);
/* A REQ, with fresh id and key, into @ret (GT_MESSAGE_MAX). @epoch: 16 bytes, zeros when unknown.
 */
int gt_ask_request(struct gt_ask *ask, const uint8_t *epoch, uint8_t *ret,
                   size_t *ret_n) GT_MUST_CHECK;
/* A CLOSE of one session (@rid), or of all this operator may close (NULL). Answered by a
 * NAK_CLOSED. */
int gt_ask_close(struct gt_ask *ask, const uint8_t *epoch, const uint8_t *rid, uint8_t *ret,
                 size_t *ret_n) GT_MUST_CHECK;

struct gt_answer {
    struct gt_ack ack; /* its spans point into buffer */
    struct gt_session_keys keys;
    uint8_t epoch[GT_EPOCH_SIZE]; /* E_RETRY */
    uint16_t nak_code;            /* E_REFUSED by a NAK; else 0xffff */
    uint16_t n_closed;            /* of a CLOSE */
    uint8_t buffer[GT_MESSAGE_MAX];
};

/*
 * What came on the rsp topic. 0: the session is agreed (answer->keys), or the CLOSE was done
 * (answer->n_closed). Whatever is not authentic is E_IGNORE. @now: wall clock, for pins only.
 */
int gt_ask_receive(struct gt_ask *ask, const char *topic, struct gt_span payload, time_t now,
                   struct gt_answer *ret) GT_MUST_CHECK;
/* What came on the state topic; @ret's spans point into @buffer (GT_MESSAGE_MAX). E_IGNORE: not
 * authentic. */
int gt_ask_state(const struct gt_ask *ask, const char *topic, struct gt_span payload,
                 struct gt_state *ret, uint8_t *buffer) GT_MUST_CHECK;

/* --- the device's side ------------------------------------------------------------------------ */

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
    GT_VERDICT_REPLY, /* publish ->reply on ->rsp_topic: a NAK, or the stored answer to a duplicate
                       */
    GT_VERDICT_REQUEST, /* a new, authentic, trusted REQ: decide, then _grant or _deny it */
    GT_VERDICT_CLOSE,   /* an authentic, trusted CLOSE: act, then _closed */
};

struct gt_incoming {
    enum gt_verdict verdict;
    const char *why;       /* static */
    bool is_epoch_rotated; /* publish STATE anew */
    char rsp_topic[GT_TOPIC_MAX + 1];
    uint8_t reply[GT_MESSAGE_MAX];
    size_t n_reply;
    struct gt_req req;        /* REQUEST */
    struct gt_close close;    /* CLOSE */
    const struct gt_pin *pin; /* of the operator; NULL under psk. Borrows from trust */
    uint8_t th1[GT_KEY_SIZE]; /* private to exchange.c, as is: */
    bool is_denied;           /* trusted by the sealing only, refused by the policy: _deny it */
};

/* @now_ms: CLOCK_BOOTTIME; @now: wall clock, for pins only. Negative: libcrypto failed. */
int gt_responder_receive(struct gt_responder *responder, uint64_t now_ms, time_t now,
                         const char *topic, bool is_retained, struct gt_span payload,
                         struct gt_incoming *ret) GT_MUST_CHECK;
/* Answers with an ACK (status OK): fills in->reply, remembers it, and gives the session's keys. */
int gt_responder_grant(struct gt_responder *responder, struct gt_incoming *in,
                       const struct gt_ack *ack, struct gt_session_keys *ret) GT_MUST_CHECK;
/* Answers with an ACK that says no. */
int gt_responder_deny(struct gt_responder *responder, struct gt_incoming *in,
                      enum gt_ack_status status) GT_MUST_CHECK;
/* Answers a CLOSE. */
int gt_responder_closed(struct gt_responder *responder, struct gt_incoming *in,
                        enum gt_nak_code code, uint16_t n_closed) GT_MUST_CHECK;
