/* SPDX-License-Identifier: ISC */
/*
 * Charges and penalties. The strangers are few (256), so those of one source are counted by looking
 * at each; the penalties stand in a fixed table, eight to a row, where a new one takes the place of
 * the one that would end first. Nothing here grows with what strangers do.
 */
#include "quota.h"

#include <string.h>

static uint64_t quota_hash(const struct quota *quota, const uint8_t *source)
{
    uint64_t hash = quota->seed;

    for (size_t i = 0; i < QUOTA_SOURCE; i++) {
        hash = (hash ^ source[i]) * 0x100000001b3;
        hash ^= hash >> 29;
    }
    return hash;
}

static struct quota_penalty *quota_row(struct quota *quota, const uint8_t *source)
{
    return quota->penalties[quota_hash(quota, source) % GT_ARRAY_SIZE(quota->penalties)];
}

static struct quota_penalty *quota_find(struct quota *quota, const uint8_t *source)
{
    struct quota_penalty *row = quota_row(quota, source);

    for (size_t i = 0; i < QUOTA_N_WAYS; i++)
        if (row[i].until && !memcmp(row[i].source, source, QUOTA_SOURCE))
            return &row[i];
    return NULL;
}

static struct quota_penalty *quota_earliest(struct quota *quota, const uint8_t *source)
{
    struct quota_penalty *row = quota_row(quota, source), *earliest = row;

    for (size_t i = 1; i < QUOTA_N_WAYS; i++)
        if (row[i].until < earliest->until)
            earliest = &row[i];
    return earliest;
}

static size_t quota_n_of(struct quota *quota, const uint8_t *source)
{
    size_t n = 0;

    gt_list_for_each_safe (at, next, &quota->strangers)
        n += !memcmp(gt_list_entry(at, struct quota_charge, strangers)->source, source,
                     QUOTA_SOURCE);
    return n;
}

/* xorshift64: good enough to choose whom to drop. */
static uint64_t quota_roll(struct quota *quota)
{
    quota->chance ^= quota->chance << 13;
    quota->chance ^= quota->chance >> 7;
    quota->chance ^= quota->chance << 17;
    return quota->chance;
}

/* Random early drop: from n_early on, the fuller the house the likelier the refusal. */
static bool quota_is_dropped(struct quota *quota)
{
    size_t early = quota->limits.n_early, max = quota->limits.n_strangers;

    if (quota->n_strangers >= max)
        return true;
    if (quota->n_strangers < early)
        return false;
    return quota_roll(quota) % (max - early) < quota->n_strangers - early;
}

static int quota_judge(struct quota *quota, const uint8_t *source, uint64_t now)
{
    const struct quota_penalty *penalty = quota_find(quota, source);

    if (penalty && penalty->until > now)
        return QUOTA_E_PENALTY;
    if (quota_n_of(quota, source) >= quota->limits.n_per_source)
        return QUOTA_E_SOURCE;
    if (quota_is_dropped(quota))
        return QUOTA_E_FULL;
    return quota->n_fds < quota->n_fds_max ? 0 : QUOTA_E_FDS;
}

void quota_init(struct quota *quota, const struct quota_limits *limits, size_t n_fds_max,
                uint64_t seed)
{
    memset(quota, 0, sizeof(*quota));
    pthread_mutex_init(&quota->lock, NULL);
    quota->limits = *limits;
    quota->n_fds_max = n_fds_max;
    quota->seed = seed;
    quota->chance = seed | 1;
    gt_list_init(&quota->strangers);
}

void quota_deinit(struct quota *quota)
{
    pthread_mutex_destroy(&quota->lock);
}

void quota_change(struct quota *quota, const struct quota_limits *limits)
{
    pthread_mutex_lock(&quota->lock);
    quota->limits = *limits;
    pthread_mutex_unlock(&quota->lock);
}

int quota_admit(struct quota *quota, const uint8_t source[static QUOTA_SOURCE], uint64_t now,
                struct quota_charge *ret)
{
    pthread_mutex_lock(&quota->lock);
    int r = quota_judge(quota, source, now);
    if (r) {
        quota->n_refused++;
    } else {
        *ret = (struct quota_charge){.state = CHARGE_STRANGER, .quota = quota};
        memcpy(ret->source, source, QUOTA_SOURCE);
        gt_list_append(&quota->strangers, &ret->strangers);
        quota->n_strangers++;
        quota->n_fds++;
    }
    pthread_mutex_unlock(&quota->lock);
    return r;
}

static void quota_charge_known(struct quota *quota, const uint8_t *source, struct quota_charge *ret)
{
    *ret = (struct quota_charge){.state = CHARGE_KNOWN, .quota = quota};
    memcpy(ret->source, source, QUOTA_SOURCE);
    gt_list_init(&ret->strangers);
    quota->n_known++;
    quota->n_fds++;
}

int quota_admit_known(struct quota *quota, const uint8_t source[static QUOTA_SOURCE],
                      struct quota_charge *ret)
{
    pthread_mutex_lock(&quota->lock);
    int r = quota->n_fds < quota->n_fds_max ? 0 : QUOTA_E_FDS;
    if (!r)
        quota_charge_known(quota, source, ret);
    pthread_mutex_unlock(&quota->lock);
    return r;
}

void quota_adopt(struct quota *quota, const uint8_t source[static QUOTA_SOURCE],
                 struct quota_charge *ret)
{
    pthread_mutex_lock(&quota->lock);
    quota_charge_known(quota, source, ret);
    pthread_mutex_unlock(&quota->lock);
}

static void quota_leave_strangers(struct quota_charge *charge)
{
    gt_list_unlink(&charge->strangers);
    charge->quota->n_strangers--;
}

void quota_know(struct quota_charge *charge)
{
    if (charge->state != CHARGE_STRANGER)
        return;
    pthread_mutex_lock(&charge->quota->lock);
    quota_leave_strangers(charge);
    charge->quota->n_known++;
    charge->state = CHARGE_KNOWN;
    pthread_mutex_unlock(&charge->quota->lock);
}

void quota_move(struct quota_charge *from, struct quota_charge *to)
{
    struct quota *quota = from->quota;

    if (from->state == CHARGE_NONE) {
        to->state = CHARGE_NONE;
        return;
    }
    pthread_mutex_lock(&quota->lock); /* neighbours in the list may be other threads' */
    *to = *from;
    gt_list_init(&to->strangers);
    if (from->state == CHARGE_STRANGER) {
        gt_list_append(&from->strangers, &to->strangers);
        gt_list_unlink(&from->strangers);
    }
    from->state = CHARGE_NONE;
    pthread_mutex_unlock(&quota->lock);
}

void quota_release(struct quota_charge *charge)
{
    if (charge->state == CHARGE_NONE)
        return;
    pthread_mutex_lock(&charge->quota->lock);
    if (charge->state == CHARGE_STRANGER)
        quota_leave_strangers(charge);
    else
        charge->quota->n_known--;
    charge->quota->n_fds--;
    charge->state = CHARGE_NONE;
    pthread_mutex_unlock(&charge->quota->lock);
}

static uint64_t quota_price(const struct quota *quota, enum quota_offence offence)
{
    switch (offence) {
    case QUOTA_FAILED: return quota->limits.penalty_failed_ms;
    case QUOTA_TIMEOUT: return quota->limits.penalty_timeout_ms;
    }
    return 0;
}

static void quota_penalise(struct quota *quota, const uint8_t *source, uint64_t price, uint64_t now)
{
    struct quota_penalty *penalty = quota_find(quota, source);
    uint64_t from = penalty && penalty->until > now ? penalty->until : now;

    if (!penalty)
        penalty = quota_earliest(quota, source);
    memcpy(penalty->source, source, QUOTA_SOURCE);
    penalty->until = GT_MIN(from + price, now + quota->limits.penalty_max_ms);
}

void quota_punish(struct quota_charge *charge, enum quota_offence offence, uint64_t now)
{
    struct quota *quota = charge->quota;

    if (charge->state == CHARGE_NONE)
        return;
    pthread_mutex_lock(&quota->lock);
    uint64_t price = quota_price(quota, offence);
    if (price)
        quota_penalise(quota, charge->source, price, now);
    pthread_mutex_unlock(&quota->lock);
}

bool quota_take_fd(struct quota *quota)
{
    pthread_mutex_lock(&quota->lock);
    bool is_there = quota->n_fds < quota->n_fds_max;
    quota->n_fds += is_there;
    pthread_mutex_unlock(&quota->lock);
    return is_there;
}

void quota_give_fd(struct quota *quota)
{
    pthread_mutex_lock(&quota->lock);
    quota->n_fds--;
    pthread_mutex_unlock(&quota->lock);
}

void quota_adopt_fd(struct quota *quota)
{
    pthread_mutex_lock(&quota->lock);
    quota->n_fds++;
    pthread_mutex_unlock(&quota->lock);
}

const struct quota_penalty *quota_next_penalty(const struct quota *quota, uint64_t now, size_t *at)
{
    for (; *at < QUOTA_N_PENALTIES; ++*at) {
        const struct quota_penalty *penalty =
            &quota->penalties[*at / QUOTA_N_WAYS][*at % QUOTA_N_WAYS];
        if (penalty->until > now) {
            ++*at;
            return penalty;
        }
    }
    return NULL;
}

void quota_adopt_penalty(struct quota *quota, const struct quota_penalty *penalty)
{
    *quota_earliest(quota, penalty->source) = *penalty;
}

void quota_count(struct quota *quota, struct quota_counts *ret)
{
    pthread_mutex_lock(&quota->lock);
    *ret = (struct quota_counts){quota->n_strangers, quota->n_known, quota->n_fds, quota->n_fds_max,
                                 quota->n_refused};
    pthread_mutex_unlock(&quota->lock);
}
