/* SPDX-License-Identifier: ISC */
/*
 * A hostile peer of a shared connection. The first byte selects the end, the others are records,
 * each with a length of two bytes before it. An operator has two streams attached; a device creates
 * up to four. What one record causes is bounded, and output is made of whole segments of attached
 * streams.
 */
#include <assert.h>

#include "gotthard/proto/multiplexer.h"

#define N_STREAMS 4

struct end {
    struct gt_multiplexer mux;
    struct fuzz_stream {
        struct gt_shared_member member;
        struct gt_stream stream;
        bool is_known;
    } streams[N_STREAMS + 1];
    uint32_t last;
};

static struct fuzz_stream *stream_of(struct gt_shared_member *member)
{
    return gt_container_of(member, struct fuzz_stream, member);
}

static size_t on_compose(struct gt_shared_member *member, size_t cap, struct gt_stream_record *ret)
{
    struct gt_stream *s = &stream_of(member)->stream;

    return gt_stream_has_output(s) ? gt_stream_compose(s, cap, ret) : 0;
}

static void on_consume(struct gt_shared_member *member, const uint8_t *data, size_t n)
{
    assert(n > 0 && gt_stream_consume(&stream_of(member)->stream, data, n) == 0);
}

static void on_reset(struct gt_shared_member *member)
{
    gt_stream_reset(&stream_of(member)->stream, GT_RST_PROTOCOL);
}

static void on_settle(struct gt_shared_member *member)
{
    struct fuzz_stream *s = stream_of(member);

    gt_stream_local_written(&s->stream, gt_ring_used(&s->stream.rx));
    if (gt_stream_has_output(&s->stream))
        gt_shared_member_want_turn(member);
    if (gt_stream_is_done(&s->stream))
        gt_shared_member_detach(member);
}

static void on_lost(struct gt_shared_member *member)
{
    gt_stream_park(&stream_of(member)->stream);
}

static void attach(struct end *end, uint32_t number, uint32_t attempt)
{
    static const struct gt_shared_member_events events = {
        .compose = on_compose,
        .consume = on_consume,
        .reset = on_reset,
        .settle = on_settle,
        .lost = on_lost,
    };
    struct fuzz_stream *s = &end->streams[number];

    if (!s->is_known)
        gt_stream_init(&s->stream, end->mux.role, number,
                       end->mux.role == GT_ROLE_OPERATOR ? "ssh" : NULL, 64 * 1024);
    s->is_known = true;
    gt_shared_member_detach(&s->member);
    gt_stream_park(&s->stream);
    gt_stream_attach(&s->stream, attempt, GT_STREAM_SHARED);
    gt_multiplexer_attach(&end->mux, number, attempt, &events, &s->member);
}

static void on_output(void *userdata)
{
}

static struct gt_shared_member *find(void *userdata, uint32_t number)
{
    struct end *end = userdata;

    return number <= N_STREAMS && end->streams[number].member.shared ? &end->streams[number].member
                                                                     : NULL;
}

static struct gt_shared_member *on_begin(void *userdata, uint32_t number,
                                         const struct gt_frame *hello, enum gt_rst *ret_code)
{
    struct end *end = userdata;

    assert(end->mux.role == GT_ROLE_DEVICE && hello->stream == number && hello->attempt > 0);
    *ret_code = number > N_STREAMS ? GT_RST_LIMIT : GT_RST_LOST;
    if (number > N_STREAMS || (!end->streams[number].is_known && number <= end->last) ||
        hello->attempt <= end->streams[number].stream.attempt)
        return NULL;
    end->last = GT_MAX(end->last, number);
    attach(end, number, hello->attempt);
    return &end->streams[number].member;
}

/* Composes all output. */
static void drain(struct end *end)
{
    static struct gt_multiplexer_record record;
    static uint8_t bytes[GT_SEGMENT_MAX + 1];
    size_t total = 0;

    for (size_t n; (n = gt_multiplexer_compose(&end->mux, 1400, &record)) > 0; total += n) {
        struct gt_writer w = gt_writer(bytes, sizeof(bytes));
        struct gt_segment segment;

        for (size_t i = 0; i < record.n_parts; i++)
            gt_write_span(&w, record.parts[i]);
        assert(!w.failed && w.n == n && n <= 1400);
        struct gt_reader in = gt_reader(bytes, n);
        while (gt_segment_next(&in, &segment) == 0)
            assert(segment.stream == 0 || segment.is_begin || find(end, segment.stream));
        assert(gt_reader_is_done(&in));
    }
    assert(!gt_multiplexer_has_output(&end->mux));
    assert(total <= 8192); /* answers, and a few frames of each stream */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct gt_multiplexer_events events = {on_output, find, on_begin};
    struct gt_reader in = gt_reader(data, n);
    static struct end end;
    int r = 0;

    memset(&end, 0, sizeof(end));
    enum gt_role role = gt_read_u8(&in) % 2 ? GT_ROLE_DEVICE : GT_ROLE_OPERATOR;
    gt_multiplexer_init(&end.mux, role, &events, &end);
    for (uint32_t i = 1; i <= 2 && role == GT_ROLE_OPERATOR; i++)
        attach(&end, i, i); /* the second one with an older attempt before it */
    while (r == 0 && in.left > 0 && !in.failed) {
        struct gt_span record = gt_read_lp(&in);

        r = gt_multiplexer_receive(&end.mux, record);
        gt_multiplexer_settle(&end.mux);
        if (r == 0)
            drain(&end);
    }
    gt_multiplexer_reset(&end.mux);
    gt_multiplexer_lose_members(&end.mux);
    for (uint32_t i = 1; i <= N_STREAMS; i++)
        if (end.streams[i].is_known)
            gt_stream_deinit(&end.streams[i].stream);
    return 0;
}
