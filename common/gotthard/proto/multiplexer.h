/* SPDX-License-Identifier: ISC */
/*
 * The streams of a shared data connection: who sends next, and to whom a received segment belongs
 * (segment.h; docs/protocol.md, section 4). Pure: it composes records and takes those of the peer.
 * The owner moves them, and reports the loss of the connection.
 *
 * A stream in it is a member. Members take turns: each sends at most one segment before the next
 * one's turn, and small segments share a record.
 */
#pragma once

#include "gotthard/base/list.h"
#include "gotthard/proto/segment.h"
#include "gotthard/proto/stream.h"

#define GT_MULTIPLEXER_SEGMENTS 16 /* in one record, at most */
#define GT_MULTIPLEXER_ANSWERS  64 /* to rejected begins, that wait for room */

struct gt_multiplexer;
struct gt_shared_member;

struct gt_shared_member_events {
    /* The member's turn: composes at most @cap bytes of frames (>= GT_PRODUCE_MIN), as
     * gt_stream_compose. Returns 0 if it has nothing to send; it gets no turn then until
     * gt_shared_member_want_turn. Must not attach or detach a member. */
    size_t (*compose)(struct gt_shared_member *member, size_t cap, struct gt_stream_record *ret);
    /* A segment of this attachment has arrived: @n bytes of frames, which stay in place until
     * ->settle. The first one begins with HELLO, or with RST if the peer does not know the stream.
     * Must not detach or free a member. */
    void (*consume)(struct gt_shared_member *member, const uint8_t *data, size_t n);
    /* An invalid begin has arrived, which is dropped: reset the stream, RST "protocol". ->settle
     * follows. Must not detach or free a member. */
    void (*reset)(struct gt_shared_member *member);
    /* After the segments that arrived together, once, if any of them was the member's: deliver and
     * act on the state of the stream. Members may be attached, detached and freed. */
    void (*settle)(struct gt_shared_member *member);
    /* The connection's heartbeat. Must not attach, detach or free a member. NULL: not needed. */
    void (*heartbeat)(struct gt_shared_member *member);
    /* The connection is lost; the member is detached already. Members may be freed. */
    void (*lost)(struct gt_shared_member *member);
};

/* A stream that is attached; embedded in its channel. Fields are private. Zero-initialize. */
struct gt_shared_member {
    const struct gt_shared_member_events *events;
    struct gt_multiplexer *shared; /* NULL: not attached */
    uint32_t number, attempt;
    bool is_begun;          /* our first segment, which has the begin bit, was sent */
    bool has_peer_begun;    /* the peer's begin of this attachment has arrived */
    struct gt_list turn;    /* in the queue of those that want to send */
    struct gt_list touched; /* in the list of those to settle */
    struct gt_list link;    /* in the list of all members */
};

struct gt_multiplexer_events {
    /* Output is due: gt_multiplexer_compose soon. */
    void (*on_output)(void *userdata);
    /* Returns the member of stream @number that is attached, or NULL. Called for each segment. */
    struct gt_shared_member *(*find)(void *userdata, uint32_t number);
    /* Device: a segment with the begin bit has arrived, for a stream that is not attached, or with
     * a greater attempt than it has; @hello is its HELLO with a checked form, @hello->stream is
     * @number and @hello->attempt > 0. Create the stream, or detach and attach it anew, with that
     * attempt, and return its member (attached); ->consume follows. NULL: rejected, with *ret_code
     * as the reason that the peer gets (GT_RST_NONE: dropped silently). */
    struct gt_shared_member *(*on_begin)(void *userdata, uint32_t number,
                                         const struct gt_frame *hello, enum gt_rst *ret_code);
};

/* The peer's stream that was rejected, and why. */
struct gt_multiplexer_answer {
    uint32_t number;
    enum gt_rst code;
};

struct gt_multiplexer { /* fields are private */
    enum gt_role role;
    const struct gt_multiplexer_events *events;
    void *userdata;
    struct gt_list members, turns, touched;
    struct gt_framer framer; /* of the connection's own frames */
    bool is_ping_due, is_pong_due;
    uint64_t pong; /* the value of the last PING */
    struct gt_multiplexer_answer answers[GT_MULTIPLEXER_ANSWERS];
    unsigned first_answer, n_answers;
};

/* The content of one record, in parts that are valid until the next call with a member's stream. */
struct gt_multiplexer_record {
    size_t n, n_parts; /* bytes, parts */
    struct gt_span parts[1 + 5 * GT_MULTIPLEXER_SEGMENTS];
    size_t cap, n_segments;      /* the rest is private */
    uint8_t own[GT_PRODUCE_MIN]; /* segments of the connection itself */
    uint8_t headers[GT_MULTIPLEXER_SEGMENTS][GT_SEGMENT_HEADER];
    struct gt_stream_record frames[GT_MULTIPLEXER_SEGMENTS];
};

enum { GT_MULTIPLEXER_E_BAD = 1 }; /* malformed: the connection is of no use */

void gt_multiplexer_init(struct gt_multiplexer *mux, enum gt_role role,
                         const struct gt_multiplexer_events *events, void *userdata);
/* The connection is lost, and all output that waited for it. The members are still attached:
 * gt_multiplexer_lose_members follows. */
void gt_multiplexer_reset(struct gt_multiplexer *mux);
/* Detaches each member and calls its ->lost. */
void gt_multiplexer_lose_members(struct gt_multiplexer *mux);

/* Attaches stream @number with its @attempt. A begin of an older attempt that still arrives is
 * dropped. Its first output gets the begin bit. The order of calls is the order of first turns. */
void gt_multiplexer_attach(struct gt_multiplexer *mux, uint32_t number, uint32_t attempt,
                           const struct gt_shared_member_events *events,
                           struct gt_shared_member *member);
/* Detaches it: what still arrives for it is dropped. No effect if it is not attached. */
void gt_shared_member_detach(struct gt_shared_member *member);
/* The member has output, and gets a turn. */
void gt_shared_member_want_turn(struct gt_shared_member *member);

/* Calls ->heartbeat of each member. */
void gt_multiplexer_heartbeat(const struct gt_multiplexer *mux);
/* Schedules a PING of the connection. */
void gt_multiplexer_ping(struct gt_multiplexer *mux);
bool gt_multiplexer_has_output(const struct gt_multiplexer *mux);
/* Composes one record of at most @cap bytes (> GT_SEGMENT_HEADER + GT_PRODUCE_MIN). Returns its
 * size; 0: nothing to send. */
size_t gt_multiplexer_compose(struct gt_multiplexer *mux, size_t cap,
                              struct gt_multiplexer_record *ret);
/* Takes a record, which stays in place until gt_multiplexer_settle. Returns 0 or E_BAD. */
int gt_multiplexer_receive(struct gt_multiplexer *mux, struct gt_span record) GT_MUST_CHECK;
/* After the records that arrived together: ->settle of each member that received any of them. */
void gt_multiplexer_settle(struct gt_multiplexer *mux);
