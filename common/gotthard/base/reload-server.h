/* SPDX-License-Identifier: ISC */
/*
 * Answers `PROGRAM --reload` from within the running service (reload-socket.h). The service alone
 * can read its credentials, so no other process can say whether its configuration is valid.
 *
 * Clients of another user than root and the service's are closed. There are at most 8 at once;
 * further ones wait in the backlog. Each is closed after a minute at the latest. Without a free
 * descriptor accepting pauses for a second, or until a client is closed.
 */
#pragma once

#include <ev.h>

#include "gotthard/base/reload-socket.h"

#define GT_RELOAD_CLIENTS 8

/* Begins a reload: calls gt_reload_server_begin() and, now or later, _finish(). It may decline by
 * _finish() alone. */
typedef void (*gt_reload_fn)(void *userdata);

enum gt_reload_client_state {
    GT_RELOAD_FREE,
    GT_RELOAD_READING, /* its request */
    GT_RELOAD_WAITING, /* for its reload to begin */
    GT_RELOAD_IN_WORK, /* its reload has begun */
};

struct gt_reload_server;
struct gt_reload_client {
    enum gt_reload_client_state state;
    struct gt_reload_server *server;
    int fd;
    char request[16];
    size_t n;
    ev_io readable;
    ev_timer deadline;
};

struct gt_reload_server {
    struct ev_loop *loop;
    int fd; /* -1: no socket */
    ev_io acceptable;
    ev_timer pause; /* of accepting */
    ev_timer next;  /* begins a reload for clients that came during the last one */
    gt_reload_fn on_reload;
    void *userdata;
    bool is_busy;
    char answer[GT_RELOAD_ANSWER_MAX]; /* the state */
    struct gt_reload_client clients[GT_RELOAD_CLIENTS];
};

/* Creates the socket, in place of one that an earlier process left. Without a runtime directory, or
 * if that fails (logged), there is no socket and every other function has no effect. Keeps @loop.
 */
void gt_reload_server_open(struct gt_reload_server *server, struct ev_loop *loop,
                           gt_reload_fn on_reload, void *userdata);
/* Closes all clients. Leaves the file of the socket to the next process. */
void gt_reload_server_close(struct gt_reload_server *server);

/* A reload begins, requested by a client, a signal or both. All clients that wait get its result.
 */
void gt_reload_server_begin(struct gt_reload_server *server);
/* The reload has ended. @status: an exit status (exit-status.h). @text: one sentence. Both are the
 * state from now on. Clients that came meanwhile get a reload of their own. */
void gt_reload_server_finish(struct gt_reload_server *server, int status, const char *text);
/* Sets the state without a reload. */
void gt_reload_server_set_state(struct gt_reload_server *server, int status, const char *text);
