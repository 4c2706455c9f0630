/* SPDX-License-Identifier: ISC */
/*
 * Decisions about attempts, as arithmetic. Must never accept an attempt twice.
 */
#include "gotthard/tunnel/attempt-policy.h"

void gt_attempt_policy_init(struct gt_attempt_policy *policy, double window_s, double now)
{
    *policy = (struct gt_attempt_policy){.window_s = window_s};
    gt_attempt_policy_wait(policy, now);
}

void gt_attempt_policy_wait(struct gt_attempt_policy *policy, double now)
{
    bool is_resuming = policy->up_attempt > 0 && policy->window_s > 0;

    policy->give_up_at = now + (is_resuming ? policy->window_s : GT_ATTEMPT_FIRST_S);
}

uint32_t gt_attempt_policy_request(struct gt_attempt_policy *policy)
{
    policy->requested = GT_MAX(policy->requested, policy->attempt) + 1;
    return policy->requested;
}

void gt_attempt_policy_dialed(struct gt_attempt_policy *policy, uint32_t attempt)
{
    policy->attempt = attempt;
}

void gt_attempt_policy_up(struct gt_attempt_policy *policy)
{
    policy->up_attempt = policy->attempt;
}

bool gt_attempt_policy_may_retry(const struct gt_attempt_policy *policy, double now)
{
    bool is_exhausted = policy->up_attempt == 0 && policy->backoff.n_tries >= GT_ATTEMPT_TRIES;

    return policy->window_s > 0 && !is_exhausted && now < policy->give_up_at;
}

bool gt_attempt_policy_accepts(const struct gt_attempt_policy *policy, uint32_t attempt)
{
    return attempt > policy->attempt && attempt >= policy->requested;
}

uint32_t gt_attempt_policy_attempt(const struct gt_attempt_policy *policy)
{
    return GT_MAX(policy->attempt, policy->requested);
}
