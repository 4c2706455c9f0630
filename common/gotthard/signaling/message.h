/* SPDX-License-Identifier: ISC */
/*
 * The messages over MQTT ("GTM1"): one struct for each kind, and its encoding. The outer form is
 * magic, type and SEAL, the inner form is the plaintext. initiator.c and responder.c decide which
 * messages are accepted. See docs/protocol.md, section 2. Spans in decoded structs point into the
 * caller's buffer.
 */
#pragma once

#include "gotthard/crypto/key.h"
#include "gotthard/crypto/seal.h"
#include "gotthard/signaling/extensions.h"

#define GT_MESSAGE_MAX     8192 /* bytes of payload; a longer message is dropped unread */
#define GT_MESSAGE_HEADER  5    /* "GTM1" and the type */
#define GT_EPOCH_SIZE      16
#define GT_REQ_ID_SIZE     16
#define GT_CERTIFICATE_MAX 4096
#define GT_SIGNATURE_MAX   1024
#define GT_RELAY_NAME_MAX  64
#define GT_PURPOSE_MAX     200 /* bytes of an operator's --reason */

enum gt_message_type {
    GT_MESSAGE_STATE = 0,
    GT_MESSAGE_REQ = 1,
    GT_MESSAGE_ACK = 2,
    GT_MESSAGE_NAK = 3,
    GT_MESSAGE_CLOSE = 4,
    GT_MESSAGE_REPORT = 5, /* report.h */
};

enum { GT_MESSAGE_E_BAD = 1 };

struct gt_state {
    bool is_online;
    uint8_t epoch[GT_EPOCH_SIZE];
    uint64_t seq;
    struct gt_extensions extensions;
};

struct gt_req {
    char operator_[GT_NAME_MAX + 1];
    char device[GT_NAME_MAX + 1];
    uint8_t epoch[GT_EPOCH_SIZE];
    uint8_t id[GT_REQ_ID_SIZE];
    uint8_t gx[GT_KEY_SIZE];
    char service[GT_SERVICE_MAX + 1];
    uint32_t lifetime_s;
    char relay[GT_RELAY_NAME_MAX + 1]; /* "" is the device's first relay */
    char purpose[GT_PURPOSE_MAX + 1];  /* for the device's log, printable; "": none */
    bool is_query;                     /* asks for the status of the device, and opens no session */
};

/* The sessions that a CLOSE is for, among those that this operator may close. */
enum gt_close_scope {
    GT_CLOSE_RID,     /* the session ->rid */
    GT_CLOSE_REQUEST, /* the session that the REQ ->request has opened */
    GT_CLOSE_OWN,     /* the operator's own */
    GT_CLOSE_ALL,     /* all that it may close */
};

struct gt_close {
    char operator_[GT_NAME_MAX + 1];
    char device[GT_NAME_MAX + 1];
    uint8_t epoch[GT_EPOCH_SIZE];
    uint8_t id[GT_REQ_ID_SIZE];
    enum gt_close_scope scope;
    uint8_t rid[GT_RID_SIZE];
    uint8_t request[GT_REQ_ID_SIZE];
    char purpose[GT_PURPOSE_MAX + 1]; /* for logs and the other side, printable; "": none */
};

struct gt_ack {
    uint8_t status; /* enum gt_ack_status */
    uint32_t lifetime_s;
    uint16_t max_streams;
    uint32_t window;
    char device[GT_NAME_MAX + 1];
    char operator_[GT_NAME_MAX + 1];
    struct gt_extensions extensions;
};

enum gt_ack_status {
    GT_ACK_OK = 0,
    GT_ACK_DENIED = 1,  /* the device's policy denies this operator */
    GT_ACK_SERVICE = 2, /* this operator may not use such a service */
    GT_ACK_QUOTA = 3,   /* too many sessions */
    GT_ACK_RELAY = 4,   /* the device has no relay of that name */
    GT_ACK_INTERNAL = 5,
};

struct gt_nak {
    uint8_t id[GT_REQ_ID_SIZE];
    uint16_t code; /* enum gt_nak_code */
    uint8_t epoch[GT_EPOCH_SIZE];
    uint16_t retry_after_s; /* CLOSED: the number of closed sessions; SIZE: bytes of the answer */
};

enum gt_nak_code {
    GT_NAK_CLOSED = 0, /* the CLOSE was done */
    GT_NAK_EPOCH = 1,  /* stale epoch: repeat the request with this one */
    GT_NAK_BUSY = 2,   /* too many requests of this operator: repeat it after retry_after_s */
    GT_NAK_DENIED = 3, /* this operator may not close that session */
    GT_NAK_SIZE = 4,   /* the broker accepts no message as large as the answer */
};

/* The certificate and signature after a body; both are empty if sigalg is 0. */
struct gt_proof {
    struct gt_span certificate; /* DER */
    uint16_t sigalg;            /* TLS SignatureScheme: 0x0403 0x0503 0x0804 0x0807 */
    struct gt_span signature;
};

/* Inner forms. Encoders append to @w and fail as it does; characters of a purpose that are not
 * printable become '?'. Decoders return 0, or E_BAD unless the
 * whole of @inner is well-formed. */
void gt_state_encode(const struct gt_state *state, struct gt_writer *w);
int gt_state_decode(struct gt_span inner, struct gt_state *ret) GT_MUST_CHECK;
/* Writes the body; the proof follows it. */
void gt_req_encode(const struct gt_req *req, struct gt_writer *w);
/* *ret_body: the part of @inner before the proof. */
int gt_req_decode(struct gt_span inner, struct gt_req *ret, struct gt_span *ret_body,
                  struct gt_proof *ret_proof) GT_MUST_CHECK;
void gt_close_encode(const struct gt_close *close, struct gt_writer *w);
int gt_close_decode(struct gt_span inner, struct gt_close *ret, struct gt_span *ret_body,
                    struct gt_proof *ret_proof) GT_MUST_CHECK;
/* Writes everything before the proof. */
void gt_ack_encode(const struct gt_ack *ack, struct gt_writer *w);
/* *ret_signed: the part of @inner that is signed, up to and with lp(certificate). */
int gt_ack_decode(struct gt_span inner, struct gt_ack *ret, struct gt_span *ret_signed,
                  struct gt_proof *ret_proof) GT_MUST_CHECK;
void gt_nak_encode(const struct gt_nak *nak, struct gt_writer *w);
int gt_nak_decode(struct gt_span inner, struct gt_nak *ret) GT_MUST_CHECK;
void gt_proof_encode(const struct gt_proof *proof, struct gt_writer *w);

/* Reads the type of an outer form. Returns 0, or E_BAD for a wrong magic, an unknown type or more
 * than GT_MESSAGE_MAX bytes. */
int gt_message_peek(struct gt_span payload, enum gt_message_type *ret_type) GT_MUST_CHECK;
/* Writes a message of any type but ACK: magic, type, SEAL(key, "GTM1" || type || lp(topic), inner).
 * @ret: GT_MESSAGE_MAX. Returns 0, E_BAD if it does not fit, or a negative errno. */
int gt_message_seal(const uint8_t key[static GT_KEY_SIZE], enum gt_message_type type,
                    const char *topic, struct gt_span inner, uint8_t *ret,
                    size_t *ret_n) GT_MUST_CHECK;
/* Writes the plaintext into @ret_inner (GT_MESSAGE_MAX). Returns 0, E_BAD if @payload has another
 * type or was not sealed with this key and topic, or a negative errno. */
int gt_message_open(const uint8_t key[static GT_KEY_SIZE], enum gt_message_type type,
                    const char *topic, struct gt_span payload, uint8_t *ret_inner,
                    size_t *ret_n) GT_MUST_CHECK;
/* Append magic and type, and the additional data of the seal, to @w. */
void gt_message_header(enum gt_message_type type, struct gt_writer *w);
void gt_message_ad(enum gt_message_type type, const char *topic, struct gt_writer *w);
