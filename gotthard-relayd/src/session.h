/* SPDX-License-Identifier: ISC */
/*
 * One operator, one device, one port: the state machine of a session. Pure: no clock, no
 * descriptor, no loop; the registry acts on what is decided here. Every (state, event) stands in
 * one table; a pair that is not listed ends the session.
 */
#pragma once

#include "gotthard/key.h"
#include "now.h"
#include "streams.h"

enum session_state {
    SESSION_EMPTY,  /* born, nobody registered yet */
    SESSION_HALF,   /* one side waits for the other */
    SESSION_PAIRED, /* both are here */
    SESSION_GRACE,  /* a side was lost and may come back */
    SESSION_GONE,   /* over: to be buried */
};
#define N_SESSION_STATES 5

enum session_event {
    SESSION_ONE_UP,   /* a side registered, the other is not here */
    SESSION_BOTH_UP,  /* a side registered, the other is here */
    SESSION_REPLACED, /* a side that is here came again with a greater generation */
    SESSION_LOST,     /* a side's control connection went away */
    SESSION_BYE,      /* a side said goodbye */
    SESSION_TIMEOUT,  /* the deadline of the state passed */
    SESSION_EXPIRED,  /* the lifetime passed */
    SESSION_STOPPED,  /* the relay ends it: it stops, or could not do its part */
};
#define N_SESSION_EVENTS 8

struct session_limits {
    uint64_t half_ms, idle_ms, grace_ms;
};

struct session_slot {
    char name[GT_NAME_MAX + 1]; /* "": nobody yet. Whoever came first holds the slot for good */
    uint32_t generation;
    void *member; /* borrows; NULL while lost */
};

struct session {
    enum session_state state;
    uint8_t rid[GT_RID_SIZE];
    char tag[9]; /* the first 8 hex digits of rid, for logs */
    uint64_t serial;
    uint16_t port;
    struct session_slot slots[2]; /* by role - 1 */
    struct streams streams;
    uint64_t born_at, entered_at, active_at, expires_at;
};

enum {
    SESSION_E_TAKEN = 1, /* the slot is another identity's, or a greater generation's */
    SESSION_E_UNLISTED,  /* that event in that state: GONE, and to be counted */
};

const char *session_state_text(enum session_state state);

/* A session without streams or port yet. */
void session_init(struct session *session, const uint8_t rid[static GT_RID_SIZE], uint64_t now);

struct session_claim {
    enum session_event event; /* ONE_UP, BOTH_UP, REPLACED: hand it to session_handle */
    void *replaced;           /* the member that was here until now, or NULL */
    bool is_new_process;      /* came back with no greater generation: it remembers nothing */
};
/* A member asks for its role's slot and has it after; generation 0 says itself that it is a new
 * process, and need not wait for the old one's connection to be missed. E_TAKEN. */
int session_claim(struct session *session, enum gt_role role, const char *name, uint32_t generation,
                  void *member, struct session_claim *ret) GT_MUST_CHECK;
struct session_slot *session_slot(struct session *session, enum gt_role role);
struct session_slot *session_peer(struct session *session, enum gt_role role);

/* In another image of the relay it was in @state since @entered_at, and its members are gone:
 * whoever comes back finds it as after a loss, or as before the first came. */
void session_adopt(struct session *session, enum session_state state, uint64_t entered_at,
                   uint64_t now);

/* E_UNLISTED. The state is changed in either case. */
int session_handle(struct session *session, enum session_event event, uint64_t now) GT_MUST_CHECK;

/* When is something due: the deadline of the state, or the end of its life; and which event is it,
 * once that time has come? */
uint64_t session_deadline(const struct session *session, const struct session_limits *limits);
enum session_event session_due(const struct session *session, uint64_t now);
