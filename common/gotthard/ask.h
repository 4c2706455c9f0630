/* SPDX-License-Identifier: ISC */
/*
 * The operator's side of an exchange: one question to one device, asked once and at most once more
 * after a NAK. Bytes in and bytes out: no MQTT, no clock (the time is a parameter), no file. What
 * is not an authentic answer to this question changes nothing.
 */
#pragma once

#include "gotthard/trust.h"

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
    GT_ASK_E_UNTRUSTED,  /* sealed well, but not proven to be the device by this side's policy; the
                            question stays open for the device itself. When the ACK says yes, its
                            session's rid is in ->keys, so that it can be closed */
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
