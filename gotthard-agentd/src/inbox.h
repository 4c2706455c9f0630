/* SPDX-License-Identifier: ISC */
/*
 * What comes over MQTT meets the device's rules here: the responder says whether a message is
 * authentic and fresh, the policy whether its sender may have what he asks, and the answer goes
 * back. The whole (agentd.c) counts, starts and closes sessions when told to, by callbacks. No MQTT
 * and no process is known here.
 */
#pragma once

#include "policy.h"

struct inbox;

/* A session that may begin. */
struct inbox_offer {
    const char *operator_;
    const char *service;      /* the first one wanted, or "" */
    const struct gt_pin *pin; /* NULL under psk */
    const struct grant *grant;
};

struct inbox_events {
    /* How many sessions are open: of @operator_, or all (NULL). */
    unsigned (*count_sessions)(void *userdata, const char *operator_);
    /* Make a worker stand ready. Negative: it cannot be; the operator is told so. */
    int (*prepare_session)(void *userdata, const struct inbox_offer *offer);
    /* It is agreed: hand over, or let the worker that stands ready go (@keys NULL). Negative: it
     * could not, and no answer is sent. */
    int (*begin_session)(void *userdata, const struct inbox_offer *offer,
                         const struct gt_session_keys *keys);
    /* Close session @rid, or all (NULL) that @operator_ may close: his own, or everybody's when
     * @is_admin. Returns how many, or -EPERM when @rid is another's. */
    int (*close_sessions)(void *userdata, const char *operator_, bool is_admin, const uint8_t *rid);
    void (*publish)(void *userdata, const char *topic, struct gt_span payload);
    /* The epoch rotated: STATE must be published anew. */
    void (*on_epoch)(void *userdata);
};

struct inbox_settings { /* the responder's, and: */
    const char *prefix, *device;
    const struct gt_signer *signer; /* keeps */
    const struct gt_trust *trust;   /* keeps */
    const struct policy *policy;    /* keeps */
    const struct gt_span *host_keys;
    size_t n_host_keys;     /* keeps; the ssh host keys' public lines */
    uint32_t stream_window; /* bytes, as an ACK says it */
};

/* @of_device, @previous (may be NULL): K_dev now and before rotation. @now_ms: CLOCK_BOOTTIME. */
int inbox_new(const struct inbox_settings *settings, const uint8_t of_device[static GT_KEY_SIZE],
              const uint8_t *previous, uint64_t now_ms, const struct inbox_events *events,
              void *userdata, struct inbox **ret) GT_MUST_CHECK;
struct inbox *inbox_free(struct inbox *inbox);
/* After a reload that left keys and names alone: epoch and what was seen are kept. */
void inbox_set(struct inbox *inbox, const struct inbox_settings *settings);

/* One message. @now: wall clock, for pins only. Negative: libcrypto or memory failed; the message
 * is dropped. */
int inbox_receive(struct inbox *inbox, uint64_t now_ms, time_t now, const char *topic,
                  bool is_retained, struct gt_span payload) GT_MUST_CHECK;
/* Rotates the epoch when its time has come (on_epoch). */
void inbox_tick(struct inbox *inbox, uint64_t now_ms);

const char *inbox_req_topic(const struct inbox *inbox);
const char *inbox_state_topic(const struct inbox *inbox);
/* A STATE message into @ret (GT_MESSAGE_MAX). @since: unix time, for people. */
int inbox_state(struct inbox *inbox, bool is_online, uint64_t since, uint8_t *ret,
                size_t *ret_n) GT_MUST_CHECK;
