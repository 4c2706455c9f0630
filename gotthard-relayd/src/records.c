/* SPDX-License-Identifier: ISC */
/*
 * One pair of functions a record, the same fields in the same order, and what no record may hold.
 */
#include "handover.h"

#include "gotthard/text.h"

#define PIPE_MAX    (1u << 30)
#define N_SLOTS_MAX 2048u /* two for each of limits.streams, at most */

/* --- fields ----------------------------------------------------------------------------------- */

static void write_fd(struct gt_writer *w, int fd)
{
    gt_write_u32(w, (uint32_t)fd);
}

/* -1, where that may be, or one beyond the standard three. */
static int read_fd(struct gt_reader *r, bool may_be_none)
{
    int fd = (int)gt_read_u32(r);

    if ((fd < 3 || fd >= HANDOVER_FD_MAX) && (fd != -1 || !may_be_none))
        r->failed = true;
    return r->failed ? -1 : fd;
}

static unsigned read_within(struct gt_reader *r, unsigned from, unsigned to)
{
    unsigned value = gt_read_u8(r);

    if (value < from || value > to)
        r->failed = true;
    return r->failed ? from : value;
}

static void write_ticket_of(struct gt_writer *w, const struct gt_ticket *ticket)
{
    gt_write_u32(w, ticket->stream);
    gt_write_u32(w, ticket->attempt);
    gt_write_bytes(w, ticket->id, sizeof(ticket->id));
    gt_write_bytes(w, ticket->secret, sizeof(ticket->secret));
    gt_write_u16(w, ticket->ttl_s);
}

static void read_ticket_of(struct gt_reader *r, struct gt_ticket *ret)
{
    ret->stream = gt_read_u32(r);
    ret->attempt = gt_read_u32(r);
    gt_read_into(r, ret->id, sizeof(ret->id));
    gt_read_into(r, ret->secret, sizeof(ret->secret));
    ret->ttl_s = gt_read_u16(r);
    if (!ret->stream || !ret->attempt)
        r->failed = true;
}

/* An address is of this machine: as the kernel has it. */
static void write_addr(struct gt_writer *w, const struct gt_addr *addr)
{
    gt_write_lp(w, gt_span(&addr->storage, addr->n));
}

static void read_addr(struct gt_reader *r, struct gt_addr *ret)
{
    struct gt_span span = gt_read_lp(r);

    *ret = (struct gt_addr){0};
    if (span.n > sizeof(ret->storage))
        span.n = 0;
    memcpy(&ret->storage, span.data, span.n);
    ret->n = (socklen_t)span.n;
    if (!(ret->any.sa_family == AF_INET && ret->n == sizeof(ret->v4)) &&
        !(ret->any.sa_family == AF_INET6 && ret->n == sizeof(ret->v6)))
        r->failed = true;
}

/* --- records ---------------------------------------------------------------------------------- */

static void write_relay(struct gt_writer *w, const struct handover_relay *relay)
{
    gt_write_u64(w, relay->stopped_at);
    gt_write_bytes(w, relay->boot_id, sizeof(relay->boot_id));
    write_addr(w, &relay->bind);
    gt_write_u16(w, relay->cursor);
    gt_write_u64(w, relay->serial);
    gt_write_u64(w, relay->n_born);
    gt_write_u64(w, relay->n_unlisted);
    gt_write_u64(w, relay->n_refused);
    gt_write_u64(w, relay->n_bytes);
}

static void read_relay(struct gt_reader *r, struct handover_relay *ret)
{
    ret->stopped_at = gt_read_u64(r);
    gt_read_into(r, ret->boot_id, sizeof(ret->boot_id));
    read_addr(r, &ret->bind);
    ret->cursor = gt_read_u16(r);
    ret->serial = gt_read_u64(r);
    ret->n_born = gt_read_u64(r);
    ret->n_unlisted = gt_read_u64(r);
    ret->n_refused = gt_read_u64(r);
    ret->n_bytes = gt_read_u64(r);
}

static void write_session(struct gt_writer *w, const struct handover_session *session)
{
    gt_write_u8(w, (uint8_t)session->state);
    gt_write_bytes(w, session->rid, sizeof(session->rid));
    gt_write_u64(w, session->serial);
    gt_write_u64(w, session->born_at);
    gt_write_u64(w, session->entered_at);
    gt_write_u64(w, session->active_at);
    gt_write_u64(w, session->expires_at);
    gt_write_u16(w, session->port);
    write_fd(w, session->fd);
    for (size_t i = 0; i < GT_ARRAY_SIZE(session->slots); i++) {
        gt_write_string(w, session->slots[i].name);
        gt_write_u32(w, session->slots[i].generation);
    }
    gt_write_u64(w, session->streams_serial);
    gt_write_u64(w, session->n_streams);
    gt_write_u64(w, session->n_up);
    gt_write_u64(w, session->n_down);
    gt_write_u32(w, session->n_slots);
}

static void read_session(struct gt_reader *r, struct handover_session *ret)
{
    ret->state = (enum session_state)read_within(r, SESSION_EMPTY, SESSION_GRACE);
    gt_read_into(r, ret->rid, sizeof(ret->rid));
    ret->serial = gt_read_u64(r);
    ret->born_at = gt_read_u64(r);
    ret->entered_at = gt_read_u64(r);
    ret->active_at = gt_read_u64(r);
    ret->expires_at = gt_read_u64(r);
    ret->port = gt_read_u16(r);
    ret->fd = read_fd(r, false);
    for (size_t i = 0; i < GT_ARRAY_SIZE(ret->slots); i++) {
        gt_read_string(r, ret->slots[i].name, sizeof(ret->slots[i].name));
        ret->slots[i].generation = gt_read_u32(r);
        if (ret->slots[i].name[0] && !gt_text_is_name(gt_span_text(ret->slots[i].name)))
            r->failed = true;
    }
    ret->streams_serial = gt_read_u64(r);
    ret->n_streams = gt_read_u64(r);
    ret->n_up = gt_read_u64(r);
    ret->n_down = gt_read_u64(r);
    ret->n_slots = gt_read_u32(r);
    if (!ret->port || ret->n_slots > N_SLOTS_MAX)
        r->failed = true;
}

static void write_stream(struct gt_writer *w, const struct stream *stream)
{
    gt_write_u8(w, (uint8_t)stream->state);
    gt_write_u64(w, stream->serial);
    write_ticket_of(w, &stream->ticket);
    gt_write_u64(w, stream->expires_at);
    gt_write_u8(w, (uint8_t)stream->n_told);
}

static void read_stream(struct gt_reader *r, struct stream *ret)
{
    ret->state = (enum stream_state)read_within(r, STREAM_WAITING, STREAM_ENDED);
    ret->serial = gt_read_u64(r);
    read_ticket_of(r, &ret->ticket);
    ret->expires_at = gt_read_u64(r);
    ret->n_told = read_within(r, 0, 2);
}

static void write_pipe(struct gt_writer *w, const struct handover_pipe *pipe)
{
    gt_write_u8(w, (uint8_t)pipe->kind);
    switch (pipe->kind) {
    case HANDOVER_NO_PIPE: return;
    case HANDOVER_SPLICED:
        write_fd(w, pipe->fds[0]);
        write_fd(w, pipe->fds[1]);
        gt_write_u32(w, pipe->n);
        gt_write_u32(w, pipe->capacity);
        return;
    case HANDOVER_COPIED:
        gt_write_u32(w, (uint32_t)pipe->bytes.n);
        gt_write_span(w, pipe->bytes);
        return;
    }
}

/* A pipe is held only while there are bytes in it. */
static void read_pipe(struct gt_reader *r, struct handover_pipe *ret)
{
    ret->fds[0] = ret->fds[1] = -1;
    switch (read_within(r, HANDOVER_NO_PIPE, HANDOVER_COPIED)) {
    case HANDOVER_SPLICED:
        ret->kind = HANDOVER_SPLICED;
        ret->fds[0] = read_fd(r, false);
        ret->fds[1] = read_fd(r, false);
        ret->n = gt_read_u32(r);
        ret->capacity = gt_read_u32(r);
        if (!ret->n || ret->n > ret->capacity || ret->capacity > PIPE_MAX)
            r->failed = true;
        return;
    case HANDOVER_COPIED:
        ret->kind = HANDOVER_COPIED;
        ret->bytes = gt_read_bytes(r, gt_read_u32(r));
        if (!ret->bytes.n || ret->bytes.n > PIPE_COPIED_SIZE)
            r->failed = true;
        return;
    }
}

static void write_side(struct gt_writer *w, const struct handover_side *side)
{
    write_fd(w, side->fd);
    gt_write_bytes(w, side->source, sizeof(side->source));
    gt_write_u8(w, (uint8_t)side->flow);
    gt_write_u64(w, side->n_bytes);
    write_pipe(w, &side->pipe);
}

static void read_side(struct gt_reader *r, struct handover_side *ret)
{
    ret->fd = read_fd(r, true);
    gt_read_into(r, ret->source, sizeof(ret->source));
    ret->flow = (enum flow_state)read_within(r, FLOW_OPEN, FLOW_SHUT);
    ret->n_bytes = gt_read_u64(r);
    read_pipe(r, &ret->pipe);
    if (ret->pipe.kind != HANDOVER_NO_PIPE && ret->flow == FLOW_SHUT)
        r->failed = true;
}

static void write_pair(struct gt_writer *w, const struct handover_pair *pair)
{
    gt_write_u8(w, (uint8_t)pair->state);
    gt_write_u32(w, pair->stream);
    gt_write_u32(w, pair->attempt);
    gt_write_u64(w, pair->deadline);
    gt_write_u64(w, pair->n_moved_at_deadline);
    write_side(w, &pair->sides[0]);
    write_side(w, &pair->sides[1]);
}

static bool pair_is_sound(const struct handover_pair *pair)
{
    const struct handover_side *a = &pair->sides[0], *b = &pair->sides[1];
    int n_joined = (a->fd >= 0) + (b->fd >= 0);
    int n_shut = (a->flow == FLOW_SHUT) + (b->flow == FLOW_SHUT);
    int n_pipes = (a->pipe.kind != HANDOVER_NO_PIPE) + (b->pipe.kind != HANDOVER_NO_PIPE);

    switch (pair->state) {
    case PAIR_ONE_JOINED: return n_joined == 1 && !n_shut && !n_pipes;
    case PAIR_SPLICING: return n_joined == 2 && !n_shut;
    case PAIR_HALF_CLOSED: return n_joined == 2 && n_shut == 1;
    case PAIR_CLOSED: return false;
    }
    return false;
}

static void read_pair(struct gt_reader *r, struct handover_pair *ret)
{
    ret->state = (enum pair_state)read_within(r, PAIR_ONE_JOINED, PAIR_HALF_CLOSED);
    ret->stream = gt_read_u32(r);
    ret->attempt = gt_read_u32(r);
    ret->deadline = gt_read_u64(r);
    ret->n_moved_at_deadline = gt_read_u64(r);
    read_side(r, &ret->sides[0]);
    read_side(r, &ret->sides[1]);
    if (!pair_is_sound(ret))
        r->failed = true;
}

void handover_write_record(struct gt_writer *w, const struct handover *record)
{
    gt_write_u8(w, (uint8_t)record->kind);
    switch (record->kind) {
    case HANDOVER_RELAY: write_relay(w, &record->relay); return;
    case HANDOVER_SECRET:
        gt_write_string(w, record->secret.variable);
        gt_write_string(w, record->secret.text);
        return;
    case HANDOVER_DOOR: write_fd(w, record->door); return;
    case HANDOVER_REST:
        gt_write_u16(w, record->rest.port);
        gt_write_u64(w, record->rest.slot.rests_until);
        gt_write_u8(w, record->rest.slot.is_known);
        gt_write_bytes(w, record->rest.slot.of, sizeof(record->rest.slot.of));
        return;
    case HANDOVER_PENALTY:
        gt_write_bytes(w, record->penalty.source, sizeof(record->penalty.source));
        gt_write_u64(w, record->penalty.until);
        return;
    case HANDOVER_TOMB:
        gt_write_bytes(w, record->tomb.rid, sizeof(record->tomb.rid));
        gt_write_u64(w, record->tomb.until);
        gt_write_u8(w, (uint8_t)record->tomb.code);
        return;
    case HANDOVER_SESSION: write_session(w, &record->session); return;
    case HANDOVER_STREAM: write_stream(w, &record->stream); return;
    case HANDOVER_PAIR: write_pair(w, &record->pair); return;
    case HANDOVER_TICKET:
        gt_write_u8(w, (uint8_t)record->ticket.state);
        write_ticket_of(w, &record->ticket.given);
        gt_write_u64(w, record->ticket.expires_at);
        return;
    case HANDOVER_END: return;
    }
}

void handover_read_record(struct gt_reader *r, struct handover *ret)
{
    *ret =
        (struct handover){.kind = (enum handover_kind)read_within(r, HANDOVER_RELAY, HANDOVER_END)};
    switch (ret->kind) {
    case HANDOVER_RELAY: read_relay(r, &ret->relay); return;
    case HANDOVER_SECRET:
        gt_read_string(r, ret->secret.variable, sizeof(ret->secret.variable));
        gt_read_string(r, ret->secret.text, sizeof(ret->secret.text));
        return;
    case HANDOVER_DOOR: ret->door = read_fd(r, false); return;
    case HANDOVER_REST:
        ret->rest.port = gt_read_u16(r);
        ret->rest.slot.rests_until = gt_read_u64(r);
        ret->rest.slot.is_known = read_within(r, 0, 1);
        gt_read_into(r, ret->rest.slot.of, sizeof(ret->rest.slot.of));
        return;
    case HANDOVER_PENALTY:
        gt_read_into(r, ret->penalty.source, sizeof(ret->penalty.source));
        ret->penalty.until = gt_read_u64(r);
        return;
    case HANDOVER_TOMB:
        gt_read_into(r, ret->tomb.rid, sizeof(ret->tomb.rid));
        ret->tomb.until = gt_read_u64(r);
        ret->tomb.code = (enum gt_code)read_within(r, GT_CODE_BYE, GT_CODE_INTERNAL);
        return;
    case HANDOVER_SESSION: read_session(r, &ret->session); return;
    case HANDOVER_STREAM: read_stream(r, &ret->stream); return;
    case HANDOVER_PAIR: read_pair(r, &ret->pair); return;
    case HANDOVER_TICKET:
        ret->ticket.state = (enum ticket_state)read_within(r, TICKET_UNUSED, TICKET_BY_DEVICE);
        read_ticket_of(r, &ret->ticket.given);
        ret->ticket.expires_at = gt_read_u64(r);
        return;
    case HANDOVER_END: return;
    }
}
