/* SPDX-License-Identifier: ISC */
/*
 * One stream, end to end: a TCP connection cut into frames, with absolute offsets, acknowledgements
 * and a window, so that it can go on over one carrier (a joined, handshaken relay connection) after
 * another. Pure: bytes from the carrier in, bytes for the carrier out, and two rings towards the
 * local socket. See docs/protocol.md, section 4.
 *
 *    local socket --> tx ring --> DATA frames --> carrier --> rx ring --> local socket
 *
 * Exact or loud: a stream ends well (ENDED) only when FIN was sent, received and acknowledged both
 * ways; everything else is BROKEN, on both ends. A FIN takes one place in the sequence, as TCP's
 * does: it is acknowledged by final_off + 1, and only when all before it was taken out of the rx
 * ring and the local socket was told (gt_stream_eof_delivered), so that ENDED means delivered.
 *
 * DATA is acknowledged when it is in the rx ring. The window is small at first, so that a slow
 * reader holds little memory. While data flows, a PING goes along with an ACK now and then, and its
 * PONG tells how much came in one round trip: when that is as much as the window let through, and
 * the local socket keeps up, it doubles, up to ring_max: a long fat link gets the product of its
 * bandwidth and delay, and a short one fewer wake-ups. It does not when the round took much longer
 * than the shortest one: then the way is full, and more would only wait in it. Rings of more than
 * GT_STREAM_RING are as large as the windows, and those of all streams of a session share
 * gt_stream_memory for what is beyond the first. Up to GT_STREAM_EARLY bytes may follow the first
 * HELLO of a stream before the peer's is here: every end has that much room, and it saves a client
 * that speaks first a round trip.
 */
#pragma once

#include "gotthard/frame.h"
#include "gotthard/key.h"
#include "gotthard/ring.h"

#define GT_STREAM_ALPN    "gotthard-s/1"
#define GT_STREAM_VERSION 1
#define GT_STREAM_EARLY   GT_RING_MIN
#define GT_STREAM_WINDOW  (256 * 1024) /* at first; what waits unsent is bounded by as much */
#define GT_STREAM_CALM    15.0         /* seconds of little to do, until memory is given back */
#define GT_STREAM_RING \
    (1024 * 1024)          /* a ring's capacity at first: what is not used costs nothing */
#define GT_PRODUCE_MIN 512 /* room gt_stream_produce() needs to make progress in every state */

enum gt_stream_state {
    GT_STREAM_PARKED,   /* no carrier */
    GT_STREAM_GREETING, /* a carrier, our HELLO on its way, the peer's not here yet */
    GT_STREAM_OPEN,
    GT_STREAM_ENDED,  /* well: nothing more to send or to receive */
    GT_STREAM_BROKEN, /* loudly: ->code says why; what produce() still gives (an RST) may be sent */
};

/* RST's code. */
enum gt_rst {
    GT_RST_NONE = 0,
    GT_RST_LOCAL = 1,       /* the local socket was reset */
    GT_RST_REFUSED = 2,     /* the target refused the connection */
    GT_RST_TIMEOUT = 3,     /* the target did not answer */
    GT_RST_UNREACHABLE = 4, /* no route, no such host */
    GT_RST_DENIED = 5,      /* no such service for this operator */
    GT_RST_RESYNC = 6,      /* offsets that do not fit */
    GT_RST_PROTOCOL = 7,
    GT_RST_EXPIRED = 8, /* resume window or another deadline */
    GT_RST_CLOSED = 9,  /* the session was closed */
    GT_RST_INTERNAL = 10,
    GT_RST_LOST = 11, /* the carrier was lost, or the peer */
};
const char *gt_rst_text(unsigned code);

/* What belongs to one carrier and dies with it. */
struct gt_stream_carrier {
    struct gt_framer framer;
    unsigned due;     /* a bit (1 << type) for each control frame that is to be sent */
    bool is_replay;   /* something was sent before: nothing goes out until HELLO says from where */
    bool is_fin_sent; /* a FIN is sent, and taken, once on each carrier */
    bool is_fin_received;
    bool is_pong_awaited;
    uint64_t ping, pong;
    /* The round trip of the last PING: from which byte it counts (of those that the ACK beside it
     * is for, the first), when it began, and how long the shortest of all took. */
    uint64_t round_from;
    double round_began, round_best;
};

/* What the rings of several streams may take together, beyond the first GT_STREAM_RING of each.
 */
struct gt_stream_memory {
    size_t max, n_used;
};

struct gt_stream {
    enum gt_role role;
    uint32_t number, attempt;
    enum gt_stream_state state;
    enum gt_rst code;
    bool is_reset_by_peer; /* BROKEN by the peer's RST, not by us */
    /* operator: what to ask for; device: what was asked for. "" = spare */
    char service[GT_SERVICE_MAX + 1];

    struct gt_ring tx;   /* head: acknowledged; tail: read from the local socket */
    uint64_t tx_sent;    /* head <= tx_sent <= tx.tail */
    uint64_t tx_limit;   /* what the peer's window allows: rx_off + window */
    bool is_tx_finished; /* the local socket gave EOF: FIN at tx.tail */
    bool is_fin_sent, is_fin_acked;

    struct gt_ring rx;      /* head: given to the local socket; tail: received */
    bool is_fin_received;   /* at rx.tail */
    bool is_eof_delivered;  /* the local socket was told; the FIN is acknowledged from now on */
    uint64_t rx_said;       /* the last rx_off we said */
    uint64_t rx_limit_said; /* the greatest rx_off + window we said: never taken back */
    size_t rx_window;       /* how much we want under way or in the ring, at most its capacity */

    size_t ring_max;                 /* as far as either ring may grow */
    struct gt_stream_memory *memory; /* keeps; NULL: there is no end of it */
    double now;                      /* seconds of any clock, set by the owner; 0: none, no time */
    double calm_since;               /* little has come or gone since then, and since these: */
    uint64_t calm_rx, calm_tx;

    struct gt_stream_carrier carrier;
};

/* @service: operator only ("" = a spare); NULL for a device. @ring_size: of each direction, at
 * most;
 * ->memory and ->now may be set after it. */
void gt_stream_init(struct gt_stream *s, enum gt_role role, uint32_t number, const char *service,
                    size_t ring_size);
void gt_stream_deinit(struct gt_stream *s);
/* For a quiet hour: gives back the memory of rings that are empty (the next byte takes it again)
 * and lets the window begin small. Comes by itself in a stream that only chatters. */
void gt_stream_trim(struct gt_stream *s);

/*
 * A carrier is there (attempt greater than any before): HELLO is due, the parser is fresh. A stream
 * that is over may be attached again, for a peer that has not heard the last acknowledgement, or
 * why it broke: then RST is all that is due.
 */
void gt_stream_attach(struct gt_stream *s, uint32_t attempt);
/* The carrier is gone. PARKED, unless the stream is over. */
void gt_stream_park(struct gt_stream *s);
/* Operator: gives a spare its service (BIND). */
void gt_stream_bind(struct gt_stream *s, const char *service);
/* Breaks the stream from this side: RST is due if there is a carrier. No effect once over. */
void gt_stream_reset(struct gt_stream *s, enum gt_rst code);
/* ENDED or BROKEN. */
bool gt_stream_is_over(const struct gt_stream *s);

/* Bytes the carrier brought, any number, cut anywhere. -ENOMEM; whatever the peer does wrong breaks
 * the stream. */
int gt_stream_consume(struct gt_stream *s, const uint8_t *data, size_t n) GT_MUST_CHECK;
/*
 * One record for the carrier, in pieces: control frames that are due and a DATA frame's header, the
 * bytes of DATA where they lie in the tx ring, and perhaps a FIN. The pieces hold until anything is
 * done with the stream again.
 */
struct gt_stream_record {
    struct gt_span parts[4];
    size_t n_parts;
    uint8_t frames[GT_PRODUCE_MIN];
};

/*
 * Makes control frames that are due and then one DATA frame within the peer's window, as large as
 * fits into @cap bytes (>= GT_PRODUCE_MIN; 16 KiB makes one full TLS record). Returns the number of
 * bytes; 0: nothing to send now.
 */
size_t gt_stream_compose(struct gt_stream *s, size_t cap, struct gt_stream_record *ret);
/* The same in one piece of memory. */
size_t gt_stream_produce(struct gt_stream *s, uint8_t *ret, size_t cap);
/* Is there something produce() would give? */
bool gt_stream_wants_carrier(const struct gt_stream *s);

/* The local socket's side. Is there room worth a read? */
bool gt_stream_wants_local(const struct gt_stream *s);
/* Reads go into room of s->tx (gt_ring_room), then: */
void gt_stream_sent_in(struct gt_stream *s, size_t n);
void gt_stream_finish(struct gt_stream *s); /* the local socket gave EOF */
/* Writes come out of a view of s->rx from its head, then (may make an ACK due): */
void gt_stream_taken_out(struct gt_stream *s, size_t n);
/* True when the rx ring is empty and FIN was received and the local socket not yet told. */
bool gt_stream_is_eof_due(const struct gt_stream *s);
void gt_stream_eof_delivered(struct gt_stream *s);

/* Asks for a PONG and an ACK (heartbeat of a carrier). */
void gt_stream_ping(struct gt_stream *s, uint64_t value);
