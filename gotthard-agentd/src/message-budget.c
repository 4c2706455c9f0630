/* SPDX-License-Identifier: ISC */
/* A token bucket of CPU time; see the header. */
#include "message-budget.h"

#include <time.h>

#define RATE_US  500000 /* a second: half of a CPU */
#define BURST_US 250000

static uint64_t cpu_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void message_budget_init(struct message_budget *budget, uint64_t now_ms)
{
    *budget = (struct message_budget){0};
    gt_token_bucket_init(&budget->bucket, RATE_US, BURST_US, now_ms);
}

bool message_budget_begin(struct message_budget *budget, uint64_t now_ms)
{
    budget->began_us = cpu_us();
    return gt_token_bucket_level(&budget->bucket, now_ms) > 0;
}

void message_budget_end(struct message_budget *budget, uint64_t now_ms)
{
    uint64_t used_us = cpu_us() - budget->began_us;

    gt_token_bucket_drain(&budget->bucket, (uint32_t)GT_MIN(used_us, BURST_US), now_ms);
}
