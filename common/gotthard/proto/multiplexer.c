/* SPDX-License-Identifier: ISC */
/*
 * Turns and attachments of the streams of a shared connection. Must never pass on a byte of an
 * older attachment. Callbacks of the members come from inside; the header limits their actions.
 */
#include "gotthard/proto/multiplexer.h"

#include <assert.h>

/* --- members ---------------------------------------------------------------------------------- */

void gt_multiplexer_attach(struct gt_multiplexer *mux, uint32_t number, uint32_t attempt,
                           const struct gt_shared_member_events *events,
                           struct gt_shared_member *member)
{
    assert(number > 0 && !member->shared);
    *member = (struct gt_shared_member){
        .events = events,
        .shared = mux,
        .number = number,
        .attempt = attempt,
    };
    gt_list_init(&member->turn);
    gt_list_init(&member->touched);
    gt_list_append(&mux->members, &member->link);
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
    gt_list_append(&member->shared->turns, &member->turn);
    member->shared->events->on_output(member->shared->userdata);
}

static void member_touch(struct gt_shared_member *member)
{
    if (gt_list_is_empty(&member->touched))
        gt_list_append(&member->shared->touched, &member->touched);
}

/* Each callback may free members. */
void gt_multiplexer_lose_members(struct gt_multiplexer *mux)
{
    while (!gt_list_is_empty(&mux->members)) {
        struct gt_shared_member *member =
            gt_list_entry(mux->members.next, struct gt_shared_member, link);

        gt_shared_member_detach(member);
        member->events->lost(member);
    }
}

void gt_multiplexer_heartbeat(const struct gt_multiplexer *mux)
{
    gt_list_for_each_safe (at, next, &mux->members) {
        struct gt_shared_member *member = gt_list_entry(at, struct gt_shared_member, link);

        if (member->events->heartbeat)
            member->events->heartbeat(member);
    }
}

/* --- output ----------------------------------------------------------------------------------- */

static void record_add(struct gt_multiplexer_record *out, struct gt_span part)
{
    out->parts[out->n_parts++] = part;
    out->n += part.n;
}

bool gt_multiplexer_has_output(const struct gt_multiplexer *mux)
{
    return mux->is_ping_due || mux->is_pong_due || mux->n_answers > 0 ||
           !gt_list_is_empty(&mux->turns);
}

/* PING and PONG, as a segment of stream 0. */
static void compose_heartbeat(struct gt_multiplexer *mux, struct gt_writer *w)
{
    uint8_t frames[64];
    struct gt_writer f = gt_writer(frames, sizeof(frames));

    if (mux->is_ping_due)
        gt_frame_write(&f, &(struct gt_frame){.type = GT_FRAME_PING});
    if (mux->is_pong_due)
        gt_frame_write(&f, &(struct gt_frame){.type = GT_FRAME_PONG, .value = mux->pong});
    mux->is_ping_due = mux->is_pong_due = false;
    if (f.n == 0)
        return;
    gt_segment_write(w, &(struct gt_segment){.data = gt_span(frames, f.n)});
    gt_write_span(w, gt_span(frames, f.n));
}

/* The answer to a begin that was rejected: a whole attachment in one segment. */
static void compose_answer(const struct gt_multiplexer_answer *answer, struct gt_writer *w)
{
    uint8_t frames[64];
    struct gt_writer f = gt_writer(frames, sizeof(frames));

    gt_frame_write(&f, &(struct gt_frame){.type = GT_FRAME_RST, .code = (uint16_t)answer->code});
    gt_frame_write(&f, &(struct gt_frame){.type = GT_FRAME_DONE});
    gt_segment_write(w, &(struct gt_segment){answer->number, true, gt_span(frames, f.n)});
    gt_write_span(w, gt_span(frames, f.n));
}

static void compose_own(struct gt_multiplexer *mux, struct gt_multiplexer_record *out)
{
    struct gt_writer w = gt_writer(out->own, sizeof(out->own));

    compose_heartbeat(mux, &w);
    for (; mux->n_answers > 0 && w.cap - w.n >= 64; mux->n_answers--) {
        compose_answer(&mux->answers[mux->first_answer], &w);
        mux->first_answer = (mux->first_answer + 1) % GT_MULTIPLEXER_ANSWERS;
    }
    assert(!w.failed);
    record_add(out, gt_span(out->own, w.n));
}

/* One turn of a member. Returns false if it has nothing to send. */
static bool compose_turn(struct gt_shared_member *member, struct gt_multiplexer_record *out)
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
    record_add(out, gt_span(header, w.n));
    for (size_t i = 0; i < frames->n_parts; i++)
        record_add(out, frames->parts[i]);
    out->n_segments++;
    return true;
}

size_t gt_multiplexer_compose(struct gt_multiplexer *mux, size_t cap,
                              struct gt_multiplexer_record *ret)
{
    ret->cap = cap;
    ret->n = ret->n_parts = ret->n_segments = 0;
    compose_own(mux, ret);
    while (!gt_list_is_empty(&mux->turns) && ret->n_segments < GT_MULTIPLEXER_SEGMENTS &&
           ret->cap - ret->n >= GT_SEGMENT_HEADER + GT_PRODUCE_MIN) {
        struct gt_shared_member *member =
            gt_list_entry(mux->turns.next, struct gt_shared_member, turn);

        gt_list_unlink(&member->turn);
        if (compose_turn(member, ret) && gt_list_is_empty(&member->turn))
            gt_list_append(&mux->turns, &member->turn);
    }
    return ret->n;
}

void gt_multiplexer_ping(struct gt_multiplexer *mux)
{
    mux->is_ping_due = true;
    mux->events->on_output(mux->userdata);
}

/* --- input ------------------------------------------------------------------------------------ */

/* The connection's own frames. Returns false if they are malformed. */
static bool receive_own(struct gt_multiplexer *mux, struct gt_span data)
{
    struct gt_reader in = gt_reader(data.data, data.n);
    struct gt_frame frame;
    int r;

    while ((r = gt_framer_next(&mux->framer, &in, &frame)) == 0) {
        if (frame.type == GT_FRAME_PING) {
            mux->is_pong_due = true;
            mux->pong = frame.value;
        } else if (frame.type != GT_FRAME_PONG && frame.type < GT_FRAME_MAY_SKIP) {
            return false;
        }
    }
    return r == GT_FRAME_E_MORE;
}

/* The oldest answers make room for the newest. */
static void answer(struct gt_multiplexer *mux, uint32_t number, enum gt_rst code)
{
    if (mux->n_answers == GT_MULTIPLEXER_ANSWERS) {
        mux->first_answer = (mux->first_answer + 1) % GT_MULTIPLEXER_ANSWERS;
        mux->n_answers--;
    }
    mux->answers[(mux->first_answer + mux->n_answers) % GT_MULTIPLEXER_ANSWERS] =
        (struct gt_multiplexer_answer){number, code};
    mux->n_answers++;
}

/* Returns true if @segment begins with a whole frame that may be the first of its stream: HELLO
 * with the stream's number and any attempt, or RST. */
static bool peek_first(const struct gt_segment *segment, struct gt_framer *framer,
                       struct gt_frame *ret)
{
    struct gt_reader in = gt_reader(segment->data.data, segment->data.n);

    if (gt_framer_next(framer, &in, ret))
        return false;
    return ret->type == GT_FRAME_RST ||
           (ret->type == GT_FRAME_HELLO && ret->stream == segment->stream && ret->attempt > 0);
}

/* The device: the operator begins a stream, or begins it again. */
static struct gt_shared_member *receive_peer_begin(struct gt_multiplexer *mux, uint32_t number,
                                                   const struct gt_frame *hello)
{
    enum gt_rst code = GT_RST_PROTOCOL;
    struct gt_shared_member *member =
        hello ? mux->events->on_begin(mux->userdata, number, hello, &code) : NULL;

    if (!member && code != GT_RST_NONE)
        answer(mux, number, code);
    return member;
}

/* The operator: the device answers the begin of @member. A device's member has begun already.
 * @first: NULL if it is malformed. Returns @member, or NULL if the segment is dropped. */
static struct gt_shared_member *receive_answer(struct gt_shared_member *member,
                                               const struct gt_frame *first)
{
    bool is_first = first && !member->has_peer_begun;
    bool is_hello = first && first->type == GT_FRAME_HELLO;

    if (is_first && is_hello && first->attempt < member->attempt)
        return NULL; /* in flight since an older attachment */
    if (is_first && (!is_hello || first->attempt == member->attempt))
        return member;
    member_touch(member);
    member->events->reset(member);
    return NULL;
}

/* Returns the member whose attachment begins with @segment, or NULL if it is dropped. */
static struct gt_shared_member *receive_begin(struct gt_multiplexer *mux,
                                              const struct gt_segment *segment)
{
    struct gt_shared_member *member = mux->events->find(mux->userdata, segment->stream);
    bool is_device = mux->role == GT_ROLE_DEVICE;
    struct gt_framer framer = {0};
    struct gt_frame first;
    bool is_valid = peek_first(segment, &framer, &first);
    bool has_hello = is_valid && first.type == GT_FRAME_HELLO;

    if (is_device && (!member || (has_hello && first.attempt > member->attempt)))
        member = receive_peer_begin(mux, segment->stream, has_hello ? &first : NULL);
    else if (member)
        member = receive_answer(member, is_valid ? &first : NULL);
    if (member)
        member->has_peer_begun = true;
    return member;
}

static void receive_segment(struct gt_multiplexer *mux, const struct gt_segment *segment)
{
    struct gt_shared_member *member = segment->is_begin
                                          ? receive_begin(mux, segment)
                                          : mux->events->find(mux->userdata, segment->stream);

    if (!member || !member->has_peer_begun)
        return;
    member_touch(member);
    member->events->consume(member, segment->data.data, segment->data.n);
}

int gt_multiplexer_receive(struct gt_multiplexer *mux, struct gt_span record)
{
    struct gt_reader in = gt_reader(record.data, record.n);
    struct gt_segment segment;
    int r;

    while ((r = gt_segment_next(&in, &segment)) == 0) {
        if (segment.stream > 0)
            receive_segment(mux, &segment);
        else if (!receive_own(mux, segment.data))
            return GT_MULTIPLEXER_E_BAD;
    }
    if (gt_multiplexer_has_output(mux))
        mux->events->on_output(mux->userdata);
    return r == GT_SEGMENT_E_END ? 0 : GT_MULTIPLEXER_E_BAD;
}

/* A callback may detach and free any member. */
void gt_multiplexer_settle(struct gt_multiplexer *mux)
{
    while (!gt_list_is_empty(&mux->touched)) {
        struct gt_shared_member *member =
            gt_list_entry(mux->touched.next, struct gt_shared_member, touched);

        gt_list_unlink(&member->touched);
        member->events->settle(member);
    }
}

/* --- life ------------------------------------------------------------------------------------- */

void gt_multiplexer_init(struct gt_multiplexer *mux, enum gt_role role,
                         const struct gt_multiplexer_events *events, void *userdata)
{
    *mux = (struct gt_multiplexer){.role = role, .events = events, .userdata = userdata};
    gt_list_init(&mux->members);
    gt_list_init(&mux->turns);
    gt_list_init(&mux->touched);
}

void gt_multiplexer_reset(struct gt_multiplexer *mux)
{
    mux->framer = (struct gt_framer){0};
    mux->is_ping_due = mux->is_pong_due = false;
    mux->n_answers = 0;
}
