/* SPDX-License-Identifier: ISC */
/*
 * The sessions of the relay, by rid and by number, and their ports. The registry finds the session
 * of a frame or message and enforces the limits on new sessions. It lives in the control thread.
 */
#pragma once

#include "control/session.h"
#include "control/tombstones.h"
#include "limits/ports.h"

struct registry_limits {
    size_t n_sessions;              /* in all */
    size_t n_sessions_per_identity; /* per name and role */
};

enum registry_state {
    REGISTRY_OPEN,
    REGISTRY_DRAINING, /* new sessions are rejected; present ones continue */
    REGISTRY_CLOSED,
};

struct registry {
    enum registry_state state;
    struct quota *quota; /* borrowed */
    struct ports ports;
    struct data_thread **data_threads; /* borrowed */
    size_t n_data_threads;
    uint8_t
        data_thread_of_port[UINT16_MAX + 1]; /* index, by the port of a present or past session */
    struct gt_addr bind;                     /* address of the sessions' ports */
    struct registry_limits limits;
    struct session *by_rid, *by_serial; /* hash tables; sessions are owned */
    struct gt_list ended;               /* sessions, owned */
    struct tombstones tombstones;
    uint64_t serial;              /* of the last session */
    struct session_host sessions; /* settings and counters of all sessions */
    uint64_t n_created;           /* sessions, since the start */
};

/* @ports_from to @ports_to: the range of ports for sessions. @cooldown_ms: how long a port stays
 * unused after its session. Keeps @loop and @quota. Needs registry_set_data_threads before the
 * first session. A negative errno. */
int registry_init(struct registry *registry, struct ev_loop *loop, struct quota *quota,
                  uint16_t ports_from, uint16_t ports_to, uint64_t cooldown_ms) GT_MUST_CHECK;
/* Keeps @data_threads. */
void registry_set_data_threads(struct registry *registry, struct data_thread **data_threads,
                               size_t n_data_threads);
/* Ends and frees all sessions. */
void registry_deinit(struct registry *registry);
/* Frees the ended sessions. Once per turn of the loop; never within a callback. */
void registry_reap(struct registry *registry);

struct saved_session;
/* Restores a session, and starts its port in a paused data thread. Takes *fd, its listening socket,
 * unless it returns NULL (out of memory). The caller restores its streams, tickets and pairs. */
struct session *registry_restore_session(struct registry *registry,
                                         const struct saved_session *saved, int *fd);

/* Handles a request, and the end, of a client. */
void registry_on_frame(struct registry *registry, struct client *client,
                       const struct gt_control_frame *frame);
void registry_on_client_end(struct registry *registry, struct client *client);
/* Returns the data thread that has the ticket of a JOIN received at the main port, if any has. */
struct data_thread *registry_find_data_thread(const struct registry *registry,
                                              const struct gt_join *join);
/* Handles PAIRED and ENDED from a data thread. Borrows @message. */
void registry_on_message(struct registry *registry, const struct message *message);

/* Ends the sessions with a side, present or absent, that must be disconnected. */
void registry_check(struct registry *registry, client_check_fn check, void *userdata);
/* Rejects new sessions from now on. */
void registry_drain(struct registry *registry);
/* Ends all sessions, with @code as the reason. */
void registry_close(struct registry *registry, enum gt_code code);
/* Returns true if any session carries a stream. */
bool registry_is_busy(const struct registry *registry);
/* Returns the number of sessions that have not ended. */
size_t registry_n_sessions(const struct registry *registry);
/* Calls @on_session with the status of each session that has not ended. */
void registry_each_session(const struct registry *registry,
                           void (*on_session)(void *userdata, const struct session_status *status),
                           void *userdata);
