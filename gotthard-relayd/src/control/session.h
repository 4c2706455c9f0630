/* SPDX-License-Identifier: ISC */
/*
 * One session in the registry. It turns the decisions of rendezvous.c and stream-slots.c into
 * frames to its clients, messages to its data thread, and a timer. It knows its two clients and its
 * data thread, and no other session.
 */
#pragma once

#define HASH_NONFATAL_OOM 1 /* out of memory rejects one session, not the relay */
#include <uthash.h>

#include "control/client.h"
#include "control/rendezvous.h"
#include "data/data-thread.h"
#include "data/session-port.h"

struct session_limits {
    struct rendezvous_limits rendezvous;
    uint64_t lifetime_ms; /* of a session */
    uint64_t ticket_ms;   /* of a ticket */
    size_t n_streams;     /* at the same time */
    size_t n_tickets;     /* unused at the same time */
};

struct session;

struct session_host {
    struct ev_loop *loop; /* borrowed */
    struct session_limits limits;
    struct audit *audit;           /* borrowed; NULL: none */
    uint64_t n_unexpected;         /* events in states that do not list them: 0 unless a bug */
    struct name_counts holders[2]; /* by role - 1: sessions per name */
    /* The last callback: the session has ended and its port is closing. The host frees it after
     * this turn of the loop. */
    void (*on_end)(void *userdata, struct session *session, enum gt_code code);
    void *userdata;
};

struct session {
    struct rendezvous rendezvous;
    struct session_host *host;
    struct data_thread *data_thread;
    struct session_port
        *session_port; /* of the data thread once started: passed in messages only */
    ev_timer timer;
    struct {
        struct name_count *holder; /* name that owns the slot; NULL: none */
        struct gt_list slot_held;  /* entry in the list of the connected client */
    } sides[2];                    /* by role - 1, like the slots of the rendezvous */
    uint64_t n_connections;        /* data connections that both sides have joined so far */
    uint64_t n_before[2];          /* bytes in the images before this one, as n_bytes of the port */
    UT_hash_handle by_rid, by_serial;
    struct gt_list ended; /* entry in the registry's list */
};

/* Creates a session with room for @n_streams. Takes *@fd, the listening socket on @port, if it
 * succeeds. Accepts nothing before session_start. Returns NULL if out of memory. */
struct session *session_new(struct session_host *host, const uint8_t rid[static GT_RID_SIZE],
                            uint64_t serial, struct data_thread *data_thread, uint16_t port,
                            size_t n_streams, int *fd);
/* Passes the port to the data thread, which starts to accept. -ENOMEM. */
int session_start(struct session *session) GT_MUST_CHECK;
/* Frees a session that was not started or has ended. Accepts NULL; returns NULL. */
struct session *session_free(struct session *session);

/* Starts the timer of a restored session, whose port was started. */
void session_resume(struct session *session);

/* Returns the client in the slot of @role, or NULL. */
struct client *session_client(struct session *session, enum gt_role role);
/* Returns a session in which @client holds a slot, or NULL. */
struct session *session_of_client(const struct client *client);
/* Counts the session for @name, unless the slot of @role has an owner. -ENOMEM. */
int session_hold(struct session *session, enum gt_role role, const char *name) GT_MUST_CHECK;
/* Returns the number of sessions that @name owns a slot of @role in, connected or absent. */
size_t session_n_held(const struct session_host *host, enum gt_role role, const char *name);

/* Requests of @client, which holds a slot, except for session_register. */
void session_register(struct session *session, struct client *client,
                      const struct gt_control_frame *frame);
void session_open(struct session *session, struct client *client,
                  const struct gt_control_frame *frame);
/* The operator reports how many streams the session has. */
void session_set_load(struct session *session, uint32_t n_streams);
void session_stream_end(struct session *session, struct client *client,
                        const struct gt_control_frame *frame);
/* @code: of the BYE. */
void session_bye(struct session *session, struct client *client, enum gt_code code);
/* The control connection of @client ended. */
void session_lose(struct session *session, struct client *client);
/* The relay ends the session. */
void session_stop(struct session *session, enum gt_code code);
/* Ends the session if a side, present or absent, must be disconnected. */
void session_check(struct session *session, client_check_fn check, void *userdata);
/* Handles PAIRED and ENDED from the data thread. Borrows @message. */
void session_on_message(struct session *session, const struct message *message);

/* Returns the bytes so far of all its data connections, from the operator or from the device. */
uint64_t session_n_bytes(const struct session *session, enum gt_role role);

struct session_status { /* all borrowed from the session */
    const char *tag, *state;
    struct session_status_side {
        const char *name; /* "": not yet known */
        bool is_connected;
    } sides[2]; /* operator, device */
    uint16_t port;
    unsigned thread;      /* index of the data thread */
    size_t n_connections; /* live data connections, and requested ones */
    size_t n_tickets;
    uint32_t load; /* streams of the session, in the operator's last LOAD */
    uint64_t age_s;
};
void session_get_status(const struct session *session, struct session_status *ret);
