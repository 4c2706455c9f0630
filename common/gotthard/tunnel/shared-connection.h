/* SPDX-License-Identifier: ISC */
/*
 * The shared connection of a session: one data connection, of stream number 0, that carries many
 * streams as segments (proto/segment.h; docs/protocol.md, section 4). It replaces itself after a
 * loss: the operator's end requests another ticket, with back-off, and the device's end waits for
 * it, for up to resume_s (attempt-policy.h).
 *
 * A stream in it is a member. Members take turns: each sends at most one segment before the next
 * one's turn, and small segments share a record. All output of a loop iteration is sent by one
 * flush at its end.
 */
#pragma once

#include <ev.h>

#include "gotthard/proto/multiplexer.h"
#include "gotthard/tunnel/data-connection.h"

struct gt_shared_connection;

struct gt_shared_connection_settings {
    struct ev_loop *loop;
    enum gt_role role;
    const uint8_t *session_key;    /* K_sess; keeps */
    struct gt_tls_context *tls;    /* keeps */
    struct gt_path *path;          /* keeps */
    double heartbeat_s, timeout_s; /* of the data connection; 0: 25 and 45 */
    double resume_s; /* without a data connection, at most; then it is given up, see _want */
};

struct gt_shared_connection_events {
    /* Operator: request a ticket for stream 0 and @attempt, then call
     * gt_shared_connection_connect. Called again, with a greater attempt, when none arrived. */
    void (*on_ticket_needed)(void *userdata, uint32_t attempt);
    /* Device: an established data connection was lost: notify the operator through the relay. */
    void (*on_connection_lost)(void *userdata, uint32_t attempt, bool is_black_hole);
    /* The data connection is handshaken: members can be attached, also from inside. Once for each
     * data connection. */
    void (*on_up)(void *userdata);
    /* It is lost, after each member's ->lost. */
    void (*on_down)(void *userdata);
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

/* Requests nothing yet: see gt_shared_connection_resume. -ENOMEM. */
int gt_shared_connection_new(const struct gt_shared_connection_settings *settings,
                             const struct gt_shared_connection_events *events, void *userdata,
                             struct gt_shared_connection **ret) GT_MUST_CHECK;
/* Closes at once. Members must be detached. Takes NULL. */
struct gt_shared_connection *gt_shared_connection_free(struct gt_shared_connection *shared);

/* A ticket for stream 0 arrived: dial @relay. A newer attempt replaces the older data connection,
 * whose members get ->lost, and then on_down comes (from inside). GT_CHANNEL_E_STALE (1), -ENOMEM.
 */
int gt_shared_connection_connect(struct gt_shared_connection *shared, const struct gt_addr *relay,
                                 const struct gt_ticket *ticket) GT_MUST_CHECK;
/* The connection is wanted, and the relay is reachable (again): requests a ticket now if there is
 * no data connection (on_ticket_needed or on_connection_lost come from inside). */
void gt_shared_connection_resume(struct gt_shared_connection *shared);
/* Operator: a stream needs it. Requests a ticket as _resume does, if it was closed or given up. No
 * effect otherwise. */
void gt_shared_connection_want(struct gt_shared_connection *shared);
/* Operator: it is not wanted for now (nothing is carried): sends close_notify and requests no
 * other until _resume or _want. */
void gt_shared_connection_close(struct gt_shared_connection *shared);
/* The other side has lost the data connection of @attempt: it is replaced here as well. Members get
 * ->lost, from a later loop iteration. */
void gt_shared_connection_drop(struct gt_shared_connection *shared, uint32_t attempt);
/* The network has changed, or the machine has slept: see gt_data_connection_check. It is done at
 * the end of this loop iteration. */
void gt_shared_connection_check(struct gt_shared_connection *shared, bool has_slept);
/* The next data is urgent: see gt_data_connection_probe. It is done at the end of this loop
 * iteration. */
void gt_shared_connection_probe(struct gt_shared_connection *shared);

bool gt_shared_connection_is_up(const struct gt_shared_connection *shared);
/* The last attempt that was requested or dialed; 0: none. */
uint32_t gt_shared_connection_attempt(const struct gt_shared_connection *shared);
/* The size of TCP segments on the last data connection; 0: the kernel's. */
uint16_t gt_shared_connection_segment(const struct gt_shared_connection *shared);

/* Attaches stream @number with its @attempt; only while it is up. A begin of an older attempt that
 * still arrives is dropped. Its first output gets the begin bit. The order of calls
 * is the order of first turns. */
void gt_shared_connection_attach(struct gt_shared_connection *shared, uint32_t number,
                                 uint32_t attempt, const struct gt_shared_member_events *events,
                                 struct gt_shared_member *member);
/* Returns when the last handshake was complete, in seconds of gt_clock(); 0: never. */
double gt_shared_connection_up_at(const struct gt_shared_connection *shared);
/* The peer has acknowledged data of a member, which shows that the connection carries data. */
void gt_shared_connection_acknowledged(struct gt_shared_connection *shared);
/* Returns when it did last, in seconds of gt_clock(); 0: never. */
double gt_shared_connection_acked_at(const struct gt_shared_connection *shared);
/* Returns true if it has carried anything in the last 0.1 s: the streams on it are in use. */
bool gt_shared_connection_is_in_use(const struct gt_shared_connection *shared);
/* A member's sent data makes no progress there (stall.h): the connection is replaced, with smaller
 * packets if @is_black_hole. Members get ->lost, from a later loop iteration. */
void gt_shared_connection_blocked(struct gt_shared_connection *shared, bool is_black_hole);
