/* SPDX-License-Identifier: ISC */
/*
 * The end of a direction of a stream: a reset has a place in the sequence, and a stop ends the
 * opposite direction. stream-model.h has the random runs.
 */
// clang-format off
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include "stream-pair.h"

static void pair_open(struct pair *p)
{
    pair_init(p, "ssh");
    transfer_all(p);
}

/* The local socket was reset. All that it sent is read. */
static void local_reset(struct gt_stream *s)
{
    gt_stream_local_stop(s, GT_RST_LOCAL);
    gt_stream_local_end(s, GT_RST_LOCAL);
}

static void deliver_end(struct gt_stream *s, enum gt_rst code)
{
    assert_true(gt_stream_is_end_due(s));
    assert_int_equal(s->rx_end, code);
    gt_stream_end_delivered(s);
}

static void assert_ended_by_reset(const struct pair *p)
{
    assert_int_equal(p->o.state, GT_STREAM_ENDED);
    assert_int_equal(p->d.state, GT_STREAM_ENDED);
    assert_int_equal(p->o.code, GT_RST_LOCAL);
    assert_int_equal(p->d.code, GT_RST_LOCAL);
    assert_false(gt_stream_is_well_ended(&p->o) || gt_stream_is_well_ended(&p->d));
}

static void test_last_bytes_precede_the_reset(void **state)
{
    struct pair p;

    pair_open(&p);
    local_write(&p.d, "413 too large");
    local_reset(&p.d);
    transfer_all(&p);
    assert_true(gt_stream_is_peer_gone(&p.o));
    assert_false(gt_stream_is_end_due(&p.o));
    assert_false(gt_stream_is_over(&p.d)); /* not acknowledged before the delivery */
    assert_local_read(&p.o, "413 too large");
    deliver_end(&p.o, GT_RST_LOCAL);
    transfer_all(&p);
    assert_ended_by_reset(&p);
    pair_deinit(&p);
}

/* The bytes before the reset are still unread in the kernel when a write fails. */
static void test_stop_precedes_the_last_bytes(void **state)
{
    struct pair p;

    pair_open(&p);
    local_write(&p.o, "not delivered");
    transfer_all(&p);
    gt_stream_local_stop(&p.d, GT_RST_LOCAL);
    assert_int_equal(gt_ring_used(&p.d.rx), 0);
    transfer_all(&p);
    assert_false(gt_stream_has_tx_room(&p.o));
    assert_false(gt_stream_is_received(&p.o));
    local_write(&p.d, "unread until now");
    gt_stream_local_end(&p.d, GT_RST_LOCAL);
    transfer_all(&p);
    assert_local_read(&p.o, "unread until now");
    deliver_end(&p.o, GT_RST_LOCAL);
    transfer_all(&p);
    assert_ended_by_reset(&p);
    pair_deinit(&p);
}

static void test_stop_discards_unsent_bytes(void **state)
{
    struct pair p;
    uint8_t buf[16384] = {0};

    pair_open(&p);
    for (int i = 0; i < 4; i++)
        assert_int_equal(gt_ring_write(&p.o.tx, buf, sizeof(buf)), 0);
    assert_true(gt_stream_produce(&p.o, buf, sizeof(buf)) > 0); /* lost in transit */
    uint64_t sent = p.o.tx_sent;
    gt_stream_park(&p.o);
    gt_stream_park(&p.d);
    gt_stream_local_stop(&p.d, GT_RST_LOCAL);
    gt_stream_attach(&p.o, 2, GT_STREAM_OWN);
    gt_stream_attach(&p.d, 2, GT_STREAM_OWN);
    transfer_all(&p);
    assert_true(sent > 0);
    assert_int_equal(p.o.tx.tail, 0); /* HELLO has the stop: nothing is sent again */
    assert_true(p.o.is_end_acked);
    gt_stream_local_end(&p.d, GT_RST_LOCAL);
    transfer_all(&p);
    deliver_end(&p.o, GT_RST_LOCAL);
    transfer_all(&p);
    assert_ended_by_reset(&p);
    pair_deinit(&p);
}

static void test_end_of_file_before_the_reset_stays_one(void **state)
{
    struct pair p;

    pair_open(&p);
    local_write(&p.d, "all of the page");
    gt_stream_local_end(&p.d, GT_RST_NONE);
    local_reset(&p.d); /* no effect on the end */
    transfer_all(&p);
    assert_local_read(&p.o, "all of the page");
    deliver_end(&p.o, GT_RST_NONE);
    assert_true(gt_stream_is_peer_gone(&p.o));
    transfer_all(&p);
    assert_ended_by_reset(&p);
    pair_deinit(&p);
}

/* The socket got an end of file and is reset before it sends its own. */
static void test_reset_after_the_delivery_of_an_end(void **state)
{
    struct pair p;

    pair_open(&p);
    gt_stream_local_end(&p.o, GT_RST_NONE);
    transfer_all(&p);
    deliver_end(&p.d, GT_RST_NONE);
    transfer_all(&p);
    local_write(&p.d, "last");
    local_reset(&p.d);
    transfer_all(&p);
    assert_local_read(&p.o, "last");
    deliver_end(&p.o, GT_RST_LOCAL);
    transfer_all(&p);
    assert_ended_by_reset(&p);
    pair_deinit(&p);
}

static void test_reset_of_a_finished_socket_changes_nothing(void **state)
{
    struct pair p;

    pair_open(&p);
    gt_stream_local_end(&p.o, GT_RST_NONE);
    gt_stream_local_end(&p.d, GT_RST_NONE);
    transfer_all(&p);
    deliver_end(&p.o, GT_RST_NONE);
    deliver_end(&p.d, GT_RST_NONE);
    local_reset(&p.d);
    transfer_all(&p);
    assert_true(gt_stream_is_well_ended(&p.o) && gt_stream_is_well_ended(&p.d));
    pair_deinit(&p);
}

static void test_both_ends_reset(void **state)
{
    struct pair p;

    pair_open(&p);
    local_write(&p.o, "not read by the other");
    local_write(&p.d, "nor this");
    local_reset(&p.o);
    local_reset(&p.d);
    transfer_all(&p);
    assert_ended_by_reset(&p);
    pair_deinit(&p);
}

/* The reader drops what it does not deliver, and acknowledges it: the sender never waits. */
static void test_dropped_bytes_are_acknowledged(void **state)
{
    struct pair p;
    uint8_t block[16384] = {0};

    pair_open(&p);
    gt_stream_local_stop(&p.d, GT_RST_LOCAL);
    for (int i = 0; i < 3; i++)
        assert_int_equal(gt_ring_write(&p.o.tx, block, sizeof(block)), 0);
    transfer(&p.o, &p.d);
    assert_int_equal(p.d.rx.tail, 3 * sizeof(block));
    assert_int_equal(gt_ring_used(&p.d.rx), 0);
    transfer_all(&p);
    assert_int_equal(p.o.tx.head, 3 * sizeof(block));
    assert_true(p.o.is_end_acked);
    pair_deinit(&p);
}

/* Cuts the data connection after each number of bytes in each direction. */
static void test_reset_survives_every_cut(void **state)
{
    for (size_t cut = 0; cut < 120; cut++) {
        for (int side = 0; side < 2; side++) {
            struct pair p;
            uint8_t buf[16384];

            pair_open(&p);
            struct gt_stream *from = side ? &p.d : &p.o, *to = side ? &p.o : &p.d;
            local_write(from, "last bytes");
            local_reset(from);
            size_t n = gt_stream_produce(from, buf, sizeof(buf));
            assert_int_equal(gt_stream_consume(to, buf, GT_MIN(n, cut)), 0);
            n = gt_stream_produce(to, buf, sizeof(buf)); /* the answer, cut likewise */
            assert_int_equal(gt_stream_consume(from, buf, n > cut ? 0 : n), 0);
            gt_stream_park(from);
            gt_stream_park(to);
            gt_stream_attach(from, 2, GT_STREAM_OWN);
            gt_stream_attach(to, 2, GT_STREAM_OWN);
            transfer_all(&p);
            assert_local_read(to, "last bytes");
            deliver_end(to, GT_RST_LOCAL);
            gt_stream_produce(to, buf, sizeof(buf)); /* the acknowledgment is lost */
            gt_stream_park(from);
            gt_stream_park(to);
            gt_stream_attach(from, 3, GT_STREAM_OWN);
            gt_stream_attach(to, 3, GT_STREAM_OWN);
            transfer_all(&p);
            assert_ended_by_reset(&p);
            pair_deinit(&p);
        }
    }
}

static void test_invalid_ends_abort_the_stream(void **state)
{
    static const struct {
        struct gt_frame frames[2];
        enum gt_rst code; /* of the aborted stream */
    } cases[] = {
        {{{.type = GT_FRAME_END, .code = GT_RST_LOCAL}}, GT_RST_PROTOCOL}, /* without a stop */
        {{{.type = GT_FRAME_ACK, .window = 9, .stop = 1}, {.type = GT_FRAME_END, .code = 1}}, 0},
        {{{.type = GT_FRAME_ACK, .window = 9, .stop = 999}, {.type = GT_FRAME_END, .code = 1}}, 0},
        {{{.type = GT_FRAME_ACK, .window = 9, .stop = 1}, {.type = GT_FRAME_ACK, .window = 9}}, 0},
        {{{.type = GT_FRAME_END}, {.type = GT_FRAME_END, .code = 1}}, GT_RST_PROTOCOL},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct pair p;
        uint8_t buf[64];
        struct gt_writer w = gt_writer(buf, sizeof(buf));

        pair_open(&p);
        for (size_t k = 0; k < 2 && cases[i].frames[k].type; k++)
            gt_frame_write(&w, &cases[i].frames[k]);
        assert_int_equal(gt_stream_consume(&p.d, buf, w.n), 0);
        assert_int_equal(p.d.code, cases[i].code);
        assert_int_equal(gt_stream_is_peer_gone(&p.d), cases[i].frames[0].stop != 0);
        pair_deinit(&p);
    }
}

/* An END of another data connection has the same code. */
static void test_repeated_end_with_another_code_aborts_the_stream(void **state)
{
    struct pair p;
    uint8_t buf[64];
    struct gt_writer w = gt_writer(buf, sizeof(buf));

    pair_open(&p);
    gt_stream_local_end(&p.o, GT_RST_NONE);
    transfer_all(&p);
    gt_stream_park(&p.o);
    gt_stream_park(&p.d);
    gt_stream_attach(&p.o, 2, GT_STREAM_OWN);
    gt_stream_attach(&p.d, 2, GT_STREAM_OWN);
    p.o.tx_end = p.o.rx_stop = GT_RST_LOCAL;
    transfer(&p.o, &p.d);
    assert_int_equal(p.d.code, GT_RST_NONE);
    gt_frame_write(&w, &(struct gt_frame){.type = GT_FRAME_END, .code = GT_RST_LOCAL});
    assert_int_equal(gt_stream_consume(&p.d, buf, w.n), 0);
    assert_int_equal(p.d.code, GT_RST_PROTOCOL);
    pair_deinit(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_last_bytes_precede_the_reset),
        cmocka_unit_test(test_stop_precedes_the_last_bytes),
        cmocka_unit_test(test_stop_discards_unsent_bytes),
        cmocka_unit_test(test_end_of_file_before_the_reset_stays_one),
        cmocka_unit_test(test_reset_after_the_delivery_of_an_end),
        cmocka_unit_test(test_reset_of_a_finished_socket_changes_nothing),
        cmocka_unit_test(test_both_ends_reset),
        cmocka_unit_test(test_dropped_bytes_are_acknowledged),
        cmocka_unit_test(test_reset_survives_every_cut),
        cmocka_unit_test(test_invalid_ends_abort_the_stream),
        cmocka_unit_test(test_repeated_end_with_another_code_aborts_the_stream),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
