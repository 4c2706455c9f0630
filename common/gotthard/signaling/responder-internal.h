/* SPDX-License-Identifier: ISC */
/* The responder's state, shared by responder.c (checks) and responder-answers.c (answers, STATE).
 */
#pragma once

#include "gotthard/signaling/replay-cache.h"
#include "gotthard/signaling/request-rate.h"
#include "gotthard/signaling/responder.h"
#include "gotthard/signaling/topic.h"

struct gt_responder {
    char prefix[GT_TOPIC_MAX + 1], device[GT_NAME_MAX + 1];
    char req_topic[GT_TOPIC_MAX + 1], state_topic[GT_TOPIC_MAX + 1];
    const struct gt_signer *signer;
    const struct gt_trust *trust;
    struct gt_message_keys keys, previous_keys;
    bool has_previous_keys;
    struct gt_replay_cache current;  /* rotates at ->ends_ms */
    struct gt_replay_cache previous; /* rejected from ->ends_ms on */
    size_t message_max;              /* topic and payload together, at the broker; 0: no limit */
    uint32_t n_states;
    struct gt_request_rate rate;   /* of new REQ and CLOSE */
    uint64_t next_nak_ms[256];     /* "stale epoch", by the first byte of the request id */
    uint64_t next_state_ms;        /* STATE is not asked for before */
    struct gt_token_bucket busies; /* NAKs "busy" */
};

/* Writes a NAK into in->reply, without storing it. Returns 0 or a negative errno. */
int gt_responder_nak(struct gt_responder *responder, struct gt_incoming *in, enum gt_nak_code code,
                     uint16_t number) GT_MUST_CHECK;
