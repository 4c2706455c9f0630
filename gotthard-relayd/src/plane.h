/* SPDX-License-Identifier: ISC */
/*
 * A data plane: a thread with its loop, the sessions that were given to it, and all their bytes. It
 * talks to the control thread by letters and shares nothing else with anybody but the quota.
 */
#pragma once

#include <semaphore.h>
#include <stdatomic.h>

#include "listener.h"
#include "mailbox.h"
#include "stranger.h"
#include "ticket.h"

/* Read by the control thread for its status; written by the plane. */
struct plane_counts {
    atomic_uint n_docks, n_tickets, n_pairs, n_pipes;
    atomic_ulong n_wakeups, n_bytes;
};

enum plane_state {
    PLANE_NEW, /* no thread yet */
    PLANE_RUNNING,
    PLANE_STILL, /* the thread waits */
    PLANE_ENDING,
};

struct plane {
    enum plane_state state; /* the control thread's */
    sem_t stopped, may_go_on;
    unsigned index;
    pthread_t thread;
    struct ev_loop *loop;
    struct mailbox inbox;
    struct mailbox *outbox; /* borrows: the control thread's */
    struct quota *quota;
    struct spare spare;
    struct pipe_pool pool;
    struct plane_limits limits;
    struct tickets tickets;
    struct stranger_host strangers;
    struct gt_list docks, dead_docks, dead_pairs;
    ev_prepare before_sleep;
    struct plane_counts counts;
    struct letter stop;
};

struct plane_settings {
    unsigned index;
    struct mailbox *outbox; /* borrows */
    struct quota *quota;    /* borrows */
    enum pipe_kind pipe_kind;
    size_t pipe_size, n_pipes_max;
    struct plane_limits limits;
};

/* Descriptors that a plane needs for itself: of its loop, its wake-ups, its strangers, the spare.
 */
#define PLANE_N_FDS 4

/* Without its thread as yet. */
int plane_new(const struct plane_settings *settings, struct plane **ret) GT_MUST_CHECK;
int plane_start(struct plane *plane) GT_MUST_CHECK;
/* Ends all its pairs and waits for the thread. */
struct plane *plane_free(struct plane *plane);

/* The thread waits after the turn it is in. Until it goes on all of the plane is the control
 * thread's, as it is before the start. */
void plane_ask_to_stop(struct plane *plane);
void plane_await_stop(struct plane *plane);
/* Reads its letters and frees what is dead. */
void plane_settle(struct plane *plane);
void plane_go_on(struct plane *plane);

/* What the control thread asks. -ENOMEM where a letter is needed; the dock is the caller's then. */
int plane_dock(struct plane *plane, struct dock *dock) GT_MUST_CHECK;
void plane_undock(struct plane *plane, struct dock *dock);
int plane_honour(struct plane *plane, struct dock *dock, const struct gt_ticket *ticket,
                 uint64_t expires_at) GT_MUST_CHECK;
int plane_cancel(struct plane *plane, struct dock *dock, uint32_t stream,
                 uint32_t attempt) GT_MUST_CHECK;
/* The stranger is detached and no longer the caller's. */
int plane_join(struct plane *plane, struct stranger *stranger) GT_MUST_CHECK;
int plane_change(struct plane *plane, const struct plane_limits *limits) GT_MUST_CHECK;

/* From inside: a letter to the control thread. */
void plane_tell(struct plane *plane, const struct letter *what);
