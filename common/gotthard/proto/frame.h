/* SPDX-License-Identifier: ISC */
/*
 * The frames of a stream on its data connection: type u8, flags u8 = 0, length u16, body. Only the
 * form is checked here. The stream decides what a frame means and whether it is allowed. See
 * docs/protocol.md, section 4.
 */
#pragma once

#include "gotthard/base/text.h"

#define GT_FRAME_HEADER   4     /* bytes */
#define GT_DATA_MAX       16000 /* bytes of payload in one DATA frame */
#define GT_FRAME_MAX      (GT_FRAME_HEADER + GT_DATA_MAX)
#define GT_FRAME_BODY_MAX (26 + GT_SERVICE_MAX) /* the longest body but DATA's: HELLO's */

enum gt_frame_type {
    GT_FRAME_HELLO = 0x01,
    GT_FRAME_DATA = 0x02,
    GT_FRAME_ACK = 0x03,
    GT_FRAME_END = 0x04,
    GT_FRAME_RST = 0x05,
    GT_FRAME_PING = 0x06,
    GT_FRAME_PONG = 0x07,
    GT_FRAME_DONE = 0x08,
    GT_FRAME_CONNECTED = 0x89, /* skipped by an older side */
};
#define GT_FRAME_MAY_SKIP 0x80 /* unknown types from here on are skipped, below it is an error */
/* A number below 16 for each type. */
#define GT_FRAME_INDEX(type) ((unsigned)(type)&0x0f)

/* Why a stream, or one direction of it, was reset: a code of END, of RST, or a stop. */
enum gt_rst {
    GT_RST_NONE = 0,
    GT_RST_LOCAL = 1,       /* the local socket was reset */
    GT_RST_REFUSED = 2,     /* the target refused the connection */
    GT_RST_TIMEOUT = 3,     /* the target did not answer */
    GT_RST_UNREACHABLE = 4, /* no route to the target, or a firewall's rejection */
    GT_RST_DENIED = 5,      /* this operator may not use the service, or it does not exist */
    GT_RST_RESYNC = 6,      /* the two ends disagree about the offsets */
    GT_RST_PROTOCOL = 7,
    GT_RST_EXPIRED = 8, /* resume window or another deadline */
    GT_RST_CLOSED = 9,  /* the session was closed */
    GT_RST_INTERNAL = 10,
    GT_RST_LOST = 11,            /* the data connection or the peer was lost */
    GT_RST_NO_NAME = 12,         /* the target's name has no address */
    GT_RST_NO_RESOLVER = 13,     /* the resolver failed, so the target's name has no address yet */
    GT_RST_TARGET_VANISHED = 14, /* device: the connected target stopped answering */
    GT_RST_CLIENT_VANISHED = 15, /* operator: the same of the local program */
    GT_RST_LIMIT = 16,           /* the relay or the device has as many streams as limits.streams */
    GT_RST_WITHDRAWN = 17, /* the device no longer grants the service; the session continues */
};
#define GT_RST_LAST GT_RST_WITHDRAWN /* the greatest of them */
/* Returns a static text for users, also for unknown codes. */
const char *gt_rst_text(unsigned code);

struct gt_frame {
    enum gt_frame_type type;
    uint64_t offset;        /* HELLO, ACK: rx_off; END: final_off */
    uint32_t window;        /* HELLO, ACK: bytes */
    uint16_t version;       /* HELLO */
    uint32_t stream;        /* HELLO */
    uint32_t attempt;       /* HELLO */
    struct gt_span service; /* HELLO: borrows from the framer until its next call */
    struct gt_span data;    /* DATA: the available part of the payload; borrows from the input */
    uint16_t stop;          /* HELLO, ACK */
    uint16_t code;          /* END, RST; CONNECTED: 0 */
    uint64_t value;         /* PING, PONG */
};

/* An incomplete frame. Zero-initialize one per data connection. */
struct gt_framer {
    uint8_t partial[GT_FRAME_HEADER + GT_FRAME_BODY_MAX];
    size_t n_partial;
    size_t left; /* bytes that remain of the payload of DATA, or of a body to skip */
    bool is_skipping;
    bool is_bad; /* a malformed frame was found */
};

enum {
    GT_FRAME_E_MORE = 1, /* the input is used up and the next frame is incomplete */
    GT_FRAME_E_BAD,      /* malformed: nothing after it can be decoded */
};

/* Decodes the next complete frame from @in, or the next piece of a DATA frame. The input may be cut
 * anywhere. Call it until GT_FRAME_E_MORE. */
int gt_framer_next(struct gt_framer *framer, struct gt_reader *in,
                   struct gt_frame *ret) GT_MUST_CHECK;

/* Encodes a complete frame. Of DATA it writes the header only, for a payload of @data.n bytes that
 * the caller appends. Fails as @w does. */
void gt_frame_write(struct gt_writer *w, const struct gt_frame *frame);
