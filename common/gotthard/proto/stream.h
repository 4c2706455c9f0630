/* SPDX-License-Identifier: ISC */
/*
 * One end of a stream: a TCP connection as frames with absolute offsets, acknowledgements and a
 * window. A stream survives the loss of its data connection and resumes on the next one. Pure: it
 * converts between bytes of the data connection and two rings for the local socket. It has no
 * descriptor and no clock. See docs/protocol.md, section 4.
 *
 *    local socket --> tx ring --> DATA frames --> data connection --> rx ring --> local socket
 *
 * A stream never loses data silently. The end of each direction is an end of file or a reset of the
 * local socket. It takes one place in the sequence, as a FIN does in TCP (RFC 9293, section 3.4):
 * it is acknowledged by final_off + 1. That happens only after the other local socket took all
 * bytes and the end itself (gt_stream_end_delivered). A stream is complete (ENDED) when END was
 * sent, received and acknowledged in both directions. It ended well if neither direction was reset.
 * Any other end aborts the stream (RESET), and both local sockets are reset.
 *
 * A local socket that was reset takes no more bytes (gt_stream_local_stop), but those that it sent
 * before still go out, followed by END. The peer sends no more, delivers what it receives up to the
 * END, and resets its local socket.
 *
 * DATA is acknowledged when it is in the rx ring. window.h has the flow control, resume.h the
 * meaning of the offsets. Up to GT_STREAM_EARLY bytes may follow the first HELLO of a stream before
 * the peer's HELLO arrives. Every end has that much room, and a client that speaks first saves a
 * round trip.
 */
#pragma once

#include "gotthard/base/ring.h"
#include "gotthard/crypto/key.h"
#include "gotthard/proto/frame.h"
#include "gotthard/proto/window.h"

#define GT_STREAM_ALPN    "gotthard-s/1"
#define GT_STREAM_VERSION 1
#define GT_STREAM_EARLY   GT_RING_MIN /* bytes that may precede the peer's HELLO */
#define GT_PRODUCE_MIN    512 /* bytes of room that gt_stream_produce() needs in every state */

enum gt_stream_state {
    GT_STREAM_PARKED,     /* without a data connection */
    GT_STREAM_HELLO_SENT, /* our HELLO is scheduled or sent, the peer's has not arrived */
    GT_STREAM_OPEN,
    GT_STREAM_ENDED, /* both ENDs were delivered and acknowledged; ->code: well, or a reset */
    GT_STREAM_RESET, /* aborted, with ->code as the reason; an RST may still be produced */
};

/* What a stream is attached to. */
enum gt_stream_kind {
    GT_STREAM_DETACHED,
    GT_STREAM_OWN,    /* a data connection of its own, which close_notify ends */
    GT_STREAM_SHARED, /* the shared connection: DONE ends the attachment */
};

/* The state of one attachment to a data connection. */
struct gt_stream_connection {
    enum gt_stream_kind kind;
    uint64_t tx_from, rx_from; /* ->tx_sent and ->rx.tail at its beginning */
    struct gt_framer framer;
    unsigned due;     /* the frames to be sent, except DATA and END: bits 1 << their index */
    bool is_resumed;  /* something was sent before: HELLO determines the offset */
    bool is_end_sent; /* an END is sent, and accepted, once per data connection */
    bool is_end_received;
    bool is_pong_awaited;
    uint64_t ping, pong; /* values of the next PING and PONG */
    struct gt_window_probe probe;
};

struct gt_stream {
    enum gt_role role;
    uint32_t number, attempt;
    enum gt_stream_state state;
    enum gt_rst code;
    bool is_reset_by_peer;            /* aborted by the peer's RST */
    bool is_peer_done;                /* its DONE was received: it is over there as well */
    char service[GT_SERVICE_MAX + 1]; /* operator: requested; device: received, or "" */
    bool is_target_connected;         /* operator: as far as it knows */

    struct gt_ring tx;   /* head: acknowledged; tail: read from the local socket */
    uint64_t tx_sent;    /* offset of the next byte to send: head <= tx_sent <= tx.tail */
    uint64_t tx_limit;   /* offset up to which the peer's window allows to send */
    bool is_tx_finished; /* nothing more is read from the local socket: END at tx.tail */
    enum gt_rst tx_end;  /* the END's code; GT_RST_NONE: end of file */
    enum gt_rst tx_stop; /* the peer delivers no more bytes: its local socket was reset */
    bool is_end_sent, is_end_acked;

    struct gt_ring rx;      /* head: written to the local socket; tail: received */
    bool is_end_received;   /* at rx.tail */
    enum gt_rst rx_end;     /* the received END's code */
    enum gt_rst rx_stop;    /* received bytes are dropped: the local socket was reset */
    uint64_t n_undelivered; /* bytes that were dropped when the stream was over */
    bool is_end_delivered;  /* to the local socket; the END is acknowledged from then on */
    struct gt_window window;

    struct gt_window_memory *memory; /* borrows; NULL: no limit */
    double now;                      /* seconds of a monotonic clock, set by the owner; or 0 */
    double acked_at;                 /* the last ACK or HELLO, by ->now */
    struct gt_window_idle idle;

    struct gt_stream_connection connection;
};

/* Initializes a stream that is PARKED. @service: the operator's, 1 to
 * GT_SERVICE_MAX bytes, copied; NULL for a device. @ring_max: limit of the capacity of each ring in
 * bytes. The owner may then set ->memory and ->now. */
void gt_stream_init(struct gt_stream *s, enum gt_role role, uint32_t number, const char *service,
                    size_t ring_max);
/* Frees the rings and returns their share of ->memory. */
void gt_stream_deinit(struct gt_stream *s);
/* Frees the memory of empty rings, until the next byte, and resets the window to its initial size.
 * Cheap if there is none. gt_stream_consume() calls it for a stream with little traffic. */
void gt_stream_trim(struct gt_stream *s);
/* Drops all bytes of a stream that is over, and frees the memory of its rings. Nothing of it is
 * sent or delivered any more, but it may last as long as its peer pleases. */
void gt_stream_discard(struct gt_stream *s);

/*
 * Attaches the stream to a new data connection, or to the shared one (@kind: not DETACHED).
 * @attempt must be greater than all before. HELLO is scheduled. A stream that is over may be
 * attached again, for a peer that did not receive the last acknowledgement or the reason of the
 * reset. In the latter case RST is scheduled; on a connection of its own it comes alone.
 *
 * On the shared connection, DONE follows the last frame of a stream that is over.
 */
void gt_stream_attach(struct gt_stream *s, uint32_t attempt, enum gt_stream_kind kind);
/* Detaches the data connection, which was lost. The stream is PARKED, unless it is over. */
void gt_stream_park(struct gt_stream *s);
/* Device: its target is connected. Schedules CONNECTED, now and on each later data connection. */
void gt_stream_target_connected(struct gt_stream *s);
/* Aborts the stream from this side and schedules RST if there is a data connection. Has no effect
 * on a stream that is over. */
void gt_stream_reset(struct gt_stream *s, enum gt_rst code);
/* Returns true if the stream is ENDED or RESET. */
bool gt_stream_is_over(const struct gt_stream *s);
/* Returns true if the stream is ENDED and no direction was reset. */
bool gt_stream_is_well_ended(const struct gt_stream *s);
/* Returns true if the stream is over on both sides, and all frames were sent: it may be forgotten.
 * A peer that did not receive our DONE needs nothing more of us. */
bool gt_stream_is_done(const struct gt_stream *s);

/* Returns the payload bytes that were sent and received since the attachment. */
uint64_t gt_stream_n_moved(const struct gt_stream *s);
/* Returns true if the small window of the shared connection holds the stream up, and it would be
 * faster on one of its own: this side has data that it may not send, or the peer used all of its
 * window although our local socket keeps up. False until a quarter of the window has moved, so that
 * a stream that stalls on its local socket does not move again and again. */
bool gt_stream_is_held_up(const struct gt_stream *s);

/* Processes @n bytes received on the data connection, cut anywhere. Invalid input resets the
 * stream. Returns 0 or -ENOMEM. */
int gt_stream_consume(struct gt_stream *s, const uint8_t *data, size_t n) GT_MUST_CHECK;

/*
 * The content of one TLS record: the scheduled frames and the header of a DATA frame, its payload
 * in place in the tx ring, and possibly an END. The parts are valid until the next call with the
 * stream.
 */
struct gt_stream_record {
    struct gt_span parts[4];
    size_t n_parts;
    uint8_t frames[GT_PRODUCE_MIN];
};

/*
 * Composes the scheduled frames and then one DATA frame within the peer's window, of at most @cap
 * bytes together (>= GT_PRODUCE_MIN; 16 KiB fills one TLS record). The result counts as sent.
 * Returns the number of bytes; 0: nothing to send now.
 */
size_t gt_stream_compose(struct gt_stream *s, size_t cap, struct gt_stream_record *ret);
/* As gt_stream_compose(), copied to @ret, which has room for @cap bytes. */
size_t gt_stream_produce(struct gt_stream *s, uint8_t *ret, size_t cap);
/* Returns true if gt_stream_compose() would return more than 0. */
bool gt_stream_has_output(const struct gt_stream *s);

/* Returns true if the tx ring has enough room for a read from the local socket. */
bool gt_stream_has_tx_room(const struct gt_stream *s);
/* Reports that @n bytes were read into the room of s->tx (gt_ring_room). */
void gt_stream_local_read(struct gt_stream *s, size_t n);
/* Reports the end of what the local socket sends: GT_RST_NONE: end of file; otherwise its reset.
 * Has no effect after an earlier end. */
void gt_stream_local_end(struct gt_stream *s, enum gt_rst code);
/* Reports that the local socket takes no more bytes, because it was reset. Received bytes are
 * dropped from now on, and the peer is notified. Has no effect when both directions are finished.
 */
void gt_stream_local_stop(struct gt_stream *s, enum gt_rst code);
/* Reports that the oldest @n bytes of s->rx were written to the local socket. May schedule an ACK.
 */
void gt_stream_local_written(struct gt_stream *s, size_t n);
/* Returns true if END was received and every byte before it was written to the local socket. */
bool gt_stream_is_received(const struct gt_stream *s);
/* Returns true if gt_stream_is_received(), and the local socket should get the end: of the kind
 * ->rx_end. */
bool gt_stream_is_end_due(const struct gt_stream *s);
/* Returns true if the peer's local socket was reset. Ours must be, when all was delivered. */
bool gt_stream_is_peer_gone(const struct gt_stream *s);
/* Reports that the local socket got the end. Only if gt_stream_is_end_due(). */
void gt_stream_end_delivered(struct gt_stream *s);

/* Schedules a PING with @value. The peer answers with PONG and ACK. */
void gt_stream_ping(struct gt_stream *s, uint64_t value);
