/* SPDX-License-Identifier: ISC */
/*
 * The relay's control frames, bytes to struct and back. One writer and one reader of bodies, each
 * a single switch in the order of the protocol's table, so that the two can be compared line by
 * line. It judges form only: who may send a frame, and when, is decided by session and link. A
 * frame is judged by its header as soon as that is there; nothing waits for a body that must not
 * come.
 */
#include "gotthard/control.h"

#include <stdio.h>

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
    [GT_CODE_TAKEN] = "taken by somebody else",
    [GT_CODE_NO_SESSION] = "no such session",
    [GT_CODE_SHUTDOWN] = "the relay is stopping",
    [GT_CODE_INTERNAL] = "internal error of the relay",
    [GT_CODE_HUNG_UP] = "hung up without a goodbye",
};

const char *gt_code_text(unsigned code)
{
    static _Thread_local char unknown[24];
    if (code < GT_ARRAY_SIZE(code_texts))
        return code_texts[code];
    snprintf(unknown, sizeof(unknown), "code %u", code);
    return unknown;
}

static void write_ticket(struct gt_writer *w, const struct gt_ticket *ticket)
{
    gt_write_u32(w, ticket->stream);
    gt_write_u32(w, ticket->attempt);
    gt_write_bytes(w, ticket->id, sizeof(ticket->id));
    gt_write_bytes(w, ticket->secret, sizeof(ticket->secret));
    gt_write_u16(w, ticket->ttl_s);
}

static void write_body(struct gt_writer *w, const struct gt_control_frame *frame)
{
    switch (frame->type) {
    case GT_CONTROL_HELLO:
        gt_write_u16(w, frame->hello.version_min);
        gt_write_u16(w, frame->hello.version_max);
        gt_write_string(w, frame->hello.software);
        return;
    case GT_CONTROL_WELCOME:
        gt_write_u16(w, frame->welcome.version);
        gt_write_bytes(w, frame->welcome.boot_id, sizeof(frame->welcome.boot_id));
        gt_write_u32(w, frame->welcome.heartbeat_ms);
        gt_write_u16(w, frame->welcome.max_streams);
        gt_write_u32(w, frame->welcome.ttl_s);
        return;
    case GT_CONTROL_RENDEZVOUS:
        gt_write_bytes(w, frame->rid, sizeof(frame->rid));
        gt_write_u32(w, frame->rendezvous.generation);
        gt_write_u16(w, frame->rendezvous.port_hint);
        gt_write_u32(w, frame->rendezvous.ttl_s);
        return;
    case GT_CONTROL_SESSION:
        gt_write_bytes(w, frame->rid, sizeof(frame->rid));
        gt_write_u16(w, frame->session.port);
        gt_write_u32(w, frame->session.ttl_left_s);
        gt_write_u8(w, frame->session.is_peer_up);
        return;
    case GT_CONTROL_PEER:
        gt_write_bytes(w, frame->rid, sizeof(frame->rid));
        gt_write_u8(w, frame->peer.is_up);
        gt_write_u8(w, frame->peer.reason);
        return;
    case GT_CONTROL_OPEN:
        gt_write_bytes(w, frame->rid, sizeof(frame->rid));
        gt_write_u32(w, frame->open.stream);
        gt_write_u32(w, frame->open.attempt);
        return;
    case GT_CONTROL_TICKET:
        gt_write_bytes(w, frame->rid, sizeof(frame->rid));
        write_ticket(w, &frame->ticket);
        return;
    case GT_CONTROL_STREAM_END:
        gt_write_bytes(w, frame->rid, sizeof(frame->rid));
        gt_write_u32(w, frame->stream_end.stream);
        gt_write_u32(w, frame->stream_end.attempt);
        gt_write_u16(w, frame->stream_end.code);
        gt_write_u64(w, frame->stream_end.n_up);
        gt_write_u64(w, frame->stream_end.n_down);
        return;
    case GT_CONTROL_PING:
    case GT_CONTROL_PONG: gt_write_u64(w, frame->ping); return;
    case GT_CONTROL_RESTARTING:
        gt_write_u32(w, frame->restarting.reconnect_in_ms);
        gt_write_u32(w, frame->restarting.try_for_ms);
        return;
    case GT_CONTROL_BYE:
    case GT_CONTROL_ERROR:
        gt_write_u16(w, frame->code);
        gt_write_bytes(w, frame->rid, sizeof(frame->rid));
        return;
    case GT_CONTROL_SPARE:
        gt_write_bytes(w, frame->rid, sizeof(frame->rid));
        gt_write_u32(w, frame->spare.stream);
        gt_write_u32(w, frame->spare.attempt);
        gt_write_u8(w, frame->spare.is_spare);
        return;
    }
}

size_t gt_control_encode(const struct gt_control_frame *frame,
                         uint8_t ret[static GT_CONTROL_FRAME_MAX])
{
    struct gt_writer body = gt_writer(ret + GT_CONTROL_HEADER, GT_CONTROL_BODY_MAX);
    struct gt_writer header = gt_writer(ret, GT_CONTROL_HEADER);
    write_body(&body, frame);
    gt_write_u8(&header, (uint8_t)frame->type);
    gt_write_u8(&header, 0);
    gt_write_u16(&header, (uint16_t)body.n);
    return GT_CONTROL_HEADER + body.n;
}

static bool read_bool(struct gt_reader *r)
{
    uint8_t value = gt_read_u8(r);
    r->failed |= value > 1;
    return value == 1;
}

/* Streams and their attempts count from 1. */
static uint32_t read_ordinal(struct gt_reader *r)
{
    uint32_t value = gt_read_u32(r);
    r->failed |= value == 0;
    return value;
}

static void read_hello(struct gt_reader *r, struct gt_control_frame *frame)
{
    frame->hello.version_min = gt_read_u16(r);
    frame->hello.version_max = gt_read_u16(r);
    gt_read_string(r, frame->hello.software, sizeof(frame->hello.software));
    r->failed |= frame->hello.version_min == 0;
    r->failed |= frame->hello.version_max < frame->hello.version_min;
}

static void read_welcome(struct gt_reader *r, struct gt_control_frame *frame)
{
    frame->welcome.version = gt_read_u16(r);
    gt_read_into(r, frame->welcome.boot_id, sizeof(frame->welcome.boot_id));
    frame->welcome.heartbeat_ms = gt_read_u32(r);
    frame->welcome.max_streams = gt_read_u16(r);
    frame->welcome.ttl_s = gt_read_u32(r);
    r->failed |= frame->welcome.version == 0;
}

static void read_ticket(struct gt_reader *r, struct gt_ticket *ticket)
{
    ticket->stream = read_ordinal(r);
    ticket->attempt = read_ordinal(r);
    gt_read_into(r, ticket->id, sizeof(ticket->id));
    gt_read_into(r, ticket->secret, sizeof(ticket->secret));
    ticket->ttl_s = gt_read_u16(r);
}

static void read_body(struct gt_reader *r, struct gt_control_frame *frame)
{
    switch (frame->type) {
    case GT_CONTROL_HELLO: read_hello(r, frame); return;
    case GT_CONTROL_WELCOME: read_welcome(r, frame); return;
    case GT_CONTROL_RENDEZVOUS:
        gt_read_into(r, frame->rid, sizeof(frame->rid));
        frame->rendezvous.generation = gt_read_u32(r);
        frame->rendezvous.port_hint = gt_read_u16(r);
        frame->rendezvous.ttl_s = gt_read_u32(r);
        return;
    case GT_CONTROL_SESSION:
        gt_read_into(r, frame->rid, sizeof(frame->rid));
        frame->session.port = gt_read_u16(r);
        frame->session.ttl_left_s = gt_read_u32(r);
        frame->session.is_peer_up = read_bool(r);
        return;
    case GT_CONTROL_PEER:
        gt_read_into(r, frame->rid, sizeof(frame->rid));
        frame->peer.is_up = read_bool(r);
        frame->peer.reason = gt_read_u8(r);
        return;
    case GT_CONTROL_OPEN:
        gt_read_into(r, frame->rid, sizeof(frame->rid));
        frame->open.stream = read_ordinal(r);
        frame->open.attempt = read_ordinal(r);
        return;
    case GT_CONTROL_TICKET:
        gt_read_into(r, frame->rid, sizeof(frame->rid));
        read_ticket(r, &frame->ticket);
        return;
    case GT_CONTROL_STREAM_END:
        gt_read_into(r, frame->rid, sizeof(frame->rid));
        frame->stream_end.stream = read_ordinal(r);
        frame->stream_end.attempt = read_ordinal(r);
        frame->stream_end.code = gt_read_u16(r);
        frame->stream_end.n_up = gt_read_u64(r);
        frame->stream_end.n_down = gt_read_u64(r);
        return;
    case GT_CONTROL_PING:
    case GT_CONTROL_PONG: frame->ping = gt_read_u64(r); return;
    case GT_CONTROL_RESTARTING:
        frame->restarting.reconnect_in_ms = gt_read_u32(r);
        frame->restarting.try_for_ms = gt_read_u32(r);
        return;
    case GT_CONTROL_BYE:
    case GT_CONTROL_ERROR:
        frame->code = gt_read_u16(r);
        gt_read_into(r, frame->rid, sizeof(frame->rid));
        return;
    case GT_CONTROL_SPARE:
        gt_read_into(r, frame->rid, sizeof(frame->rid));
        frame->spare.stream = read_ordinal(r);
        frame->spare.attempt = read_ordinal(r);
        frame->spare.is_spare = read_bool(r);
        return;
    }
}

static bool is_known(uint8_t type)
{
    switch ((enum gt_control_type)type) {
    case GT_CONTROL_HELLO:
    case GT_CONTROL_WELCOME:
    case GT_CONTROL_RENDEZVOUS:
    case GT_CONTROL_SESSION:
    case GT_CONTROL_PEER:
    case GT_CONTROL_OPEN:
    case GT_CONTROL_TICKET:
    case GT_CONTROL_STREAM_END:
    case GT_CONTROL_PING:
    case GT_CONTROL_PONG:
    case GT_CONTROL_RESTARTING:
    case GT_CONTROL_BYE:
    case GT_CONTROL_ERROR:
    case GT_CONTROL_SPARE: return true;
    }
    return false;
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
    struct gt_reader body = gt_reader(r.at, n_body);
    struct gt_control_frame frame = {.type = (enum gt_control_type)type};
    read_body(&body, &frame);
    bool is_good = gt_reader_is_done(&body);
    if (is_good)
        *ret_frame = frame;
    gt_wipe(&frame, sizeof(frame)); /* perhaps a ticket */
    if (!is_good)
        return GT_CONTROL_E_BAD;
    *ret_used = GT_CONTROL_HEADER + (size_t)n_body;
    return 0;
}
