/* SPDX-License-Identifier: ISC */
/*
 * Counts thousandths of a token, so that one millisecond at a rate of one adds exactly one unit: no
 * rounding, whatever the interval between two calls. 1000 * UINT32_MAX fits into 64 bits.
 */
#include "gotthard/base/token-bucket.h"

#define TOKEN 1000ull

void gt_token_bucket_init(struct gt_token_bucket *bucket, uint32_t rate, uint32_t burst,
                          uint64_t now_ms)
{
    *bucket = (struct gt_token_bucket){
        .rate = rate, .burst = burst, .level = burst * TOKEN, .filled_at = now_ms};
}

static void token_bucket_fill(struct gt_token_bucket *bucket, uint64_t now_ms)
{
    uint64_t passed_ms = now_ms > bucket->filled_at ? now_ms - bucket->filled_at : 0;
    uint64_t missing = bucket->burst * TOKEN - bucket->level;

    bucket->filled_at = now_ms;
    /* By division: the product may overflow after a long time. */
    if (bucket->rate > 0 && passed_ms > missing / bucket->rate)
        bucket->level += missing;
    else
        bucket->level += passed_ms * bucket->rate;
}

void gt_token_bucket_change(struct gt_token_bucket *bucket, uint32_t rate, uint32_t burst,
                            uint64_t now_ms)
{
    token_bucket_fill(bucket, now_ms);
    bucket->rate = rate;
    bucket->burst = burst;
    bucket->level = GT_MIN(bucket->level, burst * TOKEN);
}

bool gt_token_bucket_take(struct gt_token_bucket *bucket, uint32_t n, uint64_t now_ms)
{
    token_bucket_fill(bucket, now_ms);
    if (bucket->level < n * TOKEN)
        return false;
    bucket->level -= n * TOKEN;
    return true;
}

void gt_token_bucket_drain(struct gt_token_bucket *bucket, uint32_t n, uint64_t now_ms)
{
    token_bucket_fill(bucket, now_ms);
    bucket->level -= GT_MIN(bucket->level, n * TOKEN);
}

uint32_t gt_token_bucket_level(struct gt_token_bucket *bucket, uint64_t now_ms)
{
    token_bucket_fill(bucket, now_ms);
    return (uint32_t)(bucket->level / TOKEN);
}
