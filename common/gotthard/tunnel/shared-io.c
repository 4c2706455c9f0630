/* SPDX-License-Identifier: ISC */
/*
 * The segments of a shared connection: who sends next, and to whom a received one belongs. Must
 * never pass on a byte of an older attachment, and never free or replace the data connection, since
 * its callbacks come here.
 */
#include <assert.h>

#include "gotthard/base/log.h"
#include "gotthard/proto/segment.h"
#include "gotthard/tunnel/shared-internal.h"

#define RECORD_SEGMENTS 16          /* in one record, at most */
#define BATCH           (48 * 1024) /* bytes of records in one write: the next turns wait for it */
#define RECEIVE_BUDGET  (1024 * 1024) /* bytes in one loop iteration */

/* --- members ---------------------------------------------------------------------------------- */

void gt_shared_connection_attach(struct gt_shared_connection *shared, uint32_t number,
                                 uint32_t attempt, const struct gt_shared_member_events *events,
                                 struct gt_shared_member *member)
{
    assert(shared->state == SHARED_UP && number > 0 && !member->shared);
    *member = (struct gt_shared_member){
        .events = events,
        .shared = shared,
        .number = number,
        .attempt = attempt,
    };
    gt_list_init(&member->turn);
    gt_list_init(&member->touched);
    gt_list_append(&shared->members, &member->link);
    gt_shared_member_want_turn(member);
}

void gt_shared_member_detach(struct gt_shared_member *member)
{
    if (!member->shared)
        return;
    gt_list_unlink(&member->turn);
    gt_list_unlink(&member->touched);
    gt_list_unlink(&member->link);
    member->shared = NULL;
}

void gt_shared_member_want_turn(struct gt_shared_member *member)
{
    if (!member->shared || !gt_list_is_empty(&member->turn))
        return;
    gt_list_append(&member->shared->io.turns, &member->turn);
    gt_shared_io_schedule(member->shared);
}

static void member_touch(struct gt_shared_member *member)
{
    if (gt_list_is_empty(&member->touched))
        gt_list_append(&member->shared->io.touched, &member->touched);
}

/* --- output ----------------------------------------------------------------------------------- */

/* One record that is being composed. */
struct outgoing {
    size_t cap, n; /* bytes */
    size_t n_segments, n_parts;
    struct gt_span
        parts[1 + RECORD_SEGMENTS * (1 + GT_ARRAY_SIZE(((struct gt_stream_record *)0)->parts))];
    uint8_t own[GT_PRODUCE_MIN]; /* segments of the connection itself */
    uint8_t headers[RECORD_SEGMENTS][GT_SEGMENT_HEADER];
    struct gt_stream_record frames[RECORD_SEGMENTS];
};

static void outgoing_add(struct outgoing *out, struct gt_span part)
{
    out->parts[out->n_parts++] = part;
    out->n += part.n;
}

static bool has_output(const struct shared_io *io)
{
    return io->is_ping_due || io->is_pong_due || io->n_answers > 0 || !gt_list_is_empty(&io->turns);
}

/* PING and PONG, as a segment of stream 0. */
static void compose_heartbeat(struct shared_io *io, struct gt_writer *w)
{
    uint8_t frames[64];
    struct gt_writer f = gt_writer(frames, sizeof(frames));

    if (io->is_ping_due)
        gt_frame_write(&f, &(struct gt_frame){.type = GT_FRAME_PING});
    if (io->is_pong_due)
        gt_frame_write(&f, &(struct gt_frame){.type = GT_FRAME_PONG, .value = io->pong});
    io->is_ping_due = io->is_pong_due = false;
    if (f.n == 0)
        return;
    gt_segment_write(w, &(struct gt_segment){.data = gt_span(frames, f.n)});
    gt_write_span(w, gt_span(frames, f.n));
}

/* The answer to a begin that was rejected: a whole attachment in one segment. */
static void compose_answer(const struct shared_answer *answer, struct gt_writer *w)
{
    uint8_t frames[64];
    struct gt_writer f = gt_writer(frames, sizeof(frames));

    gt_frame_write(&f, &(struct gt_frame){.type = GT_FRAME_RST, .code = (uint16_t)answer->code});
    gt_frame_write(&f, &(struct gt_frame){.type = GT_FRAME_DONE});
    gt_segment_write(w, &(struct gt_segment){answer->number, true, gt_span(frames, f.n)});
    gt_write_span(w, gt_span(frames, f.n));
}

static void compose_own(struct shared_io *io, struct outgoing *out)
{
    struct gt_writer w = gt_writer(out->own, sizeof(out->own));

    compose_heartbeat(io, &w);
    for (; io->n_answers > 0 && w.cap - w.n >= 64; io->n_answers--) {
        compose_answer(&io->answers[io->first_answer], &w);
        io->first_answer = (io->first_answer + 1) % SHARED_ANSWERS;
    }
    assert(!w.failed);
    outgoing_add(out, gt_span(out->own, w.n));
}

/* One turn of a member. Returns false if it has nothing to send. */
static bool compose_turn(struct gt_shared_member *member, struct outgoing *out)
{
    struct gt_stream_record *frames = &out->frames[out->n_segments];
    uint8_t *header = out->headers[out->n_segments];
    struct gt_writer w = gt_writer(header, GT_SEGMENT_HEADER);
    size_t room = GT_MIN(out->cap - out->n - GT_SEGMENT_HEADER, (size_t)GT_SEGMENT_MAX);
    size_t n = member->events->compose(member, room, frames);

    if (n == 0)
        return false;
    gt_segment_write(&w, &(struct gt_segment){member->number, !member->is_begun, gt_span(NULL, n)});
    assert(!w.failed);
    member->is_begun = true;
    outgoing_add(out, gt_span(header, w.n));
    for (size_t i = 0; i < frames->n_parts; i++)
        outgoing_add(out, frames->parts[i]);
    out->n_segments++;
    return true;
}

/* Composes one record: small segments share it, in the order of the turns. */
static void compose_record(struct shared_io *io, struct outgoing *out)
{
    compose_own(io, out);
    while (!gt_list_is_empty(&io->turns) && out->n_segments < RECORD_SEGMENTS &&
           out->cap - out->n >= GT_SEGMENT_HEADER + GT_PRODUCE_MIN) {
        struct gt_shared_member *member =
            gt_list_entry(io->turns.next, struct gt_shared_member, turn);

        gt_list_unlink(&member->turn);
        if (compose_turn(member, out) && gt_list_is_empty(&member->turn))
            gt_list_append(&io->turns, &member->turn);
    }
}

static void write_batch(struct gt_shared_connection *shared)
{
    struct outgoing out;

    for (size_t total = 0; total < BATCH && has_output(&shared->io) &&
                           gt_data_connection_make_room(shared->connection);
         total += out.n) {
        out.cap = gt_data_connection_record_size(shared->connection);
        out.n = out.n_segments = out.n_parts = 0;
        compose_record(&shared->io, &out);
        if (out.n > 0)
            gt_data_connection_write(shared->connection, out.parts, out.n_parts);
    }
}

/* Continues after a flush: on_writable comes only if the flush left something. */
void gt_shared_io_send(struct gt_shared_connection *shared)
{
    if (shared->state != SHARED_UP)
        return;
    do {
        write_batch(shared);
        gt_data_connection_flush(shared->connection);
    } while (has_output(&shared->io) && gt_data_connection_make_room(shared->connection));
}

void gt_shared_io_schedule(struct gt_shared_connection *shared)
{
    ev_prepare_start(shared->settings.loop, &shared->io.prepare);
}

static void io_on_prepare(struct ev_loop *loop, ev_prepare *watcher, int revents)
{
    struct gt_shared_connection *shared = watcher->data;

    ev_prepare_stop(loop, watcher);
    if (shared->is_check_due && shared->connection)
        gt_data_connection_check(shared->connection, shared->has_slept);
    if (shared->is_probe_due && shared->state == SHARED_UP)
        gt_data_connection_probe(shared->connection);
    shared->is_check_due = shared->is_probe_due = shared->has_slept = false;
    gt_shared_io_send(shared);
}

/* --- input ------------------------------------------------------------------------------------ */

/* The connection's own frames. Returns false if they are malformed. */
static bool receive_own(struct shared_io *io, struct gt_span data)
{
    struct gt_reader in = gt_reader(data.data, data.n);
    struct gt_frame frame;
    int r;

    while ((r = gt_framer_next(&io->framer, &in, &frame)) == 0) {
        if (frame.type == GT_FRAME_PING) {
            io->is_pong_due = true;
            io->pong = frame.value;
        } else if (frame.type != GT_FRAME_PONG && frame.type < GT_FRAME_MAY_SKIP) {
            return false;
        }
    }
    return r == GT_FRAME_E_MORE;
}

/* The oldest answers make room for the newest. */
static void answer(struct shared_io *io, uint32_t number, enum gt_rst code)
{
    if (io->n_answers == SHARED_ANSWERS) {
        io->first_answer = (io->first_answer + 1) % SHARED_ANSWERS;
        io->n_answers--;
    }
    io->answers[(io->first_answer + io->n_answers) % SHARED_ANSWERS] =
        (struct shared_answer){number, code};
    io->n_answers++;
}

/* Returns true if @segment begins with a whole HELLO of its stream. */
static bool peek_hello(const struct gt_segment *segment, struct gt_framer *framer,
                       struct gt_frame *ret)
{
    struct gt_reader in = gt_reader(segment->data.data, segment->data.n);

    return gt_framer_next(framer, &in, ret) == 0 && ret->type == GT_FRAME_HELLO &&
           ret->stream == segment->stream && ret->attempt > 0;
}

/* The device: the operator begins a stream, or begins it again. */
static struct gt_shared_member *receive_peer_begin(struct gt_shared_connection *shared,
                                                   uint32_t number, const struct gt_frame *hello)
{
    enum gt_rst code = GT_RST_PROTOCOL;
    struct gt_shared_member *member =
        hello ? shared->events->on_begin(shared->userdata, number, hello, &code) : NULL;

    if (!member && code != GT_RST_NONE)
        answer(&shared->io, number, code);
    return member;
}

/* Returns the member whose attachment begins with @segment, or NULL if it is dropped. A stream that
 * is attached judges an invalid begin itself. */
static struct gt_shared_member *receive_begin(struct gt_shared_connection *shared,
                                              const struct gt_segment *segment)
{
    struct gt_shared_member *member = shared->events->find(shared->userdata, segment->stream);
    bool is_device = shared->settings.role == GT_ROLE_DEVICE;
    struct gt_framer framer = {0};
    struct gt_frame hello;
    bool has_hello = peek_hello(segment, &framer, &hello);

    if (is_device && (!member || (has_hello && hello.attempt > member->attempt)))
        member = receive_peer_begin(shared, segment->stream, has_hello ? &hello : NULL);
    else if (member && !member->has_peer_begun && has_hello && hello.attempt < member->attempt)
        return NULL; /* in flight since an older attachment */
    if (member)
        member->has_peer_begun = true;
    return member;
}

static void receive_segment(struct gt_shared_connection *shared, const struct gt_segment *segment)
{
    struct gt_shared_member *member = segment->is_begin
                                          ? receive_begin(shared, segment)
                                          : shared->events->find(shared->userdata, segment->stream);

    if (!member || !member->has_peer_begun)
        return;
    member_touch(member);
    member->events->consume(member, segment->data.data, segment->data.n);
}

/* Returns false if the record is malformed. */
static bool receive_record(struct gt_shared_connection *shared, struct gt_span record)
{
    struct gt_reader in = gt_reader(record.data, record.n);
    struct gt_segment segment;
    int r;

    while ((r = gt_segment_next(&in, &segment)) == 0) {
        if (segment.stream > 0)
            receive_segment(shared, &segment);
        else if (!receive_own(&shared->io, segment.data))
            return false;
    }
    return r == GT_SEGMENT_E_END;
}

/* A callback may detach and free any member. */
static void settle(struct shared_io *io)
{
    while (!gt_list_is_empty(&io->touched)) {
        struct gt_shared_member *member =
            gt_list_entry(io->touched.next, struct gt_shared_member, touched);

        gt_list_unlink(&member->touched);
        member->events->settle(member);
    }
}

/* Members borrow from the records until they are settled. */
void gt_shared_io_receive(struct gt_shared_connection *shared)
{
    struct gt_span record;

    for (size_t total = 0; total < RECEIVE_BUDGET && shared->state == SHARED_UP;) {
        if (gt_data_connection_next_record(shared->connection, &record)) {
            total += record.n;
            if (!receive_record(shared, record)) {
                gt_debug("shared attempt=%u malformed record", shared->attempts.attempt);
                gt_shared_fail(shared);
            }
            continue;
        }
        settle(&shared->io);
        if (!gt_data_connection_fill(shared->connection))
            break;
    }
    settle(&shared->io);
    if (has_output(&shared->io))
        gt_shared_io_schedule(shared);
}

/* --- life ------------------------------------------------------------------------------------- */

void gt_shared_io_init(struct gt_shared_connection *shared)
{
    struct shared_io *io = &shared->io;

    gt_list_init(&io->turns);
    gt_list_init(&io->touched);
    ev_prepare_init(&io->prepare, io_on_prepare);
    io->prepare.data = shared;
}

/* A probe that is due may concern the next data connection, which is new. */
void gt_shared_io_stop(struct gt_shared_connection *shared)
{
    struct shared_io *io = &shared->io;

    ev_prepare_stop(shared->settings.loop, &io->prepare);
    shared->is_check_due = shared->is_probe_due = shared->has_slept = false;
    io->framer = (struct gt_framer){0};
    io->is_ping_due = io->is_pong_due = false;
    io->n_answers = 0;
}
