/* SPDX-License-Identifier: ISC */
/*
 * The segments of a shared data connection: pieces of the frame sequences of many streams. A record
 * of TLS holds whole segments: stream u32, begin (1 bit), reserved (1 bit, 0), length (14 bits),
 * and 1 to GT_SEGMENT_MAX bytes. A piece may be cut anywhere in a frame. Stream 0 is the connection
 * itself, which never begins. See docs/protocol.md, section 4.
 */
#pragma once

#include "gotthard/base/bytes.h"

#define GT_SEGMENT_HEADER 6      /* bytes */
#define GT_SEGMENT_MAX    0x3fff /* bytes of one piece */

struct gt_segment {
    uint32_t stream;     /* 0: the connection's own frames */
    bool is_begin;       /* the first segment of an attachment of the stream */
    struct gt_span data; /* borrows from the record */
};

enum {
    GT_SEGMENT_E_END = 1, /* the record is used up */
    GT_SEGMENT_E_BAD,     /* malformed: nothing more of the connection can be decoded */
};

/* Encodes the header of a segment whose 1 to GT_SEGMENT_MAX bytes the caller appends: ->data.n is
 * used, ->data.data is not. A wrong length fails @w. */
void gt_segment_write(struct gt_writer *w, const struct gt_segment *segment);
/* Decodes the next segment of the record that @in reads. Returns 0 or GT_SEGMENT_E_x. */
int gt_segment_next(struct gt_reader *in, struct gt_segment *ret) GT_MUST_CHECK;
