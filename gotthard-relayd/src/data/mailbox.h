/* SPDX-License-Identifier: ISC */
/*
 * A queue of messages from one thread to another. The control thread and the data threads share
 * their mailboxes, the quota and counts of bytes, and nothing else. Posting wakes the reader's
 * loop. Messages are delivered in the order in which they were posted.
 */
#pragma once

#include <ev.h>
#include <pthread.h>

#include "data/pair.h"
#include "gotthard/proto/control.h"

struct session_port;
struct preauth;

enum message_kind {
    /* to a data thread */
    MESSAGE_ADD_PORT,      /* a session was created; takes ->session_port */
    MESSAGE_REMOVE_PORT,   /* the session ended; frees ->session_port */
    MESSAGE_ADD_TICKET,    /* accept ->ticket at ->session_port until ->expires_at */
    MESSAGE_CANCEL_TICKET, /* end tickets and pairs of ->ticket.stream up to ->ticket.attempt */
    MESSAGE_MOVE_JOIN,     /* a JOIN received at the main port; takes ->preauth */
    MESSAGE_CHANGE_LIMITS, /* apply ->limits */
    MESSAGE_PAUSE,         /* pause the thread; embedded in its data thread */
    /* to the control thread */
    MESSAGE_PAIRED, /* both sides of ->stream, ->attempt of session ->serial have joined */
    MESSAGE_ENDED,  /* that pair has ended, or its ticket has expired */
};

struct data_thread_limits {
    struct pair_limits pair;
    uint64_t join_ms; /* time for a complete JOIN, from the accept (main port: the first byte) */
};

struct message {
    struct message *next;
    enum message_kind kind;
    struct session_port *session_port;
    union {
        struct {
            struct gt_ticket ticket;
            uint64_t expires_at;
        };
        struct preauth *preauth;
        struct data_thread_limits limits;
        struct {
            uint64_t serial;
            uint32_t stream, attempt;
            enum gt_code code;
        };
    };
};

/* Takes @message: the callback frees it (message_free), unless it is embedded in another object. */
typedef void (*mailbox_fn)(void *userdata, struct message *message);

enum mailbox_state { MAILBOX_IDLE, MAILBOX_DELIVERING };

struct mailbox {
    enum mailbox_state state; /* of the reader's thread */
    pthread_mutex_t lock;
    struct message *first, **last;
    struct ev_loop *loop;
    ev_async wake;
    mailbox_fn on_message;
    void *userdata;
};

/* Starts watching in @loop. Keeps @loop and @userdata. */
void mailbox_init(struct mailbox *mailbox, struct ev_loop *loop, mailbox_fn on_message,
                  void *userdata);
/* Stops watching. Undelivered messages leak: drain the mailbox first. */
void mailbox_deinit(struct mailbox *mailbox);
/* Takes @message and wakes the reader. Callable from any thread. Never fails. */
void mailbox_post(struct mailbox *mailbox, struct message *message);
/* Returns true if no message waits for delivery. Callable from any thread. */
bool mailbox_is_empty(struct mailbox *mailbox);
/*
 * Delivers the queued messages now, without waiting for the loop. Callable from the reader's thread
 * only. Within a delivery it has no effect, so that no message overtakes another.
 */
void mailbox_drain(struct mailbox *mailbox);

/* Returns a zeroed message of @kind, or NULL if out of memory. Borrows @session_port. */
struct message *message_new(enum message_kind kind, struct session_port *session_port);
/* Wipes and frees @message, because messages carry tickets. Accepts NULL; returns NULL. */
struct message *message_free(struct message *message);
