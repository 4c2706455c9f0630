/* SPDX-License-Identifier: ISC */
/*
 * The server of a control socket: accepts clients of the same user, reads their requests
 * (holder-message.h) and keeps those that have a stream. It knows nothing about sessions. A holder
 * (holder.h) serves all requests, `connect` only the query of its status.
 *
 * A client that sends nothing, or anything else than the protocol permits, is closed. A client that
 * does not read loses notices.
 */
#pragma once

#include <ev.h>

#include "failure.h"
#include "gotthard/base/list.h"
#include "gotthard/net/acceptor.h"
#include "gotthard/tunnel/endpoint.h"
#include "holder-message.h"
#include "local-socket.h"

#define HOLDER_CLIENTS_MAX 256  /* further ones wait in the backlog */
#define HOLDER_OPEN_MAX    192u /* of them, with a stream: further ones need another holder */
#define HOLDER_CLIENT_S    5.   /* for each request of a client */

enum holder_client_state {
    HOLDER_CLIENT_NEW,     /* nothing received */
    HOLDER_CLIENT_READY,   /* HELLO was accepted */
    HOLDER_CLIENT_ASKING,  /* for host keys that are not known yet */
    HOLDER_CLIENT_OPENING, /* OPEN was accepted: its owner has it, until its end */
    HOLDER_CLIENT_GONE,    /* it has closed its end, and is freed next */
};

struct holder_client {
    struct gt_list link; /* holder_server.clients */
    struct holder_server *server;
    enum holder_client_state state;
    int fd; /* owned */
    ev_io io;
    ev_timer deadline;
    char service[GT_SERVICE_MAX + 1];
    struct gt_endpoint_fds fds; /* owned, until the owner takes them */
    uint32_t stream;            /* for the owner; 0: none yet */
};

struct holder_server_events {
    /* Returns true if HELLO has the owner's own hash, and the owner takes new clients. NULL: no
     * streams here. */
    bool (*is_current)(void *userdata, const uint8_t check[static GT_KEY_SIZE]);
    /* A client requests a stream: from now on the owner's, until holder_server_end(). */
    void (*on_open)(void *userdata, struct holder_client *client);
    /* A client that on_open was called for is gone; it is freed after this returns. */
    void (*on_gone)(void *userdata, struct holder_client *client);
    void (*get_status)(void *userdata, struct holder_status *ret);
    /* Returns the lines for HOST_KEYS, or NULL: not known yet, holder_server_answer() follows. */
    const char *(*host_keys)(void *userdata);
};

struct holder_server { /* embedded in its owner */
    struct ev_loop *loop;
    const struct holder_server_events *events;
    void *userdata;
    struct gt_acceptor acceptor;
    struct local_socket file;
    bool is_listening;
    struct gt_list clients;
    unsigned n_clients;
};

/* Keeps @loop, @events, @userdata. Nothing is accepted yet. */
void holder_server_init(struct holder_server *server, struct ev_loop *loop,
                        const struct holder_server_events *events, void *userdata);
/* Accepts from @fd (takes), which listens at @file (copied). */
void holder_server_listen(struct holder_server *server, int fd, const struct local_socket *file);
/* Adds a client that is connected already (takes @fd). */
void holder_server_add(struct holder_server *server, int fd);
/* Accepts no more clients, removes the socket, and closes clients that have not OPENed: they try
 * again, with another holder. May be called twice. */
void holder_server_close(struct holder_server *server);
/* The same, and closes all clients without a message. */
void holder_server_deinit(struct holder_server *server);

/* Sends a notice to each client that has OPENed. */
void holder_server_notice(struct holder_server *server, enum holder_notice_kind kind,
                          const char *text);
/* Answers the clients that have asked for host keys before they were known. */
void holder_server_answer(struct holder_server *server);
/* Sends a client that its service is connected. */
void holder_server_connected(struct holder_client *client);
/* Send the result to a client and free it, without on_gone. */
void holder_server_end(struct holder_client *client, int status, const char *text);
void holder_server_fail(struct holder_client *client, const struct failure *failure);
/* Returns the client whose ->stream is @stream, or NULL. */
struct holder_client *holder_server_find(struct holder_server *server, uint32_t stream);
/* The number of clients that have OPENed. */
unsigned holder_server_n_open(const struct holder_server *server);
/* The number of clients that have OPENed, or may do so because their HELLO was accepted. */
unsigned holder_server_n_taken(const struct holder_server *server);
