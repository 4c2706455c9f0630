/* SPDX-License-Identifier: ISC */
/* tunnel/datagrams.c: two ends over one socket pair, wrong lengths, congestion, idleness. */
#include "gotthard/tunnel/datagrams.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "gotthard/net/sock.h"

static struct {
    struct ev_loop *loop;
    struct gt_datagrams *datagrams;
    int peer; /* the other end */
    uint8_t data[GT_DATAGRAM_MAX];
    size_t sizes[64];
    unsigned n, n_ends;
} f;

static void on_datagram(void *userdata, const uint8_t *data, size_t n)
{
    memcpy(f.data, data, n);
    f.sizes[f.n++ % GT_ARRAY_SIZE(f.sizes)] = n;
}

static void on_end(void *userdata)
{
    f.n_ends++;
}

static const struct gt_datagrams_events events = {on_datagram, on_end};

static int set_up(void **state)
{
    int ends[2];

    memset(&f, 0, sizeof(f));
    f.loop = ev_loop_new(0);
    assert_int_equal(gt_sock_pair(ends), 0);
    assert_int_equal(gt_datagrams_new(f.loop, ends[0], 0.2, &events, NULL, &f.datagrams), 0);
    f.peer = ends[1];
    return 0;
}

static int tear_down(void **state)
{
    gt_datagrams_free(f.datagrams);
    gt_close(&f.peer);
    ev_loop_destroy(f.loop);
    return 0;
}

static void settle(void)
{
    for (int i = 0; i < 20; i++)
        ev_run(f.loop, EVRUN_NOWAIT);
}

static void test_frames_cut_anywhere_are_whole_datagrams(void **state)
{
    static const uint8_t bytes[] = {0, 0, 0, 1, 'a', 0, 3, 'b', 'c', 'd'};

    for (size_t i = 0; i < sizeof(bytes); i++) {
        assert_int_equal(send(f.peer, bytes + i, 1, 0), 1);
        settle();
    }
    assert_int_equal(f.n, 3);
    assert_int_equal(f.sizes[0], 0);
    assert_int_equal(f.sizes[1], 1);
    assert_int_equal(f.sizes[2], 3);
    assert_memory_equal(f.data, "bcd", 3);
    assert_int_equal(f.n_ends, 0);
}

static void test_wrong_length_ends(void **state)
{
    static const uint8_t longest[] = {0xff, 0xe4}; /* GT_DATAGRAM_MAX + 1 */

    assert_int_equal(send(f.peer, longest, sizeof(longest), 0), sizeof(longest));
    settle();
    assert_int_equal(f.n_ends, 1);
    assert_int_equal(f.n, 0);
}

static void test_end_of_the_stream_ends(void **state)
{
    gt_close(&f.peer);
    settle();
    assert_int_equal(f.n_ends, 1);
}

static void test_idle_stream_ends(void **state)
{
    while (f.n_ends == 0)
        ev_run(f.loop, EVRUN_ONCE);
    assert_int_equal(f.n_ends, 1);
}

/* Reads all that was sent, and checks that it is whole frames of ascending numbers. */
static unsigned assert_ascending_frames(size_t size)
{
    static uint8_t bytes[1 << 23];
    unsigned n_frames = 0;
    size_t n = 0;
    ssize_t got;
    int last = -1;

    do {
        got = recv(f.peer, bytes + n, sizeof(bytes) - n, MSG_DONTWAIT);
        n += got > 0 ? (size_t)got : 0;
        settle(); /* the remainder of a frame follows */
    } while (got > 0 || recv(f.peer, bytes + n, 1, MSG_DONTWAIT | MSG_PEEK) > 0);
    for (size_t at = 0; at < n; at += 2 + size, n_frames++) {
        assert_true(n - at >= 2 + size);
        assert_int_equal(bytes[at] << 8 | bytes[at + 1], size);
        assert_true(bytes[at + 2] > last);
        last = bytes[at + 2];
    }
    return n_frames;
}

static void test_congested_stream_drops_whole_datagrams(void **state)
{
    static uint8_t data[30000];
    unsigned n_sent = 0;

    for (unsigned i = 0; i < 200; i++) {
        data[0] = (uint8_t)i;
        n_sent += gt_datagrams_send(f.datagrams, data, sizeof(data));
    }
    assert_true(n_sent > 0 && n_sent < 200);
    assert_int_equal(assert_ascending_frames(sizeof(data)), n_sent);
    assert_true(gt_datagrams_send(f.datagrams, data, sizeof(data)));
}

static void test_longest_datagram(void **state)
{
    static uint8_t data[GT_DATAGRAM_MAX + 1];

    assert_false(gt_datagrams_send(f.datagrams, data, sizeof(data)));
    assert_true(gt_datagrams_send(f.datagrams, data, GT_DATAGRAM_MAX));
    assert_int_equal(assert_ascending_frames(GT_DATAGRAM_MAX), 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_frames_cut_anywhere_are_whole_datagrams),
        TEST(test_wrong_length_ends),
        TEST(test_end_of_the_stream_ends),
        TEST(test_idle_stream_ends),
        TEST(test_congested_stream_drops_whole_datagrams),
        TEST(test_longest_datagram),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
