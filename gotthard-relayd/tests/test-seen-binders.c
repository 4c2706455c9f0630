/* SPDX-License-Identifier: ISC */
/* seen-binders.c: a second use is noticed, memory is bounded, and a snapshot keeps the set. */
#include "limits/seen-binders.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "gotthard/crypto/crypto.h"

static struct seen_binders seen, restored;

/* A hash of @i, as binders are. */
static void binder_of(uint32_t i, uint8_t ret[static GT_KEY_SIZE])
{
    struct gt_span span = gt_span(&i, sizeof(i));

    assert_int_equal(gt_sha256(&span, 1, ret), 0);
}

static bool add(struct seen_binders *to, uint32_t i)
{
    uint8_t binder[GT_KEY_SIZE];

    binder_of(i, binder);
    return seen_binders_add(to, binder);
}

static int set_up(void **state)
{
    memset(&seen, 0, sizeof(seen));
    memset(&restored, 0, sizeof(restored));
    return 0;
}

static void test_seen_binders_second_use_is_noticed(void **state)
{
    for (uint32_t i = 0; i < 1000; i++)
        assert_true(add(&seen, i));
    for (uint32_t i = 0; i < 1000; i++)
        assert_false(add(&seen, i));
}

static void test_seen_binders_differ_in_any_used_byte(void **state)
{
    uint8_t binder[GT_KEY_SIZE];

    binder_of(1, binder);
    assert_true(seen_binders_add(&seen, binder));
    for (size_t i = 0; i < SEEN_BINDER_SIZE; i++) {
        binder[i] ^= 1;
        assert_true(seen_binders_add(&seen, binder));
        binder[i] ^= 1;
    }
}

/* Of the last quarter of the size, nearly all are remembered, whatever came before. */
static void test_seen_binders_forget_the_oldest_when_full(void **state)
{
    uint32_t n = 10 * SEEN_BINDERS_N, n_last = SEEN_BINDERS_N / 4, n_forgotten = 0;

    for (uint32_t i = 0; i < n; i++)
        assert_true(add(&seen, i));
    for (uint32_t i = n - n_last; i < n; i++)
        n_forgotten += add(&seen, i);
    assert_in_range(n_forgotten, 0, n_last / 100);
    set_up(state);
    for (uint32_t i = 0; i < SEEN_BINDERS_N_WAYS + 1; i++) { /* all of one row */
        uint8_t binder[SEEN_BINDER_SIZE] = {7, 7, (uint8_t)i, 1};

        assert_true(seen_binders_add(&seen, binder));
    }
    assert_true(seen_binders_add(&seen, (uint8_t[SEEN_BINDER_SIZE]){7, 7, 0, 1}));
    assert_false(seen_binders_add(&seen, (uint8_t[SEEN_BINDER_SIZE]){7, 7, 2, 1}));
}

static void restore(struct gt_span state)
{
    struct gt_reader reader = gt_reader(state.data, state.n);

    while (reader.left > 0) {
        struct seen_binder binder;

        assert_int_equal(gt_read_u8(&reader), SAVED_BINDER);
        saved_layout_read(&seen_binder_layout, &reader, &binder);
        assert_false(reader.failed);
        assert_true(seen_binders_add(&restored, binder.bytes));
    }
}

static void test_seen_binders_survive_a_snapshot(void **state)
{
    size_t n = SEEN_BINDERS_N * (1 + SEEN_BINDER_SIZE);
    uint8_t *bytes = malloc(n);
    struct gt_writer writer = gt_writer(bytes, n);

    assert_non_null(bytes);
    for (uint32_t i = 0; i < 2 * SEEN_BINDERS_N; i++)
        assert_true(add(&seen, i));
    seen_binders_save(&seen, &writer);
    assert_false(writer.failed);
    restore(gt_span(bytes, writer.n));
    for (uint32_t i = 2 * SEEN_BINDERS_N; i-- > 0;)
        assert_int_equal(add(&seen, i), add(&restored, i));
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_seen_binders_second_use_is_noticed, set_up),
        cmocka_unit_test_setup(test_seen_binders_differ_in_any_used_byte, set_up),
        cmocka_unit_test_setup(test_seen_binders_forget_the_oldest_when_full, set_up),
        cmocka_unit_test_setup(test_seen_binders_survive_a_snapshot, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
