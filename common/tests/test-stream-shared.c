/* SPDX-License-Identifier: ISC */
/*
 * A stream on the shared connection: its window, DONE, the moves from and to a connection of its
 * own, and its memory. stream-model.h has the random runs.
 */
// clang-format off
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include "stream-pair.h"

#define KIB 1024

static void shared_init(struct pair *p)
{
    gt_stream_init(&p->o, GT_ROLE_OPERATOR, 3, "ssh", 4 << 20);
    gt_stream_init(&p->d, GT_ROLE_DEVICE, 3, NULL, 4 << 20);
    gt_stream_attach(&p->o, 1, GT_STREAM_SHARED);
    gt_stream_attach(&p->d, 1, GT_STREAM_SHARED);
    transfer_all(p);
}

static void move(struct pair *p, enum gt_stream_kind kind)
{
    gt_stream_park(&p->o);
    gt_stream_park(&p->d);
    gt_stream_attach(&p->o, p->o.attempt + 1, kind);
    gt_stream_attach(&p->d, p->d.attempt + 1, kind);
}

/* Writes as much as the stream takes, and transfers all of it. */
static size_t fill(struct gt_stream *from, struct gt_stream *to)
{
    static const uint8_t chunk[16 * KIB];
    size_t n_before = gt_ring_used(&to->rx);

    do {
        while (gt_stream_has_tx_room(from)) {
            assert_int_equal(gt_ring_write(&from->tx, chunk, sizeof(chunk)), 0);
            gt_stream_local_read(from, 0);
        }
    } while (transfer(from, to) + transfer(to, from) > 0);
    return gt_ring_used(&to->rx) - n_before;
}

static void read_all(struct gt_stream *s)
{
    gt_stream_local_written(s, gt_ring_used(&s->rx));
}

static void end_both(struct pair *p)
{
    gt_stream_local_end(&p->o, GT_RST_NONE);
    gt_stream_local_end(&p->d, GT_RST_NONE);
    transfer_all(p);
    gt_stream_end_delivered(&p->o);
    gt_stream_end_delivered(&p->d);
}

static size_t put_frame(uint8_t *buf, enum gt_frame_type type)
{
    struct gt_writer w = gt_writer(buf, 64);

    gt_frame_write(&w, &(struct gt_frame){.type = type, .code = GT_RST_CLOSED});
    return w.n;
}

static void test_complete_stream_is_done_on_both_sides(void **state)
{
    struct pair p;

    shared_init(&p);
    local_write(&p.o, "ping");
    transfer_all(&p);
    assert_local_read(&p.d, "ping");
    end_both(&p);
    assert_false(gt_stream_is_done(&p.o) || gt_stream_is_done(&p.d));
    transfer_all(&p);
    assert_true(gt_stream_is_well_ended(&p.o) && gt_stream_is_well_ended(&p.d));
    assert_true(gt_stream_is_done(&p.o) && gt_stream_is_done(&p.d));
    pair_deinit(&p);
}

/* DONE is the last frame: it shares the record with the last acknowledgement. */
static void test_done_follows_the_last_frame_in_its_record(void **state)
{
    struct pair p;
    uint8_t buf[16384];

    shared_init(&p);
    end_both(&p);
    transfer(&p.o, &p.d);
    size_t n = gt_stream_produce(&p.d, buf, sizeof(buf));
    assert_int_equal(p.d.state, GT_STREAM_ENDED);
    assert_memory_equal(buf + n - GT_FRAME_HEADER, "\x08\0\0\0", GT_FRAME_HEADER);
    assert_false(gt_stream_has_output(&p.d));
    pair_deinit(&p);
}

static void test_reset_stream_is_done_on_both_sides(void **state)
{
    for (int is_both = 0; is_both < 2; is_both++) {
        struct pair p;

        shared_init(&p);
        gt_stream_reset(&p.d, GT_RST_DENIED);
        if (is_both)
            gt_stream_reset(&p.o, GT_RST_CLOSED);
        transfer_all(&p);
        assert_int_equal(p.d.code, GT_RST_DENIED);
        assert_int_equal(p.o.code, is_both ? GT_RST_CLOSED : GT_RST_DENIED);
        assert_true(gt_stream_is_done(&p.o) && gt_stream_is_done(&p.d));
        pair_deinit(&p);
    }
}

/* A reset before our HELLO was sent: the begin of the attachment still has it. */
static void test_reset_by_the_peer_keeps_our_hello(void **state)
{
    struct pair p;
    uint8_t buf[16384];

    gt_stream_init(&p.o, GT_ROLE_OPERATOR, 3, "ssh", 64 * KIB);
    gt_stream_init(&p.d, GT_ROLE_DEVICE, 3, NULL, 64 * KIB);
    gt_stream_attach(&p.o, 1, GT_STREAM_SHARED);
    gt_stream_attach(&p.d, 1, GT_STREAM_SHARED);
    gt_stream_reset(&p.o, GT_RST_CLOSED);
    transfer(&p.o, &p.d);
    assert_int_equal(p.d.code, GT_RST_CLOSED);
    size_t n = gt_stream_produce(&p.d, buf, sizeof(buf));
    assert_int_equal(buf[0], GT_FRAME_HELLO);
    assert_int_equal(gt_stream_consume(&p.o, buf, n), 0);
    assert_true(gt_stream_is_done(&p.o) && gt_stream_is_done(&p.d));
    pair_deinit(&p);
}

/* The side that lacks DONE attaches again, and the other one repeats it. */
static void test_lost_done_is_repeated(void **state)
{
    for (int is_reset = 0; is_reset < 2; is_reset++) {
        struct pair p;
        uint8_t lost[16384];

        shared_init(&p);
        if (is_reset)
            gt_stream_reset(&p.d, GT_RST_TIMEOUT);
        else
            end_both(&p);
        transfer(&p.o, &p.d);
        assert_true(gt_stream_produce(&p.d, lost, sizeof(lost)) > 0);
        move(&p, GT_STREAM_SHARED);
        assert_false(gt_stream_is_done(&p.o) || gt_stream_is_done(&p.d));
        transfer_all(&p);
        assert_true(gt_stream_is_done(&p.o) && gt_stream_is_done(&p.d));
        assert_int_equal(p.o.code, is_reset ? GT_RST_TIMEOUT : GT_RST_NONE);
        pair_deinit(&p);
    }
}

/* The other side received DONE and has forgotten the stream. */
static void test_complete_stream_that_is_forgotten_there_ended_well(void **state)
{
    struct pair p;
    uint8_t buf[64];

    shared_init(&p);
    end_both(&p);
    transfer(&p.d, &p.o);
    transfer(&p.o, &p.d); /* the answer of the device is lost */
    gt_stream_park(&p.o);
    gt_stream_attach(&p.o, 2, GT_STREAM_SHARED);
    assert_true(gt_stream_produce(&p.o, (uint8_t[1024]){0}, 1024) > 0);
    size_t n = put_frame(buf, GT_FRAME_RST);
    assert_int_equal(gt_stream_consume(&p.o, buf, n), 0);
    n = put_frame(buf, GT_FRAME_DONE);
    assert_int_equal(gt_stream_consume(&p.o, buf, n), 0);
    assert_true(gt_stream_is_well_ended(&p.o));
    transfer(&p.o, &p.d);
    assert_true(gt_stream_is_done(&p.o));
    pair_deinit(&p);
}

static void test_done_of_a_stream_that_is_not_over_resets_it(void **state)
{
    static const struct {
        enum gt_stream_kind kind;
        bool is_open;
    } cases[] = {{GT_STREAM_SHARED, true}, {GT_STREAM_SHARED, false}, {GT_STREAM_OWN, true}};

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct pair p;
        uint8_t buf[64];
        size_t n = put_frame(buf, GT_FRAME_DONE);

        shared_init(&p);
        move(&p, cases[i].kind);
        if (cases[i].is_open)
            transfer_all(&p);
        assert_int_equal(gt_stream_consume(&p.o, buf, n), 0);
        assert_int_equal(p.o.code, GT_RST_PROTOCOL);
        transfer_all(&p);
        assert_int_equal(p.d.code, GT_RST_PROTOCOL);
        assert_int_equal(gt_stream_is_done(&p.o), cases[i].kind == GT_STREAM_SHARED);
        pair_deinit(&p);
    }
}

/* A connection of its own ends by close_notify. */
static void test_no_done_on_a_connection_of_its_own(void **state)
{
    struct pair p;

    shared_init(&p);
    move(&p, GT_STREAM_OWN);
    transfer_all(&p);
    end_both(&p);
    transfer_all(&p);
    assert_true(gt_stream_is_well_ended(&p.o) && gt_stream_is_well_ended(&p.d));
    assert_false(p.o.is_peer_done || p.d.is_peer_done);
    pair_deinit(&p);
}

/* Frames after the end have no effect, and malformed ones do no harm. */
static void test_frames_after_the_end_have_no_effect(void **state)
{
    static const uint8_t malformed[] = {0x7f, 0, 0, 0, 'x'};
    struct pair p;
    uint8_t buf[64];

    shared_init(&p);
    gt_stream_reset(&p.o, GT_RST_CLOSED);
    size_t n = put_frame(buf, GT_FRAME_RST);
    assert_int_equal(gt_stream_consume(&p.o, buf, n), 0);
    n = put_frame(buf, GT_FRAME_PING);
    assert_int_equal(gt_stream_consume(&p.o, buf, n), 0);
    assert_false(p.o.is_peer_done);
    n = put_frame(buf, GT_FRAME_DONE);
    assert_int_equal(gt_stream_consume(&p.o, buf, 2), 0);
    assert_int_equal(gt_stream_consume(&p.o, buf + 2, n - 2), 0);
    assert_true(p.o.is_peer_done);
    assert_int_equal(gt_stream_consume(&p.o, malformed, sizeof(malformed)), 0);
    assert_int_equal(p.o.code, GT_RST_CLOSED);
    assert_false(p.o.is_reset_by_peer);
    pair_deinit(&p);
}

static void test_window_is_small_until_the_stream_moves(void **state)
{
    struct pair p;

    shared_init(&p);
    assert_int_equal(fill(&p.o, &p.d), GT_WINDOW_SHARED);
    assert_false(p.o.connection.is_pong_awaited && p.d.connection.is_pong_awaited);
    move(&p, GT_STREAM_OWN);
    assert_int_equal(fill(&p.o, &p.d), GT_WINDOW_INITIAL - GT_WINDOW_SHARED);
    move(&p, GT_STREAM_SHARED); /* the granted window remains */
    read_all(&p.d);
    assert_int_equal(fill(&p.o, &p.d), GT_WINDOW_SHARED);
    assert_int_equal(p.o.state, GT_STREAM_OPEN);
    assert_int_equal(p.d.state, GT_STREAM_OPEN);
    pair_deinit(&p);
}

static void test_grant_survives_the_move_back(void **state)
{
    static const uint8_t chunk[GT_DATA_MAX];
    struct pair p;
    uint8_t record[16384];

    shared_init(&p);
    move(&p, GT_STREAM_OWN);
    transfer_all(&p);
    move(&p, GT_STREAM_SHARED);
    gt_stream_trim(&p.d);
    transfer_all(&p);
    for (size_t sent = 0; sent < GT_WINDOW_INITIAL; sent += sizeof(chunk)) {
        assert_int_equal(gt_ring_write(&p.o.tx, chunk, sizeof(chunk)), 0);
        for (size_t n; (n = gt_stream_produce(&p.o, record, sizeof(record))) > 0;)
            assert_int_equal(gt_stream_consume(&p.d, record, n), 0);
        transfer(&p.d, &p.o);
    }
    assert_int_equal(gt_ring_used(&p.d.rx), GT_WINDOW_INITIAL);
    assert_int_equal(p.d.state, GT_STREAM_OPEN);
    pair_deinit(&p);
}

/* An idle stream has no memory, and its first burst takes little. */
static void test_rings_start_small_and_give_memory_back(void **state)
{
    struct pair p;

    shared_init(&p);
    assert_null(p.o.tx.data);
    local_write(&p.o, "x");
    transfer_all(&p);
    assert_int_equal(p.o.tx.capacity, GT_WINDOW_RING_FIRST);
    assert_int_equal(p.d.rx.capacity, GT_WINDOW_RING_FIRST);
    fill(&p.o, &p.d);
    assert_int_equal(p.d.rx.capacity, GT_WINDOW_SHARED);
    assert_int_equal(p.o.tx.capacity, GT_WINDOW_SHARED);
    read_all(&p.d);
    while (gt_ring_used(&p.o.tx) + gt_ring_used(&p.d.rx) > 0) {
        transfer_all(&p);
        read_all(&p.d);
    }
    gt_stream_trim(&p.o);
    gt_stream_trim(&p.d);
    assert_null(p.o.tx.data);
    assert_null(p.d.rx.data);
    assert_int_equal(p.d.rx.capacity, GT_WINDOW_RING_FIRST);
    assert_int_equal(fill(&p.o, &p.d), GT_WINDOW_SHARED);
    move(&p, GT_STREAM_OWN);
    assert_int_equal(p.d.rx.capacity, GT_WINDOW_RING);
    assert_int_equal(p.o.tx.capacity, GT_WINDOW_RING);
    pair_deinit(&p);
}

/* The peer decides how long a stream that is over lasts, but not what it holds. */
static void test_stream_that_is_over_is_discarded(void **state)
{
    struct gt_window_memory memory = {.max = 64 << 20};
    struct pair p;

    shared_init(&p);
    p.d.memory = &memory;
    move(&p, GT_STREAM_OWN);
    fill(&p.o, &p.d);
    fill(&p.d, &p.o);
    gt_stream_local_written(&p.d, 1000);
    uint64_t received = p.d.rx.tail, sent = p.d.tx.tail;
    gt_stream_reset(&p.d, GT_RST_WITHDRAWN);
    assert_true(p.d.tx_sent < p.d.tx.tail);
    gt_stream_discard(&p.d);
    gt_stream_discard(&p.d);
    assert_true(p.d.tx_sent >= p.d.tx.head && p.d.tx_sent <= p.d.tx.tail);
    assert_null(p.d.rx.data);
    assert_null(p.d.tx.data);
    assert_int_equal(p.d.rx.capacity, GT_RING_MIN);
    assert_int_equal(p.d.tx.capacity, GT_RING_MIN);
    assert_int_equal(memory.n_used, 0);
    assert_int_equal(p.d.rx.tail, received);
    assert_int_equal(p.d.tx.tail, sent);
    assert_int_equal(p.d.rx.head - p.d.n_undelivered, 1000);
    move(&p, GT_STREAM_SHARED); /* the reason still arrives */
    transfer_all(&p);
    assert_int_equal(p.o.state, GT_STREAM_RESET);
    assert_int_equal(p.o.code, GT_RST_WITHDRAWN);
    pair_deinit(&p);
}

static void test_stream_is_held_up_by_the_shared_window_only(void **state)
{
    struct pair p;

    shared_init(&p);
    local_write(&p.o, "little");
    transfer_all(&p);
    assert_false(gt_stream_is_held_up(&p.o) || gt_stream_is_held_up(&p.d));
    fill(&p.o, &p.d);
    assert_true(gt_stream_is_held_up(&p.o));
    assert_false(gt_stream_is_held_up(&p.d)); /* its local socket does not read */
    assert_int_equal(gt_stream_n_moved(&p.o), GT_WINDOW_SHARED);
    assert_int_equal(gt_stream_n_moved(&p.d), GT_WINDOW_SHARED);
    gt_stream_local_written(&p.d, 100 * KIB);
    assert_true(gt_stream_is_held_up(&p.d));
    transfer_all(&p);
    assert_false(gt_stream_is_held_up(&p.d));
    move(&p, GT_STREAM_OWN);
    fill(&p.o, &p.d);
    assert_false(gt_stream_is_held_up(&p.o));
    move(&p, GT_STREAM_SHARED); /* its peer reads nothing: it does not move again */
    transfer_all(&p);
    assert_int_equal(gt_stream_n_moved(&p.o), 0);
    assert_false(gt_stream_is_held_up(&p.o) || gt_stream_is_held_up(&p.d));
    gt_stream_park(&p.o);
    assert_int_equal(gt_stream_n_moved(&p.o), 0);
    pair_deinit(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_complete_stream_is_done_on_both_sides),
        cmocka_unit_test(test_done_follows_the_last_frame_in_its_record),
        cmocka_unit_test(test_reset_stream_is_done_on_both_sides),
        cmocka_unit_test(test_reset_by_the_peer_keeps_our_hello),
        cmocka_unit_test(test_lost_done_is_repeated),
        cmocka_unit_test(test_complete_stream_that_is_forgotten_there_ended_well),
        cmocka_unit_test(test_done_of_a_stream_that_is_not_over_resets_it),
        cmocka_unit_test(test_no_done_on_a_connection_of_its_own),
        cmocka_unit_test(test_frames_after_the_end_have_no_effect),
        cmocka_unit_test(test_window_is_small_until_the_stream_moves),
        cmocka_unit_test(test_grant_survives_the_move_back),
        cmocka_unit_test(test_rings_start_small_and_give_memory_back),
        cmocka_unit_test(test_stream_that_is_over_is_discarded),
        cmocka_unit_test(test_stream_is_held_up_by_the_shared_window_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
