/* SPDX-License-Identifier: ISC */
/*
 * The frames of a stream on their carrier: type u8, flags u8 = 0, length u16, body. Pure form: what
 * a frame means, and when it may come, is the stream's to judge. See docs/protocol.md, section 4.
 */
#pragma once

#include "gotthard/text.h"

#define GT_FRAME_HEADER 4
#define GT_DATA_MAX     16000
#define GT_FRAME_MAX    (GT_FRAME_HEADER + GT_DATA_MAX)
/* The body of the longest control frame, a HELLO. */
#define GT_CONTROL_MAX (2 + 4 + 4 + 8 + 4 + 2 + GT_SERVICE_MAX)

enum gt_frame_type {
    GT_FRAME_HELLO = 0x01,
    GT_FRAME_DATA = 0x02,
    GT_FRAME_ACK = 0x03,
    GT_FRAME_FIN = 0x04,
    GT_FRAME_RST = 0x05,
    GT_FRAME_PING = 0x06,
    GT_FRAME_PONG = 0x07,
    GT_FRAME_BIND = 0x08,
};
#define GT_FRAME_MAY_SKIP 0x80 /* unknown types from here on are skipped, below they are errors */

struct gt_frame {
    enum gt_frame_type type;
    uint64_t offset;        /* HELLO, ACK: rx_off; FIN: final_off */
    uint32_t window;        /* HELLO, ACK */
    uint16_t version;       /* HELLO */
    uint32_t stream;        /* HELLO */
    uint32_t attempt;       /* HELLO */
    struct gt_span service; /* HELLO, BIND: borrows until the next call */
    struct gt_span data;    /* DATA: a piece, as much of it as is here; borrows from the input */
    uint16_t code;          /* RST */
    uint64_t value;         /* PING, PONG */
};

/* A frame that is not whole yet. Zero-initialise one per carrier. */
struct gt_framer {
    uint8_t partial[GT_FRAME_HEADER + GT_CONTROL_MAX];
    size_t n_partial;
    size_t left; /* of the body of a DATA frame, or of one to skip */
    bool is_skipping;
};

enum {
    GT_FRAME_E_MORE = 1, /* the input is used up, and no frame is whole */
    GT_FRAME_E_BAD,      /* nothing of this form: the carrier cannot be read on */
};

/*
 * Takes the next whole control frame, or the next piece of a DATA frame, from @in: bytes cut
 * anywhere. To be called until E_MORE.
 */
int gt_framer_next(struct gt_framer *framer, struct gt_reader *in,
                   struct gt_frame *ret) GT_MUST_CHECK;

/* A whole frame; of DATA the header only, for a body of @data.n bytes that the caller puts behind.
 */
void gt_frame_write(struct gt_writer *w, const struct gt_frame *frame);
