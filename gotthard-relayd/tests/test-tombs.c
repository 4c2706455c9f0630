/* SPDX-License-Identifier: ISC */
/* tombs.c: what is remembered, for how long, and how much of it. */
#include "tombs.h"

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

static void an_end_is_remembered_for_a_while(void **state)
{
    static struct tombs tombs;
    assert_int_equal(tombs_find(&tombs, rid_of(0), 0), GT_CODE_NONE);
    tombs_add(&tombs, rid_of(1), GT_CODE_BYE, 2000);
    tombs_add(&tombs, rid_of(2), GT_CODE_NEW_PROCESS, 3000);
    assert_int_equal(tombs_find(&tombs, rid_of(1), 1999), GT_CODE_BYE);
    assert_int_equal(tombs_find(&tombs, rid_of(1), 2000), GT_CODE_NONE);
    assert_int_equal(tombs_find(&tombs, rid_of(2), 2000), GT_CODE_NEW_PROCESS);
    assert_int_equal(tombs_find(&tombs, rid_of(3), 0), GT_CODE_NONE);
    assert_int_equal(tombs_find(&tombs, rid_of(0), 0), GT_CODE_NONE);
}

static void the_oldest_makes_room(void **state)
{
    static struct tombs tombs;
    for (uint32_t n = 0; n < TOMBS_N + 10; n++)
        tombs_add(&tombs, rid_of(n), GT_CODE_BYE, 1000);
    for (uint32_t n = 0; n < TOMBS_N + 10; n++)
        assert_int_equal(tombs_find(&tombs, rid_of(n), 0), n < 10 ? GT_CODE_NONE : GT_CODE_BYE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_end_is_remembered_for_a_while),
        cmocka_unit_test(the_oldest_makes_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
