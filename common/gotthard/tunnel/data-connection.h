/* SPDX-License-Identifier: ISC */
/*
 * One relay connection of one attempt of a stream: it is dialed (data-dial.h), then moves bytes
 * both ways until it is closed or lost. A stream outlives its data connections (channel.h); a data
 * connection knows nothing of frames.
 *
 * Every failure is reported by on_gone, from a later loop iteration. Reading and writing only
 * report that nothing more can be done now.
 */
#pragma once

#include <ev.h>

#include "gotthard/net/sock.h"
#include "gotthard/proto/join.h"
#include "gotthard/tls/tls.h"
#include "gotthard/tunnel/path.h"

#define GT_DATA_CONNECTION_RECORD_MAX (16 * 1024) /* bytes of one write, at most */

struct gt_data_connection;

struct gt_data_connection_settings {
    struct ev_loop *loop;
    enum gt_role role;
    const uint8_t *session_key; /* K_sess; borrows during gt_data_connection_new */
    struct gt_tls_context *tls; /* keeps: client for an operator, server for a device */
    struct gt_path *path;       /* keeps; see data-dial.h */
    double heartbeat_s;         /* silence before a probe, at most; 0: GT_LIVENESS_HEARTBEAT_S */
    /* Silence before the connection counts as lost; as long as that it may also accept nothing. 0:
     * GT_LIVENESS_TIMEOUT_S. */
    double timeout_s;
    int unsent_max; /* bytes that the kernel keeps unsent before it is writable; 0: its default */
};

struct gt_data_connection_events {
    void (*on_ready)(void *userdata);    /* established: bytes may be moved both ways */
    void (*on_readable)(void *userdata); /* gt_data_connection_fill may find data */
    void (*on_writable)(void *userdata); /* there is room again after there was none */
    /* Regularly. @is_quiet: nothing was received for long; send a probe. */
    void (*on_heartbeat)(void *userdata, bool is_quiet);
    /* Over. @is_closed_by_peer: the peer sent close_notify, after all its data; otherwise it may
     * still be there. The last callback: free the connection inside it or later. */
    void (*on_gone)(void *userdata, bool is_closed_by_peer);
};

/* Starts to dial. No callback comes from inside, whatever the network does. -ENOMEM. */
int gt_data_connection_new(const struct gt_data_connection_settings *settings,
                           const struct gt_addr *relay, const struct gt_ticket *ticket,
                           const struct gt_data_connection_events *events, void *userdata,
                           struct gt_data_connection **ret) GT_MUST_CHECK;
/* Closes at once, without close_notify and without on_gone. Not inside a callback other than
 * on_gone. Takes NULL. */
struct gt_data_connection *gt_data_connection_free(struct gt_data_connection *connection);
/* Sends all written data and close_notify, and waits at most 5 s for the peer's close_notify, so
 * that no written byte is lost in transit. on_gone follows. */
void gt_data_connection_close(struct gt_data_connection *connection);

/* The network has changed, or this machine has slept (@has_slept). A connection without a route is
 * lost, and so is one that is still dialed over another route: its handshake would wait for packets
 * that do not return. One in doubt gets 5 s for a sign of life (on_heartbeat comes from inside). */
void gt_data_connection_check(struct gt_data_connection *connection, bool has_slept);
/* The next data is urgent: if nothing was received for a few seconds, the connection gets 5 s for a
 * sign of life, as above. */
void gt_data_connection_probe(struct gt_data_connection *connection);

/* Payload of the next record. It stays in place until gt_data_connection_fill or the end of
 * on_readable. Returns false if no complete record is buffered. */
bool gt_data_connection_next_record(struct gt_data_connection *connection, struct gt_span *ret);
/* One recv() of at most @n_max bytes. Returns false if nothing more is available now. */
bool gt_data_connection_fill(struct gt_data_connection *connection, size_t n_max);
/* Best size of one record in bytes: GT_DATA_CONNECTION_RECORD_MAX, or less while a record of that
 * size would arrive late. */
size_t gt_data_connection_record_size(const struct gt_data_connection *connection);
/* Makes room for one whole record, by a flush if necessary. Returns false if the socket is full:
 * on_writable (or on_gone) follows. */
bool gt_data_connection_make_room(struct gt_data_connection *connection);
/* Buffers one record of at most GT_DATA_CONNECTION_RECORD_MAX bytes in pieces; sent by
 * gt_data_connection_flush. */
void gt_data_connection_write(struct gt_data_connection *connection, const struct gt_span *parts,
                              size_t n_parts);
void gt_data_connection_flush(struct gt_data_connection *connection);
