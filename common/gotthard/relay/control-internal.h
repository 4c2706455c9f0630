/* SPDX-License-Identifier: ISC */
/*
 * The two parts of a control connection: its states and its socket (control-connection.c), and the
 * frames that it sends and handles (control-frames.c). Only these files include this header.
 */
#pragma once

#include "gotthard/net/heartbeat.h"
#include "gotthard/relay/control-connection.h"
#include "gotthard/relay/framed-connection.h"
#include "gotthard/relay/tls-dial.h"

#define GT_CONTROL_CONNECTION_RESERVED 64 /* bytes of the send queue, for PONG and BYE */

enum control_state {
    CONTROL_DIALING,
    CONTROL_HELLO_SENT,  /* and RENDEZVOUS, if the session is known; no WELCOME yet */
    CONTROL_PREPARED,    /* WELCOME received; the session is not known yet */
    CONTROL_REGISTERING, /* WELCOME received, no SESSION yet */
    CONTROL_UP,
    CONTROL_CLOSING,       /* BYE is queued */
    CONTROL_SHUTDOWN_SENT, /* close_notify and FIN are sent, the relay's are expected */
    CONTROL_ENDED,
};

struct gt_control_connection {
    struct ev_loop *loop;
    enum control_state state;
    struct gt_control_connection_events events;
    void *userdata;

    char identity[GT_IDENTITY_MAX + 1];
    bool has_session; /* ->rid is set, and RENDEZVOUS was queued */
    uint8_t rid[GT_RID_SIZE];

    struct gt_tls_dial tls_dial;
    struct gt_addr addr;                /* of the relay, from HELLO_SENT on */
    struct gt_framed_connection framed; /* connected from HELLO_SENT on */
    struct gt_heartbeat heartbeat;      /* active in UP */
    double received_at;                 /* the last byte; seconds of gt_clock() */
    ev_io io;
    ev_timer deadline;                   /* of the state */
    char why[GT_CONTROL_CONNECTION_WHY]; /* the end reason as text */
    enum gt_code limit;                  /* of the relay's last LIMIT, */
    uint32_t limit_value;                /* and its value */
};

/* Enters @state: sets the watchers and the deadline. */
void gt_control_connection_enter(struct gt_control_connection *control, enum control_state state);
/* Sets the socket's events from the state and the send queue. */
void gt_control_connection_watch(struct gt_control_connection *control);
/* Ends the connection and calls on_down, unless it has ended. The last action of any handler: the
 * owner may free @control from the next turn on. @why may be part of the TLS connection. */
void gt_control_connection_end(struct gt_control_connection *control, enum gt_end_reason reason,
                               enum gt_code code, const char *why);
/* The same for a violation of the protocol by the relay. */
void gt_control_connection_fail_protocol(struct gt_control_connection *control, const char *why);

/* Returns a frame of this type with the rid of the session. */
struct gt_control_frame gt_control_connection_frame(const struct gt_control_connection *control,
                                                    enum gt_control_type type);
/* Queues @frame; it leaves at the end of this turn. @reserved as gt_framed_connection_queue.
 * GT_CONTROL_CONNECTION_E_FULL. */
int gt_control_connection_queue(struct gt_control_connection *control,
                                const struct gt_control_frame *frame,
                                size_t reserved) GT_MUST_CHECK;
/* Queues HELLO. GT_CONTROL_CONNECTION_E_FULL: out of memory. */
int gt_control_connection_queue_hello(struct gt_control_connection *control) GT_MUST_CHECK;
/* Sets the session, and queues RENDEZVOUS. GT_CONTROL_CONNECTION_E_FULL. */
int gt_control_connection_queue_rendezvous(struct gt_control_connection *control,
                                           const struct gt_control_connection_settings *settings)
    GT_MUST_CHECK;
/* Handles a frame of the relay, in a state before CLOSING. May end the connection. */
void gt_control_connection_handle_frame(struct gt_control_connection *control,
                                        const struct gt_control_frame *frame);
