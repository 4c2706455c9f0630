/* SPDX-License-Identifier: ISC */
/*
 * A token bucket: a limit of @rate per second on average, with bursts of at most @burst. Pure: it
 * has no clock and no timer, the caller passes the time. Any clock that counts milliseconds will
 * do; a clock that steps back adds no tokens.
 */
#pragma once

#include "gotthard/base/base.h"

struct gt_token_bucket {  /* fields are private */
    uint32_t rate, burst; /* tokens a second; tokens */
    uint64_t level;       /* thousandths of a token, at most 1000 * burst */
    uint64_t filled_at;   /* ms */
};

/* Starts full. @rate: tokens added per second, 0: none. @burst: the most it can hold. */
void gt_token_bucket_init(struct gt_token_bucket *bucket, uint32_t rate, uint32_t burst,
                          uint64_t now_ms);
/* Changes the limits. Tokens beyond the new @burst are lost. */
void gt_token_bucket_change(struct gt_token_bucket *bucket, uint32_t rate, uint32_t burst,
                            uint64_t now_ms);
/* Removes @n tokens. Returns false, and removes none, if there are fewer than @n. */
bool gt_token_bucket_take(struct gt_token_bucket *bucket, uint32_t n,
                          uint64_t now_ms) GT_MUST_CHECK;
/* Removes @n tokens, or as many as there are: a penalty. */
void gt_token_bucket_drain(struct gt_token_bucket *bucket, uint32_t n, uint64_t now_ms);
/* Returns the whole tokens that are there. */
uint32_t gt_token_bucket_level(struct gt_token_bucket *bucket, uint64_t now_ms) GT_MUST_CHECK;
