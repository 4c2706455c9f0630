/* SPDX-License-Identifier: ISC */
/*
 * Frames over TLS: what a control connection is made of, without knowing what any frame means. Its
 * two buffers are limited, and held only while bytes are in them: an idle connection has none. What
 * does not fit into the outgoing one is refused, and the caller reads no more from a client that
 * does not read.
 */
#pragma once

#include "gotthard/control.h"
#include "gotthard/tls.h"

#define WIRE_IN       (2 * GT_CONTROL_FRAME_MAX)
#define WIRE_OUT      (16 * 1024)    /* one TLS record */
#define WIRE_OUT_STOP (WIRE_OUT / 2) /* above it, the client should not be read */

struct wire {
    struct gt_tls *tls; /* owned */
    int fd;             /* owned */
    size_t n_in, n_out;
    size_t n_room;     /* of out, which grows to WIRE_OUT at most */
    uint8_t *in, *out; /* owned; NULL, nearly always */
};

enum {
    WIRE_E_AGAIN = 1, /* nothing now */
    WIRE_E_FULL,      /* send: no room */
    WIRE_E_CLOSED,    /* the client closed in order */
    WIRE_E_BROKEN,    /* gt_tls_why says how */
    WIRE_E_BAD,       /* what came is no frame */
};

void wire_deinit(struct wire *wire);

/* Queues; flushes first if there is no room. E_FULL: still none, or no memory. */
int wire_send(struct wire *wire, const struct gt_control_frame *frame) GT_MUST_CHECK;
/* Sends what is queued, as far as the socket takes it. E_BROKEN. */
int wire_flush(struct wire *wire) GT_MUST_CHECK;
/* Is there something the socket has not taken yet? */
bool wire_wants_write(const struct wire *wire);
/* Is there room for answers? Flushes if there is not. */
bool wire_has_room(struct wire *wire);

/* A frame that is in the buffer already. E_AGAIN, E_BAD; skips what may be skipped. */
int wire_decode(struct wire *wire, struct gt_control_frame *ret) GT_MUST_CHECK;
/* More bytes into the buffer. E_AGAIN, E_CLOSED, E_BROKEN. */
int wire_read(struct wire *wire) GT_MUST_CHECK;

/* All is queued: flushes; when that is done says goodbye in TLS and sends the FIN. E_BROKEN. */
int wire_finish(struct wire *wire) GT_MUST_CHECK;
/* After that, whatever still comes is thrown away. E_AGAIN, or E_CLOSED: they have closed too. */
int wire_linger(struct wire *wire) GT_MUST_CHECK;
