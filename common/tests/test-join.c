/* SPDX-License-Identifier: ISC */
/* join.c: the single valid encoding, and every other byte and length. */
#include "gotthard/proto/join.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static struct gt_join sample(void)
{
    struct gt_join join = {.role = GT_ROLE_DEVICE, .stream = 0x01020304, .attempt = 0xfffffffe};

    memset(join.id, 0xaa, sizeof(join.id));
    memset(join.secret, 0xbb, sizeof(join.secret));
    return join;
}

static void test_join_has_the_bytes_of_the_protocol(void **state)
{
    static const uint8_t head[] = {'G', 'T', 'J', '1', 1,    2,    0,    0,
                                   1,   2,   3,   4,   0xff, 0xff, 0xff, 0xfe};
    struct gt_join join = sample(), back;
    uint8_t bytes[GT_JOIN_SIZE];

    gt_join_encode(&join, bytes);
    assert_memory_equal(bytes, head, sizeof(head));
    for (size_t i = sizeof(head); i < sizeof(bytes); i++)
        assert_int_equal(bytes[i], i < 32 ? 0xaa : 0xbb);
    assert_int_equal(gt_join_decode(bytes, &back), 0);
    assert_int_equal(back.role, GT_ROLE_DEVICE);
    assert_int_equal(back.stream, join.stream);
    assert_int_equal(back.attempt, join.attempt);
    assert_memory_equal(back.id, join.id, sizeof(join.id));
    assert_memory_equal(back.secret, join.secret, sizeof(join.secret));
    assert_memory_equal(gt_join_reply, "GTJ1\x01\0\0\0", GT_JOIN_REPLY_SIZE);
    assert_memory_equal(gt_join_receipt, "GTJ1\x01\x01\0\0", GT_JOIN_REPLY_SIZE);
}

/* In the first 8 bytes only the role has a second valid value. Numbers and the ticket follow. */
static void test_join_rejects_every_other_byte(void **state)
{
    struct gt_join join = sample(), back = sample();
    uint8_t bytes[GT_JOIN_SIZE];

    for (size_t i = 0; i < GT_JOIN_SIZE; i++) {
        for (unsigned value = 0; value < 256; value++) {
            gt_join_encode(&join, bytes);
            bytes[i] = (uint8_t)value;
            bool is_good =
                i >= 8 || value == (uint8_t) "GTJ1\x01\x02\0\0"[i] || (i == 5 && value == 1);
            assert_int_equal(gt_join_decode(bytes, &back), is_good ? 0 : GT_JOIN_E_BAD);
            assert_int_equal(gt_join_may_begin(bytes, GT_JOIN_SIZE), is_good);
            assert_int_equal(gt_join_may_begin(bytes, i + 1), is_good);
            if (i > 0)
                assert_true(gt_join_may_begin(bytes, i));
        }
    }
}

static void test_join_rejects_attempt_zero(void **state)
{
    struct gt_join join = sample(), back;
    uint8_t bytes[GT_JOIN_SIZE];

    join.stream = 0; /* the shared connection */
    gt_join_encode(&join, bytes);
    assert_int_equal(gt_join_decode(bytes, &back), 0);
    assert_int_equal(back.stream, 0);
    join.attempt = 0;
    gt_join_encode(&join, bytes);
    assert_int_equal(gt_join_decode(bytes, &back), GT_JOIN_E_BAD);
}

static void test_may_begin_rejects_at_the_first_wrong_byte(void **state)
{
    static const char *const others[] = {"GET / HTTP/1.1\r\n",
                                         "SSH-2.0-OpenSSH_9.2",
                                         "\x16\x03\x01",
                                         "\x03\x00\x00\x13",
                                         "GTM1",
                                         "GTJ2",
                                         "GTJ1\x02",
                                         "GTJ1\x01\x03"};

    for (size_t i = 0; i < GT_ARRAY_SIZE(others); i++)
        assert_false(gt_join_may_begin((const uint8_t *)others[i], strlen(others[i])));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_join_has_the_bytes_of_the_protocol),
        cmocka_unit_test(test_join_rejects_every_other_byte),
        cmocka_unit_test(test_join_rejects_attempt_zero),
        cmocka_unit_test(test_may_begin_rejects_at_the_first_wrong_byte),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
