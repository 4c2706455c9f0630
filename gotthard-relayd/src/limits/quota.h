/* SPDX-License-Identifier: ISC */
/*
 * The cost limit of unauthenticated connections. Every accepted connection carries a charge. It
 * counts against the descriptor budget until the connection ends. A connection that must wait for
 * bytes also counts against the limits of waiting connections: in total, and of its source, an IPv4
 * address or an IPv6 /64. A full limit rejects no newcomer. A rejected connection is evicted
 * instead; without one, that of the more numerous kind, silent or started, that has waited longest.
 * A connection that has proved a key never waits here, so that no number of others keeps it out.
 * Half of the handshakes may be of one identity: a stolen key keeps out no other.
 *
 * Besides the mailboxes, this is the only state that the relay's threads share. It has a lock,
 * which a connection takes when it is accepted, authenticated and closed, never to transfer bytes.
 * An eviction shuts the socket down (shutdown(2)). The thread that owns it then closes it.
 */
#pragma once

#include <pthread.h>

#include "gotthard/base/list.h"
#include "snapshot/saved-layout.h"

#define QUOTA_SOURCE 16

struct quota_limits {
    size_t n_preauths;    /* waiting connections of all sources */
    size_t n_handshakes;  /* with a proved key; each has 60 KiB of memory */
    size_t n_of_identity; /* handshakes of one identity */
    size_t n_per_source;  /* waiting connections of one source */
};

enum charge_state {                  /* the waiting ones first */
                    CHARGE_REJECTED, /* read to its end */
                    CHARGE_SILENT,   /* has sent nothing */
                    CHARGE_STARTED,  /* waits for the remaining bytes of a ClientHello or a JOIN */
                    CHARGE_PROVED,   /* its ClientHello proves a key; in its handshake */
                    CHARGE_KNOWN,    /* authenticated, or has a complete JOIN */
                    CHARGE_EVICTED,  /* its socket was shut down */
};
#define CHARGE_N_WAITING 3
#define CHARGE_N_STATES  6

struct quota;

struct quota_charge {             /* zeros: empty */
    struct quota *quota;          /* borrowed; NULL: empty */
    enum charge_state state;      /* accessed under the lock only */
    int fd;                       /* borrowed; of the connection */
    uint8_t source[QUOTA_SOURCE]; /* PROVED: the identity */
    struct gt_list of_quota;
};

struct quota {
    pthread_mutex_t lock;
    struct quota_limits limits;
    size_t n_fds, n_fds_max;
    uint64_t n_evicted;                      /* since the start */
    size_t n[CHARGE_N_STATES];               /* charges by their state */
    struct gt_list charges[CHARGE_N_STATES]; /* likewise, the longest waiting first */
};

enum { QUOTA_E_FDS = 1 }; /* the descriptor budget is used up, and nothing can be evicted */

void quota_init(struct quota *quota, const struct quota_limits *limits, size_t n_fds_max);
void quota_deinit(struct quota *quota);
void quota_change(struct quota *quota, const struct quota_limits *limits);

/*
 * Charges an accepted connection from @source in @state, but not EVICTED. PROVED: @source is a
 * digest of its identity, because a key counts more than an address. Keeps @fd. Where a limit
 * is full, another connection is evicted. The owner of a charge must release it before it closes
 * @fd, because an eviction may come from another thread. E_FDS: nothing is charged, and the caller
 * closes the connection.
 */
int quota_admit(struct quota *quota, const uint8_t source[static QUOTA_SOURCE], int fd,
                enum charge_state state, struct quota_charge *ret) GT_MUST_CHECK;
/* Changes the state. STARTED again, after more bytes: the connection is now the last to be evicted.
 * Not PROVED. No effect on an empty charge and on an evicted connection. */
void quota_mark(struct quota_charge *charge, enum charge_state state);
/* A connection that has waited is PROVED now; @identity as @source of quota_admit. */
void quota_prove(struct quota_charge *charge, const uint8_t identity[static QUOTA_SOURCE]);
/* Returns true if the connection was evicted. */
bool quota_is_evicted(const struct quota_charge *charge);
/* Moves the charge to another struct; @from is empty afterwards. */
void quota_move(struct quota_charge *from, struct quota_charge *to);
/* The connection is about to end. No effect on an empty charge. */
void quota_release(struct quota_charge *charge);

/* Charges a descriptor that is no connection, such as a listening socket. Returns false if the
 * budget is used up. */
bool quota_acquire_fd(struct quota *quota);
void quota_release_fd(struct quota *quota);

struct quota_counts {
    size_t n_preauths; /* waiting connections, and handshakes */
    size_t n_known, n_fds, n_fds_max;
    uint64_t n_evicted;
};
void quota_count(struct quota *quota, struct quota_counts *ret);

/* --- snapshot --------------------------------------------------------------------------------- */

struct saved_quota {
    uint64_t n_evicted;
};

extern const struct saved_layout quota_layout;

/* Writes SAVED_QUOTA. Charges are saved by the owners of their connections. */
void quota_save(struct quota *quota, struct gt_writer *writer);
void quota_restore(struct quota *quota, const struct saved_quota *saved);
/* Charges a KNOWN connection that the previous image admitted, without any limit. */
void quota_restore_charge(struct quota *quota, const uint8_t source[static QUOTA_SOURCE],
                          struct quota_charge *ret);
/* As quota_acquire_fd, without the limit. */
void quota_restore_fd(struct quota *quota);
