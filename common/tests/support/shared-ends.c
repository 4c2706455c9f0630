/* SPDX-License-Identifier: ISC */
/*
 * Streams and applications of a shared connection; see the header.
 */
#include "support/shared-ends.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>

/* --- applications ----------------------------------------------------------------------------- */

static uint8_t pattern_byte(const struct shared_stream *s, bool is_sent, size_t offset)
{
    bool is_operator = is_sent == (s->end->role == GT_ROLE_OPERATOR);

    return (uint8_t)((offset * 2654435761u + s->stream.number * 97 + is_operator) >> 9);
}

static void app_write(struct shared_stream *s)
{
    struct iovec room[2];
    int n_room;

    while (s->n_written < s->n_to_send && gt_stream_has_tx_room(&s->stream)) {
        size_t n = 0, max = GT_MIN(s->n_to_send - s->n_written, (size_t)20000);

        assert_int_equal(gt_ring_room(&s->stream.tx, max, room, &n_room), 0);
        for (int i = 0; i < n_room; n += room[i].iov_len, i++)
            for (size_t k = 0; k < room[i].iov_len; k++)
                ((uint8_t *)room[i].iov_base)[k] = pattern_byte(s, true, s->n_written + n + k);
        gt_stream_local_read(&s->stream, n);
        s->n_written += n;
    }
    if (s->n_written == s->n_to_send)
        gt_stream_local_end(&s->stream, GT_RST_NONE);
}

static void app_read(struct shared_stream *s)
{
    struct iovec view[2];
    int n_view = gt_ring_view(&s->stream.rx, s->stream.rx.head, SIZE_MAX, view);

    for (int i = 0; i < n_view; i++) {
        for (size_t k = 0; k < view[i].iov_len; k++)
            assert_int_equal(((uint8_t *)view[i].iov_base)[k], pattern_byte(s, false, s->n_read++));
        gt_stream_local_written(&s->stream, view[i].iov_len);
    }
    if (gt_stream_is_end_due(&s->stream))
        gt_stream_end_delivered(&s->stream);
}

/* --- members ---------------------------------------------------------------------------------- */

static size_t on_compose(struct gt_shared_member *member, size_t cap, struct gt_stream_record *ret)
{
    struct shared_stream *s = gt_container_of(member, struct shared_stream, member);

    return gt_stream_has_output(&s->stream) ? gt_stream_compose(&s->stream, cap, ret) : 0;
}

static void on_consume(struct gt_shared_member *member, const uint8_t *data, size_t n)
{
    struct shared_stream *s = gt_container_of(member, struct shared_stream, member);

    assert_int_equal(gt_stream_consume(&s->stream, data, n), 0);
}

static void on_reset(struct gt_shared_member *member)
{
    struct shared_stream *s = gt_container_of(member, struct shared_stream, member);

    gt_stream_reset(&s->stream, GT_RST_PROTOCOL);
}

static void forget_if_done(struct shared_stream *s)
{
    if (!gt_stream_is_done(&s->stream))
        return;
    gt_shared_member_detach(&s->member);
    gt_stream_deinit(&s->stream);
    s->is_forgotten = true;
}

void shared_stream_pump(struct shared_stream *s)
{
    if (!gt_stream_is_over(&s->stream)) {
        app_read(s);
        app_write(s);
    }
    if (gt_stream_has_output(&s->stream))
        gt_shared_member_want_turn(&s->member);
}

static void on_settle(struct gt_shared_member *member)
{
    struct shared_stream *s = gt_container_of(member, struct shared_stream, member);

    shared_stream_pump(s);
    forget_if_done(s);
}

static void on_lost(struct gt_shared_member *member)
{
    struct shared_stream *s = gt_container_of(member, struct shared_stream, member);

    gt_stream_park(&s->stream);
    forget_if_done(s);
}

static const struct gt_shared_member_events member_events = {
    .compose = on_compose,
    .consume = on_consume,
    .reset = on_reset,
    .settle = on_settle,
    .lost = on_lost,
};

static void stream_attach(struct shared_stream *s, uint32_t attempt)
{
    gt_stream_park(&s->stream);
    gt_stream_attach(&s->stream, attempt, GT_STREAM_SHARED);
    gt_shared_connection_attach(s->end->shared, s->stream.number, attempt, &member_events,
                                &s->member);
    shared_stream_pump(s);
}

static struct shared_stream *stream_new(struct shared_end *end, uint32_t number,
                                        const char *service, size_t n_to_send)
{
    struct shared_stream *s = &end->streams[number];

    assert_false(s->is_known);
    *s = (struct shared_stream){.end = end, .is_known = true, .n_to_send = n_to_send};
    gt_stream_init(&s->stream, end->role, number, service, 1 << 20);
    end->last_number = number;
    return s;
}

/* --- events of the shared connection ---------------------------------------------------------- */

static void on_ticket_needed(void *userdata, uint32_t attempt)
{
    struct shared_end *end = userdata;

    assert_true(end->role == GT_ROLE_OPERATOR && attempt > end->requested);
    end->requested = attempt;
    end->n_requests++;
}

static void on_connection_lost(void *userdata, uint32_t attempt, bool is_black_hole)
{
    struct shared_end *end = userdata;

    assert_int_equal(end->role, GT_ROLE_DEVICE);
    end->n_lost++;
}

static void on_up(void *userdata)
{
    struct shared_end *end = userdata;

    end->n_up++;
    assert_true(gt_shared_connection_is_up(end->shared));
    for (uint32_t i = 1; i <= SHARED_STREAMS && end->role == GT_ROLE_OPERATOR; i++) {
        struct shared_stream *s = &end->streams[i];

        if (s->is_known && !s->is_forgotten)
            stream_attach(s, s->stream.attempt + 1);
    }
}

static void on_down(void *userdata)
{
    struct shared_end *end = userdata;

    end->n_down++;
    for (uint32_t i = 1; i <= SHARED_STREAMS; i++)
        assert_null(end->streams[i].member.shared);
}

static struct gt_shared_member *find(void *userdata, uint32_t number)
{
    struct shared_end *end = userdata;

    if (number > SHARED_STREAMS || !end->streams[number].member.shared)
        return NULL;
    return &end->streams[number].member;
}

static struct gt_shared_member *on_begin(void *userdata, uint32_t number,
                                         const struct gt_frame *hello, enum gt_rst *ret_code)
{
    struct shared_end *end = userdata;

    assert_int_equal(end->role, GT_ROLE_DEVICE);
    assert_int_equal(hello->stream, number);
    end->n_begins++;
    *ret_code = number > SHARED_STREAMS ? GT_RST_LIMIT : GT_RST_LOST;
    if (number > SHARED_STREAMS)
        return NULL;
    struct shared_stream *s = &end->streams[number];
    if (s->is_forgotten || (!s->is_known && number <= end->last_number))
        return NULL;
    if (!s->is_known)
        stream_new(end, number, NULL, end->answer_size);
    assert_true(hello->attempt > s->stream.attempt);
    gt_shared_member_detach(&s->member);
    stream_attach(s, hello->attempt);
    return &s->member;
}

static const struct gt_shared_connection_events shared_events = {
    .on_ticket_needed = on_ticket_needed,
    .on_connection_lost = on_connection_lost,
    .on_up = on_up,
    .on_down = on_down,
    .find = find,
    .on_begin = on_begin,
};

/* --- both ends -------------------------------------------------------------------------------- */

struct gt_ticket shared_ticket(uint32_t attempt)
{
    struct gt_ticket ticket = {.stream = 0, .attempt = attempt, .ttl_s = 30};

    ticket.id[0] = 0x1d;
    ticket.secret[31] = 0x5e;
    return ticket;
}

struct gt_shared_connection_settings shared_settings(struct shared_end *end)
{
    return (struct gt_shared_connection_settings){
        .loop = loop,
        .role = end->role,
        .session_key = session_key,
        .tls = end->role == GT_ROLE_OPERATOR ? client_context : server_context,
        .path = &end->path,
        .resume_s = 120,
    };
}

static void end_init(struct shared_end *end, struct shared_ends *ends, enum gt_role role)
{
    end->ends = ends;
    end->role = role;
    const struct gt_shared_connection_settings settings = shared_settings(end);
    assert_int_equal(gt_shared_connection_new(&settings, &shared_events, end, &end->shared), 0);
}

void shared_ends_init(struct shared_ends *ends)
{
    memset(ends, 0, sizeof(*ends));
    relay_init(&ends->relay);
    end_init(&ends->o, ends, GT_ROLE_OPERATOR);
    end_init(&ends->d, ends, GT_ROLE_DEVICE);
}

static void end_deinit(struct shared_end *end)
{
    for (uint32_t i = 1; i <= SHARED_STREAMS; i++) {
        gt_shared_member_detach(&end->streams[i].member);
        if (end->streams[i].is_known && !end->streams[i].is_forgotten)
            gt_stream_deinit(&end->streams[i].stream);
    }
    end->shared = gt_shared_connection_free(end->shared);
}

void shared_ends_deinit(struct shared_ends *ends)
{
    end_deinit(&ends->o);
    end_deinit(&ends->d);
    relay_deinit(&ends->relay);
}

/* A turn may have sent the last frame of a stream that is over on the other side. */
static void end_forget(struct shared_end *end)
{
    for (uint32_t i = 1; i <= SHARED_STREAMS; i++)
        if (end->streams[i].is_known && !end->streams[i].is_forgotten)
            forget_if_done(&end->streams[i]);
}

void shared_ends_run(struct shared_ends *ends)
{
    if (ends->o.requested > 0 && !ends->has_no_tickets) {
        const struct gt_ticket ticket = shared_ticket(ends->o.requested);

        ends->o.requested = 0;
        assert_int_equal(gt_shared_connection_connect(ends->o.shared, &ends->relay.addr, &ticket),
                         0);
        if (ends->d.shared) /* stale if the test was faster */
            assert_true(gt_shared_connection_connect(ends->d.shared, &ends->relay.addr, &ticket) >=
                        0);
    }
    ev_run(loop, EVRUN_ONCE);
    end_forget(&ends->o);
    end_forget(&ends->d);
}

struct shared_stream *shared_open(struct shared_ends *ends, uint32_t number, size_t n)
{
    struct shared_stream *s = stream_new(&ends->o, number, "ssh", n);

    if (gt_shared_connection_is_up(ends->o.shared))
        stream_attach(s, 1);
    return s;
}

bool shared_is_done(const struct shared_ends *ends, uint32_t number)
{
    const struct shared_stream *o = &ends->o.streams[number], *d = &ends->d.streams[number];

    return o->is_forgotten && (d->is_forgotten || gt_stream_is_over(&d->stream));
}

void shared_assert_exact(const struct shared_ends *ends, uint32_t number)
{
    const struct shared_stream *o = &ends->o.streams[number], *d = &ends->d.streams[number];

    assert_true(shared_is_done(ends, number));
    assert_int_equal(o->stream.code, GT_RST_NONE);
    assert_int_equal(d->stream.code, GT_RST_NONE);
    assert_int_equal(d->n_read, o->n_to_send);
    assert_int_equal(o->n_read, d->n_to_send);
}

/* --- an end that is a data connection --------------------------------------------------------- */

static void raw_see(struct raw_end *raw, struct gt_span record)
{
    struct gt_reader in = gt_reader(record.data, record.n);
    struct gt_segment segment;
    int r;

    while ((r = gt_segment_next(&in, &segment)) == 0) {
        raw->seen = realloc(raw->seen, (raw->n_seen + 1) * sizeof(*raw->seen));
        assert_non_null(raw->seen);
        struct seen *seen = &raw->seen[raw->n_seen++];
        *seen =
            (struct seen){segment.stream, segment.is_begin, segment.data.n, raw->n_records, {0}};
        memcpy(seen->first, segment.data.data, GT_MIN(segment.data.n, sizeof(seen->first)));
    }
    assert_int_equal(r, GT_SEGMENT_E_END);
    raw->n_records++;
}

static void raw_on_ready(void *userdata)
{
    ((struct raw_end *)userdata)->is_ready = true;
}

static void raw_on_readable(void *userdata)
{
    struct raw_end *raw = userdata;
    struct gt_span record;

    do
        while (gt_data_connection_next_record(raw->connection, &record))
            raw_see(raw, record);
    while (gt_data_connection_fill(raw->connection, 1 << 20));
}

static void raw_on_writable(void *userdata)
{
}

static void raw_on_heartbeat(void *userdata, bool is_quiet)
{
}

static void raw_on_gone(void *userdata, bool is_closed_by_peer)
{
    struct raw_end *raw = userdata;

    raw->is_gone = true;
    raw->connection = gt_data_connection_free(raw->connection);
}

void raw_connect(struct raw_end *raw, struct shared_ends *ends, enum gt_role role, uint32_t attempt)
{
    static const struct gt_data_connection_events events = {
        raw_on_ready, raw_on_readable, raw_on_writable, raw_on_heartbeat, raw_on_gone,
    };
    const struct gt_data_connection_settings settings = {
        .loop = loop,
        .role = role,
        .session_key = session_key,
        .tls = role == GT_ROLE_OPERATOR ? client_context : server_context,
        .path = &raw->path,
    };
    const struct gt_ticket ticket = shared_ticket(attempt);

    memset(raw, 0, sizeof(*raw));
    assert_int_equal(gt_data_connection_new(&settings, &ends->relay.addr, &ticket, &events, raw,
                                            &raw->connection),
                     0);
}

void raw_write(struct raw_end *raw, const void *record, size_t n)
{
    assert_true(gt_data_connection_make_room(raw->connection));
    gt_data_connection_write(raw->connection, &(struct gt_span){record, n}, 1);
    gt_data_connection_flush(raw->connection);
}

void raw_write_segment(struct raw_end *raw, uint32_t number, bool is_begin,
                       const struct gt_frame *frames, size_t n_frames)
{
    uint8_t body[1024], record[2048];
    struct gt_writer b = gt_writer(body, sizeof(body)), w = gt_writer(record, sizeof(record));

    for (size_t i = 0; i < n_frames; i++)
        gt_frame_write(&b, &frames[i]);
    gt_segment_write(&w, &(struct gt_segment){number, is_begin, gt_span(body, b.n)});
    gt_write_bytes(&w, body, b.n);
    assert_false(b.failed || w.failed);
    raw_write(raw, record, w.n);
}

void raw_deinit(struct raw_end *raw)
{
    raw->connection = gt_data_connection_free(raw->connection);
    free(raw->seen);
}
