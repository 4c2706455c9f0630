/* SPDX-License-Identifier: ISC */
/*
 * binder.c: against the binder of a ClientHello that was made here by the schedule of RFC 8446, and
 * against every way such a message can be cut or changed. What OpenSSL makes is met in test-tls.c.
 */
#include "gotthard/binder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* key = 00..1f over 200 bytes "a": early secret, binder key, finished key and HMAC by an
 * independent implementation (Python's hmac). */
static const uint8_t wanted[GT_KEY_SIZE] = {
    0x75, 0xcc, 0x93, 0xdb, 0xe6, 0x30, 0x68, 0xab, 0x68, 0xa8, 0x5e, 0x9b, 0x40, 0x2f, 0x62, 0x89,
    0x8c, 0x81, 0xc3, 0x6b, 0xc1, 0xff, 0xf6, 0x96, 0x9e, 0x6b, 0x50, 0x81, 0x26, 0x13, 0xd8, 0x5d};

static uint8_t hello[235];
static uint8_t key[GT_KEY_SIZE];

static int set_up(void **state)
{
    memset(hello, 'a', 200);
    hello[200] = 0;
    hello[201] = 33;
    hello[202] = 32;
    memcpy(hello + 203, wanted, sizeof(wanted));
    for (uint8_t i = 0; i < sizeof(key); i++)
        key[i] = i;
    return 0;
}

static void the_right_key_fits(void **state)
{
    assert_true(gt_binder_fits(gt_span(hello, sizeof(hello)), key));
    key[31] ^= 1;
    assert_false(gt_binder_fits(gt_span(hello, sizeof(hello)), key));
}

static void every_bit_counts(void **state)
{
    for (size_t i = 0; i < 8 * sizeof(hello); i++) {
        hello[i / 8] ^= (uint8_t)(1 << i % 8);
        assert_false(gt_binder_fits(gt_span(hello, sizeof(hello)), key));
        hello[i / 8] ^= (uint8_t)(1 << i % 8);
    }
}

static void every_cut_is_met(void **state)
{
    for (size_t n = 0; n < sizeof(hello); n++) {
        assert_false(gt_binder_fits(gt_span(hello, n), key));
        assert_false(gt_binder_fits(gt_span(hello + sizeof(hello) - n, n), key));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_right_key_fits, set_up),
        cmocka_unit_test_setup(every_bit_counts, set_up),
        cmocka_unit_test_setup(every_cut_is_met, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
