/* SPDX-License-Identifier: ISC */
/* tally.c: every name counted as it comes and goes, also where memory runs out. */
#include "tally.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "memory.h"

static void names_are_counted_apart(void **state)
{
    struct tallies tallies = {0};
    struct tally *alice = tally_take(&tallies, "g1:o:alice");
    assert_non_null(alice);
    assert_int_equal(tally_count(&tallies, "g1:o:alice"), 1);
    assert_int_equal(tally_count(&tallies, "g1:o:alic"), 0);
    assert_int_equal(tally_count(&tallies, "g1:d:alice"), 0);
    assert_int_equal(tally_count(&tallies, ""), 0);
    assert_ptr_equal(tally_take(&tallies, "g1:o:alice"), alice);
    assert_int_equal(alice->n, 2);
    assert_null(tally_give(&tallies, alice));
    assert_null(tally_give(&tallies, NULL));
    assert_int_equal(tally_count(&tallies, "g1:o:alice"), 1);
    assert_null(tally_give(&tallies, alice));
    assert_int_equal(tally_count(&tallies, "g1:o:alice"), 0);
    assert_null(tallies.by_name);
}

/* Random coming and going against plain counters. */
static void counts_are_those_of_a_plain_table(void **state)
{
    enum { N = 50 };
    struct tallies tallies = {0};
    struct tally *of[N] = {0};
    size_t counts[N] = {0};
    unsigned seed = (unsigned)time(NULL);
    char name[16];

    print_message("seed %u\n", seed);
    for (unsigned i = 0; i < 20000; i++) {
        size_t at = (size_t)rand_r(&seed) % N;
        snprintf(name, sizeof(name), "name-%zu", at);
        if (rand_r(&seed) % 2) {
            of[at] = tally_take(&tallies, name);
            counts[at]++;
        } else if (counts[at]) {
            tally_give(&tallies, of[at]);
            counts[at]--;
        }
        assert_int_equal(tally_count(&tallies, name), counts[at]);
    }
    for (size_t at = 0; at < N; at++)
        while (counts[at]--)
            tally_give(&tallies, of[at]);
    assert_null(tallies.by_name);
}

static void without_memory_nobody_is_counted(void **state)
{
    struct tallies tallies = {0};
    struct tally *tally = NULL;

    for (int n = 0; !tally; n++) {
        assert_true(n < 10);
        assert_null(tallies.by_name);
        memory_left = n;
        tally = tally_take(&tallies, "alice");
        memory_left = MEMORY_ENDLESS;
    }
    tally_give(&tallies, tally);
    assert_null(tallies.by_name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_counted_apart),
        cmocka_unit_test(counts_are_those_of_a_plain_table),
        cmocka_unit_test(without_memory_nobody_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
