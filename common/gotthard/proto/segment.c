/* SPDX-License-Identifier: ISC */
/*
 * Encoding and decoding of segments. The bytes of a piece are never read here. Must never return a
 * piece that is not completely inside its record.
 */
#include "gotthard/proto/segment.h"

#define BEGIN    0x8000u
#define RESERVED 0x4000u

void gt_segment_write(struct gt_writer *w, const struct gt_segment *segment)
{
    size_t n = segment->data.n;

    if (n == 0 || n > GT_SEGMENT_MAX)
        w->failed = true;
    gt_write_u32(w, segment->stream);
    gt_write_u16(w, (uint16_t)((segment->is_begin ? BEGIN : 0) | (n & GT_SEGMENT_MAX)));
}

int gt_segment_next(struct gt_reader *in, struct gt_segment *ret)
{
    if (in->left == 0)
        return in->failed ? GT_SEGMENT_E_BAD : GT_SEGMENT_E_END;
    uint32_t stream = gt_read_u32(in);
    unsigned bits = gt_read_u16(in);
    struct gt_span data = gt_read_bytes(in, bits & GT_SEGMENT_MAX);
    bool is_begin = bits & BEGIN;

    if (in->failed || data.n == 0 || bits & RESERVED || (is_begin && stream == 0))
        return GT_SEGMENT_E_BAD;
    *ret = (struct gt_segment){stream, is_begin, data};
    return 0;
}
