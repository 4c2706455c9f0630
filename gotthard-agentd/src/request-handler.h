/* SPDX-License-Identifier: ISC */
/*
 * Handles the messages of operators: the responder checks that a message is authentic and fresh,
 * the policy decides whether its sender is authorized, and a reply is published. Sessions are
 * counted, started and closed by the owner, through callbacks. Knows neither MQTT nor processes.
 */
#pragma once

#include "gotthard/signaling/device-status.h"
#include "policy.h"
#include "tags.h"

struct request_handler;

/* A session that the policy grants. */
struct request_handler_offer {
    const char *device, *operator_;
    const char *service;        /* the first one requested, or "" */
    const char *purpose;        /* in the operator's words, printable; "": none */
    const uint8_t *request_id;  /* GT_REQ_ID_SIZE */
    const char *rsp_topic;      /* of its reports */
    const uint8_t *key_id;      /* GT_KEY_ID_SIZE; of the key that opened the request */
    const uint8_t *fingerprint; /* GT_KEY_SIZE; of the operator's certificate; NULL: none */
    const struct grant *grant;
};

/* A request of an authenticated operator, or its refusal, for the audit. */
struct request_handler_note {
    bool is_refused;
    const char *operator_;
    const uint8_t *fingerprint; /* as in an offer */
    const char *service, *purpose;
    const char *reason; /* why it was refused; or "status" for a query; or "" */
};

struct request_handler_events {
    /* Returns the number of open sessions: those of @operator_, or all (NULL). */
    unsigned (*count_sessions)(void *userdata, const char *operator_);
    /* Closes the oldest session of @operator_ that is not up on both sides. Returns false if there
     * is none. */
    bool (*replace_session)(void *userdata, const char *operator_);
    /* Starts a worker; start_session or cancel_session follows inside the same call. On a negative
     * errno the operator gets a refusal; -EACCES: the rules have changed meanwhile. */
    int (*prepare_session)(void *userdata, const struct request_handler_offer *offer);
    /* The keys are agreed: send them to the worker. On a negative errno no reply is published. */
    int (*start_session)(void *userdata, const struct request_handler_offer *offer,
                         const struct gt_session_keys *keys);
    /* The key agreement failed: close the prepared session. */
    void (*cancel_session)(void *userdata);
    /* Closes the sessions of @close that its operator may close: its own, or every session if
     * @is_admin. Returns the number closed, or -EPERM if it names another operator's session. */
    int (*close_sessions)(void *userdata, const struct gt_close *close, bool is_admin);
    /* Fills the answer to a query: the sessions of @operator_, with @sees_all those of all. */
    void (*fill_status)(void *userdata, const char *operator_, bool sees_all,
                        struct gt_device_status *ret);
    void (*publish)(void *userdata, const char *topic, struct gt_span payload);
    /* An operator asks, or was refused. A grant is noted by start_session. NULL: not wanted. */
    void (*on_note)(void *userdata, const struct request_handler_note *note);
    /* Publish STATE again: the epoch was rotated, or an operator does not have it. */
    void (*on_state_due)(void *userdata);
};

struct request_handler_settings { /* keeps all pointers but the first two */
    const char *prefix, *device;
    const struct gt_signer *signer;
    const struct gt_trust *trust;
    const struct policy *policy;
    const struct gt_span *host_keys; /* public lines of ssh host keys */
    size_t n_host_keys;
    const struct tags *tags; /* of STATE; NULL: none */
    const char *fault;       /* why the present files are not in use; empty or NULL: they are */
    uint64_t access_serial;  /* of the access list in force; 0: none */
    uint32_t stream_window;  /* bytes, sent in an ACK */
};

/* @of_device: K_dev. @previous: K_dev before a rotation, or NULL. @now_ms: CLOCK_BOOTTIME.
 * Negative: libcrypto failed, or -ENOMEM. */
int request_handler_new(const struct request_handler_settings *settings,
                        const uint8_t of_device[static GT_KEY_SIZE], const uint8_t *previous,
                        uint64_t now_ms, const struct request_handler_events *events,
                        void *userdata, struct request_handler **ret) GT_MUST_CHECK;
struct request_handler *request_handler_free(struct request_handler *request_handler);
/* After a reload that did not change keys and names: epoch and replay cache are kept. */
void request_handler_set(struct request_handler *request_handler,
                         const struct request_handler_settings *settings);

/* Handles one message of the broker. @now_ms: CLOCK_BOOTTIME. @now: wall clock, for pins that
 * expire. Negative: libcrypto, a callback or an allocation failed; the message is dropped. */
int request_handler_receive(struct request_handler *request_handler, uint64_t now_ms, time_t now,
                            const char *topic, bool is_retained,
                            struct gt_span payload) GT_MUST_CHECK;
/* Rotates the epoch when it has expired (on_state_due). */
void request_handler_tick(struct request_handler *request_handler, uint64_t now_ms);

const char *request_handler_req_topic(const struct request_handler *request_handler);
const char *request_handler_state_topic(const struct request_handler *request_handler);
/* Limits the size of later messages; see gt_responder_set_message_max(). */
void request_handler_set_message_max(struct request_handler *request_handler, size_t n);
/* Builds a STATE message into @ret (GT_MESSAGE_MAX bytes). @connection: as in struct gt_state_form.
 * @since: Unix time in seconds, displayed to operators. Host keys, then services, then tags
 * are omitted if it would be too large with them (logged). Returns 0, GT_MESSAGE_E_BAD if it is
 * still too large (logged), or a negative errno. */
int request_handler_state(struct request_handler *request_handler, enum gt_state_kind kind,
                          uint32_t connection, uint64_t since, uint8_t *ret,
                          size_t *ret_n) GT_MUST_CHECK;
