/* SPDX-License-Identifier: ISC */
/*
 * ring.c: its limits, the wrap, the restart at the beginning of its memory, and random operations
 * compared with a plain array that keeps everything.
 */
// clang-format off
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on
#include <time.h>

#include "gotthard/base/ring.h"

static void test_ring_rounds_capacity_to_a_power_of_two(void **state)
{
    static const size_t table[][2] = {
        {0, GT_RING_MIN},
        {1, GT_RING_MIN},
        {GT_RING_MIN - 1, GT_RING_MIN},
        {GT_RING_MIN, GT_RING_MIN},
        {GT_RING_MIN + 1, 2 * GT_RING_MIN},
        {1 << 20, 1 << 20},
        {(1 << 20) + 1, 2 << 20},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(table); i++) {
        struct gt_ring ring;

        gt_ring_init(&ring, table[i][0]);
        assert_int_equal(ring.capacity, table[i][1]);
        assert_null(ring.data);
        gt_ring_deinit(&ring);
    }
}

static void test_ring_is_bounded_by_its_capacity(void **state)
{
    static uint8_t in[GT_RING_MIN], out[GT_RING_MIN];
    struct gt_ring ring;
    struct iovec runs[2];
    int n_runs = -1;

    memset(in, 'x', sizeof(in));
    gt_ring_init(&ring, GT_RING_MIN);
    assert_int_equal(gt_ring_write(&ring, in, 0), 0);
    assert_int_equal(gt_ring_view(&ring, 0, SIZE_MAX, runs), 0);
    assert_int_equal(gt_ring_copy(&ring, 0, out, sizeof(out)), 0);
    assert_int_equal(gt_ring_write(&ring, in, GT_RING_MIN), 0);
    assert_int_equal(gt_ring_free(&ring), 0);
    assert_int_equal(gt_ring_room(&ring, SIZE_MAX, runs, &n_runs), 0);
    assert_int_equal(n_runs, 0);
    assert_int_equal(gt_ring_copy(&ring, 0, out, SIZE_MAX), GT_RING_MIN);
    assert_memory_equal(in, out, sizeof(in));
    assert_int_equal(gt_ring_copy(&ring, GT_RING_MIN, out, 1), 0);
    gt_ring_release(&ring); /* no effect: bytes are in it */
    assert_non_null(ring.data);
    gt_ring_drop(&ring, GT_RING_MIN);
    gt_ring_release(&ring);
    assert_null(ring.data);
    assert_int_equal(ring.head, GT_RING_MIN); /* offsets continue */
    assert_int_equal(gt_ring_write(&ring, "y", 1), 0);
    assert_int_equal(gt_ring_copy(&ring, GT_RING_MIN, out, 1), 1);
    assert_int_equal(out[0], 'y');
    gt_ring_deinit(&ring);
}

static void test_ring_wraps_into_two_runs(void **state)
{
    static uint8_t in[GT_RING_MIN], out[GT_RING_MIN];
    struct gt_ring ring;
    struct iovec runs[2];
    int n_runs = 0;

    for (size_t i = 0; i < sizeof(in); i++)
        in[i] = (uint8_t)(i * 7);
    gt_ring_init(&ring, GT_RING_MIN);
    assert_int_equal(gt_ring_write(&ring, in, GT_RING_MIN - 10), 0);
    gt_ring_drop(&ring, GT_RING_MIN - 20);
    assert_int_equal(gt_ring_room(&ring, 30, runs, &n_runs), 0);
    assert_int_equal(n_runs, 2);
    assert_int_equal(runs[0].iov_len, 10);
    assert_int_equal(runs[1].iov_len, 20);
    assert_ptr_equal(runs[1].iov_base, ring.data);
    assert_int_equal(gt_ring_write(&ring, in, 30), 0);
    assert_int_equal(gt_ring_view(&ring, ring.head, SIZE_MAX, runs), 2);
    assert_int_equal(gt_ring_view(&ring, ring.head, 20, runs), 1);
    assert_int_equal(gt_ring_view(&ring, ring.head + 20, SIZE_MAX, runs), 1);
    assert_int_equal(gt_ring_copy(&ring, ring.head + 10, out, SIZE_MAX), 30);
    assert_memory_equal(out, in, 30);
    gt_ring_deinit(&ring);
}

static void test_empty_ring_restarts_at_its_memory(void **state)
{
    struct gt_ring ring;
    struct iovec runs[2];
    int n_runs = 0;

    gt_ring_init(&ring, GT_RING_MIN);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(gt_ring_room(&ring, 1000, runs, &n_runs), 0);
        assert_int_equal(n_runs, 1);
        assert_ptr_equal(runs[0].iov_base, ring.data);
        gt_ring_fill(&ring, 1000);
        gt_ring_drop(&ring, 1000);
    }
    gt_ring_deinit(&ring);
}

/* Checks that all bytes, own and borrowed, are those of @all at the same offsets. */
static void assert_holds(const struct gt_ring *ring, const uint8_t *all)
{
    struct iovec runs[2 + GT_RING_BORROWED_MAX];
    uint64_t at = ring->head;
    int n = gt_ring_view(ring, ring->head, SIZE_MAX, runs);

    n += gt_ring_view_borrowed(ring, runs + n);
    for (int i = 0; i < n; at += runs[i].iov_len, i++)
        assert_memory_equal(runs[i].iov_base, all + at, runs[i].iov_len);
    assert_int_equal(at, ring->tail);
}

/* Three borrowed spans, dropped in four steps: only bytes that remain are copied. */
static void test_truncated_ring_keeps_the_bytes_before(void **state)
{
    struct gt_ring ring;
    char got[16] = {0};

    gt_ring_init(&ring, GT_RING_MIN);
    gt_ring_truncate(&ring, 0);
    assert_int_equal(gt_ring_write(&ring, "kept, removed", 13), 0);
    gt_ring_truncate(&ring, 6);
    assert_int_equal(gt_ring_write(&ring, "added", 5), 0);
    gt_ring_drop(&ring, 1);
    assert_int_equal(gt_ring_copy(&ring, 1, got, sizeof(got)), 10);
    assert_string_equal(got, "ept, added");
    gt_ring_truncate(&ring, 1);
    assert_int_equal(gt_ring_used(&ring), 0);
    gt_ring_deinit(&ring);
}

static void test_ring_copies_borrowed_bytes(void **state)
{
    static uint8_t all[3000], other[3000];

    for (size_t i = 0; i < sizeof(all); i++)
        all[i] = (uint8_t)(i * 7 + i / 251);
    for (size_t dropped = 0; dropped <= 3000; dropped += 500) {
        struct gt_borrowed borrowed = {0};
        struct gt_ring ring;

        gt_ring_init(&ring, GT_RING_MIN);
        ring.borrowed = &borrowed;
        memcpy(other, all, sizeof(all));
        for (size_t i = 0; i < 3; i++)
            assert_int_equal(gt_ring_write(&ring, other + 1000 * i, 1000), 0);
        gt_ring_drop(&ring, dropped / 2);
        gt_ring_drop(&ring, dropped - dropped / 2);
        assert_int_equal(gt_ring_n_borrowed(&ring), 3000 - dropped);
        assert_holds(&ring, all);
        gt_ring_copy_borrowed(&ring);
        assert_int_equal(gt_ring_n_borrowed(&ring), 0);
        memset(other, 0, sizeof(other));
        assert_holds(&ring, all);
        assert_int_equal(ring.tail, 3000);
        gt_ring_deinit(&ring);
    }
}

/* Of 64 KiB: the pool keeps its memory. */
static void test_memory_of_an_ended_ring_is_wiped(void **state)
{
    struct gt_ring ring;
    struct iovec room[2];
    int n_room;

    gt_ring_init(&ring, 64 * 1024);
    assert_int_equal(gt_ring_write(&ring, "secret", 6), 0);
    const uint8_t *memory = ring.data;
    gt_ring_deinit(&ring);
    gt_ring_init(&ring, 64 * 1024);
    assert_int_equal(gt_ring_room(&ring, SIZE_MAX, room, &n_room), 0);
    assert_ptr_equal(ring.data, memory);
    assert_memory_equal(ring.data, "\0\0\0\0\0", 6);
    gt_ring_deinit(&ring);
    gt_ring_trim();
}

static void test_ring_matches_an_array_for_random_operations(void **state)
{
    unsigned seed = (unsigned)time(NULL);

    print_message("seed %u\n", seed);
    srand(seed);
    for (int life = 0; life < 50; life++) {
        static uint8_t all[1 << 20], out[1 << 14];
        size_t n = 0, taken = 0;
        struct gt_ring ring;
        struct gt_borrowed borrowed = {0};

        gt_ring_init(&ring, (size_t)GT_RING_MIN << rand() % 3);
        while (n < sizeof(all) - (1 << 14)) {
            size_t wish = (size_t)rand() % 5000, k = GT_MIN(wish, gt_ring_free(&ring));

            for (size_t i = 0; i < k; i++)
                all[n + i] = (uint8_t)rand();
            assert_int_equal(gt_ring_write(&ring, all + n, k), 0);
            n += k;
            assert_holds(&ring, all);
            if (rand() % 4 == 0) {
                gt_ring_copy_borrowed(&ring);
                ring.borrowed = rand() % 2 ? &borrowed : NULL;
            }
            if (ring.borrowed) {
                gt_ring_drop(&ring, taken < n ? (size_t)rand() % (n - taken) : 0);
                taken = (size_t)ring.head;
                continue;
            }
            size_t from = taken + (size_t)rand() % (n - taken + 1);
            k = gt_ring_copy(&ring, from, out, (size_t)rand() % sizeof(out));
            assert_memory_equal(out, all + from, k);
            k = GT_MIN(wish, gt_ring_used(&ring));
            gt_ring_drop(&ring, k);
            taken += k;
            assert_int_equal(ring.head, taken);
            assert_int_equal(ring.tail, n);
        }
        gt_ring_deinit(&ring);
    }
}

/* Larger and smaller capacities, with every position of the ends and number of kept bytes. */
static void test_resize_keeps_all_bytes(void **state)
{
    uint8_t all[16384], got[16384];

    for (size_t i = 0; i < sizeof(all); i++)
        all[i] = (uint8_t)(i * 7 + i / 251);
    for (size_t before = 0; before <= 8192; before += 1021)
        for (size_t n = 0; n <= 4096; n += 512) {
            struct gt_ring ring;

            gt_ring_init(&ring, 8192);
            assert_int_equal(gt_ring_write(&ring, all, before), 0);
            gt_ring_drop(&ring, before / 2);
            size_t more = GT_MIN(n, gt_ring_free(&ring));
            assert_int_equal(gt_ring_write(&ring, all + before, more), 0);
            gt_ring_drop(&ring, before - before / 2);
            assert_int_equal(gt_ring_resize(&ring, 4096), 0);
            assert_int_equal(ring.capacity, 4096);
            assert_int_equal(gt_ring_resize(&ring, 300000), 0);
            assert_int_equal(ring.capacity, 1 << 19);
            assert_int_equal(gt_ring_write(&ring, all + before + more, 4096 - more), 0);
            assert_int_equal(ring.head, before);
            assert_int_equal(gt_ring_copy(&ring, before, got, sizeof(got)), 4096);
            assert_memory_equal(got, all + before, 4096);
            gt_ring_deinit(&ring);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ring_rounds_capacity_to_a_power_of_two),
        cmocka_unit_test(test_resize_keeps_all_bytes),
        cmocka_unit_test(test_ring_is_bounded_by_its_capacity),
        cmocka_unit_test(test_ring_wraps_into_two_runs),
        cmocka_unit_test(test_empty_ring_restarts_at_its_memory),
        cmocka_unit_test(test_truncated_ring_keeps_the_bytes_before),
        cmocka_unit_test(test_ring_copies_borrowed_bytes),
        cmocka_unit_test(test_memory_of_an_ended_ring_is_wiped),
        cmocka_unit_test(test_ring_matches_an_array_for_random_operations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
