/* SPDX-License-Identifier: ISC */
/*
 * The device's side of an exchange; lives as long as the agent. Bytes in and bytes out: no MQTT, no
 * clock (the time is a parameter), no file. The order of its checks is the protocol's
 * (docs/protocol.md, section 2), cheapest first. An unauthenticated message must never have an
 * effect: it is dropped, with a reason for the log. The caller bounds the CPU time of all messages.
 */
#pragma once

#include "gotthard/signaling/key-agreement.h"
#include "gotthard/signaling/topic.h"
#include "gotthard/signaling/trust.h"

#define GT_REPLAY_CACHE_MAX 1024  /* requests in an epoch; then the epoch rotates */
#define GT_EPOCH_GRACE_MS   60000 /* validity of an epoch after its rotation */
#define GT_EPOCH_LIFE_MS    (24 * 3600 * 1000ull)

struct gt_responder;

struct gt_responder_settings {
    const char *prefix, *device;    /* copies */
    const struct gt_signer *signer; /* keeps; NULL: answers are not signed */
    const struct gt_trust *trust;   /* keeps; the policy about operators */
};

/* @of_device: K_dev; @previous: K_dev before a rotation, or NULL. @now_ms: CLOCK_BOOTTIME, here and
 * below. Returns 0, GT_MESSAGE_E_BAD for an ill-formed name, or a negative errno. */
int gt_responder_new(const struct gt_responder_settings *settings,
                     const uint8_t of_device[static GT_KEY_SIZE], const uint8_t *previous,
                     uint64_t now_ms, struct gt_responder **ret) GT_MUST_CHECK;
struct gt_responder *gt_responder_free(struct gt_responder *responder);
/* The topics to subscribe and to publish; owned by @responder. */
const char *gt_responder_req_topic(const struct gt_responder *responder);
const char *gt_responder_state_topic(const struct gt_responder *responder);
/* Rotates the epoch if its life is over. Returns true if STATE must be published again. */
bool gt_responder_tick(struct gt_responder *responder, uint64_t now_ms);
/* Replaces signer and policy after a reload; keeps both. Epochs and replay caches stay. */
void gt_responder_set_trust(struct gt_responder *responder, const struct gt_signer *signer,
                            const struct gt_trust *trust);

/* Limits the size of later messages: @n bytes of topic and payload together. 0: no limit. */
void gt_responder_set_message_max(struct gt_responder *responder, size_t n);

/* The parts that a message lacks because it would be too large with them. */
enum gt_omitted {
    GT_OMITTED_NONE,
    GT_OMITTED_HOST_KEYS,
    GT_OMITTED_SERVICES, /* and the host keys, and the status of a query's answer */
    GT_OMITTED_TAGS,     /* and the services and host keys; only STATE has tags */
};

struct gt_fit {
    enum gt_omitted omitted;
    size_t n;   /* bytes of the complete payload, at least */
    size_t max; /* the largest payload on this topic */
};

enum gt_state_kind {
    GT_STATE_ONLINE,
    GT_STATE_OFFLINE,
    GT_STATE_WILL, /* "offline", published by the broker at the end of the connection */
};

struct gt_state_form {
    enum gt_state_kind kind;
    uint32_t connection; /* to the broker: a number that grows from one to the next */
    const struct gt_extensions *extensions; /* borrows; may be NULL */
};

/* Writes a STATE message into @ret (GT_MESSAGE_MAX). Within an epoch its seq is greater than that
 * of every STATE that was published before it, also if the broker publishes the will of an earlier
 * connection late. Returns 0, GT_MESSAGE_E_BAD if it is too large, or a negative errno. */
int gt_responder_state(struct gt_responder *responder, const struct gt_state_form *form,
                       struct gt_fit *ret_fit, uint8_t *ret, size_t *ret_n) GT_MUST_CHECK;

enum gt_verdict {
    GT_VERDICT_DROP,    /* no answer; ->why is for a rate-limited log line */
    GT_VERDICT_REPLY,   /* publish ->reply on ->rsp_topic: a NAK, the stored answer to a duplicate,
                           or the denial by the policy (is_denied) */
    GT_VERDICT_REQUEST, /* a new, authentic, trusted REQ: the caller grants or denies it,
                           or informs if it is a query */
    GT_VERDICT_CLOSE,   /* an authentic, trusted CLOSE: the caller acts and calls _closed */
};

struct gt_incoming {
    enum gt_verdict verdict;
    const char *why;   /* static: reason of a DROP or a REPLY */
    bool is_state_due; /* publish STATE again: the epoch was rotated, or the sender has no STATE */
    bool is_denied;    /* correctly sealed, denied by the policy; ->reply is the denial */
    struct gt_fit fit; /* of an ACK in ->reply */
    char rsp_topic[GT_TOPIC_MAX + 1];
    uint8_t reply[GT_MESSAGE_MAX];
    size_t n_reply;
    struct gt_req req;        /* REQUEST, and is_denied */
    struct gt_close close;    /* CLOSE */
    const struct gt_pin *pin; /* of the operator; NULL under psk. Borrows from the trust */
    bool is_previous_key;     /* REQUEST: sealed with the key before a rotation */
    bool is_signed;           /* REQUEST: by the key of ->fingerprint, also under psk */
    uint8_t fingerprint[GT_KEY_SIZE];

    /* private to responder.c */
    const struct gt_message_keys *keys; /* the keys that opened it */
    struct gt_key_agreement agreement;
};

/*
 * Handles a message on the req topic. @now_ms: CLOCK_BOOTTIME; @now: wall clock, for the expiry of
 * pins only. Returns 0 with a verdict, or a negative errno if libcrypto failed. After REQUEST @ret
 * holds secrets until it is granted or denied.
 */
int gt_responder_receive(struct gt_responder *responder, uint64_t now_ms, time_t now,
                         const char *topic, bool is_retained, struct gt_span payload,
                         struct gt_incoming *ret) GT_MUST_CHECK;
enum { GT_RESPONDER_E_SIZE = 1 };
/* Writes an ACK with status OK into in->reply, stores it for duplicates, and derives the session's
 * keys. Names in @ack are replaced by the request's. Extensions are omitted if the message would be
 * too large with them (in->fit). Returns 0, E_SIZE if the broker does not accept even the shortest
 * ACK: in->reply is a NAK and there is no session, or a negative errno. */
int gt_responder_grant(struct gt_responder *responder, struct gt_incoming *in,
                       const struct gt_ack *ack, struct gt_session_keys *ret) GT_MUST_CHECK;
/* Answers a query (in->req.is_query): an ACK with status OK, @extensions and no session. Returns as
 * gt_responder_deny(). */
int gt_responder_inform(struct gt_responder *responder, struct gt_incoming *in,
                        const struct gt_extensions *extensions) GT_MUST_CHECK;
/* Writes an ACK with @status into in->reply, or the NAK of E_SIZE, and stores it. Returns 0 or a
 * negative errno. */
int gt_responder_deny(struct gt_responder *responder, struct gt_incoming *in,
                      enum gt_ack_status status) GT_MUST_CHECK;
/* The same for GT_ACK_QUOTA. @limit: the setting and its value, as text. */
int gt_responder_deny_limit(struct gt_responder *responder, struct gt_incoming *in,
                            const char *limit) GT_MUST_CHECK;
/* The message had no effect because of a failure here: forgets it, so that a repetition
 * of the same bytes is a new request. */
void gt_responder_forget(struct gt_responder *responder, const struct gt_incoming *in);
/* Writes the NAK that answers a CLOSE into in->reply and stores it. Returns 0 or -errno. */
int gt_responder_closed(struct gt_responder *responder, struct gt_incoming *in,
                        enum gt_nak_code code, uint16_t n_closed) GT_MUST_CHECK;
