/* SPDX-License-Identifier: ISC */
/*
 * The parts of a client: its states (client-states.c), its input (client-input.c), and its output
 * and lifetime (client.c). Only these files include this header.
 */
#pragma once

#include "control/client.h"

/* Properties of one state. Everything that depends on the state only is here. */
struct client_rules {
    const char *name;                                  /* for the log */
    uint64_t (*deadline)(const struct client *client); /* gt_clock_ms, or GT_CLOCK_NEVER */
    void (*on_deadline)(struct client *client);        /* the deadline has passed */
    void (*on_ready)(struct client *client);           /* the socket is ready */
    bool is_read;                                      /* the socket is watched for reading */
    bool can_send;                                     /* frames may be queued */
    bool can_decode;                                   /* received frames are handled */
    bool is_up; /* HELLO was accepted: on_end follows when the client leaves these states */
};

const struct client_rules *client_rules(const struct client *client);

/* Enters @state: sets the watchers and the deadline. States that are not up are entered by
 * client_close and client_drop only, which call on_end. */
void client_enter(struct client *client, enum client_state state);
/* Sets the socket's events from the state and the send queue. */
void client_watch(struct client *client);
/* Sets the timer to the deadline of the state. */
void client_arm(struct client *client);
/* Returns when a silent client is sent a PING (gt_clock_ms). */
uint64_t client_probe_at(const struct client *client);

/* Closes the connection now, without sending anything. Calls on_end if the client was up. No effect
 * if CLOSED. @reason: unless client_close has set one. */
void client_drop(struct client *client, const char *reason);
/* Sends queued frames as far as the socket takes them; drops a client that is full or broken. */
void client_flush(struct client *client);
/* Closes an authenticated client that must be disconnected. Returns true if it may stay. */
bool client_check(struct client *client);
/* Closes a client that has been without a session for too long. Returns true if it did. */
bool client_expire_without_session(struct client *client, uint64_t now);

/* Continues the handshake, and then reads. */
void client_handshake(struct client *client);
/* Reads and handles frames, within the limits of one turn. */
void client_read(struct client *client);
