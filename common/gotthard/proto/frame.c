/* SPDX-License-Identifier: ISC */
/*
 * Encoding and decoding of stream frames, by one table of fields in the order of the protocol. The
 * framer buffers at most one incomplete frame other than DATA. The payload of DATA passes through
 * in pieces and is never copied here. Must never use a length before it was checked against the
 * limits of its type.
 */
#include "gotthard/proto/frame.h"

#include <assert.h>

#include "gotthard/base/fields.h"

const char *gt_rst_text(unsigned code)
{
    static const char *const texts[] = {
        [GT_RST_NONE] = "ended well",
        [GT_RST_LOCAL] = "reset by the local side",
        [GT_RST_REFUSED] = "the target refused the connection",
        [GT_RST_TIMEOUT] = "the target did not answer",
        [GT_RST_UNREACHABLE] = "the target cannot be reached",
        [GT_RST_DENIED] = "no such service for this operator",
        [GT_RST_RESYNC] = "the two ends disagree about the sent bytes",
        [GT_RST_PROTOCOL] = "protocol error",
        [GT_RST_EXPIRED] = "too long without a connection",
        [GT_RST_CLOSED] = "the session was closed",
        [GT_RST_INTERNAL] = "internal error",
        [GT_RST_LOST] = "the connection was lost",
        [GT_RST_NO_NAME] = "the target's name does not exist",
        [GT_RST_NO_RESOLVER] = "the target's name could not be resolved",
        [GT_RST_TARGET_VANISHED] = "the target vanished: it no longer answers",
        [GT_RST_CLIENT_VANISHED] = "the client vanished: it no longer answers",
        [GT_RST_LIMIT] = "over limits.streams of the relay or the device",
        [GT_RST_WITHDRAWN] = "the device has withdrawn the access",
    };

    return code < GT_ARRAY_SIZE(texts) ? texts[code] : "unknown reason";
}

/*
 * The body of each frame, in the order of docs/protocol.md, section 4. One list yields the rows
 * that encode and decode the body, and its size, which is checked against the protocol's.
 */
#define BODY_HELLO(ROW) \
    ROW(U16, version)   \
    ROW(U32, stream)    \
    ROW(U32, attempt)   \
    ROW(U64, offset)    \
    ROW(U32, window)    \
    ROW(U16, stop)      \
    ROW(SPAN, service)
#define BODY_ACK(ROW) \
    ROW(U64, offset)  \
    ROW(U32, window)  \
    ROW(U16, stop)
#define BODY_END(ROW) \
    ROW(U64, offset)  \
    ROW(U16, code)
#define BODY_RST(ROW)       ROW(U16, code)
#define BODY_PING(ROW)      ROW(U64, value)
#define BODY_PONG(ROW)      ROW(U64, value)
#define BODY_CONNECTED(ROW) ROW(U16, code)

#define FIELD(kind, ...)        GT_FIELD_##kind(struct gt_frame, __VA_ARGS__),
#define SIZE(kind, member, ...) +GT_FIELD_WIRE_##kind(__VA_ARGS__)
#define BODY(type, size)                                                 \
    static const struct gt_field type##_fields[] = {BODY_##type(FIELD)}; \
    enum { type##_SIZE = 0 BODY_##type(SIZE) };                          \
    static_assert(type##_SIZE == (size), #type ": size differs from the protocol")

BODY(HELLO, 26); /* plus the service, at most GT_SERVICE_MAX bytes */
BODY(ACK, 14);
BODY(END, 10);
BODY(RST, 2);
BODY(PING, 8);
BODY(PONG, 8);
BODY(CONNECTED, 2);
static_assert(GT_FRAME_BODY_MAX == HELLO_SIZE + GT_SERVICE_MAX,
              "HELLO is the longest buffered frame");

#define FRAME(type, min, max)                                            \
    [GT_FRAME_INDEX(GT_FRAME_##type)] = {GT_FRAME_##type, type##_fields, \
                                         GT_ARRAY_SIZE(type##_fields), min, max}
#define FIXED_FRAME(type) FRAME(type, type##_SIZE, type##_SIZE)

/* The fields of each known type, and the limits of its body's length in bytes. */
static const struct {
    uint8_t type; /* 0: none */
    const struct gt_field *fields;
    size_t n_fields, n_min, n_max;
} bodies[GT_FRAME_INDEX(-1) + 1] = {
    FRAME(HELLO, HELLO_SIZE, HELLO_SIZE + GT_SERVICE_MAX),
    [GT_FRAME_DATA] = {GT_FRAME_DATA, NULL, 0, 1,
                       GT_DATA_MAX}, /* payload, in pieces: framer_piece() */
    FIXED_FRAME(ACK),
    FIXED_FRAME(END),
    FIXED_FRAME(RST),
    FIXED_FRAME(PING),
    FIXED_FRAME(PONG),
    [GT_FRAME_DONE] = {GT_FRAME_DONE, NULL, 0, 0, 0},
    FIXED_FRAME(CONNECTED),
};

static bool is_known(uint8_t type)
{
    return type != 0 && bodies[GT_FRAME_INDEX(type)].type == type;
}

/* Returns true if @type is known and a body of @n bytes is within its limits. */
static bool is_length_valid(uint8_t type, size_t n)
{
    unsigned i = GT_FRAME_INDEX(type);

    return is_known(type) && n >= bodies[i].n_min && n <= bodies[i].n_max;
}

/* Decodes a whole body of a known type other than DATA. */
static int frame_decode(enum gt_frame_type type, struct gt_reader in, struct gt_frame *ret)
{
    struct gt_frame frame = {.type = type};

    gt_fields_read(&in, bodies[GT_FRAME_INDEX(type)].fields, bodies[GT_FRAME_INDEX(type)].n_fields,
                   &frame);
    if (!gt_reader_is_done(&in))
        return GT_FRAME_E_BAD;
    *ret = frame;
    return 0;
}

/* Moves bytes from @in to the partial frame. Returns true when it has @n bytes. */
static bool framer_gather(struct gt_framer *framer, struct gt_reader *in, size_t n)
{
    struct gt_span span = gt_read_bytes(in, GT_MIN(n - framer->n_partial, in->left));

    memcpy(framer->partial + framer->n_partial, span.data, span.n);
    framer->n_partial += span.n;
    return framer->n_partial == n;
}

/* Processes the next piece of a long body. Returns true if it is payload for the caller. */
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

static int framer_next(struct gt_framer *framer, struct gt_reader *in, struct gt_frame *ret)
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
        framer->is_skipping = type >= GT_FRAME_MAY_SKIP && !is_known(type);
        if (!framer->is_skipping && (flags || !is_length_valid(type, n)))
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

int gt_framer_next(struct gt_framer *framer, struct gt_reader *in, struct gt_frame *ret)
{
    int r = framer->is_bad ? GT_FRAME_E_BAD : framer_next(framer, in, ret);

    framer->is_bad = r == GT_FRAME_E_BAD;
    return r;
}

void gt_frame_write(struct gt_writer *w, const struct gt_frame *frame)
{
    gt_write_u8(w, (uint8_t)frame->type);
    gt_write_u8(w, 0);
    uint8_t *length = gt_write_room(w, 2);
    size_t start = w->n;
    gt_fields_write(w, bodies[GT_FRAME_INDEX(frame->type)].fields,
                    bodies[GT_FRAME_INDEX(frame->type)].n_fields, frame);
    size_t n = frame->type == GT_FRAME_DATA ? frame->data.n : w->n - start;
    if (length) {
        length[0] = (uint8_t)(n >> 8);
        length[1] = (uint8_t)n;
    }
}
