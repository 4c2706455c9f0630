/* SPDX-License-Identifier: ISC */
/*
 * The rate of new requests, for each operator separately: one operator must not use up the share of
 * another. Pure; the table is bounded. A name is as authentic as the policy makes it. Under `pin`
 * it was signed for. Under `psk` any holder of the key may use any name, so the rate only separates
 * honest operators there.
 */
#pragma once

#include "gotthard/base/text.h"
#include "gotthard/base/token-bucket.h"

#define GT_REQ_RATE_PER_S      5   /* new requests of one operator, on average */
#define GT_REQ_BURST           128 /* of them at once, as a script for many tunnels sends them */
#define GT_RATED_OPERATORS_MAX 256
#define GT_BUSY_WAIT_MAX_S     30

struct gt_rated_operator {
    char name[GT_NAME_MAX + 1];
    struct gt_token_bucket bucket;
    uint64_t queue_ms; /* until which repetitions of refused requests fill the share */
};

struct gt_request_rate { /* fields are private */
    struct gt_rated_operator operators[GT_RATED_OPERATORS_MAX];
    size_t n;
    struct gt_token_bucket untrusted;
};

/* @now_ms: CLOCK_BOOTTIME, here and below. */
void gt_request_rate_init(struct gt_request_rate *rate, uint64_t now_ms);
/* Takes one new request of @operator_, a name; NULL is the share of all senders that the policy
 * does not trust. Returns false if the share is used up. */
bool gt_request_rate_take(struct gt_request_rate *rate, const char *operator_,
                          uint64_t now_ms) GT_MUST_CHECK;
/* After take() has returned false for @operator_: returns the time in seconds, 1 to
 * GT_BUSY_WAIT_MAX_S, after which the share has room for this request. Each call returns a later
 * time than the one before, so that requests refused together are not repeated together. */
uint16_t gt_request_rate_wait_s(struct gt_request_rate *rate, const char *operator_,
                                uint64_t now_ms) GT_MUST_CHECK;
