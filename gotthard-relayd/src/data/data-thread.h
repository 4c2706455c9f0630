/* SPDX-License-Identifier: ISC */
/*
 * A data thread: a thread with an event loop, the session ports assigned to it, and all their
 * bytes. It exchanges messages with the control thread and shares nothing else except the quota and
 * the counts of bytes.
 */
#pragma once

#include <semaphore.h>
#include <stdatomic.h>

#include "data/mailbox.h"
#include "data/preauth.h"
#include "data/ticket.h"
#include "gotthard/net/acceptor.h"

/* Written by the data thread; read by the control thread for its status. */
struct data_thread_counts {
    atomic_uint n_session_ports, n_tickets, n_pairs, n_pipes;
    _Atomic uint64_t n_wakeups, n_bytes;
};

enum data_thread_state {
    DATA_THREAD_NEW, /* not started */
    DATA_THREAD_RUNNING,
    DATA_THREAD_PAUSED, /* the thread waits; its data belongs to the control thread */
    DATA_THREAD_ENDING,
};

struct data_thread {
    enum data_thread_state state; /* of the control thread */
    sem_t paused, resume;
    unsigned index;
    pthread_t thread;
    struct ev_loop *loop;
    struct mailbox inbox;
    struct mailbox *outbox; /* borrowed; of the control thread */
    struct quota *quota;    /* borrowed */
    struct gt_reserve_fd reserve;
    struct pipe_pool pool;
    struct data_thread_limits limits;
    struct tickets tickets;
    struct preauth_host preauths;
    struct gt_list session_ports, closed_session_ports, closed_pairs;
    ev_prepare before_sleep;
    struct data_thread_counts counts;
    struct message pause_message;
};

struct data_thread_settings {
    unsigned index;
    struct mailbox *outbox; /* borrowed */
    struct quota *quota;    /* borrowed */
    enum pipe_kind pipe_kind;
    size_t pipe_size, n_pipes_max;
    struct data_thread_limits limits;
};

/* Descriptors of a data thread itself: event loop, wake-up, preauth, reserve. */
#define DATA_THREAD_N_FDS 4

/* Creates a data thread that is not running. Copies @settings. A negative errno. */
int data_thread_new(const struct data_thread_settings *settings,
                    struct data_thread **ret) GT_MUST_CHECK;
/* Starts the thread, with all signals blocked. A negative errno. */
int data_thread_start(struct data_thread *data_thread) GT_MUST_CHECK;
/* Stops the thread, closes all its pairs and frees it. Accepts NULL; returns NULL. */
struct data_thread *data_thread_free(struct data_thread *data_thread);

/* Pause the thread after its current turn. Until data_thread_resume, as before the start, all of
 * its data belongs to the control thread. */
void data_thread_request_pause(struct data_thread *data_thread);
void data_thread_await_pause(struct data_thread *data_thread);
/* Delivers the messages of a paused thread and reaps its closed objects. */
void data_thread_deliver(struct data_thread *data_thread);
/* No effect unless PAUSED. */
void data_thread_resume(struct data_thread *data_thread);

/* Requests of the control thread. -ENOMEM: nothing was sent, and the argument stays the caller's.
 */
int data_thread_add_port(struct data_thread *data_thread,
                         struct session_port *session_port) GT_MUST_CHECK;
void data_thread_remove_port(struct data_thread *data_thread, struct session_port *session_port);
int data_thread_add_ticket(struct data_thread *data_thread, struct session_port *session_port,
                           const struct gt_ticket *ticket, uint64_t expires_at) GT_MUST_CHECK;
int data_thread_cancel_ticket(struct data_thread *data_thread, struct session_port *session_port,
                              uint32_t stream, uint32_t attempt) GT_MUST_CHECK;
/* Detaches and takes @preauth. */
int data_thread_move_join(struct data_thread *data_thread, struct preauth *preauth) GT_MUST_CHECK;
int data_thread_change_limits(struct data_thread *data_thread,
                              const struct data_thread_limits *limits) GT_MUST_CHECK;

/* Sends a copy of @what to the control thread. Only from the data thread. Out of memory: the
 * message is dropped and a warning is logged. */
void data_thread_report(struct data_thread *data_thread, const struct message *what);
