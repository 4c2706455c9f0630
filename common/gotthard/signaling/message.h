/* SPDX-License-Identifier: ISC */
/*
 * What is said over MQTT ("GTM1"): one struct a kind, and its bytes. Outer form (magic, type, SEAL)
 * and inner form are both here; who may say what, and when, is ask.c's and responder.c's. See
 * docs/protocol.md, section 2. Spans in decoded structs point into the caller's buffer.
 */
#pragma once

#include "gotthard/key.h"
#include "gotthard/seal.h"

#define GT_MESSAGE_MAX     8192 /* payload; more is dropped unread */
#define GT_MESSAGE_HEADER  5    /* "GTM1" and the type */
#define GT_TOPIC_MAX       256
#define GT_EPOCH_SIZE      16
#define GT_REQ_ID_SIZE     16
#define GT_CERTIFICATE_MAX 4096
#define GT_SIGNATURE_MAX   1024
#define GT_RELAY_NAME_MAX  64
#define GT_SERVICES_MAX    64
#define GT_HOST_KEYS_MAX   8

enum gt_message_type {
    GT_MESSAGE_STATE = 0,
    GT_MESSAGE_REQ = 1,
    GT_MESSAGE_ACK = 2,
    GT_MESSAGE_NAK = 3,
    GT_MESSAGE_CLOSE = 4,
};

enum { GT_MESSAGE_E_BAD = 1 };

/* "<prefix>/d/<device>/req" and its sisters into @ret (GT_TOPIC_MAX + 1). E_BAD when a name is
 * ill-formed or the result would have more than 7 slashes or 256 bytes. */
int gt_topic_req(const char *prefix, const char *device, char *ret) GT_MUST_CHECK;
int gt_topic_rsp(const char *prefix, const char *device, const char *operator_,
                 char *ret) GT_MUST_CHECK;
int gt_topic_state(const char *prefix, const char *device,
                   char *ret) GT_MUST_CHECK; /* device "+": all */
/* The device of a state topic; room for GT_NAME_MAX + 1. */
int gt_topic_device(const char *prefix, const char *topic, char *ret_device) GT_MUST_CHECK;

/* Extensions: what STATE and ACK carry beside their fixed part. Absent ones are empty or 0. */
struct gt_extensions {
    struct gt_span version;                   /* 1: software version */
    struct gt_span services[GT_SERVICES_MAX]; /* 2: names this operator may use */
    size_t n_services;
    struct gt_span host_keys[GT_HOST_KEYS_MAX]; /* 3: "ssh-ed25519 AAAA...", public key lines */
    size_t n_host_keys;
    uint16_t n_sessions; /* 4: sessions open */
    uint64_t since; /* 5: unix time it came online, or went; for people, never for a decision */
};

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
    uint16_t flags; /* 0 */
    uint32_t lifetime_s;
    char relay[GT_RELAY_NAME_MAX + 1]; /* "" = the device's first */
};

/* CLOSE's inner is the same shape of message: names, epoch, id, and which session (all: every one
 * this operator may close). */
struct gt_close {
    char operator_[GT_NAME_MAX + 1];
    char device[GT_NAME_MAX + 1];
    uint8_t epoch[GT_EPOCH_SIZE];
    uint8_t id[GT_REQ_ID_SIZE];
    bool is_all;
    uint8_t rid[GT_RID_SIZE];
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
    GT_ACK_DENIED = 1,  /* this operator, by the device's policy */
    GT_ACK_SERVICE = 2, /* no such service for this operator */
    GT_ACK_QUOTA = 3,   /* too many sessions */
    GT_ACK_RELAY = 4,   /* the device knows no relay of that name */
    GT_ACK_INTERNAL = 5,
};

struct gt_nak {
    uint8_t id[GT_REQ_ID_SIZE];
    uint16_t code; /* enum gt_nak_code */
    uint8_t epoch[GT_EPOCH_SIZE];
    uint16_t retry_after_s; /* NAK_CLOSED: how many sessions were closed */
};

enum gt_nak_code {
    GT_NAK_CLOSED = 0, /* the good answer to a CLOSE */
    GT_NAK_EPOCH = 1,  /* ask again with this epoch */
    GT_NAK_BUSY = 2,
    GT_NAK_DENIED = 3, /* a CLOSE this operator may not make */
};

/* The certificate and signature that follow a body; both empty with sigalg 0. */
struct gt_proof {
    struct gt_span certificate; /* DER */
    uint16_t sigalg;            /* TLS SignatureScheme: 0x0403 0x0503 0x0804 0x0807 */
    struct gt_span signature;
};

/* Inner forms, plaintext. Writers go on from where @w is; readers take all of @inner. */
void gt_state_encode(const struct gt_state *state, struct gt_writer *w);
int gt_state_decode(struct gt_span inner, struct gt_state *ret) GT_MUST_CHECK;
void gt_req_encode(const struct gt_req *req, struct gt_writer *w); /* the body only */
/* *ret_body: the span of @inner that is the body; the proof follows it. */
int gt_req_decode(struct gt_span inner, struct gt_req *ret, struct gt_span *ret_body,
                  struct gt_proof *ret_proof) GT_MUST_CHECK;
void gt_close_encode(const struct gt_close *close, struct gt_writer *w);
int gt_close_decode(struct gt_span inner, struct gt_close *ret, struct gt_span *ret_body,
                    struct gt_proof *ret_proof) GT_MUST_CHECK;
void gt_ack_encode(const struct gt_ack *ack, struct gt_writer *w); /* up to the extensions */
/* *ret_signed: inner2 up to and with lp(certificate). */
int gt_ack_decode(struct gt_span inner, struct gt_ack *ret, struct gt_span *ret_signed,
                  struct gt_proof *ret_proof) GT_MUST_CHECK;
void gt_nak_encode(const struct gt_nak *nak, struct gt_writer *w);
int gt_nak_decode(struct gt_span inner, struct gt_nak *ret) GT_MUST_CHECK;
void gt_proof_encode(const struct gt_proof *proof, struct gt_writer *w);

/* Outer form. peek: E_BAD unless magic, a known type, and at most GT_MESSAGE_MAX bytes. */
int gt_message_peek(struct gt_span payload, enum gt_message_type *ret_type) GT_MUST_CHECK;
/* STATE, REQ, NAK, CLOSE: magic, type, SEAL(key, "GTM1" || type || lp(topic), inner). @ret has room
 * for GT_MESSAGE_MAX; E_BAD when it would not fit. */
int gt_message_seal(const uint8_t key[static GT_KEY_SIZE], enum gt_message_type type,
                    const char *topic, struct gt_span inner, uint8_t *ret,
                    size_t *ret_n) GT_MUST_CHECK;
/* @ret_inner has room for GT_MESSAGE_MAX. E_BAD: not of that type, or not sealed with this key. */
int gt_message_open(const uint8_t key[static GT_KEY_SIZE], enum gt_message_type type,
                    const char *topic, struct gt_span payload, uint8_t *ret_inner,
                    size_t *ret_n) GT_MUST_CHECK;
/* Magic and type, and the additional data of a message: into @w. */
void gt_message_header(enum gt_message_type type, struct gt_writer *w);
void gt_message_ad(enum gt_message_type type, const char *topic, struct gt_writer *w);
