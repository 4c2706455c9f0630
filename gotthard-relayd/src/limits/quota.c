/* SPDX-License-Identifier: ISC */
/*
 * Charges, in one list for each state. Waiting connections are few, so those of one source are
 * found by a walk. No memory here grows with the behavior of peers: a charge is a part of its
 * connection.
 */
#include "limits/quota.h"

#include <string.h>
#include <sys/socket.h>

#define N_SHARES 8 /* of all handshakes; several stolen keys have one each */

void quota_init(struct quota *quota, const struct quota_limits *limits, size_t n_fds_max)
{
    *quota = (struct quota){.limits = *limits, .n_fds_max = n_fds_max};
    pthread_mutex_init(&quota->lock, NULL);
    for (size_t i = 0; i < CHARGE_N_STATES; i++)
        gt_list_init(&quota->charges[i]);
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

/* --- states ----------------------------------------------------------------------------------- */

static void charge_leave(struct quota_charge *charge)
{
    gt_list_unlink(&charge->of_quota);
    charge->quota->n[charge->state]--;
}

/* The charge is in no list. */
static void charge_enter(struct quota_charge *charge, enum charge_state state)
{
    gt_list_append(&charge->quota->charges[state], &charge->of_quota);
    charge->quota->n[state]++;
    charge->state = state;
}

/* --- evictions -------------------------------------------------------------------------------- */

/* @source: NULL for every source. */
static bool charge_is_of(const struct quota_charge *charge, const uint8_t *source)
{
    return !source || memcmp(charge->source, source, QUOTA_SOURCE) == 0;
}

/* Returns the charge that has been in @state for longest, or NULL. */
static struct quota_charge *quota_oldest(struct quota *quota, enum charge_state state,
                                         const uint8_t *source)
{
    gt_list_for_each_safe (at, next, &quota->charges[state]) {
        struct quota_charge *charge = gt_list_entry(at, struct quota_charge, of_quota);

        if (charge_is_of(charge, source))
            return charge;
    }
    return NULL;
}

static size_t quota_n_of(struct quota *quota, enum charge_state state, const uint8_t *source)
{
    size_t n = 0;

    if (!source)
        return quota->n[state];
    gt_list_for_each_safe (at, next, &quota->charges[state])
        n += charge_is_of(gt_list_entry(at, struct quota_charge, of_quota), source);
    return n;
}

static size_t quota_n_waiting(struct quota *quota, const uint8_t *source)
{
    size_t n = 0;

    for (size_t state = 0; state < CHARGE_N_WAITING; state++)
        n += quota_n_of(quota, (enum charge_state)state, source);
    return n;
}

/* Evicts @charge, unless it is NULL. */
static void quota_evict(struct quota *quota, struct quota_charge *charge)
{
    if (!charge)
        return;
    shutdown(charge->fd, SHUT_RDWR);
    charge_leave(charge);
    charge_enter(charge, CHARGE_EVICTED);
    quota->n_evicted++;
}

/* A flood of one kind must keep out none of the other. A rejected connection is of no use to its
 * peer. */
static enum charge_state quota_state_to_evict(struct quota *quota, const uint8_t *source)
{
    if (quota_n_of(quota, CHARGE_REJECTED, source))
        return CHARGE_REJECTED;
    size_t n_silent = quota_n_of(quota, CHARGE_SILENT, source);
    return quota_n_of(quota, CHARGE_STARTED, source) > n_silent ? CHARGE_STARTED : CHARGE_SILENT;
}

static void quota_evict_waiting(struct quota *quota, const uint8_t *source)
{
    quota_evict(quota, quota_oldest(quota, quota_state_to_evict(quota, source), source));
}

/* A source at its limit must not displace the others. */
static void quota_make_room_to_wait(struct quota *quota, const uint8_t *source)
{
    if (quota_n_waiting(quota, source) >= quota->limits.n_per_source)
        quota_evict_waiting(quota, source);
    else if (quota_n_waiting(quota, NULL) >= quota->limits.n_preauths)
        quota_evict_waiting(quota, NULL);
}

/* Returns the oldest handshake, but first one of an identity that has more than its share, if it is
 * among the oldest: honest handshakes are few for each identity. The time for this is bounded. */
static struct quota_charge *quota_handshake_to_evict(struct quota *quota)
{
    size_t share = quota->limits.n_handshakes / N_SHARES, n_left = N_SHARES;

    gt_list_for_each_safe (at, next, &quota->charges[CHARGE_PROVED]) {
        struct quota_charge *charge = gt_list_entry(at, struct quota_charge, of_quota);

        if (quota_n_of(quota, CHARGE_PROVED, charge->source) > share)
            return charge;
        if (--n_left == 0)
            break;
    }
    return quota_oldest(quota, CHARGE_PROVED, NULL);
}

/* An identity at its limit must not displace the others. */
static void quota_make_room_for_handshake(struct quota *quota, const uint8_t *identity)
{
    if (quota_n_of(quota, CHARGE_PROVED, identity) >= quota->limits.n_of_identity)
        quota_evict(quota, quota_oldest(quota, CHARGE_PROVED, identity));
    else if (quota->n[CHARGE_PROVED] >= quota->limits.n_handshakes)
        quota_evict(quota, quota_handshake_to_evict(quota));
}

/* Descriptors of evicted connections will be closed in the next turn of their threads. */
static bool quota_has_fd(const struct quota *quota)
{
    return quota->n_fds < quota->n_fds_max + quota->n[CHARGE_EVICTED];
}

static bool quota_make_room_for_fd(struct quota *quota)
{
    if (!quota_has_fd(quota))
        quota_evict_waiting(quota, NULL);
    return quota_has_fd(quota);
}

static int quota_make_room(struct quota *quota, enum charge_state state, const uint8_t *source)
{
    if (state < CHARGE_N_WAITING)
        quota_make_room_to_wait(quota, source);
    else if (state == CHARGE_PROVED)
        quota_make_room_for_handshake(quota, source);
    return quota_make_room_for_fd(quota) ? 0 : QUOTA_E_FDS;
}

/* --- charges ---------------------------------------------------------------------------------- */

static void quota_charge(struct quota *quota, const uint8_t *source, int fd,
                         enum charge_state state, struct quota_charge *ret)
{
    *ret = (struct quota_charge){.quota = quota, .fd = fd};
    memcpy(ret->source, source, QUOTA_SOURCE);
    charge_enter(ret, state);
    quota->n_fds++;
}

int quota_admit(struct quota *quota, const uint8_t source[static QUOTA_SOURCE], int fd,
                enum charge_state state, struct quota_charge *ret)
{
    pthread_mutex_lock(&quota->lock);
    int r = quota_make_room(quota, state, source);
    if (!r)
        quota_charge(quota, source, fd, state, ret);
    pthread_mutex_unlock(&quota->lock);
    return r;
}

void quota_mark(struct quota_charge *charge, enum charge_state state)
{
    if (!charge->quota)
        return;
    pthread_mutex_lock(&charge->quota->lock);
    if (charge->state != CHARGE_EVICTED) {
        charge_leave(charge);
        charge_enter(charge, state);
    }
    pthread_mutex_unlock(&charge->quota->lock);
}

void quota_prove(struct quota_charge *charge, const uint8_t identity[static QUOTA_SOURCE])
{
    pthread_mutex_lock(&charge->quota->lock);
    if (charge->state != CHARGE_EVICTED) {
        charge_leave(charge);
        quota_make_room_for_handshake(charge->quota, identity);
        memcpy(charge->source, identity, QUOTA_SOURCE);
        charge_enter(charge, CHARGE_PROVED);
    }
    pthread_mutex_unlock(&charge->quota->lock);
}

bool quota_is_evicted(const struct quota_charge *charge)
{
    if (!charge->quota)
        return false;
    pthread_mutex_lock(&charge->quota->lock);
    bool is_evicted = charge->state == CHARGE_EVICTED;
    pthread_mutex_unlock(&charge->quota->lock);
    return is_evicted;
}

void quota_move(struct quota_charge *from, struct quota_charge *to)
{
    struct quota *quota = from->quota;

    if (!quota) {
        *to = (struct quota_charge){0};
        return;
    }
    pthread_mutex_lock(&quota->lock); /* neighbors in the list may belong to other threads */
    *to = *from;
    gt_list_append(&from->of_quota, &to->of_quota);
    gt_list_unlink(&from->of_quota);
    from->quota = NULL;
    pthread_mutex_unlock(&quota->lock);
}

void quota_release(struct quota_charge *charge)
{
    struct quota *quota = charge->quota;

    if (!quota)
        return;
    pthread_mutex_lock(&quota->lock);
    charge_leave(charge);
    charge->quota = NULL;
    quota->n_fds--;
    pthread_mutex_unlock(&quota->lock);
}

bool quota_acquire_fd(struct quota *quota)
{
    pthread_mutex_lock(&quota->lock);
    bool is_acquired = quota_make_room_for_fd(quota);
    quota->n_fds += is_acquired;
    pthread_mutex_unlock(&quota->lock);
    return is_acquired;
}

void quota_release_fd(struct quota *quota)
{
    pthread_mutex_lock(&quota->lock);
    quota->n_fds--;
    pthread_mutex_unlock(&quota->lock);
}

void quota_count(struct quota *quota, struct quota_counts *ret)
{
    pthread_mutex_lock(&quota->lock);
    *ret = (struct quota_counts){
        .n_preauths = quota_n_waiting(quota, NULL) + quota->n[CHARGE_PROVED],
        .n_known = quota->n[CHARGE_KNOWN],
        .n_fds = quota->n_fds,
        .n_fds_max = quota->n_fds_max,
        .n_evicted = quota->n_evicted,
    };
    pthread_mutex_unlock(&quota->lock);
}

/* --- snapshot --------------------------------------------------------------------------------- */

static const struct gt_field quota_fields[] = {GT_FIELD_U64(struct saved_quota, n_evicted)};

const struct saved_layout quota_layout = {SAVED_LAYOUT(QUOTA, quota_fields)};

void quota_save(struct quota *quota, struct gt_writer *writer)
{
    struct quota_counts counts;

    quota_count(quota, &counts);
    saved_layout_write(&quota_layout, writer, &(struct saved_quota){counts.n_evicted});
}

void quota_restore(struct quota *quota, const struct saved_quota *saved)
{
    quota->n_evicted = saved->n_evicted;
}

void quota_restore_charge(struct quota *quota, const uint8_t source[static QUOTA_SOURCE],
                          struct quota_charge *ret)
{
    pthread_mutex_lock(&quota->lock);
    quota_charge(quota, source, -1, CHARGE_KNOWN, ret);
    pthread_mutex_unlock(&quota->lock);
}

void quota_restore_fd(struct quota *quota)
{
    pthread_mutex_lock(&quota->lock);
    quota->n_fds++;
    pthread_mutex_unlock(&quota->lock);
}
