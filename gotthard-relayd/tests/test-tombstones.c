/* SPDX-License-Identifier: ISC */
/* tombstones.c: lifetime and capacity. */
#include "control/tombstones.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

static const uint8_t *rid_of(uint32_t n)
{
    static uint8_t rid[GT_RID_SIZE];

    memcpy(rid, &n, sizeof(n));
    return rid;
}

static void test_tombstone_is_found_until_it_expires(void **state)
{
    static struct tombstones tombstones;

    assert_int_equal(tombstones_find(&tombstones, rid_of(0), 0), GT_CODE_NONE);
    tombstones_add(&tombstones, rid_of(1), GT_CODE_BYE, 2000);
    tombstones_add(&tombstones, rid_of(2), GT_CODE_NEW_PROCESS, 3000);
    assert_int_equal(tombstones_find(&tombstones, rid_of(1), 1999), GT_CODE_BYE);
    assert_int_equal(tombstones_find(&tombstones, rid_of(1), 2000), GT_CODE_NONE);
    assert_int_equal(tombstones_find(&tombstones, rid_of(2), 2000), GT_CODE_NEW_PROCESS);
    assert_int_equal(tombstones_find(&tombstones, rid_of(3), 0), GT_CODE_NONE);
    assert_int_equal(tombstones_find(&tombstones, rid_of(0), 0), GT_CODE_NONE);
}

static void test_tombstones_drop_the_oldest_at_capacity(void **state)
{
    static struct tombstones tombstones;

    for (uint32_t n = 0; n < TOMBSTONES_N + 10; n++)
        tombstones_add(&tombstones, rid_of(n), GT_CODE_BYE, 1000);
    for (uint32_t n = 0; n < TOMBSTONES_N + 10; n++)
        assert_int_equal(tombstones_find(&tombstones, rid_of(n), 0),
                         n < 10 ? GT_CODE_NONE : GT_CODE_BYE);
}

/* The codes of all ends after which a session must not be created again. */
static void test_tombstones_are_saved(void **state)
{
    static const enum gt_code codes[] = {GT_CODE_BYE, GT_CODE_NEW_PROCESS, GT_CODE_LIFETIME,
                                         GT_CODE_OLD_KEY, GT_CODE_REFUSED};
    static struct tombstones tombstones, restored;
    uint8_t bytes[1024];
    struct gt_writer writer = gt_writer(bytes, sizeof(bytes));
    struct tombstone saved;

    for (uint32_t i = 0; i < GT_ARRAY_SIZE(codes); i++)
        tombstones_add(&tombstones, rid_of(i), codes[i], 2000);
    tombstones_save(&tombstones, 1000, &writer);
    assert_false(writer.failed);
    struct gt_reader reader = gt_reader(bytes, writer.n);
    for (uint32_t i = 0; i < GT_ARRAY_SIZE(codes); i++) {
        assert_int_equal(gt_read_u8(&reader), SAVED_TOMBSTONE);
        saved_layout_read(&tombstone_layout, &reader, &saved);
        assert_false(reader.failed);
        tombstones_restore(&restored, &saved);
        assert_int_equal(tombstones_find(&restored, rid_of(i), 1999), codes[i]);
    }
    assert_true(gt_reader_is_done(&reader));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tombstone_is_found_until_it_expires),
        cmocka_unit_test(test_tombstones_drop_the_oldest_at_capacity),
        cmocka_unit_test(test_tombstones_are_saved),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
