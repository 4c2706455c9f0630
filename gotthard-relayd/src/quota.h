/* SPDX-License-Identifier: ISC */
/*
 * What strangers may cost. Every accepted connection carries a charge: while it is a stranger's it
 * counts against the total and against its source (an IPv4 address or an IPv6 /64), and from birth
 * to death it counts against the budget of descriptors. Sources that misbehave are penalised: for
 * some seconds more with each offence, nothing of theirs is admitted.
 *
 * The one thing that the threads of the relay share under a lock: a connection passes it when it is
 * accepted, when it becomes known and when it ends, never on the way of the bytes. Pure but for
 * that: the time is an argument.
 */
#pragma once

#include <pthread.h>

#include "gotthard/list.h"

#define QUOTA_SOURCE      16
#define QUOTA_N_PENALTIES 4096
#define QUOTA_N_WAYS      8

struct quota_limits {
    size_t n_strangers;  /* at most so many in all */
    size_t n_early;      /* from so many on, some are dropped by chance */
    size_t n_per_source; /* at most so many of one source */
    uint64_t penalty_failed_ms, penalty_timeout_ms, penalty_max_ms;
};

enum charge_state { CHARGE_NONE, CHARGE_STRANGER, CHARGE_KNOWN };

struct quota_charge {
    enum charge_state state;
    struct quota *quota;
    uint8_t source[QUOTA_SOURCE];
    struct gt_list strangers;
};

struct quota_penalty {
    uint8_t source[QUOTA_SOURCE];
    uint64_t until;
};

struct quota {
    pthread_mutex_t lock;
    struct quota_limits limits;
    uint64_t seed, chance; /* of the table's hash; of early drops */
    size_t n_fds, n_fds_max;
    size_t n_strangers, n_known, n_refused;
    struct gt_list strangers;
    struct quota_penalty penalties[QUOTA_N_PENALTIES / QUOTA_N_WAYS][QUOTA_N_WAYS];
};

enum {
    QUOTA_E_PENALTY = 1, /* the source is penalised */
    QUOTA_E_SOURCE,      /* too many strangers of this source */
    QUOTA_E_FULL,        /* too many strangers, or dropped early by chance */
    QUOTA_E_FDS,         /* the budget of descriptors is used up */
};

enum quota_offence { QUOTA_FAILED, QUOTA_TIMEOUT };

void quota_init(struct quota *quota, const struct quota_limits *limits, size_t n_fds_max,
                uint64_t seed);
void quota_deinit(struct quota *quota);
void quota_change(struct quota *quota, const struct quota_limits *limits);

/* A connection was accepted. On a condition nothing is charged: close it. */
int quota_admit(struct quota *quota, const uint8_t source[static QUOTA_SOURCE], uint64_t now,
                struct quota_charge *ret) GT_MUST_CHECK;
/* One that proved at once who it is: only the budget can refuse it (E_FDS). */
int quota_admit_known(struct quota *quota, const uint8_t source[static QUOTA_SOURCE],
                      struct quota_charge *ret) GT_MUST_CHECK;
/* One that another image of the relay admitted: nothing refuses it. */
void quota_adopt(struct quota *quota, const uint8_t source[static QUOTA_SOURCE],
                 struct quota_charge *ret);
/* The stranger proved who he is: from now on he costs a descriptor only. */
void quota_know(struct quota_charge *charge);
/* The charge lives in another struct from now on; @from is empty after. */
void quota_move(struct quota_charge *from, struct quota_charge *to);
/* The connection ended. An empty charge is fine. */
void quota_release(struct quota_charge *charge);
void quota_punish(struct quota_charge *charge, enum quota_offence offence, uint64_t now);

/* Descriptors beside connections (a session's listener). False: none left. */
bool quota_take_fd(struct quota *quota);
void quota_give_fd(struct quota *quota);
/* One that is there already. */
void quota_adopt_fd(struct quota *quota);

/* The next penalty that is still on, from *at on, which begins with 0. NULL: there is none. */
const struct quota_penalty *quota_next_penalty(const struct quota *quota, uint64_t now, size_t *at);
void quota_adopt_penalty(struct quota *quota, const struct quota_penalty *penalty);

struct quota_counts {
    size_t n_strangers, n_known, n_fds, n_fds_max, n_refused;
};
void quota_count(struct quota *quota, struct quota_counts *ret);
