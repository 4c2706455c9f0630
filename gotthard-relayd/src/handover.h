/* SPDX-License-Identifier: ISC */
/*
 * What one image of the relay tells the next: a head with a version, and then records in an order
 * that can be read in one go. It goes through memory that only the two share, and is checked as if
 * it came from a stranger nevertheless, because the other image may be of another day.
 *
 * Pure. A record holds no more than its struct, and everything that is checked is checked twice:
 * when the next image rehearses, where a refusal costs nothing, and when it takes over.
 */
#pragma once

#include "gotthard/bytes.h"
#include "gotthard/join.h"
#include "gotthard/sock.h"
#include "pair.h"
#include "ports.h"
#include "session.h"
#include "ticket.h"
#include "tombs.h"

/* A change of any record makes another version, and so does one of what they mean: a relay of
 * before is then restarted, as debian/gotthard-relayd.postinst does it. */
#ifndef HANDOVER_VERSION
#define HANDOVER_VERSION 1
#endif

#define HANDOVER_SIZE_MAX ((size_t)1 << 30)
#define HANDOVER_FD_MAX   (1 << 20)

enum handover_kind {
    HANDOVER_RELAY = 1, /* once, first */
    HANDOVER_SECRET,    /* a setting that was taken out of the environment */
    HANDOVER_DOOR,      /* a listener on the main port */
    HANDOVER_REST,      /* a port that rests */
    HANDOVER_PENALTY,   /* of a source */
    HANDOVER_TOMB,      /* of a session that was ended */
    HANDOVER_SESSION,   /* followed by what is in it */
    HANDOVER_STREAM,
    HANDOVER_PAIR,   /* ONE_JOINED: its ticket follows */
    HANDOVER_TICKET, /* what the plane honours */
    HANDOVER_END,    /* once, last */
};
#define HANDOVER_N_KINDS 12

struct handover_relay {
    uint64_t stopped_at; /* when the last byte was moved */
    uint8_t boot_id[16];
    struct gt_addr bind; /* of sessions' ports */
    uint16_t cursor;     /* of ports */
    uint64_t serial, n_born, n_unlisted, n_refused, n_bytes;
};

struct handover_secret {
    char variable[128], text[4097];
};

struct handover_rest {
    uint16_t port;
    struct port slot; /* FREE */
};

struct handover_session {
    enum session_state state;
    uint8_t rid[GT_RID_SIZE];
    uint64_t serial, born_at, entered_at, active_at, expires_at;
    uint16_t port;
    int fd; /* the listener */
    struct {
        char name[GT_NAME_MAX + 1];
        uint32_t generation;
    } slots[2];
    uint64_t streams_serial, n_streams, n_up, n_down;
    uint32_t n_slots; /* streams that follow */
};

struct handover_pipe {
    enum { HANDOVER_NO_PIPE, HANDOVER_SPLICED, HANDOVER_COPIED } kind;
    int fds[2];           /* SPLICED */
    uint32_t n, capacity; /* SPLICED */
    struct gt_span bytes; /* COPIED; borrows */
};

struct handover_side {
    int fd; /* -1: not joined yet */
    uint8_t source[QUOTA_SOURCE];
    enum flow_state flow;
    uint64_t n_bytes;
    struct handover_pipe pipe;
};

struct handover_pair {
    enum pair_state state;
    uint32_t stream, attempt;
    uint64_t deadline, n_moved_at_deadline; /* NEVER: it has none */
    struct handover_side sides[2];
};

struct handover_ticket {
    enum ticket_state state;
    struct gt_ticket given;
    uint64_t expires_at;
};

struct handover {
    enum handover_kind kind;
    union {
        struct handover_relay relay;
        struct handover_secret secret;
        int door;
        struct handover_rest rest;
        struct quota_penalty penalty;
        struct tomb tomb;
        struct handover_session session;
        struct stream stream;
        struct handover_pair pair;
        struct handover_ticket ticket;
    };
};

enum {
    HANDOVER_E_VERSION = 1, /* another version's */
    HANDOVER_E_BAD,
};

/* As those of bytes.h: they fail once and for all. */
void handover_write_head(struct gt_writer *writer);
void handover_write_record(struct gt_writer *writer, const struct handover *record);
void handover_read_record(struct gt_reader *reader, struct handover *ret);

/* Looks at all of it: E_VERSION, E_BAD. What was found good here is read without surprise. */
int handover_check(struct gt_span state) GT_MUST_CHECK;
/* Each record in turn, of a state that was found good. Stops at the first callback that returns
 * something else than 0, and returns that. */
typedef int (*handover_fn)(void *userdata, const struct handover *record);
int handover_read(struct gt_span state, handover_fn on_record, void *userdata) GT_MUST_CHECK;

/* Every descriptor that is named, and what it is to be (S_IFSOCK, S_IFIFO). */
typedef int (*handover_fd_fn)(void *userdata, int fd, unsigned type);
int handover_each_fd(struct gt_span state, handover_fd_fn on_fd, void *userdata) GT_MUST_CHECK;
