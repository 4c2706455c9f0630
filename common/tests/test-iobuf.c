/* SPDX-License-Identifier: ISC */
/* iobuf.c: the two buffers of a socket, and their pool. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>
#include <string.h>
#include <sys/socket.h>

#include "gotthard/net/sock.h"
#include "gotthard/tls/iobuf.h"

static int fds[2];
static struct gt_iobuf iobuf;
static uint8_t data[GT_IOBUF_SIZE + 1], copy[GT_IOBUF_SIZE];

static int set_up(void **state)
{
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7 + i / 251);
    gt_iobuf_init(&iobuf, 0);
    if (gt_sock_pair(fds))
        return -1;
    iobuf.fd = fds[0];
    return 0;
}

static int tear_down(void **state)
{
    gt_iobuf_deinit(&iobuf);
    gt_close(&fds[0]);
    gt_close(&fds[1]);
    assert_int_equal(gt_iobuf_n_held(), 0);
    gt_iobuf_trim();
    return 0;
}

static void test_idle_connection_holds_no_buffers(void **state)
{
    size_t n;

    assert_int_equal(gt_iobuf_read(&iobuf, copy, 1, &n), GT_IOBUF_E_AGAIN);
    assert_int_equal(gt_iobuf_n_held(), 0);
    assert_int_equal(gt_iobuf_put(&iobuf, data, 10), 0);
    assert_int_equal(gt_iobuf_n_held(), 1);
    assert_int_equal(gt_iobuf_flush(&iobuf), 0);
    assert_int_equal(gt_iobuf_n_held(), 0);
    assert_false(gt_iobuf_has_output(&iobuf));
}

static void test_one_recv_serves_many_reads(void **state)
{
    size_t n;

    assert_int_equal(send(fds[1], data, 100, MSG_NOSIGNAL), 100);
    for (size_t i = 0; i < 100; i += n) {
        assert_int_equal(gt_iobuf_read(&iobuf, copy, 33, &n), 0);
        assert_int_equal(n, GT_MIN(33, 100 - i));
        assert_memory_equal(copy, data + i, n);
        assert_int_equal(gt_iobuf_has_input(&iobuf), i + n < 100);
    }
    assert_int_equal(gt_iobuf_n_held(), 0);
    /* Later bytes are not read in this turn of the loop, but in the next. */
    assert_int_equal(send(fds[1], data, 1, MSG_NOSIGNAL), 1);
    assert_int_equal(gt_iobuf_read(&iobuf, copy, 33, &n), GT_IOBUF_E_AGAIN);
    assert_int_equal(gt_iobuf_read(&iobuf, copy, 33, &n), 0);
    assert_int_equal(n, 1);
}

static void test_eof_follows_the_last_byte(void **state)
{
    size_t n;

    assert_int_equal(send(fds[1], data, 5, MSG_NOSIGNAL), 5);
    gt_close(&fds[1]);
    assert_int_equal(gt_iobuf_read(&iobuf, copy, 33, &n), 0);
    assert_int_equal(gt_iobuf_read(&iobuf, copy, 33, &n), GT_IOBUF_E_AGAIN);
    assert_int_equal(gt_iobuf_read(&iobuf, copy, 33, &n), GT_IOBUF_E_EOF);
    assert_int_equal(gt_iobuf_read(&iobuf, copy, 33, &n), GT_IOBUF_E_EOF);
}

static void test_put_is_all_or_nothing(void **state)
{
    assert_int_equal(gt_iobuf_room(&iobuf), GT_IOBUF_FIRST);
    assert_false(iobuf.is_fast);
    assert_int_equal(gt_iobuf_put(&iobuf, data, GT_IOBUF_FIRST + 1), GT_IOBUF_E_AGAIN);
    assert_int_equal(gt_iobuf_put(&iobuf, data, GT_IOBUF_FIRST - 1), 0);
    assert_int_equal(gt_iobuf_put(&iobuf, data, 2), GT_IOBUF_E_AGAIN);
    assert_int_equal(gt_iobuf_put(&iobuf, data, 1), 0);
    assert_int_equal(gt_iobuf_room(&iobuf), 0);
}

static void read_all(size_t n)
{
    for (ssize_t got; n > 0; n -= (size_t)got) {
        got = recv(fds[1], copy, sizeof(copy), 0);
        assert_true(got > 0);
    }
}

/* The buffered output grows with the amount that the socket accepts. */
static void test_output_grows_on_a_fast_path(void **state)
{
    static const size_t rooms[] = {GT_IOBUF_FIRST, 2 * GT_IOBUF_FIRST, GT_IOBUF_SIZE,
                                   GT_IOBUF_SIZE};

    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &(int){4 * GT_IOBUF_SIZE}, sizeof(int));
    for (size_t i = 0; i < GT_ARRAY_SIZE(rooms); i++) {
        assert_int_equal(gt_iobuf_room(&iobuf), rooms[i]);
        assert_int_equal(gt_iobuf_put(&iobuf, data, rooms[i]), 0);
        assert_int_equal(gt_iobuf_flush(&iobuf), 0);
        read_all(rooms[i]);
        assert_true(iobuf.is_fast);
    }
    assert_int_equal(gt_iobuf_put(&iobuf, data, 100), 0); /* too little to change it */
    assert_int_equal(gt_iobuf_flush(&iobuf), 0);
    read_all(100);
    assert_int_equal(gt_iobuf_room(&iobuf), GT_IOBUF_SIZE);

    size_t n = 0;
    for (int r = 0; r == 0; r = gt_iobuf_flush(&iobuf), n += GT_IOBUF_SIZE)
        assert_int_equal(gt_iobuf_put(&iobuf, data, GT_IOBUF_SIZE), 0);
    read_all(n - (iobuf.out_end - iobuf.out_at));
    size_t left = iobuf.out_end - iobuf.out_at;
    assert_int_equal(gt_iobuf_flush(&iobuf), 0);
    read_all(left);
    assert_in_range(gt_iobuf_room(&iobuf), GT_IOBUF_FIRST, 2 * GT_IOBUF_FIRST);
}

static void test_unsent_output_is_sent_later(void **state)
{
    size_t n_put = 0, n_got = 0;

    while (n_put < 4 * GT_IOBUF_SIZE || n_got < n_put) {
        size_t n = GT_MIN(gt_iobuf_room(&iobuf), 16406u);

        if (n_put < 4 * GT_IOBUF_SIZE && n > 0 &&
            gt_iobuf_put(&iobuf, data + n_put % 1000, n) == 0) {
            n_put += n;
            continue;
        }
        int r = gt_iobuf_flush(&iobuf);
        assert_in_range(r, 0, GT_IOBUF_E_AGAIN);
        ssize_t got = recv(fds[1], copy, sizeof(copy), 0);
        n_got += got > 0 ? (size_t)got : 0;
    }
    assert_int_equal(n_got, n_put);
}

static void test_bytes_keep_their_order(void **state)
{
    size_t n_put = 0, n_got = 0, total = 1000003;

    while (n_got < total) {
        uint8_t piece[9973];
        size_t n = GT_MIN(sizeof(piece), total - n_put);

        for (size_t i = 0; i < n; i++)
            piece[i] = (uint8_t)((n_put + i) * 31 >> 3);
        if (gt_iobuf_put(&iobuf, piece, n) == 0)
            n_put += n;
        if (gt_iobuf_flush(&iobuf) == GT_IOBUF_E_BROKEN)
            fail();
        ssize_t got = recv(fds[1], copy, 5000, 0);
        for (ssize_t i = 0; i < got; i++, n_got++)
            assert_int_equal(copy[i], (uint8_t)(n_got * 31 >> 3));
    }
    assert_int_equal(n_got, total);
}

static void test_closed_peer_breaks_without_sigpipe(void **state)
{
    gt_close(&fds[1]);
    assert_int_equal(gt_iobuf_put(&iobuf, data, 10), 0);
    assert_int_equal(gt_iobuf_flush(&iobuf), GT_IOBUF_E_BROKEN);
    assert_int_equal(iobuf.send_error, EPIPE);
    assert_int_equal(gt_iobuf_flush(&iobuf), GT_IOBUF_E_BROKEN);
    assert_false(gt_iobuf_has_output(&iobuf));
}

static void test_pool_is_bounded(void **state)
{
    struct gt_iobuf many[16];

    for (size_t i = 0; i < 16; i++) {
        gt_iobuf_init(&many[i], fds[0]);
        assert_int_equal(gt_iobuf_put(&many[i], data, 1), 0);
    }
    assert_int_equal(gt_iobuf_n_held(), 16);
    for (size_t i = 0; i < 16; i++)
        gt_iobuf_deinit(&many[i]);
    assert_int_equal(gt_iobuf_n_held(), 0);
}

/* Input is decrypted in place: a buffer that was returned has plaintext until a connection ends. */
static void test_buffers_are_wiped_when_a_connection_ends(void **state)
{
    struct gt_iobuf other;
    uint8_t *room;
    size_t n;

    assert_int_equal(send(fds[1], data, 10000, 0), 10000);
    assert_int_equal(gt_iobuf_read(&iobuf, copy, 10000, &n), 0);
    assert_int_equal(n, 10000);
    assert_int_equal(gt_iobuf_n_held(), 0);
    gt_iobuf_init(&other, fds[0]);
    gt_iobuf_deinit(&other);
    gt_iobuf_init(&other, fds[0]);
    assert_int_equal(gt_iobuf_reserve(&other, 10000, &room), 0); /* the same buffer */
    for (size_t i = 0; i < 10000; i++)
        assert_int_equal(room[i], 0);
    gt_iobuf_deinit(&other);
}

/* The connection that had the plaintext of a stream stays. */
static void test_buffers_are_wiped_when_a_stream_ends(void **state)
{
    uint8_t *room;
    size_t n;

    assert_int_equal(send(fds[1], data, 10000, 0), 10000);
    assert_int_equal(gt_iobuf_read(&iobuf, copy, 10000, &n), 0);
    gt_iobuf_wipe();
    assert_int_equal(gt_iobuf_reserve(&iobuf, 10000, &room), 0); /* the same buffer */
    for (size_t i = 0; i < 10000; i++)
        assert_int_equal(room[i], 0);
}

/* A slow connection holds the buffer of another one while that ends. */
static void test_held_buffer_is_wiped_when_it_returns(void **state)
{
    struct gt_iobuf slow, other;
    uint8_t *room;
    size_t n;

    assert_int_equal(send(fds[1], data, 10000, 0), 10000);
    assert_int_equal(gt_iobuf_read(&iobuf, copy, 10000, &n), 0);
    gt_iobuf_init(&slow, fds[0]);
    assert_int_equal(gt_iobuf_put(&slow, data, 100), 0); /* the same buffer */
    gt_iobuf_init(&other, fds[0]);
    gt_iobuf_deinit(&other);
    assert_int_equal(gt_iobuf_flush(&slow), 0);
    assert_int_equal(gt_iobuf_n_held(), 0);
    assert_int_equal(gt_iobuf_reserve(&slow, 10000, &room), 0);
    for (size_t i = 0; i < 10000; i++)
        assert_int_equal(room[i], 0);
    gt_iobuf_deinit(&slow);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_idle_connection_holds_no_buffers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_recv_serves_many_reads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_eof_follows_the_last_byte, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_put_is_all_or_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_output_grows_on_a_fast_path, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unsent_output_is_sent_later, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bytes_keep_their_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_closed_peer_breaks_without_sigpipe, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_pool_is_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_buffers_are_wiped_when_a_connection_ends, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_buffers_are_wiped_when_a_stream_ends, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_held_buffer_is_wiped_when_it_returns, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
