/* SPDX-License-Identifier: ISC */
/*
 * A shared connection with its streams, between the ends of support/shared-ends.h: exact streams
 * over cuts at any moment, turns, hostile records and begins, and the life of its data connections.
 */
// clang-format off
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <time.h>

#include "gotthard/base/clock.h"
#include "gotthard/tunnel/channel.h"
#include "support/shared-ends.h"

#define HELLO(number, att)                                                                       \
    {                                                                                            \
        .type = GT_FRAME_HELLO, .version = 1, .stream = number, .attempt = att, .window = 65536, \
        .service = {                                                                             \
            (const uint8_t *)"ssh",                                                              \
            3                                                                                    \
        }                                                                                        \
    }

static void start(struct shared_ends *ends)
{
    shared_ends_init(ends);
    gt_shared_connection_resume(ends->o.shared);
    shared_run_until(ends, ends->o.n_up > 0 && ends->d.n_up > 0);
}

static bool are_done(const struct shared_ends *ends, uint32_t n)
{
    for (uint32_t i = 1; i <= n; i++)
        if (!shared_is_done(ends, i))
            return false;
    return true;
}

/* The ends are large: one pair for all tests. */
static struct shared_ends ends;

/* The operator's side against a data connection; not up yet. */
static void start_operator(struct raw_end *raw)
{
    shared_ends_init(&ends);
    ends.d.shared = gt_shared_connection_free(ends.d.shared);
    gt_shared_connection_resume(ends.o.shared);
    raw_connect(raw, &ends, GT_ROLE_DEVICE, 1);
}

static void test_streams_are_exact_and_forgotten(void **state)
{
    start(&ends);
    ends.d.answer_size = 70000;
    for (uint32_t i = 1; i <= 40; i++)
        shared_open(&ends, i, i * i * 300);
    shared_run_until(&ends, are_done(&ends, 40));
    for (uint32_t i = 1; i <= 40; i++) {
        shared_run_until(&ends, ends.d.streams[i].is_forgotten);
        shared_assert_exact(&ends, i);
    }
    assert_int_equal(ends.o.n_up, 1);
    assert_int_equal(ends.d.n_begins, 40);
    shared_ends_deinit(&ends);
}

/* Streams that are opened before the connection is up begin when it is. */
static void test_first_data_leaves_with_the_begin(void **state)
{
    struct raw_end raw;

    start_operator(&raw);
    shared_open(&ends, 5, 12);
    shared_run_until(&ends, raw.n_seen > 0);
    assert_true(raw.seen[0].is_begin);
    assert_int_equal(raw.seen[0].first[0], GT_FRAME_HELLO);
    assert_int_equal(raw.seen[0].n, GT_FRAME_HEADER + 26 + strlen("ssh") + GT_FRAME_HEADER + 12);
    raw_deinit(&raw);
    shared_ends_deinit(&ends);
}

static void test_cuts_at_any_moment_are_survived(void **state)
{
    const char *given = getenv("TEST_SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL);

    print_message("TEST_SEED=%u\n", seed);
    for (unsigned run = 0; run < 12; run++) {
        unsigned n_cuts = 1 + (unsigned)rand_r(&seed) % 4; /* the back-off is 7.5 s by then */

        short_io_is_on = run % 2;
        short_io_seed = seed | 1;
        start(&ends);
        ends.d.answer_size = 200000;
        for (uint32_t i = 1; i <= 12; i++)
            shared_open(&ends, i, (size_t)rand_r(&seed) % 300000);
        for (unsigned cut = 0; cut < n_cuts; cut++) {
            for (int i = rand_r(&seed) % 60; i > 0 && !are_done(&ends, 12); i--)
                shared_ends_run(&ends);
            relay_cut(&ends.relay);
            shared_run_until(&ends, ends.o.n_down > cut && ends.d.n_down > cut);
            shared_run_until(&ends, ends.o.n_up > cut + 1 && ends.d.n_up > cut + 1);
        }
        shared_run_until(&ends, are_done(&ends, 12));
        for (uint32_t i = 1; i <= 12; i++)
            shared_assert_exact(&ends, i);
        assert_true(ends.d.n_lost <= n_cuts);
        shared_ends_deinit(&ends);
    }
    short_io_is_on = false;
}

/* --- turns ------------------------------------------------------------------------------------ */

/* All that a loop iteration has to send leaves in one write, in the order of the begins. */
static void test_small_segments_share_a_record_and_a_write(void **state)
{
    struct raw_end raw;

    start_operator(&raw);
    shared_run_until(&ends, ends.o.n_up > 0 && raw.is_ready);
    unsigned n_sends = short_io_n_sends;
    for (uint32_t i = 1; i <= 32; i++)
        shared_open(&ends, i, 20);
    assert_int_equal(short_io_n_sends, n_sends);
    shared_run_until(&ends, raw.n_seen >= 32);
    assert_int_equal(short_io_n_sends, n_sends + 1);
    assert_int_equal(raw.n_seen, 32);
    for (uint32_t i = 0; i < 32; i++) {
        assert_int_equal(raw.seen[i].number, i + 1);
        assert_true(raw.seen[i].is_begin);
    }
    assert_in_range(raw.n_records, 2, 4);
    raw_deinit(&raw);
    shared_ends_deinit(&ends);
}

/* A member that always has more to send, up to a limit. */
struct endless {
    struct gt_shared_member member;
    size_t n_left, n_turns;
    unsigned *order; /* the next turn's place */
    unsigned last;
};

static size_t endless_compose(struct gt_shared_member *member, size_t cap,
                              struct gt_stream_record *ret)
{
    static const uint8_t bytes[GT_DATA_CONNECTION_RECORD_MAX];
    struct endless *endless = gt_container_of(member, struct endless, member);
    size_t n = GT_MIN(endless->n_left, cap);

    if (n == 0)
        return 0;
    endless->n_left -= n;
    endless->n_turns++;
    endless->last = ++*endless->order;
    ret->parts[0] = gt_span(bytes, n);
    ret->n_parts = 1;
    return n;
}

static void endless_nothing(struct gt_shared_member *member)
{
}

static const struct gt_shared_member_events endless_events = {
    .compose = endless_compose,
    .settle = endless_nothing,
    .lost = endless_nothing,
};

static void test_bulk_delays_others_by_one_turn_each(void **state)
{
    struct endless bulk[3], small;
    struct raw_end raw;
    unsigned order = 0;

    start_operator(&raw);
    shared_run_until(&ends, ends.o.n_up > 0 && raw.is_ready);
    for (uint32_t i = 0; i < 3; i++) {
        bulk[i] = (struct endless){.n_left = 1u << 30, .order = &order};
        gt_shared_connection_attach(ends.o.shared, i + 1, 1, &endless_events, &bulk[i].member);
    }
    small = (struct endless){.order = &order};
    gt_shared_connection_attach(ends.o.shared, 9, 1, &endless_events, &small.member);
    fake_clock_stop(); /* the kernel's timers run while the sockets are full */
    for (int i = 0; i < 50; i++) {
        shared_ends_run(&ends);
        unsigned before = order;
        small.n_left = 100;
        gt_shared_member_want_turn(&small.member);
        shared_run_until(&ends, small.n_left == 0);
        assert_in_range(small.last, before + 1, before + 4);
        for (int k = 0; k < 3; k++) /* and among themselves */
            assert_true(bulk[k].n_turns + 1 >= bulk[0].n_turns);
    }
    assert_true(bulk[0].n_left > 0);
    for (int i = 0; i < 3; i++)
        gt_shared_member_detach(&bulk[i].member);
    gt_shared_member_detach(&small.member);
    raw_deinit(&raw);
    shared_ends_deinit(&ends);
}

/* --- hostile input ---------------------------------------------------------------------------- */

static void test_malformed_records_replace_the_connection(void **state)
{
    static const struct {
        const char *name;
        size_t n;
        const char *bytes;
        bool is_accepted;
    } cases[] = {
        {"truncated header", 5, "\0\0\0\1\0", false},
        {"truncated segment", 7, "\0\0\0\1\0\2x", false},
        {"empty segment", 7, "\0\0\0\1\0\0x", false},
        {"reserved bit", 7, "\0\0\0\1\x40\1x", false},
        {"stream 0 begins", 7, "\0\0\0\0\x80\1x", false},
        {"garbage of stream 0", 10, "\0\0\0\0\0\4\x7f\0\0\0", false},
        {"DONE of stream 0", 10, "\0\0\0\0\0\4\x08\0\0\0", false},
        {"unknown type of stream 0", 10, "\0\0\0\0\0\4\xf0\0\0\0", true},
        {"stream without attachment", 7, "\0\0\0\1\0\1x", true},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct raw_end raw;

        start_operator(&raw);
        shared_run_until(&ends, ends.o.n_up > 0 && raw.is_ready);
        ends.has_no_tickets = true;
        double began = gt_clock();
        raw_write(&raw, cases[i].bytes, cases[i].n);
        raw_write_segment(&raw, 0, false, &(struct gt_frame){.type = GT_FRAME_PING}, 1);
        shared_run_until(&ends, raw.n_seen > 0 || raw.is_gone);
        if (raw.is_gone == cases[i].is_accepted)
            fail_msg("%s", cases[i].name);
        if (raw.is_gone) {
            shared_run_until(&ends, ends.o.requested == 2);
            assert_true(gt_clock() - began >= .3); /* back-off */
            assert_int_equal(ends.o.n_down, 1);
        }
        raw_deinit(&raw);
        shared_ends_deinit(&ends);
    }
}

/* Repeated at once, it is not replaced faster and faster. */
static void test_backoff_continues_while_connections_do_not_last(void **state)
{
    double began, first = 0;

    start(&ends);
    for (unsigned i = 1; i <= 5; i++) {
        began = gt_clock();
        relay_cut(&ends.relay);
        shared_run_until(&ends, ends.o.n_up == i + 1 && ends.d.n_up == i + 1);
        first = i == 1 ? gt_clock() - began : first;
    }
    assert_true(gt_clock() - began > 4 * first);
    double settled = gt_clock() + 11;
    while (gt_clock() < settled)
        shared_ends_run(&ends);
    began = gt_clock();
    relay_cut(&ends.relay);
    shared_run_until(&ends, ends.o.n_up == 7);
    assert_true(gt_clock() - began < 2);
    shared_ends_deinit(&ends);
}

static void start_device(struct raw_end *raw)
{
    const struct gt_ticket ticket = shared_ticket(1);

    shared_ends_init(&ends);
    assert_int_equal(gt_shared_connection_connect(ends.d.shared, &ends.relay.addr, &ticket), 0);
    raw_connect(raw, &ends, GT_ROLE_OPERATOR, 1);
    shared_run_until(&ends, ends.d.n_up > 0 && raw->is_ready);
}

static void assert_answer(const struct seen *seen, uint32_t number, enum gt_rst code)
{
    const uint8_t answer[] = {GT_FRAME_RST, 0, 0, 2, 0, (uint8_t)code, GT_FRAME_DONE, 0, 0, 0};

    assert_int_equal(seen->number, number);
    assert_true(seen->is_begin);
    assert_int_equal(seen->n, sizeof(answer));
    assert_memory_equal(seen->first, answer, sizeof(answer));
}

static void test_invalid_begins_are_answered_by_rst_and_done(void **state)
{
    static const struct {
        const char *name;
        uint32_t number;
        struct gt_frame frame;
        enum gt_rst code;
    } cases[] = {
        {"no HELLO", 9, {.type = GT_FRAME_PING}, GT_RST_PROTOCOL},
        {"another number", 9, HELLO(10, 1), GT_RST_PROTOCOL},
        {"attempt 0", 9, HELLO(9, 0), GT_RST_PROTOCOL},
        {"forgotten or never known", 3, HELLO(3, 1), GT_RST_LOST},
        {"beyond the limit", 99, HELLO(99, 1), GT_RST_LIMIT},
    };
    struct raw_end raw;

    start_device(&raw);
    raw_write_segment(&raw, 5, true, &(struct gt_frame)HELLO(5, 1), 1);
    shared_run_until(&ends, raw.n_seen == 1);
    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        raw_write_segment(&raw, cases[i].number, true, &cases[i].frame, 1);
        shared_run_until(&ends, raw.n_seen == i + 2);
        assert_answer(&raw.seen[i + 1], cases[i].number, cases[i].code);
    }
    assert_true(gt_shared_connection_is_up(ends.d.shared));
    raw_deinit(&raw);
    shared_ends_deinit(&ends);
}

/* An attempt that is not greater resets the stream; a greater one begins it again. */
static void test_begin_of_an_attached_stream_needs_a_greater_attempt(void **state)
{
    for (uint32_t attempt = 1; attempt <= 3; attempt++) {
        struct raw_end raw;

        start_device(&raw);
        raw_write_segment(&raw, 5, true, &(struct gt_frame)HELLO(5, 2), 1);
        shared_run_until(&ends, raw.n_seen == 1);
        raw_write_segment(&raw, 5, true, &(struct gt_frame)HELLO(5, attempt), 1);
        shared_run_until(&ends, raw.n_seen >= 2);
        assert_int_equal(ends.d.n_begins, attempt == 3 ? 2 : 1);
        assert_int_equal(raw.seen[1].is_begin, attempt == 3);
        assert_int_equal(ends.d.streams[5].stream.code,
                         attempt == 3 ? GT_RST_NONE : GT_RST_PROTOCOL);
        raw_deinit(&raw);
        shared_ends_deinit(&ends);
    }
}

/* Returns the segment that @raw received for stream @number, or NULL. */
static const struct seen *find_seen(const struct raw_end *raw, uint32_t number)
{
    for (size_t i = 0; i < raw->n_seen; i++)
        if (raw->seen[i].number == number)
            return &raw->seen[i];
    return NULL;
}

/* In the middle of a DATA frame, whose next bytes they would be. */
static void write_data_header(struct raw_end *raw, uint32_t number)
{
    raw_write(raw, (uint8_t[]){0, 0, 0, (uint8_t)number, 0, 4, GT_FRAME_DATA, 0, 0, 200}, 10);
}

static void test_invalid_begin_of_an_attached_stream_resets_it(void **state)
{
    static const struct gt_frame begins[] = {
        {.type = GT_FRAME_PING}, {.type = GT_FRAME_RST, .code = 1}, HELLO(6, 2), HELLO(5, 0)};

    for (size_t i = 0; i < GT_ARRAY_SIZE(begins); i++) {
        const struct gt_stream *stream = &ends.d.streams[5].stream;
        struct raw_end raw;

        start_device(&raw);
        raw_write_segment(&raw, 5, true, &(struct gt_frame)HELLO(5, 1), 1);
        write_data_header(&raw, 5);
        shared_run_until(&ends, raw.n_seen == 1);
        raw_write_segment(&raw, 5, true, &begins[i], 1);
        raw_write_segment(&raw, 0, false, &(struct gt_frame){.type = GT_FRAME_PING}, 1);
        shared_run_until(&ends, find_seen(&raw, 0));
        assert_int_equal(stream->state, GT_STREAM_RESET);
        assert_int_equal(stream->code, GT_RST_PROTOCOL);
        assert_false(stream->is_reset_by_peer);
        shared_run_until(&ends, raw.n_seen == 3);
        const struct seen *last = &raw.seen[raw.seen[2].number == 5 ? 2 : 1];
        assert_int_equal(last->number, 5);
        assert_int_equal(last->first[0], GT_FRAME_RST);
        raw_deinit(&raw);
        shared_ends_deinit(&ends);
    }
}

/* The device answers a begin once, by HELLO of the same attempt, or by RST. */
static void test_invalid_answer_to_a_begin_resets_the_stream(void **state)
{
    static const struct {
        bool is_second;
        struct gt_frame frame;
        enum gt_rst code;
    } cases[] = {
        {true, HELLO(4, 1), GT_RST_PROTOCOL},
        {true, {.type = GT_FRAME_RST, .code = GT_RST_LOST}, GT_RST_PROTOCOL},
        {true, {.type = GT_FRAME_PING}, GT_RST_PROTOCOL},
        {false, HELLO(4, 2), GT_RST_PROTOCOL},
        {false, HELLO(5, 1), GT_RST_PROTOCOL},
        {false, {.type = GT_FRAME_PING}, GT_RST_PROTOCOL},
        {false, {.type = GT_FRAME_RST, .code = GT_RST_LIMIT}, GT_RST_LIMIT},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        const struct gt_stream *stream = &ends.o.streams[4].stream;
        struct raw_end raw;

        start_operator(&raw);
        shared_open(&ends, 4, 0);
        shared_run_until(&ends, ends.o.n_up > 0 && raw.is_ready && raw.n_seen > 0);
        if (cases[i].is_second) {
            struct gt_frame hello = HELLO(4, 1);

            hello.service = gt_span(NULL, 0);
            raw_write_segment(&raw, 4, true, &hello, 1);
            write_data_header(&raw, 4);
        }
        raw_write_segment(&raw, 4, true, &cases[i].frame, 1);
        raw_write_segment(&raw, 0, false, &(struct gt_frame){.type = GT_FRAME_PING}, 1);
        shared_run_until(&ends, find_seen(&raw, 0));
        assert_int_equal(stream->state, GT_STREAM_RESET);
        assert_int_equal(stream->code, cases[i].code);
        raw_deinit(&raw);
        shared_ends_deinit(&ends);
    }
}

/* The peer reads nothing meanwhile: the oldest answers are dropped, and nothing else. */
static void test_flood_of_begins_is_bounded(void **state)
{
    struct raw_end raw;
    unsigned n_flood = 3000;

    start_device(&raw);
    for (uint32_t i = 0; i < n_flood; i += 20) {
        uint8_t record[16384];
        struct gt_writer w = gt_writer(record, sizeof(record));

        for (uint32_t k = 0; k < 20; k++) {
            const struct gt_frame hello = HELLO(1000 + i + k, 1);
            gt_segment_write(&w, &(struct gt_segment){1000 + i + k, true, gt_span(NULL, 33)});
            gt_frame_write(&w, &hello);
        }
        assert_false(w.failed);
        while (!gt_data_connection_make_room(raw.connection))
            shared_ends_run(&ends);
        gt_data_connection_write(raw.connection, &(struct gt_span){record, w.n}, 1);
    }
    gt_data_connection_flush(raw.connection);
    raw_write_segment(&raw, 7, true, &(struct gt_frame)HELLO(7, 1), 1);
    uint32_t last = 1000 + n_flood - 1;
    shared_run_until(&ends, find_seen(&raw, 7) && find_seen(&raw, last));
    assert_in_range(raw.n_seen, 2, n_flood - 1);
    assert_answer(find_seen(&raw, last), last, GT_RST_LIMIT);
    assert_int_equal(ends.d.n_begins, n_flood + 1);
    raw_deinit(&raw);
    shared_ends_deinit(&ends);
}

/* They arrive after the operator has attached the stream again. */
static void test_segments_of_an_older_attachment_are_dropped(void **state)
{
    static const struct gt_frame old[] = {HELLO(4, 1), {.type = GT_FRAME_PING}}, now = HELLO(4, 2);
    struct raw_end raw;

    start_operator(&raw);
    shared_open(&ends, 4, 0);
    ends.o.streams[4].stream.attempt = 1;
    shared_run_until(&ends, ends.o.n_up > 0 && raw.is_ready && raw.n_seen > 0);
    struct gt_stream *stream = &ends.o.streams[4].stream;
    assert_int_equal(stream->attempt, 2);
    raw_write_segment(&raw, 4, false, &old[1], 1);
    raw_write_segment(&raw, 4, true, old, 2);
    raw_write_segment(&raw, 4, false, &old[1], 1);
    raw_write_segment(&raw, 4, true, &now, 1);
    shared_run_until(&ends, stream->state != GT_STREAM_HELLO_SENT);
    assert_int_equal(stream->state, GT_STREAM_OPEN);
    raw_write_segment(&raw, 8, true, &(struct gt_frame)HELLO(8, 1), 1); /* not attached */
    raw_write_segment(&raw, 4, false, &old[1], 1);
    size_t n_seen = raw.n_seen;
    shared_run_until(&ends, raw.n_seen > n_seen);
    assert_int_equal(raw.seen[n_seen].number, 4);
    raw_deinit(&raw);
    shared_ends_deinit(&ends);
}

/* --- life ------------------------------------------------------------------------------------- */

static void test_heartbeat_keeps_an_idle_connection(void **state)
{
    struct raw_end raw;
    double began;

    start(&ends);
    began = gt_clock();
    while (gt_clock() < began + 150)
        shared_ends_run(&ends);
    assert_int_equal(ends.o.n_down + ends.d.n_down, 0);
    shared_ends_deinit(&ends);

    start_device(&raw); /* a peer that answers nothing */
    shared_run_until(&ends, ends.d.n_down == 1);
    assert_true(raw.n_seen > 0);
    for (size_t i = 0; i < raw.n_seen; i++) {
        assert_int_equal(raw.seen[i].number, 0);
        assert_int_equal(raw.seen[i].first[0], GT_FRAME_PING);
    }
    raw_deinit(&raw);
    shared_ends_deinit(&ends);
}

static void test_operator_closes_and_opens_it_again(void **state)
{
    start(&ends);
    gt_shared_connection_close(ends.o.shared);
    assert_false(gt_shared_connection_is_up(ends.o.shared));
    shared_run_until(&ends, ends.o.n_down == 1 && ends.d.n_down == 1);
    gt_shared_connection_resume(ends.d.shared); /* the relay was lost and is reachable again */
    assert_int_equal(ends.d.n_lost, 0);
    const struct gt_ticket late = shared_ticket(2);
    assert_int_equal(gt_shared_connection_connect(ends.o.shared, &ends.relay.addr, &late),
                     GT_CHANNEL_E_STALE);
    gt_shared_connection_resume(ends.o.shared);
    assert_int_equal(ends.o.requested, 2);
    shared_run_until(&ends, ends.o.n_up == 2 && ends.d.n_up == 2);
    gt_shared_connection_close(ends.o.shared);
    gt_shared_connection_resume(ends.o.shared); /* wanted again before it is closed */
    shared_run_until(&ends, ends.o.n_up == 3 && ends.d.n_up == 3);
    assert_int_equal(gt_shared_connection_attempt(ends.o.shared), 3);
    shared_ends_deinit(&ends);
}

static void test_loss_at_one_end_replaces_it_at_once(void **state)
{
    for (int is_blocked = 0; is_blocked < 2; is_blocked++) {
        start(&ends);
        shared_open(&ends, 1, 1000000);
        shared_run_until(&ends, ends.d.streams[1].n_read > 1000);
        double began = gt_clock();
        gt_shared_connection_drop(ends.o.shared, 7); /* an attempt that is not the present one */
        assert_true(gt_shared_connection_is_up(ends.o.shared));
        if (is_blocked)
            gt_shared_connection_blocked(ends.o.shared, true);
        else
            gt_shared_connection_drop(ends.o.shared, 1);
        assert_int_equal(ends.o.n_down, 0);
        shared_run_until(&ends, ends.o.n_up == 2);
        assert_true(gt_clock() - began < .3);
        assert_int_equal(gt_shared_connection_segment(ends.o.shared),
                         is_blocked ? GT_PATH_SEGMENT_SMALL : 0);
        shared_run_until(&ends, are_done(&ends, 1));
        shared_assert_exact(&ends, 1);
        shared_ends_deinit(&ends);
    }
}

static void test_newer_ticket_replaces_an_intact_connection(void **state)
{
    start(&ends);
    shared_open(&ends, 1, 1000000);
    shared_run_until(&ends, ends.d.streams[1].n_read > 1000);
    const struct gt_ticket old = shared_ticket(1), newer = shared_ticket(2);
    assert_int_equal(gt_shared_connection_connect(ends.d.shared, &ends.relay.addr, &old),
                     GT_CHANNEL_E_STALE);
    assert_int_equal(gt_shared_connection_connect(ends.d.shared, &ends.relay.addr, &newer), 0);
    assert_int_equal(ends.d.n_down, 1);
    assert_null(ends.d.streams[1].member.shared);
    shared_run_until(&ends, are_done(&ends, 1)); /* the operator lost its end, and requested 2 */
    shared_assert_exact(&ends, 1);
    shared_ends_deinit(&ends);
}

/* Its handshake may have completed at the operator's end. */
static void test_failed_dial_of_the_device_is_reported(void **state)
{
    start(&ends);
    ends.has_no_tickets = true;
    relay_cut(&ends.relay);
    shared_run_until(&ends, ends.d.n_lost == 1);
    ends.relay.is_refusing = true;
    const struct gt_ticket ticket = shared_ticket(2);
    assert_int_equal(gt_shared_connection_connect(ends.d.shared, &ends.relay.addr, &ticket), 0);
    double began = gt_clock();
    shared_run_until(&ends, ends.d.n_lost == 2);
    assert_true(gt_clock() - began < 2);
    assert_int_equal(ends.d.n_up, 1);
    shared_ends_deinit(&ends);
}

static void test_gives_up_after_the_window_until_it_is_wanted(void **state)
{
    start(&ends);
    ends.has_no_tickets = true;
    relay_cut(&ends.relay);
    shared_run_until(&ends, ends.o.n_down == 1 && ends.d.n_down == 1);
    double began = gt_clock();
    while (gt_clock() < began + 150)
        shared_ends_run(&ends);
    unsigned n_requests = ends.o.n_requests, n_lost = ends.d.n_lost;
    assert_in_range(n_requests, 10, 16); /* every 10 s for 120 s */
    assert_in_range(n_lost, 10, 16);
    gt_shared_connection_resume(ends.o.shared);
    assert_int_equal(ends.o.n_requests, n_requests + 1);
    ends.has_no_tickets = false;
    shared_run_until(&ends, ends.o.n_up == 2 && ends.d.n_up == 2);
    shared_ends_deinit(&ends);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_streams_are_exact_and_forgotten, setup, teardown),
        cmocka_unit_test_setup_teardown(test_first_data_leaves_with_the_begin, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cuts_at_any_moment_are_survived, setup, teardown),
        cmocka_unit_test_setup_teardown(test_small_segments_share_a_record_and_a_write, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_bulk_delays_others_by_one_turn_each, setup, teardown),
        cmocka_unit_test_setup_teardown(test_malformed_records_replace_the_connection, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_backoff_continues_while_connections_do_not_last, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_invalid_begins_are_answered_by_rst_and_done, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_begin_of_an_attached_stream_needs_a_greater_attempt,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_invalid_begin_of_an_attached_stream_resets_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_invalid_answer_to_a_begin_resets_the_stream, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_flood_of_begins_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_segments_of_an_older_attachment_are_dropped, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_heartbeat_keeps_an_idle_connection, setup, teardown),
        cmocka_unit_test_setup_teardown(test_operator_closes_and_opens_it_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_loss_at_one_end_replaces_it_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_newer_ticket_replaces_an_intact_connection, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_failed_dial_of_the_device_is_reported, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_gives_up_after_the_window_until_it_is_wanted, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
