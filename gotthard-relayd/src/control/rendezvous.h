/* SPDX-License-Identifier: ISC */
/*
 * The state machine of a session: one operator, one device, one port. Pure: no clock, no
 * descriptor, no loop; session.c acts on its decisions. One table lists the next state for each
 * state and event. An event that is not listed ends the session.
 */
#pragma once

#include "control/stream-slots.h"
#include "gotthard/base/clock.h"
#include "gotthard/crypto/key.h"
#include "gotthard/proto/control.h"

enum rendezvous_state {
    RENDEZVOUS_EMPTY,   /* created; no client yet */
    RENDEZVOUS_WAITING, /* one side waits for the other */
    RENDEZVOUS_PAIRED,  /* both sides are connected */
    RENDEZVOUS_GRACE,   /* a side was lost and may return */
    RENDEZVOUS_ENDED,   /* freed by registry_reap */
};
#define N_RENDEZVOUS_STATES 5

enum rendezvous_event {
    RENDEZVOUS_ONE_UP,   /* a side registered; the other is absent */
    RENDEZVOUS_BOTH_UP,  /* a side registered; the other is connected */
    RENDEZVOUS_REPLACED, /* a connected side registered again with a greater generation */
    RENDEZVOUS_LOST,     /* the control connection of a side ended */
    RENDEZVOUS_BYE,      /* a side sent BYE */
    RENDEZVOUS_TIMEOUT,  /* the deadline of the state passed */
    RENDEZVOUS_EXPIRED,  /* the lifetime passed */
    RENDEZVOUS_STOPPED,  /* the relay ends the session */
};
#define N_RENDEZVOUS_EVENTS 8

struct rendezvous_limits {
    uint64_t pairing_ms; /* time that the first side waits for the other */
    uint64_t idle_ms;    /* time that a session may carry no stream; 0: no limit */
    uint64_t grace_ms;   /* time in which a lost side may return */
};

struct rendezvous_slot {
    char name[GT_NAME_MAX + 1];     /* of the first identity that claimed it; "": free */
    uint8_t key_id[GT_KEY_ID_SIZE]; /* of the key with which the identity authenticated last */
    uint32_t generation;
    void *client; /* borrowed; NULL: absent */
};

struct rendezvous {
    enum rendezvous_state state;
    uint8_t rid[GT_RID_SIZE];
    char tag[9];     /* the first 8 hex digits of rid, for logs */
    uint64_t serial; /* number of the session in this relay */
    uint16_t port;
    struct rendezvous_slot slots[2]; /* by role - 1 */
    struct streams streams;
    uint32_t load; /* streams of the session, in the last LOAD of the present operator */
    uint64_t created_at, entered_at, active_at, expires_at; /* gt_clock_ms */
};

enum {
    RENDEZVOUS_E_TAKEN = 1,  /* the slot belongs to another identity or a greater generation */
    RENDEZVOUS_E_UNEXPECTED, /* event not listed in this state: ENDED, to be counted */
};

/* Returns the name of @state for the log. */
const char *rendezvous_state_text(enum rendezvous_state state);

/* Creates an EMPTY session. The caller sets port and serial, and initializes the streams. */
void rendezvous_init(struct rendezvous *rendezvous, const uint8_t rid[static GT_RID_SIZE],
                     uint64_t now);

struct rendezvous_claim {
    enum rendezvous_event event; /* ONE_UP, BOTH_UP or REPLACED, for rendezvous_handle */
    void *replaced;              /* the client that held the slot until now, or NULL */
    bool is_new_process;         /* returned without a greater generation: it has lost its state */
};
/* Gives the slot of @role to @client (borrowed). A generation of 0 marks a new process: it replaces
 * the connection of the old process before that is found to be lost. E_TAKEN: nothing changed. */
int rendezvous_claim(struct rendezvous *rendezvous, enum gt_role role, const char *name,
                     uint32_t generation, void *client, struct rendezvous_claim *ret) GT_MUST_CHECK;
/* Return the slot of @role, and of the other role. */
struct rendezvous_slot *rendezvous_slot(struct rendezvous *rendezvous, enum gt_role role);
struct rendezvous_slot *rendezvous_peer(struct rendezvous *rendezvous, enum gt_role role);

/* Restores a session that was in @state since @entered_at before an upgrade. Its clients are
 * absent, as after a loss, or as before the first client. */
void rendezvous_restore(struct rendezvous *rendezvous, enum rendezvous_state state,
                        uint64_t entered_at, uint64_t now);

/* Changes the state. E_UNEXPECTED: the state is ENDED now. */
int rendezvous_handle(struct rendezvous *rendezvous, enum rendezvous_event event,
                      uint64_t now) GT_MUST_CHECK;

/* Sets the number of streams of the session. The time of an idle session begins when it
 * becomes 0, and when the operator registers, which is reported as 0. */
void rendezvous_set_load(struct rendezvous *rendezvous, uint32_t n_streams, uint64_t now);
/* Returns true unless the session is idle: its only data connection is the shared one, which
 * carries no stream. */
bool rendezvous_carries_streams(const struct rendezvous *rendezvous);

/* Returns the earlier of the deadline of the state and the end of the session's lifetime. */
uint64_t rendezvous_deadline(const struct rendezvous *rendezvous,
                             const struct rendezvous_limits *limits);
/* Returns the event for rendezvous_handle after that time, and the limit that passed. */
enum rendezvous_event rendezvous_due(const struct rendezvous *rendezvous, uint64_t now,
                                     enum gt_code *ret_code);
