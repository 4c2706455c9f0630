/* SPDX-License-Identifier: ISC */
/*
 * Letters from one thread to another: the only thing that the control thread and a plane share on
 * purpose. Posting wakes the reader's loop; the order of posting is the order of delivery.
 */
#pragma once

#include <ev.h>
#include <pthread.h>

#include "gotthard/control.h"
#include "pair.h"

struct dock;
struct stranger;

enum letter_kind {
    /* to a plane */
    LETTER_DOCK,     /* a session begins: takes ->dock */
    LETTER_UNDOCK,   /* it ended: ->dock is freed */
    LETTER_TICKET,   /* honour ->ticket at ->dock until ->expires_at */
    LETTER_CANCEL,   /* nothing of ->ticket.stream up to ->ticket.attempt is wanted any more */
    LETTER_JOIN,     /* a JOIN from the main port: takes ->stranger */
    LETTER_SETTINGS, /* new ->limits */
    LETTER_STOP,     /* the thread is to wait */
    /* to the control thread */
    LETTER_PAIRED, /* ->stream, ->attempt of session ->serial is joined */
    LETTER_ENDED,  /* it is over, or its ticket is */
};

struct plane_limits {
    struct pair_limits pair;
    uint64_t join_ms; /* for a whole JOIN, from the first look */
};

struct letter {
    struct letter *next;
    enum letter_kind kind;
    struct dock *dock;
    union {
        struct {
            struct gt_ticket ticket;
            uint64_t expires_at;
        };
        struct stranger *stranger;
        struct plane_limits limits;
        struct {
            uint64_t serial;
            uint32_t stream, attempt;
            enum gt_code code;
            uint64_t n_up, n_down;
        };
    };
};

/* Owns the letter while it runs; frees it, unless it is embedded in something. */
typedef void (*mailbox_fn)(void *userdata, struct letter *letter);

enum mailbox_state { MAILBOX_IDLE, MAILBOX_DELIVERING };

struct mailbox {
    enum mailbox_state state; /* the reader's */
    pthread_mutex_t lock;
    struct letter *first, **last;
    struct ev_loop *loop;
    ev_async wake;
    mailbox_fn on_letter;
    void *userdata;
};

void mailbox_init(struct mailbox *mailbox, struct ev_loop *loop, mailbox_fn on_letter,
                  void *userdata);
void mailbox_deinit(struct mailbox *mailbox);
/* From any thread; takes @letter. */
void mailbox_post(struct mailbox *mailbox, struct letter *letter);
/* From any thread. */
bool mailbox_is_empty(struct mailbox *mailbox);
/*
 * From the reader's thread: delivers what is there now, without waiting for the loop. From inside a
 * delivery it does nothing: no letter overtakes another.
 */
void mailbox_drain(struct mailbox *mailbox);

/* NULL when there is no memory. */
struct letter *letter_new(enum letter_kind kind, struct dock *dock);
/* Wipes it too: letters carry tickets. */
struct letter *letter_free(struct letter *letter);
