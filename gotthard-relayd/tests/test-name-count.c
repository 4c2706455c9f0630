/* SPDX-License-Identifier: ISC */
/* name-count.c: counts of several names, random use, and failed allocations. */
#include "limits/name-count.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "memory.h"

static void test_name_count_counts_each_name_separately(void **state)
{
    struct name_counts name_counts = {0};
    struct name_count *alice = name_count_acquire(&name_counts, "g1:o:alice");

    assert_non_null(alice);
    assert_int_equal(name_count_of(&name_counts, "g1:o:alice"), 1);
    assert_int_equal(name_count_of(&name_counts, "g1:o:alic"), 0);
    assert_int_equal(name_count_of(&name_counts, "g1:d:alice"), 0);
    assert_int_equal(name_count_of(&name_counts, ""), 0);
    assert_ptr_equal(name_count_acquire(&name_counts, "g1:o:alice"), alice);
    assert_int_equal(alice->n, 2);
    assert_null(name_count_release(&name_counts, alice));
    assert_null(name_count_release(&name_counts, NULL));
    assert_int_equal(name_count_of(&name_counts, "g1:o:alice"), 1);
    assert_null(name_count_release(&name_counts, alice));
    assert_int_equal(name_count_of(&name_counts, "g1:o:alice"), 0);
    assert_null(name_counts.by_name);
}

/* Random use, compared with an array of counters. */
static void test_name_count_matches_an_array_under_random_use(void **state)
{
    enum { N = 50 };
    struct name_counts name_counts = {0};
    struct name_count *of[N] = {0};
    size_t counts[N] = {0};
    unsigned seed = (unsigned)time(NULL);
    char name[16];

    print_message("seed %u\n", seed);
    for (unsigned i = 0; i < 20000; i++) {
        size_t at = (size_t)rand_r(&seed) % N;

        snprintf(name, sizeof(name), "name-%zu", at);
        if (rand_r(&seed) % 2) {
            of[at] = name_count_acquire(&name_counts, name);
            counts[at]++;
        } else if (counts[at]) {
            name_count_release(&name_counts, of[at]);
            counts[at]--;
        }
        assert_int_equal(name_count_of(&name_counts, name), counts[at]);
    }
    for (size_t at = 0; at < N; at++)
        while (counts[at]--)
            name_count_release(&name_counts, of[at]);
    assert_null(name_counts.by_name);
}

static void test_name_count_is_unchanged_without_memory(void **state)
{
    struct name_counts name_counts = {0};
    struct name_count *name_count = NULL;

    for (int n = 0; !name_count; n++) {
        assert_true(n < 10);
        assert_null(name_counts.by_name);
        memory_left = n;
        name_count = name_count_acquire(&name_counts, "alice");
        memory_left = MEMORY_UNLIMITED;
    }
    name_count_release(&name_counts, name_count);
    assert_null(name_counts.by_name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_name_count_counts_each_name_separately),
        cmocka_unit_test(test_name_count_matches_an_array_under_random_use),
        cmocka_unit_test(test_name_count_is_unchanged_without_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
