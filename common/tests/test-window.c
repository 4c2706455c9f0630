/* SPDX-License-Identifier: ISC */
/* window.c: tables of situations and the decision in each. The clock is a number in the table. */
#include "gotthard/proto/window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#define KIB ((size_t)1024)
#define MIB ((size_t)1024 * 1024)

static void test_window_starts_small_and_within_its_limit(void **state)
{
    static const struct {
        size_t max, shared, own;
    } cases[] = {
        {4 * KIB, 4 * KIB, 4 * KIB},
        {128 * KIB + 1, 128 * KIB, 128 * KIB + 1},
        {256 * KIB - 1, 128 * KIB, 256 * KIB - 1},
        {256 * KIB, 128 * KIB, 256 * KIB},
        {256 * KIB + 1, 128 * KIB, 256 * KIB},
        {16 * MIB, 128 * KIB, 256 * KIB},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_window window;

        gt_window_init(&window, cases[i].max, 4096);
        assert_int_equal(window.size, cases[i].shared);
        assert_int_equal(window.max, cases[i].max);
        assert_int_equal(window.acked, 0);
        assert_int_equal(window.limit, 4096);
        assert_false(gt_window_set_shared(&window, true));
        assert_true(gt_window_set_shared(&window, false));
        assert_int_equal(window.size, cases[i].own);
    }
}

static void test_granted_limit_is_never_withdrawn(void **state)
{
    struct gt_window window;

    gt_window_init(&window, 4 * MIB, 4096);
    gt_window_set_shared(&window, false);
    assert_int_equal(gt_window_limit(&window, 0), 256 * KIB);
    gt_window_announced(&window, 0, 0);
    assert_int_equal(window.limit, 256 * KIB);
    window.size = 4 * MIB;
    gt_window_announced(&window, 1000, 500);
    assert_int_equal(window.acked, 1000);
    assert_int_equal(window.limit, 4 * MIB + 500);
    gt_window_shrink(&window);
    assert_int_equal(window.size, 256 * KIB);
    assert_int_equal(gt_window_limit(&window, 1000), 4 * MIB + 500);
    gt_window_announced(&window, 1000, 1000);
    assert_int_equal(window.limit, 4 * MIB + 500);
    assert_int_equal(gt_window_ring_size(&window, 1000), 4 * MIB - 500);
    assert_int_equal(gt_window_ring_size(&window, 4 * MIB), MIB);
    gt_window_set_shared(&window, true);
    assert_int_equal(window.limit, 4 * MIB + 500);
    assert_int_equal(gt_window_limit(&window, 1000), 4 * MIB + 500);
    assert_int_equal(gt_window_ring_size(&window, 1000), 4 * MIB - 500);
    assert_int_equal(gt_window_ring_size(&window, 4 * MIB), 64 * KIB);
}

static void test_window_of_the_shared_connection_never_grows(void **state)
{
    struct gt_window window;
    struct gt_window_probe probe = {.began = 50};

    gt_window_init(&window, 4 * MIB, 4096);
    assert_false(gt_window_may_grow(&window));
    assert_false(gt_window_probe_end(&window, &probe, 50.07, 128 * KIB, 0));
    assert_true(gt_window_is_send_ring_short(&window, 64 * KIB, 64 * KIB, 4 * MIB));
    assert_false(gt_window_is_send_ring_short(&window, 128 * KIB, 128 * KIB, 4 * MIB));
    gt_window_set_shared(&window, false);
    probe = (struct gt_window_probe){.began = 50};
    assert_true(gt_window_may_grow(&window));
    assert_true(gt_window_probe_end(&window, &probe, 50.07, 128 * KIB, 0));
}

static void test_ack_is_due_after_a_quarter_of_the_window(void **state)
{
    static const struct {
        size_t size;
        uint64_t acked, tail;
        bool is_due;
    } cases[] = {
        {4096, 0, 1023, false},         {4096, 0, 1024, true},
        {4096, 5000, 6023, false},      {4096, 5000, 6024, true},
        {MIB, 0, 256 * KIB - 1, false}, {MIB, 0, 256 * KIB, true},
        {8 * MIB, 0, 256 * KIB, true},  {8 * MIB, 0, 256 * KIB - 1, false},
        {8 * MIB, 1, 256 * KIB, false},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        const struct gt_window window = {.size = cases[i].size, .acked = cases[i].acked};

        if (gt_window_is_ack_due(&window, cases[i].tail) != cases[i].is_due)
            fail_msg("case %zu", i);
    }
}

static void test_update_is_due_after_a_quarter_of_the_window_is_free(void **state)
{
    static const struct {
        uint64_t limit, head;
        bool is_due;
    } cases[] = {
        {4096, 0, false},   {4096, 1023, false}, {4096, 1024, true},
        {4096, 4096, true}, {9000, 1024, false}, /* granted earlier, when the window was larger */
        {9000, 5928, true},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        const struct gt_window window = {.size = 4096, .max = 8192, .limit = cases[i].limit};

        if (gt_window_is_update_due(&window, cases[i].head) != cases[i].is_due)
            fail_msg("case %zu", i);
    }
}

static void test_window_grows_only_if_it_limits_the_peer(void **state)
{
    static const struct {
        const char *name;
        size_t size;
        double shortest, took;
        size_t n_received, n_unread;
        bool is_growing;
    } cases[] = {
        {"used by half", 256 * KIB, .07, .07, 128 * KIB, 0, true},
        {"used by less", 256 * KIB, .07, .07, 128 * KIB - 1, 0, false},
        {"half unread", 256 * KIB, .07, .07, 256 * KIB, 128 * KIB, true},
        {"more unread", 256 * KIB, .07, .07, 256 * KIB, 128 * KIB + 1, false},
        {"at its limit", 4 * MIB, .07, .07, 4 * MIB, 0, false},
        {"first round trip", 256 * KIB, 0, 5, 256 * KIB, 0, true},
        {"queued on a short path", 256 * KIB, .01, .21, 256 * KIB, 0, false},
        {"not queued on a short path", 256 * KIB, .01, .19, 256 * KIB, 0, true},
        {"queued on a long path", 256 * KIB, .3, .61, 256 * KIB, 0, false},
        {"not queued on a long path", 256 * KIB, .3, .59, 256 * KIB, 0, true},
        {"fast with a small window", 512 * KIB, .0001, .0001, 512 * KIB, 0, true},
        {"fast with 1 MiB", MIB, .0001, .0001, MIB, 0, false},
        {"slower than the rate with 1 MiB", MIB, .0001, .0021, MIB, 0, true},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        const struct gt_window window = {.size = cases[i].size, .max = 4 * MIB};
        struct gt_window_probe probe = {.from = 7, .began = 50, .shortest = cases[i].shortest};

        if (gt_window_probe_end(&window, &probe, 50 + cases[i].took, 7 + cases[i].n_received,
                                cases[i].n_unread) != cases[i].is_growing)
            fail_msg("%s", cases[i].name);
    }
}

static void test_probe_keeps_the_shortest_round_trip(void **state)
{
    static const double took[] = {.25, .5, .125, .25}, shortest[] = {.25, .25, .125, .125};
    const struct gt_window window = {.size = 4096, .max = 4096};
    struct gt_window_probe probe = {0};

    for (size_t i = 0; i < GT_ARRAY_SIZE(took); i++) {
        probe.began = 10 * (double)i;
        assert_false(gt_window_probe_end(&window, &probe, probe.began + took[i], 0, 0));
        assert_true(probe.shortest == shortest[i]);
    }
}

static void test_send_ring_grows_for_a_larger_peer_window(void **state)
{
    static const struct {
        size_t n_used, capacity, peer_window;
        bool is_short;
    } cases[] = {
        {512 * KIB, MIB, MIB, true}, {512 * KIB - 1, MIB, MIB, false},   {MIB, MIB, MIB - 1, false},
        {MIB, MIB, SIZE_MAX, true},  {4 * MIB, 4 * MIB, 8 * MIB, false}, /* at its limit */
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        const struct gt_window window = {.max = 4 * MIB};

        if (gt_window_is_send_ring_short(&window, cases[i].n_used, cases[i].capacity,
                                         cases[i].peer_window) != cases[i].is_short)
            fail_msg("case %zu", i);
    }
}

static void test_idle_is_reported_once_per_period(void **state)
{
    static const struct {
        double now;
        uint64_t rx, tx;
        bool is_idle;
    } steps[] = {
        {1000, 0, 0, true}, /* no period began before */
        {1014.9, 100, 100, false},
        {1015, 100, 100, true},
        {1029, 200, 100, false},
        {1029.5, 256 * KIB + 100, 100, false}, /* busy: the period begins anew */
        {1044, 256 * KIB + 100, 100, false},
        {1044.5, 256 * KIB + 100, 100, true},
        {1050, 384 * KIB + 100, 128 * KIB + 100, false}, /* both directions count */
        {1064, 384 * KIB + 100, 128 * KIB + 100, false},
        {1065, 384 * KIB + 100, 128 * KIB + 100, true},
    };
    struct gt_window_idle idle = {0};

    for (size_t i = 0; i < GT_ARRAY_SIZE(steps); i++)
        if (gt_window_is_idle(&idle, steps[i].now, steps[i].rx, steps[i].tx) != steps[i].is_idle)
            fail_msg("step %zu at %g", i, steps[i].now);
}

static void test_memory_is_charged_beyond_the_first_ring_size(void **state)
{
    static const struct {
        size_t n_used, before, after;
        bool is_allowed;
        size_t n_used_after;
    } cases[] = {
        {0, 4096, MIB, true, 0},
        {3 * MIB, 4096, MIB, true, 3 * MIB},
        {0, MIB, 4 * MIB, true, 3 * MIB},
        {0, MIB, 5 * MIB, false, 0},
        {3 * MIB, MIB, 2 * MIB, false, 0},
        {2 * MIB, MIB, 2 * MIB, true, 3 * MIB},
        {3 * MIB, 2 * MIB, 3 * MIB, false, 0},
        {3 * MIB, 4 * MIB, MIB, true, 0},
        {9 * MIB, 4 * MIB, 2 * MIB, true, 7 * MIB}, /* shrinking is always allowed */
        {1, 2, 0, true, 1},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_window_memory memory = {.max = 3 * MIB, .n_used = cases[i].n_used};

        if (gt_window_memory_allows(&memory, cases[i].before, cases[i].after) !=
            cases[i].is_allowed)
            fail_msg("case %zu", i);
        if (!cases[i].is_allowed)
            continue;
        gt_window_memory_charge(&memory, cases[i].before, cases[i].after);
        if (memory.n_used != cases[i].n_used_after)
            fail_msg("case %zu: %zu bytes used", i, memory.n_used);
    }
    assert_true(gt_window_memory_allows(NULL, 4096, (size_t)1 << 30));
    gt_window_memory_charge(NULL, 4096, (size_t)1 << 30);
}

static void test_part_of_a_large_ring_is_charged_separately(void **state)
{
    static const struct {
        size_t n_used, n_large, before, after;
        bool is_allowed;
        size_t n_large_after;
    } cases[] = {
        {3 * MIB, 0, 4 * MIB, 8 * MIB, true, 4 * MIB},
        {3 * MIB, 4 * MIB, 8 * MIB, 16 * MIB, true, 12 * MIB},
        {3 * MIB, 12 * MIB, 4 * MIB, 16 * MIB, true, 24 * MIB},
        {3 * MIB, 13 * MIB, 4 * MIB, 16 * MIB, false, 0},
        {3 * MIB, 24 * MIB, 4 * MIB, 8 * MIB, false, 0},
        {3 * MIB, 24 * MIB, MIB, 4 * MIB, true, 24 * MIB}, /* takes nothing from it */
        {64 * MIB, 0, MIB, 16 * MIB, false, 0},
        {64 * MIB, 0, 4 * MIB, 16 * MIB, true, 12 * MIB}, /* and the other way round */
        {64 * MIB, 24 * MIB, 16 * MIB, 8 * MIB, true, 16 * MIB},
        {64 * MIB, 24 * MIB, 16 * MIB, 0, true, 12 * MIB},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_window_memory memory;

        gt_window_memory_init(&memory, 16 * MIB);
        memory.n_used = cases[i].n_used;
        memory.n_large = cases[i].n_large;
        if (gt_window_memory_allows(&memory, cases[i].before, cases[i].after) !=
            cases[i].is_allowed)
            fail_msg("case %zu", i);
        if (!cases[i].is_allowed)
            continue;
        gt_window_memory_charge(&memory, cases[i].before, cases[i].after);
        if (memory.n_large != cases[i].n_large_after)
            fail_msg("case %zu: %zu bytes used", i, memory.n_large);
    }
}

static void test_memory_follows_from_the_limit_of_a_ring(void **state)
{
    static const struct {
        size_t ring_max, max, large_max;
    } cases[] = {
        {64 * KIB, MIB, 0},
        {MIB, 16 * MIB, 0},
        {4 * MIB, 64 * MIB, 0},
        {4 * MIB + 1, 64 * MIB, 8 * MIB}, /* a ring has a power of two */
        {16 * MIB, 64 * MIB, 24 * MIB},
        {64 * MIB, 64 * MIB, 120 * MIB},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_window_memory memory;

        gt_window_memory_init(&memory, cases[i].ring_max);
        if (memory.max != cases[i].max || memory.large_max != cases[i].large_max)
            fail_msg("case %zu: %zu and %zu", i, memory.max, memory.large_max);
    }
}

static void test_default_limit_follows_from_the_memory_of_the_machine(void **state)
{
    static const struct {
        uint64_t physical;
        size_t ring_max;
    } cases[] = {
        {0, 4 * MIB}, /* not known */
        {64 * MIB, 4 * MIB},
        {512 * MIB, 4 * MIB},
        {906 * MIB, 16 * MIB}, /* a Raspberry Pi with 1 GB */
        {(uint64_t)64 << 30, 16 * MIB},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++)
        if (gt_window_default_max(cases[i].physical) != cases[i].ring_max)
            fail_msg("case %zu", i);
}

/* Random grants: the limit only rises, and the ring size covers a grant that is larger than the
 * window of the shared connection. */
static void test_random_grants_fit_into_the_ring(void **state)
{
    unsigned seed = (unsigned)time(NULL);
    struct gt_window window;
    uint64_t head = 0, tail = 0;

    print_message("seed %u\n", seed);
    gt_window_init(&window, 8 * MIB, 4096);
    for (unsigned i = 0; i < 100000; i++) {
        uint64_t limit = window.limit;

        tail += (uint64_t)rand_r(&seed) % (window.limit - tail + 1);
        head += (uint64_t)rand_r(&seed) % (tail - head + 1);
        if (rand_r(&seed) % 8 == 0 && gt_window_may_grow(&window))
            window.size *= 2;
        if (rand_r(&seed) % 64 == 0)
            gt_window_set_shared(&window, rand_r(&seed) % 2);
        if (rand_r(&seed) % 16 == 0)
            gt_window_shrink(&window);
        if (rand_r(&seed) % 2)
            gt_window_announced(&window, tail, head);
        assert_true(window.limit >= limit);
        bool is_lazy = window.is_shared && window.limit - head <= GT_WINDOW_SHARED;
        assert_true(is_lazy || window.limit - head <= gt_window_ring_size(&window, head));
        assert_true(window.limit - head <= window.max);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_window_starts_small_and_within_its_limit),
        cmocka_unit_test(test_granted_limit_is_never_withdrawn),
        cmocka_unit_test(test_window_of_the_shared_connection_never_grows),
        cmocka_unit_test(test_ack_is_due_after_a_quarter_of_the_window),
        cmocka_unit_test(test_update_is_due_after_a_quarter_of_the_window_is_free),
        cmocka_unit_test(test_window_grows_only_if_it_limits_the_peer),
        cmocka_unit_test(test_probe_keeps_the_shortest_round_trip),
        cmocka_unit_test(test_send_ring_grows_for_a_larger_peer_window),
        cmocka_unit_test(test_idle_is_reported_once_per_period),
        cmocka_unit_test(test_memory_is_charged_beyond_the_first_ring_size),
        cmocka_unit_test(test_part_of_a_large_ring_is_charged_separately),
        cmocka_unit_test(test_memory_follows_from_the_limit_of_a_ring),
        cmocka_unit_test(test_default_limit_follows_from_the_memory_of_the_machine),
        cmocka_unit_test(test_random_grants_fit_into_the_ring),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
