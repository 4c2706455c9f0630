/* SPDX-License-Identifier: ISC */
/*
 * Frames into bytes and back. The framer keeps at most one control frame that is not whole; DATA
 * passes through it in pieces and is never copied here. Must never trust a length before it was
 * held against what its type may have.
 */
#include "gotthard/frame.h"

/* Whether a body of @n bytes is of this type's size; false for unknown types. */
static bool length_is_good(uint8_t type, size_t n)
{
    switch (type) {
    case GT_FRAME_HELLO: return n >= GT_CONTROL_MAX - GT_SERVICE_MAX && n <= GT_CONTROL_MAX;
    case GT_FRAME_DATA: return n >= 1 && n <= GT_DATA_MAX;
    case GT_FRAME_ACK: return n == 12;
    case GT_FRAME_FIN:
    case GT_FRAME_PING:
    case GT_FRAME_PONG: return n == 8;
    case GT_FRAME_RST: return n == 2;
    case GT_FRAME_BIND: return n >= 3 && n <= 2 + GT_SERVICE_MAX;
    default: return false;
    }
}

static int frame_decode(enum gt_frame_type type, struct gt_reader in, struct gt_frame *ret)
{
    struct gt_frame frame = {.type = type};
    switch (type) {
    case GT_FRAME_HELLO:
        frame.version = gt_read_u16(&in);
        frame.stream = gt_read_u32(&in);
        frame.attempt = gt_read_u32(&in);
        frame.offset = gt_read_u64(&in);
        frame.window = gt_read_u32(&in);
        frame.service = gt_read_lp(&in);
        break;
    case GT_FRAME_ACK:
        frame.offset = gt_read_u64(&in);
        frame.window = gt_read_u32(&in);
        break;
    case GT_FRAME_FIN: frame.offset = gt_read_u64(&in); break;
    case GT_FRAME_RST: frame.code = gt_read_u16(&in); break;
    case GT_FRAME_PING:
    case GT_FRAME_PONG: frame.value = gt_read_u64(&in); break;
    case GT_FRAME_BIND: frame.service = gt_read_lp(&in); break;
    case GT_FRAME_DATA: break; /* in pieces, by framer_piece() */
    }
    if (!gt_reader_is_done(&in))
        return GT_FRAME_E_BAD;
    *ret = frame;
    return 0;
}

/* Moves bytes from @in until @n of the partial frame are here. */
static bool framer_gather(struct gt_framer *framer, struct gt_reader *in, size_t n)
{
    struct gt_span span = gt_read_bytes(in, GT_MIN(n - framer->n_partial, in->left));
    memcpy(framer->partial + framer->n_partial, span.data, span.n);
    framer->n_partial += span.n;
    return framer->n_partial == n;
}

/* The next piece of a long body. True: it is DATA for the caller. */
static bool framer_piece(struct gt_framer *framer, struct gt_reader *in, struct gt_frame *ret)
{
    struct gt_span piece = gt_read_bytes(in, GT_MIN(framer->left, in->left));
    framer->left -= piece.n;
    if (framer->is_skipping)
        return false;
    ret->type = GT_FRAME_DATA;
    ret->data = piece;
    return true;
}

int gt_framer_next(struct gt_framer *framer, struct gt_reader *in, struct gt_frame *ret)
{
    while (in->left) {
        if (framer->left) {
            if (framer_piece(framer, in, ret))
                return 0;
            continue;
        }
        if (framer->n_partial < GT_FRAME_HEADER && !framer_gather(framer, in, GT_FRAME_HEADER))
            break;
        uint8_t type = framer->partial[0], flags = framer->partial[1];
        size_t n = (size_t)framer->partial[2] << 8 | framer->partial[3];
        framer->is_skipping = type >= GT_FRAME_MAY_SKIP;
        if (!framer->is_skipping && (flags || !length_is_good(type, n)))
            return GT_FRAME_E_BAD;
        if (framer->is_skipping || type == GT_FRAME_DATA) {
            framer->left = n;
            framer->n_partial = 0;
            continue;
        }
        if (!framer_gather(framer, in, GT_FRAME_HEADER + n))
            break;
        framer->n_partial = 0;
        return frame_decode(type, gt_reader(framer->partial + GT_FRAME_HEADER, n), ret);
    }
    return GT_FRAME_E_MORE;
}

static void write_body(struct gt_writer *w, const struct gt_frame *frame)
{
    switch (frame->type) {
    case GT_FRAME_HELLO:
        gt_write_u16(w, frame->version);
        gt_write_u32(w, frame->stream);
        gt_write_u32(w, frame->attempt);
        gt_write_u64(w, frame->offset);
        gt_write_u32(w, frame->window);
        gt_write_lp(w, frame->service);
        break;
    case GT_FRAME_ACK:
        gt_write_u64(w, frame->offset);
        gt_write_u32(w, frame->window);
        break;
    case GT_FRAME_FIN: gt_write_u64(w, frame->offset); break;
    case GT_FRAME_RST: gt_write_u16(w, frame->code); break;
    case GT_FRAME_PING:
    case GT_FRAME_PONG: gt_write_u64(w, frame->value); break;
    case GT_FRAME_BIND: gt_write_lp(w, frame->service); break;
    case GT_FRAME_DATA: break;
    }
}

void gt_frame_write(struct gt_writer *w, const struct gt_frame *frame)
{
    gt_write_u8(w, (uint8_t)frame->type);
    gt_write_u8(w, 0);
    uint8_t *length = gt_write_room(w, 2);
    size_t start = w->n;
    write_body(w, frame);
    size_t n = frame->type == GT_FRAME_DATA ? frame->data.n : w->n - start;
    if (length) {
        length[0] = (uint8_t)(n >> 8);
        length[1] = (uint8_t)n;
    }
}
