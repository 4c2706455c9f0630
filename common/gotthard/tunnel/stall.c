/* SPDX-License-Identifier: ISC */
/*
 * Must never judge by silence alone: an answer of the relay after the question is required, since a
 * network that is away as a whole would otherwise cost a new connection for each stream. The time
 * counts from the question: this process may have been stopped before it.
 */
#include "gotthard/tunnel/stall.h"

#define ASK_S         2.0 /* without progress, until an answer is requested */
#define LIMIT_S       8.0 /* without progress: a record of 16 KiB at 16 kbit/s */
#define AGAIN_S       4.0 /* at the offset of the last loss, over a new connection */
#define TRIPS         4   /* round trips that are added to the limit */
#define DOUBLINGS_MAX 3u
#define N_SIZES       2u /* smaller sizes of packets to try before the limit doubles */

void gt_stall_restart(struct gt_stall *stall, double now, uint64_t acked)
{
    stall->acked = acked;
    stall->since = now;
    stall->asked_at = 0;
}

/* The small packets of a handshake have passed since the loss. A connection that is older may be
 * blocked by the same cause. */
static bool is_repeated(const struct gt_stall *stall, const struct gt_stall_facts *facts)
{
    return stall->has_lost && stall->lost_at == stall->acked &&
           facts->connected_at > stall->lost_when;
}

static double stall_limit(const struct gt_stall *stall, const struct gt_stall_facts *facts)
{
    bool is_again = is_repeated(stall, facts);
    unsigned n_doublings =
        is_again ? GT_MAX(stall->n_again, N_SIZES) - N_SIZES : GT_MAX(stall->n_false, 1u) - 1;
    double limit = is_again ? AGAIN_S : LIMIT_S;

    return limit * (double)(1u << n_doublings) + TRIPS * facts->rtt_s;
}

static enum gt_stall_verdict stall_lose(struct gt_stall *stall, const struct gt_stall_facts *facts)
{
    bool is_again = is_repeated(stall, facts);
    bool is_elsewhere = stall->has_lost && stall->lost_at != stall->acked;

    stall->lost_when = facts->now;
    if (is_again) {
        stall->n_again = GT_MIN(stall->n_again + 1, N_SIZES + DOUBLINGS_MAX);
        return GT_STALL_BLACK_HOLE;
    }
    stall->n_again = 0;
    if (is_elsewhere)
        stall->n_false = GT_MIN(stall->n_false + 1, 1 + DOUBLINGS_MAX);
    stall->has_lost = true;
    stall->lost_at = stall->acked;
    return GT_STALL_BLOCKED;
}

enum gt_stall_verdict gt_stall_judge(struct gt_stall *stall, const struct gt_stall_facts *facts)
{
    bool has_progress = facts->acked != stall->acked || facts->acked_at > stall->since;

    if (has_progress || facts->acked >= facts->sent) {
        gt_stall_restart(stall, facts->now, facts->acked);
        return GT_STALL_NONE;
    }
    if (stall->asked_at == 0 && facts->now - stall->since >= ASK_S) {
        stall->asked_at = facts->now;
        return GT_STALL_ASK;
    }
    double waited = stall->asked_at > 0 ? ASK_S + facts->now - stall->asked_at : 0;
    if (waited < stall_limit(stall, facts) || facts->relay_at < stall->asked_at)
        return GT_STALL_NONE;
    return stall_lose(stall, facts);
}

bool gt_stall_is_suspect(const struct gt_stall *stall, const struct gt_stall_facts *facts)
{
    return stall->asked_at > 0 && facts->relay_at >= stall->asked_at;
}
