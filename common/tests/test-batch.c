/* SPDX-License-Identifier: ISC */
/* The two buffers of a socket, and the pool they come from. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>
#include <string.h>
#include <sys/socket.h>

#include "gotthard/batch.h"
#include "gotthard/sock.h"

static int fds[2];
static struct gt_batch batch;
static uint8_t data[GT_BATCH + 1], copy[GT_BATCH];

static int set_up(void **state)
{
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 + i / 251);
    gt_batch_init(&batch, 0);
    if (gt_sock_pair(fds))
        return -1;
    batch.fd = fds[0];
    return 0;
}

static int tear_down(void **state)
{
    gt_batch_deinit(&batch);
    gt_close(&fds[0]);
    gt_close(&fds[1]);
    assert_int_equal(gt_batch_n_held(), 0);
    gt_batch_trim();
    return 0;
}

static void nothing_is_held_while_nothing_is_there(void **state)
{
    size_t n;
    assert_int_equal(gt_batch_take(&batch, copy, 1, &n), GT_BATCH_E_AGAIN);
    assert_int_equal(gt_batch_n_held(), 0);
    assert_int_equal(gt_batch_put(&batch, data, 10), 0);
    assert_int_equal(gt_batch_n_held(), 1);
    assert_int_equal(gt_batch_flush(&batch), 0);
    assert_int_equal(gt_batch_n_held(), 0);
    assert_false(gt_batch_has_output(&batch));
}

static void one_recv_serves_many_takes(void **state)
{
    size_t n;
    assert_int_equal(send(fds[1], data, 100, MSG_NOSIGNAL), 100);
    for (size_t i = 0; i < 100; i += n) {
        assert_int_equal(gt_batch_take(&batch, copy, 33, &n), 0);
        assert_int_equal(n, GT_MIN(33, 100 - i));
        assert_memory_equal(copy, data + i, n);
        assert_int_equal(gt_batch_has_input(&batch), i + n < 100);
    }
    assert_int_equal(gt_batch_n_held(), 0);
    /* What comes now is not looked for in this turn, and found in the next. */
    assert_int_equal(send(fds[1], data, 1, MSG_NOSIGNAL), 1);
    assert_int_equal(gt_batch_take(&batch, copy, 33, &n), GT_BATCH_E_AGAIN);
    assert_int_equal(gt_batch_take(&batch, copy, 33, &n), 0);
    assert_int_equal(n, 1);
}

static void the_end_is_told_after_the_last_byte(void **state)
{
    size_t n;
    assert_int_equal(send(fds[1], data, 5, MSG_NOSIGNAL), 5);
    gt_close(&fds[1]);
    assert_int_equal(gt_batch_take(&batch, copy, 33, &n), 0);
    assert_int_equal(gt_batch_take(&batch, copy, 33, &n), GT_BATCH_E_AGAIN);
    assert_int_equal(gt_batch_take(&batch, copy, 33, &n), GT_BATCH_E_EOF);
    assert_int_equal(gt_batch_take(&batch, copy, 33, &n), GT_BATCH_E_EOF);
}

static void it_takes_all_or_nothing(void **state)
{
    assert_int_equal(gt_batch_room(&batch), GT_BATCH_FIRST);
    assert_false(batch.is_fast);
    assert_int_equal(gt_batch_put(&batch, data, GT_BATCH_FIRST + 1), GT_BATCH_E_AGAIN);
    assert_int_equal(gt_batch_put(&batch, data, GT_BATCH_FIRST - 1), 0);
    assert_int_equal(gt_batch_put(&batch, data, 2), GT_BATCH_E_AGAIN);
    assert_int_equal(gt_batch_put(&batch, data, 1), 0);
    assert_int_equal(gt_batch_room(&batch), 0);
}

static void take_all(size_t n)
{
    for (ssize_t got; n > 0; n -= (size_t)got) {
        got = recv(fds[1], copy, sizeof copy, 0);
        assert_true(got > 0);
    }
}

/* As much as the socket takes, and little for one that does not. */
static void a_fast_way_gets_more_at_once(void **state)
{
    static const size_t rooms[] = {GT_BATCH_FIRST, 2 * GT_BATCH_FIRST, GT_BATCH, GT_BATCH};
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &(int){4 * GT_BATCH}, sizeof(int));
    for (size_t i = 0; i < GT_ARRAY_SIZE(rooms); i++) {
        assert_int_equal(gt_batch_room(&batch), rooms[i]);
        assert_int_equal(gt_batch_put(&batch, data, rooms[i]), 0);
        assert_int_equal(gt_batch_flush(&batch), 0);
        take_all(rooms[i]);
        assert_true(batch.is_fast);
    }
    assert_int_equal(gt_batch_put(&batch, data, 100), 0); /* says nothing of the way */
    assert_int_equal(gt_batch_flush(&batch), 0);
    take_all(100);
    assert_int_equal(gt_batch_room(&batch), GT_BATCH);

    size_t n = 0;
    for (int r = 0; r == 0; r = gt_batch_flush(&batch), n += GT_BATCH)
        assert_int_equal(gt_batch_put(&batch, data, GT_BATCH), 0);
    take_all(n - (batch.out_end - batch.out_at));
    size_t left = batch.out_end - batch.out_at;
    assert_int_equal(gt_batch_flush(&batch), 0);
    take_all(left);
    assert_in_range(gt_batch_room(&batch), GT_BATCH_FIRST, 2 * GT_BATCH_FIRST);
}

static void what_a_full_socket_leaves_goes_out_later(void **state)
{
    size_t n_put = 0, n_got = 0;
    while (n_put < 4 * GT_BATCH || n_got < n_put) {
        size_t n = GT_MIN(gt_batch_room(&batch), 16406u);
        if (n_put < 4 * GT_BATCH && n > 0 && gt_batch_put(&batch, data + n_put % 1000, n) == 0) {
            n_put += n;
            continue;
        }
        int r = gt_batch_flush(&batch);
        assert_in_range(r, 0, GT_BATCH_E_AGAIN);
        ssize_t got = recv(fds[1], copy, sizeof copy, 0);
        n_got += got > 0 ? (size_t)got : 0;
    }
    assert_int_equal(n_got, n_put);
}

static void bytes_keep_their_order(void **state)
{
    size_t n_put = 0, n_got = 0, total = 1000003;
    while (n_got < total) {
        uint8_t piece[9973];
        size_t n = GT_MIN(sizeof piece, total - n_put);
        for (size_t i = 0; i < n; i++)
            piece[i] = (uint8_t)((n_put + i) * 31 >> 3);
        if (gt_batch_put(&batch, piece, n) == 0)
            n_put += n;
        if (gt_batch_flush(&batch) == GT_BATCH_E_BROKEN)
            fail();
        ssize_t got = recv(fds[1], copy, 5000, 0);
        for (ssize_t i = 0; i < got; i++, n_got++)
            assert_int_equal(copy[i], (uint8_t)(n_got * 31 >> 3));
    }
    assert_int_equal(n_got, total);
}

static void a_gone_peer_is_broken_and_no_signal(void **state)
{
    gt_close(&fds[1]);
    assert_int_equal(gt_batch_put(&batch, data, 10), 0);
    assert_int_equal(gt_batch_flush(&batch), GT_BATCH_E_BROKEN);
    assert_int_equal(batch.send_error, EPIPE);
    assert_int_equal(gt_batch_flush(&batch), GT_BATCH_E_BROKEN);
    assert_false(gt_batch_has_output(&batch));
}

static void the_pool_is_bounded(void **state)
{
    struct gt_batch many[16];
    for (size_t i = 0; i < 16; i++) {
        gt_batch_init(&many[i], fds[0]);
        assert_int_equal(gt_batch_put(&many[i], data, 1), 0);
    }
    assert_int_equal(gt_batch_n_held(), 16);
    for (size_t i = 0; i < 16; i++)
        gt_batch_deinit(&many[i]);
    assert_int_equal(gt_batch_n_held(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_held_while_nothing_is_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_recv_serves_many_takes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_end_is_told_after_the_last_byte, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_takes_all_or_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_fast_way_gets_more_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_a_full_socket_leaves_goes_out_later, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(bytes_keep_their_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_gone_peer_is_broken_and_no_signal, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_pool_is_bounded, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
