/* SPDX-License-Identifier: ISC */
/*
 * Control frames (proto/control.h) over TLS, without knowledge of what any frame means: the client
 * and the relay both use it. It has two buffers, both bounded, and each is allocated only while
 * there are bytes in it: an idle connection has none. Frames carry the secrets of tickets, so every
 * buffer is wiped.
 *
 * It has no event loop: its owner watches ->fd, for reading while gt_framed_connection_has_room
 * (a peer that does not read its answers is not read), and for writing while _wants_write.
 */
#pragma once

#include "gotthard/proto/control.h"
#include "gotthard/tls/tls.h"

#define GT_FRAMED_CONNECTION_IN  (2 * GT_CONTROL_FRAME_MAX) /* bytes of the receive buffer */
#define GT_FRAMED_CONNECTION_OUT (16 * 1024) /* bytes of the send queue: one TLS record */

struct gt_framed_connection {
    struct gt_tls *tls;   /* owned; NULL before _attach and after _disconnect */
    int fd;               /* owned; -1 likewise */
    bool is_blocked;      /* the socket took less than it was given */
    bool is_finishing;    /* close_notify was given to TLS */
    uint32_t n_in, n_out; /* bytes received and not consumed, queued and not given to TLS */
    uint32_t n_used;      /* of ->n_in: of an ACCESS frame that was decoded last */
    uint32_t out_size;    /* of ->out, at most GT_FRAMED_CONNECTION_OUT */
    uint8_t *in, *out;    /* owned; NULL when empty */
};

enum {
    GT_FRAMED_CONNECTION_E_AGAIN = 1, /* not now: wait for the socket */
    GT_FRAMED_CONNECTION_E_FULL,      /* no room in the send queue, or no memory for it */
    GT_FRAMED_CONNECTION_E_CLOSED,    /* the peer closed the connection in order */
    GT_FRAMED_CONNECTION_E_BROKEN,    /* gt_tls_why() has the reason */
    GT_FRAMED_CONNECTION_E_BAD,       /* the peer sent a malformed frame */
};

/* Not connected. Frames may be queued: they leave with the first flush after _attach. */
void gt_framed_connection_init(struct gt_framed_connection *framed);
/* Takes @fd and @tls. */
void gt_framed_connection_attach(struct gt_framed_connection *framed, int fd, struct gt_tls *tls);
/* Sends close_notify (best effort), then closes the connection. Queued frames are kept. */
void gt_framed_connection_disconnect(struct gt_framed_connection *framed);
/* Closes the connection without a close_notify (a peer that did not authenticate must not get any
 * byte) and frees the buffers. As after _init, and may be called twice. */
void gt_framed_connection_deinit(struct gt_framed_connection *framed);

/* --- sending ---------------------------------------------------------------------------------- */

/*
 * Appends @frame to the send queue; it leaves with the next flush. Keeps @reserved bytes of the
 * queue free (0: none) for frames that must get out later, like BYE. E_FULL: nothing was queued;
 * after a flush there may be room.
 */
int gt_framed_connection_queue(struct gt_framed_connection *framed,
                               const struct gt_control_frame *frame, size_t reserved) GT_MUST_CHECK;
/* Appends a frame of the maximum size and of an optional unknown type, which the receiver skips.
 * Its body is zeros. For probes. Returns as gt_framed_connection_queue. */
int gt_framed_connection_queue_filler(struct gt_framed_connection *framed,
                                      size_t reserved) GT_MUST_CHECK;
/* Sends queued frames, as far as the socket takes them: see _has_unsent. Connected only. Returns 0
 * or E_BROKEN. */
int gt_framed_connection_flush(struct gt_framed_connection *framed) GT_MUST_CHECK;
/* Returns true if any byte is in the send queue or in TLS. */
bool gt_framed_connection_has_unsent(const struct gt_framed_connection *framed);
/* Returns true if TLS holds bytes for the socket: watch it for writing, then flush. Frames that
 * were queued after the last flush do not count. */
bool gt_framed_connection_wants_write(const struct gt_framed_connection *framed);
/* Returns true if the send queue is less than half full: there is room for the answers to all
 * frames of one read. */
bool gt_framed_connection_has_room(const struct gt_framed_connection *framed);

/* --- receiving -------------------------------------------------------------------------------- */

/*
 * Takes the next complete frame out of the receive buffer; frames of unknown types are skipped.
 * E_AGAIN: there is no complete frame, read more. E_BAD. The part of an ACCESS frame is in the
 * receive buffer, until the next call; the rest of @ret holds copies. A caller that receives TICKET
 * frames wipes it.
 */
int gt_framed_connection_decode(struct gt_framed_connection *framed,
                                struct gt_control_frame *ret) GT_MUST_CHECK;
/* Reads once into the receive buffer. Only after _decode has returned E_AGAIN: else there may be no
 * room. E_AGAIN, E_CLOSED, E_BROKEN (also: no memory, then gt_tls_why() is ""). */
int gt_framed_connection_read(struct gt_framed_connection *framed) GT_MUST_CHECK;
/* Returns true if TLS holds received bytes, for which the socket will not become readable. */
bool gt_framed_connection_has_pending(const struct gt_framed_connection *framed);

/* --- closing in order ------------------------------------------------------------------------- */

/*
 * Sends queued frames, close_notify and FIN. To close the socket at once, with something unread in
 * it, would be a reset, which overtakes the last frames (RFC 2525 section 2.17). E_AGAIN: call
 * again when the socket is writable. E_BROKEN. After 0, nothing may be queued.
 */
int gt_framed_connection_finish(struct gt_framed_connection *framed) GT_MUST_CHECK;
/* After a call of _finish, whatever it returned: discards received bytes. E_AGAIN, or E_CLOSED: the
 * peer has closed the connection, or it broke. */
int gt_framed_connection_linger(struct gt_framed_connection *framed) GT_MUST_CHECK;
