/* SPDX-License-Identifier: ISC */
/*
 * Encoding and decoding of control frames, by one table of fields in the order of the protocol.
 * Only the form is checked here: the relay's session and the client's control connection decide
 * which frames are allowed at which time. An invalid header is rejected before its body has
 * arrived.
 */
#include "gotthard/proto/control.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "gotthard/base/fields.h"

static const char *const code_texts[] = {
    [GT_CODE_NONE] = "no reason",
    [GT_CODE_BYE] = "closed by the other side",
    [GT_CODE_LOST] = "connection lost",
    [GT_CODE_REPLACED] = "replaced by a newer connection",
    [GT_CODE_NEW_PROCESS] = "restarted",
    [GT_CODE_EXPIRED] = "expired",
    [GT_CODE_LIMIT] = "over a limit of the relay",
    [GT_CODE_NO_PORT] = "the relay has no free port",
    [GT_CODE_PROTOCOL] = "protocol violation",
    [GT_CODE_VERSION] = "no protocol version in common",
    [GT_CODE_IN_USE] = "in use by another client",
    [GT_CODE_NO_SESSION] = "no such session",
    [GT_CODE_SHUTDOWN] = "the relay is stopping",
    [GT_CODE_INTERNAL] = "internal error of the relay",
    [GT_CODE_HUNG_UP] = "connection closed without BYE",
    [GT_CODE_LIFETIME] = "the lifetime of the session has expired",
    [GT_CODE_IDLE] = "no connection for longer than timeouts.idle of the relay",
    [GT_CODE_PAIRING] = "the other side did not come within timeouts.pairing of the relay",
    [GT_CODE_GRACE] = "the other side did not return within timeouts.session_grace of the relay",
    [GT_CODE_SESSIONS] = "the relay has as many sessions as its limits.sessions permits",
    [GT_CODE_IDENTITY] = "over limits.sessions_per_identity of the relay",
    [GT_CODE_LARGE_LOST] = "large packets were lost",
    [GT_CODE_OLD_KEY] = "the relay no longer accepts the key that a side used",
    [GT_CODE_REFUSED] = "the relay refuses the operator or the device",
    [GT_CODE_WITHDRAWN] = "access was withdrawn",
};

const char *gt_code_text(unsigned code)
{
    static _Thread_local char unknown[24];

    if (code < GT_ARRAY_SIZE(code_texts) && code_texts[code])
        return code_texts[code];
    snprintf(unknown, sizeof(unknown), "code %u", code);
    return unknown;
}

const char *gt_code_limit_text(unsigned code, uint32_t value)
{
    static _Thread_local char text[96];

    if (code == GT_CODE_SESSIONS && value > 0)
        snprintf(text, sizeof(text), "the relay allows %" PRIu32 " sessions: limits.sessions",
                 value);
    else if (code == GT_CODE_IDENTITY && value > 0)
        snprintf(text, sizeof(text),
                 "the relay allows %" PRIu32 " sessions per identity: limits.sessions_per_identity",
                 value);
    else
        return gt_code_text(code);
    return text;
}

/*
 * The body of each frame, in the order of docs/protocol.md, section 3. One list yields the rows
 * that encode and decode the body, and its size, which is checked against the protocol's.
 */
#define BODY_HELLO(ROW)               \
    ROW(ORDINAL16, hello.version_min) \
    ROW(U16, hello.version_max)       \
    ROW(STRING, hello.software)
#define BODY_WELCOME(ROW)           \
    ROW(ORDINAL16, welcome.version) \
    ROW(BYTES, welcome.boot_id, 16) \
    ROW(U32, welcome.heartbeat_ms)  \
    ROW(U16, welcome.max_streams)   \
    ROW(U32, welcome.ttl_s)
#define BODY_RENDEZVOUS(ROW)        \
    ROW(BYTES, rid, GT_RID_SIZE)    \
    ROW(U32, rendezvous.generation) \
    ROW(U16, rendezvous.port_hint)  \
    ROW(U32, rendezvous.ttl_s)
#define BODY_SESSION(ROW)        \
    ROW(BYTES, rid, GT_RID_SIZE) \
    ROW(U16, session.port)       \
    ROW(U32, session.ttl_left_s) \
    ROW(FLAG, session.is_peer_up)
#define BODY_PEER(ROW)           \
    ROW(BYTES, rid, GT_RID_SIZE) \
    ROW(FLAG, peer.is_up)        \
    ROW(U8, peer.reason)
#define BODY_OPEN(ROW)           \
    ROW(BYTES, rid, GT_RID_SIZE) \
    ROW(U32, open.stream)        \
    ROW(ORDINAL32, open.attempt) \
    ROW(U16, open.segment)
#define BODY_TICKET(ROW)                     \
    ROW(BYTES, rid, GT_RID_SIZE)             \
    ROW(U32, ticket.stream)                  \
    ROW(ORDINAL32, ticket.attempt)           \
    ROW(BYTES, ticket.id, GT_TICKET_ID_SIZE) \
    ROW(BYTES, ticket.secret, GT_KEY_SIZE)   \
    ROW(U16, ticket.ttl_s)                   \
    ROW(U16, ticket.segment)
#define BODY_STREAM_END(ROW)           \
    ROW(BYTES, rid, GT_RID_SIZE)       \
    ROW(U32, stream_end.stream)        \
    ROW(ORDINAL32, stream_end.attempt) \
    ROW(U16, stream_end.code)          \
    ROW(U64, stream_end.n_up)          \
    ROW(U64, stream_end.n_down)
#define BODY_PING(ROW) ROW(U64, ping)
#define BODY_PONG(ROW) ROW(U64, ping)
#define BODY_RESTARTING(ROW)             \
    ROW(U32, restarting.reconnect_in_ms) \
    ROW(U32, restarting.try_for_ms)
#define BODY_BYE(ROW) \
    ROW(U16, code)    \
    ROW(BYTES, rid, GT_RID_SIZE)
#define BODY_ERROR(ROW) \
    ROW(U16, code)      \
    ROW(BYTES, rid, GT_RID_SIZE)
#define BODY_LOAD(ROW)           \
    ROW(BYTES, rid, GT_RID_SIZE) \
    ROW(U32, load)
#define BODY_ACCESS(ROW) ROW(SPAN, access)
#define BODY_EFFECT(ROW)    \
    ROW(U8, effect.result)  \
    ROW(U64, effect.serial) \
    ROW(U32, effect.n_ended)
#define BODY_LIMIT(ROW)          \
    ROW(BYTES, rid, GT_RID_SIZE) \
    ROW(U16, limit.code)         \
    ROW(U32, limit.value)

#define FIELD(kind, ...)        GT_FIELD_##kind(struct gt_control_frame, __VA_ARGS__),
#define SIZE(kind, member, ...) +GT_FIELD_WIRE_##kind(__VA_ARGS__)
#define BODY(type, size)                                                                    \
    static const struct gt_field type##_fields[] = {BODY_##type(FIELD)};                    \
    static_assert(0 BODY_##type(SIZE) == (size), #type ": size differs from the protocol"); \
    static_assert((size) <= GT_CONTROL_BODY_MAX, #type ": too long")

BODY(HELLO, 6); /* plus the software string, at most GT_SOFTWARE_MAX bytes */
BODY(WELCOME, 28);
BODY(RENDEZVOUS, 26);
BODY(SESSION, 23);
BODY(PEER, 18);
BODY(OPEN, 26);
BODY(TICKET, 76);
BODY(STREAM_END, 42);
BODY(PING, 8);
BODY(PONG, 8);
BODY(RESTARTING, 8);
BODY(BYE, 18);
BODY(ERROR, 18);
BODY(LOAD, 20);
BODY(ACCESS, 2); /* plus the part, at most GT_CONTROL_PART_MAX bytes */
BODY(EFFECT, 13);
BODY(LIMIT, 22);

#define FRAME(type) [GT_CONTROL_##type] = {type##_fields, GT_ARRAY_SIZE(type##_fields)}

static const struct {
    const struct gt_field *fields; /* NULL: unknown type */
    size_t n_fields;
} bodies[] = {
    FRAME(HELLO),      FRAME(WELCOME), FRAME(RENDEZVOUS), FRAME(SESSION), FRAME(PEER),
    FRAME(OPEN),       FRAME(TICKET),  FRAME(STREAM_END), FRAME(PING),    FRAME(PONG),
    FRAME(RESTARTING), FRAME(BYE),     FRAME(ERROR),      FRAME(LOAD),    FRAME(ACCESS),
    FRAME(EFFECT),     FRAME(LIMIT),
};

static bool is_known(uint8_t type)
{
    return type < GT_ARRAY_SIZE(bodies) && bodies[type].fields;
}

struct gt_control_frame gt_control_hello(void)
{
    struct gt_control_frame hello = {.type = GT_CONTROL_HELLO};

    hello.hello.version_min = hello.hello.version_max = GT_CONTROL_VERSION;
    snprintf(hello.hello.software, sizeof(hello.hello.software), "gotthard/%s", GOTTHARD_VERSION);
    return hello;
}

size_t gt_control_encode(const struct gt_control_frame *frame,
                         uint8_t ret[static GT_CONTROL_FRAME_MAX])
{
    struct gt_writer body = gt_writer(ret + GT_CONTROL_HEADER, GT_CONTROL_BODY_MAX);
    struct gt_writer header = gt_writer(ret, GT_CONTROL_HEADER);

    assert(is_known((uint8_t)frame->type));
    gt_fields_write(&body, bodies[frame->type].fields, bodies[frame->type].n_fields, frame);
    gt_write_u8(&header, (uint8_t)frame->type);
    gt_write_u8(&header, 0);
    gt_write_u16(&header, (uint16_t)body.n);
    return GT_CONTROL_HEADER + body.n;
}

size_t gt_control_encode_filler(uint8_t ret[static GT_CONTROL_FRAME_MAX])
{
    struct gt_writer header = gt_writer(ret, GT_CONTROL_HEADER);

    gt_write_u8(&header, GT_CONTROL_FILLER);
    gt_write_u8(&header, 0);
    gt_write_u16(&header, GT_CONTROL_BODY_MAX);
    memset(ret + GT_CONTROL_HEADER, 0, GT_CONTROL_BODY_MAX);
    return GT_CONTROL_FRAME_MAX;
}

/* Decodes the body of a known type. Returns false if it is malformed. */
static bool read_body(struct gt_reader r, struct gt_control_frame *frame)
{
    gt_fields_read(&r, bodies[frame->type].fields, bodies[frame->type].n_fields, frame);
    if (frame->type == GT_CONTROL_HELLO)
        r.failed |= frame->hello.version_max < frame->hello.version_min;
    return gt_reader_is_done(&r);
}

int gt_control_decode(const uint8_t *in, size_t n, struct gt_control_frame *ret_frame,
                      size_t *ret_used)
{
    struct gt_reader r = gt_reader(in, n);
    uint8_t type = gt_read_u8(&r), flags = gt_read_u8(&r);
    uint16_t n_body = gt_read_u16(&r);

    if (r.failed)
        return GT_CONTROL_E_SHORT;
    if (flags != 0 || n_body > GT_CONTROL_BODY_MAX || (type < 0x80 && !is_known(type)))
        return GT_CONTROL_E_BAD;
    if (r.left < n_body)
        return GT_CONTROL_E_SHORT;
    if (!is_known(type)) {
        *ret_used = GT_CONTROL_HEADER + (size_t)n_body;
        return GT_CONTROL_E_UNKNOWN;
    }
    struct gt_control_frame frame = {.type = (enum gt_control_type)type};
    bool is_good = read_body(gt_reader(r.at, n_body), &frame);
    if (is_good)
        *ret_frame = frame;
    gt_wipe(&frame, sizeof(frame)); /* may contain a ticket */
    if (!is_good)
        return GT_CONTROL_E_BAD;
    *ret_used = GT_CONTROL_HEADER + (size_t)n_body;
    return 0;
}
