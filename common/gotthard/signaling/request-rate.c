/* SPDX-License-Identifier: ISC */
/*
 * A bucket for each operator of the last seconds. A full table gives the place of the fullest
 * bucket to a new name. That loses the least, and a sender with many names can neither refill a
 * bucket that it has emptied nor keep a new name out.
 */
#include "gotthard/signaling/request-rate.h"

void gt_request_rate_init(struct gt_request_rate *rate, uint64_t now_ms)
{
    rate->n = 0;
    gt_token_bucket_init(&rate->untrusted, GT_REQ_RATE_PER_S, GT_REQ_BURST, now_ms);
}

static struct gt_rated_operator *find_operator(struct gt_request_rate *rate, const char *name)
{
    for (size_t i = 0; i < rate->n; i++)
        if (strcmp(rate->operators[i].name, name) == 0)
            return &rate->operators[i];
    return NULL;
}

static struct gt_rated_operator *fullest_operator(struct gt_request_rate *rate, uint64_t now_ms)
{
    struct gt_rated_operator *fullest = &rate->operators[0];
    uint32_t most = 0;

    for (size_t i = 0; i < rate->n; i++) {
        uint32_t level = gt_token_bucket_level(&rate->operators[i].bucket, now_ms);

        if (level <= most)
            continue;
        most = level;
        fullest = &rate->operators[i];
    }
    return fullest;
}

static struct gt_rated_operator *add_operator(struct gt_request_rate *rate, const char *name,
                                              uint64_t now_ms)
{
    struct gt_rated_operator *operator_ = rate->n < GT_RATED_OPERATORS_MAX
                                              ? &rate->operators[rate->n++]
                                              : fullest_operator(rate, now_ms);

    operator_->queue_ms = 0;
    stpncpy(operator_->name, name, GT_NAME_MAX)[0] = 0;
    gt_token_bucket_init(&operator_->bucket, GT_REQ_RATE_PER_S, GT_REQ_BURST, now_ms);
    return operator_;
}

bool gt_request_rate_take(struct gt_request_rate *rate, const char *operator_, uint64_t now_ms)
{
    if (!operator_)
        return gt_token_bucket_take(&rate->untrusted, 1, now_ms);
    struct gt_rated_operator *rated = find_operator(rate, operator_);
    if (!rated)
        rated = add_operator(rate, operator_, now_ms);
    return gt_token_bucket_take(&rated->bucket, 1, now_ms);
}

uint16_t gt_request_rate_wait_s(struct gt_request_rate *rate, const char *operator_,
                                uint64_t now_ms)
{
    struct gt_rated_operator *rated = find_operator(rate, operator_);
    uint64_t most_ms = now_ms + UINT64_C(1000) * GT_BUSY_WAIT_MAX_S;

    if (!rated)
        return 1;
    rated->queue_ms = GT_MAX(rated->queue_ms, now_ms) + 1000 / GT_REQ_RATE_PER_S;
    rated->queue_ms = GT_MIN(rated->queue_ms, most_ms);
    return (uint16_t)((rated->queue_ms - now_ms + 999) / 1000);
}
