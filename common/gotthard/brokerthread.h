/* SPDX-License-Identifier: ISC */
/*
 * The inside of a connection to a broker, for the files that make it up and nobody else: broker.c
 * is what the loop's thread calls, brokerthread.c runs the library, brokercallbacks.c is what the
 * library calls.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "gotthard/broker.h"
#include "gotthard/brokerend.h"

struct mosquitto;

enum gt_broker_state {
    GT_BROKER_CONNECTING, /* in mosquitto_connect(): perhaps stuck in the resolver for a minute */
    GT_BROKER_TALKING,    /* in mosquitto_loop() or asleep until there is something for it */
    GT_BROKER_LEAVING,    /* the owner waits: what he published is acknowledged, then we leave */
    GT_BROKER_OVER,       /* the thread is done with everything here */
    GT_BROKER_ABANDONED,  /* the owner is gone: the thread frees everything */
};

struct gt_broker {
    pthread_mutex_t lock; /* of state, n_unacknowledged and how.last_error */
    pthread_cond_t ended;
    enum gt_broker_state state;
    pthread_t thread;
    unsigned n_unacknowledged; /* published */
    struct gt_reports reports; /* open as long as not ABANDONED */

    atomic_bool is_check_due; /* the network has changed */
    int kicked;               /* eventfd: there is something to send, or the state is another */
    struct mosquitto *mosquitto;
    bool has_will;
    char host[GT_HOST_MAX + 1];
    uint16_t port;
    int keepalive_s;

    /* The thread's own. */
    unsigned n_turns;             /* until it was up */
    struct gt_broker_end how;     /* as far as it is known; is_v5 is set before */
    struct gt_broker_report *end; /* made in advance: the last report never lacks memory */
};

/* Before anything else. */
void gt_broker_init_locks(struct gt_broker *broker);
/* One more that was published, or one less. */
void gt_broker_count(struct gt_broker *broker, int more);
/* Wakes the thread. */
void gt_broker_kick(struct gt_broker *broker);
/* There must be no thread, or nobody but it. */
void gt_broker_destroy(struct gt_broker *broker);

void gt_broker_set_callbacks(struct mosquitto *mosquitto);

/* Too many are left behind. */
bool gt_broker_thread_is_too_many(void);
/* Negative errno. */
int gt_broker_thread_begin(struct gt_broker *broker) GT_MUST_CHECK;
/* Asks a thread that can hear it to leave in order, and waits for it so long. */
void gt_broker_thread_leave(struct gt_broker *broker, unsigned patience_ms);
/* Frees @broker: at once, or the thread does when it can. */
void gt_broker_thread_let_go(struct gt_broker *broker);
