/* SPDX-License-Identifier: ISC */
/*
 * A session in its data thread: the listening socket on its port, the tickets accepted there, and
 * the pairs. The control thread creates it; from its start on only the data thread accesses it.
 */
#pragma once

#include "data/mailbox.h"
#include "data/ticket.h"
#include "gotthard/net/acceptor.h"

struct data_thread;

struct session_port {
    struct data_thread *data_thread; /* borrowed; NULL before the start */
    uint64_t serial;                 /* of the session, for messages to the control thread */
    char tag[9];                     /* of the session, for logs */
    int fd;                          /* the listening socket; -1 once started */
    struct gt_acceptor acceptor;
    struct gt_list tickets, pairs; /* tickets in the order of their expiry */
    ev_timer expiry;               /* of the first ticket */
    struct gt_list of_data_thread;
    _Atomic uint64_t n_bytes[2];  /* of all its pairs, from operator and device; the control thread
                                     reads them */
    struct message close_message; /* REMOVE_PORT, which must not fail without memory */
};

/* Creates a port. Takes *@fd, its listening socket, if it succeeds. Returns NULL if out of memory.
 */
struct session_port *session_port_new(uint64_t serial, const char *tag, int *fd);
/* Frees a port that was not started or has closed. Accepts NULL; returns NULL. */
struct session_port *session_port_free(struct session_port *session_port);

/* Starts to accept. Keeps @data_thread. */
void session_port_start(struct session_port *session_port, struct data_thread *data_thread);
/* Ends its tickets, pairs and waiting connections and closes its socket. The caller may be within a
 * callback of its acceptor: the data thread frees it at the end of the turn. */
void session_port_close(struct session_port *session_port);
/* Accepts a copy of @given until @expires_at (gt_clock_ms). Out of memory: reports ENDED. */
void session_port_add_ticket(struct session_port *session_port, const struct gt_ticket *given,
                             uint64_t expires_at);
/* Adds a pair without sides. Returns NULL if out of memory. */
struct pair *session_port_new_pair(struct session_port *session_port, uint32_t stream,
                                   uint32_t attempt);
/* Writes the pairs and tickets to a snapshot: a pair that waits for its second side before its
 * ticket, unused tickets last. */
void session_port_save(const struct session_port *session_port, struct gt_writer *writer);
/* Adds a ticket of the previous image. @pair: the pair that its first JOIN created, or NULL.
 * -ENOMEM. */
int session_port_restore_ticket(struct session_port *session_port, const struct saved_ticket *saved,
                                struct pair *pair) GT_MUST_CHECK;
/* Ends the tickets and pairs of @stream up to @attempt. */
void session_port_cancel(struct session_port *session_port, uint32_t stream, uint32_t attempt);
/* Handles a complete JOIN: adds the connection to its pair, or closes it. */
void session_port_join(struct data_thread *data_thread, struct preauth *preauth);
