/* SPDX-License-Identifier: ISC */
/*
 * The operator's side of an exchange: one request to one device, sent once, and once more after a
 * NAK. Bytes in and bytes out: no MQTT, no clock (the time is a parameter), no file. A message that
 * is not an authentic answer to the outstanding request must not change anything.
 */
#pragma once

#include "gotthard/signaling/topic.h"
#include "gotthard/signaling/trust.h"

struct gt_initiator_settings {
    const char *prefix, *operator_, *device, *service; /* keeps */
    const char *relay;                                 /* keeps; "" is the device's first relay */
    const char *purpose;                               /* keeps; NULL or "": none */
    bool is_query;                  /* REQs ask for the device's status and open no session */
    uint32_t lifetime_s;            /* of the session; the device may shorten it */
    const struct gt_signer *signer; /* keeps; NULL: requests are not signed */
    const struct gt_trust *trust;   /* keeps; the policy about the device */
};

struct gt_initiator {
    struct gt_initiator_settings settings;
    struct gt_message_keys keys, previous; /* previous: for opening only, if has_previous */
    bool has_previous;
    char req_topic[GT_TOPIC_MAX + 1], rsp_topic[GT_TOPIC_MAX + 1], state_topic[GT_TOPIC_MAX + 1];
    uint8_t id[GT_REQ_ID_SIZE];
    uint8_t x[GT_KEY_SIZE], gx[GT_KEY_SIZE], th1[GT_KEY_SIZE];
    bool is_outstanding, is_close;
    unsigned n_naks;
};

enum {
    GT_INITIATOR_E_IGNORE = 1, /* not an answer to this request: keep waiting */
    GT_INITIATOR_E_RETRY,      /* a NAK: send a request with the given epoch (once only) */
    GT_INITIATOR_E_REFUSED,    /* an authentic answer that denies the request. If it is a NAK, which
                                  is not signed, a REQ stays outstanding; after NAK_BUSY also a
                                  CLOSE */
    GT_INITIATOR_E_UNTRUSTED,  /* correctly sealed, but this side's policy does not accept it as the
                                  device's. The request stays outstanding for the device itself. If
                                  the ACK grants a session, its rid is in ->keys, for a CLOSE */
};

/* @of_device: K_dev; @previous: K_dev before a rotation, or NULL. Returns 0, GT_MESSAGE_E_BAD for
 * an ill-formed name, or a negative errno. The caller calls gt_initiator_deinit() after 0. */
int gt_initiator_init(struct gt_initiator *initiator, const struct gt_initiator_settings *settings,
                      const uint8_t of_device[static GT_KEY_SIZE],
                      const uint8_t *previous) GT_MUST_CHECK;
/* Wipes all keys. */
void gt_initiator_deinit(struct gt_initiator *initiator);
/* Writes a REQ with a fresh id and key into @ret (GT_MESSAGE_MAX). @epoch: GT_EPOCH_SIZE bytes,
 * zeros if unknown. Returns 0, GT_MESSAGE_E_BAD if a name or the message is too long, or a negative
 * errno. */
int gt_initiator_request(struct gt_initiator *initiator, const uint8_t *epoch, uint8_t *ret,
                         size_t *ret_n) GT_MUST_CHECK;
/* Writes a CLOSE with the scope and the purpose of @what, whose names and ids are replaced. The
 * answer is a NAK with code NAK_CLOSED. Returns as gt_initiator_request(). */
int gt_initiator_close(struct gt_initiator *initiator, const uint8_t *epoch,
                       const struct gt_close *what, uint8_t *ret, size_t *ret_n) GT_MUST_CHECK;

struct gt_answer {
    struct gt_ack ack; /* its spans point into ->buffer */
    struct gt_session_keys keys;
    uint8_t epoch[GT_EPOCH_SIZE]; /* E_RETRY */
    uint16_t nak_code;            /* E_REFUSED by a NAK; otherwise 0xffff */
    uint16_t n_closed;            /* sessions that a CLOSE ended */
    uint16_t retry_after_s;       /* E_REFUSED by NAK_BUSY */
    uint8_t buffer[GT_MESSAGE_MAX];
};

/*
 * Handles a message on the rsp topic. @now: wall clock, for the expiry of pins only. Returns 0 if
 * the session is agreed (answer->keys), a query is answered (answer->ack), or the CLOSE is done
 * (answer->n_closed), one of GT_INITIATOR_E_*, or a negative errno. A message that is not authentic
 * is E_IGNORE.
 */
int gt_initiator_receive(struct gt_initiator *initiator, const char *topic, struct gt_span payload,
                         time_t now, struct gt_answer *ret) GT_MUST_CHECK;
/* Handles a message on the state topic. The spans of @ret point into @buffer (GT_MESSAGE_MAX).
 * Returns 0, E_IGNORE if it is not authentic, or a negative errno. */
int gt_initiator_state(const struct gt_initiator *initiator, const char *topic,
                       struct gt_span payload, struct gt_state *ret, uint8_t *buffer) GT_MUST_CHECK;
