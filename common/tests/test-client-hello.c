/* SPDX-License-Identifier: ISC */
/*
 * client-hello.c against a ClientHello whose binder an independent implementation made, and against
 * every truncation, every changed bit and every wrong length of it. test-admission.c covers the
 * ClientHellos of OpenSSL.
 */
#include "gotthard/tls/client-hello.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* For the ClientHello of set_up and the key 00..1f, by Python's hmac and hashlib. */
static const uint8_t expected[GT_KEY_SIZE] = {
    0x5b, 0x91, 0x42, 0x21, 0x2c, 0xcd, 0x03, 0x6a, 0x0a, 0x98, 0x3f, 0x91, 0x58, 0xa3, 0xe5, 0x38,
    0xd3, 0xfe, 0xaa, 0x88, 0xea, 0xe9, 0xd3, 0x34, 0x8f, 0xf7, 0x34, 0xd1, 0x1d, 0x99, 0x79, 0x2f};

static uint8_t bytes[GT_CLIENT_HELLO_RECORD_MAX + 100];
static size_t n_bytes;
static uint8_t key[GT_KEY_SIZE];

/* Writes a pre-shared key extension with one identity and one binder. */
static void write_psk(struct gt_writer *w, const char *identity)
{
    size_t n = strlen(identity);

    gt_write_u16(w, 41);
    gt_write_u16(w, (uint16_t)(2 + 2 + n + 4 + 2 + 1 + GT_KEY_SIZE));
    gt_write_u16(w, (uint16_t)(2 + n + 4));
    gt_write_string(w, identity);
    gt_write_u32(w, 0);
    gt_write_u16(w, 1 + GT_KEY_SIZE);
    gt_write_u8(w, GT_KEY_SIZE);
    gt_write_bytes(w, expected, GT_KEY_SIZE);
}

/* Writes @extensions into a ClientHello in a record. */
static void make_hello(struct gt_span extensions)
{
    struct gt_writer w = gt_writer(bytes, sizeof(bytes));
    uint8_t random[32];

    memset(random, 'r', sizeof(random));
    gt_write_bytes(&w, "\x16\3\1", 3);
    gt_write_u16(&w, (uint16_t)(4 + 2 + 32 + 1 + 4 + 2 + 2 + extensions.n));
    gt_write_u8(&w, 1);
    gt_write_uint(&w, 2 + 32 + 1 + 4 + 2 + 2 + extensions.n, 3);
    gt_write_u16(&w, 0x0303);
    gt_write_bytes(&w, random, sizeof(random));
    gt_write_u8(&w, 0);
    gt_write_bytes(&w, "\0\2\x13\1\1\0", 6);
    gt_write_lp(&w, extensions);
    assert_false(w.failed);
    n_bytes = w.n;
}

static int set_up(void **state)
{
    uint8_t extensions[256];
    struct gt_writer w = gt_writer(extensions, sizeof(extensions));

    for (uint8_t i = 0; i < sizeof(key); i++)
        key[i] = i;
    gt_write_u16(&w, 43);
    gt_write_string(&w, "\2\3\4");
    write_psk(&w, "g1:o:alice");
    make_hello(gt_span(extensions, w.n));
    return 0;
}

static int parse(struct gt_client_hello *ret)
{
    return gt_client_hello_parse(gt_span(bytes, n_bytes), ret);
}

static void test_client_hello_proves_its_key_only(void **state)
{
    struct gt_client_hello hello;

    assert_int_equal(parse(&hello), 0);
    assert_true(gt_span_equals(hello.identity, gt_span_text("g1:o:alice")));
    assert_true(gt_span_equals(hello.message, gt_span(bytes + 5, n_bytes - 5)));
    assert_memory_equal(hello.binder.data, expected, GT_KEY_SIZE);
    assert_true(gt_client_hello_proves(&hello, key));
    key[31] ^= 1;
    assert_false(gt_client_hello_proves(&hello, key));
}

static void test_client_hello_rejects_every_changed_bit(void **state)
{
    struct gt_client_hello hello;

    for (size_t i = 8 * 5; i < 8 * n_bytes; i++) {
        bytes[i / 8] ^= (uint8_t)(1 << i % 8);
        int r = parse(&hello);
        assert_true(r || !gt_client_hello_proves(&hello, key));
        bytes[i / 8] ^= (uint8_t)(1 << i % 8);
    }
}

static void test_client_hello_is_incomplete_until_its_last_byte(void **state)
{
    struct gt_client_hello hello;

    for (size_t n = 0; n < n_bytes; n++)
        assert_int_equal(gt_client_hello_parse(gt_span(bytes, n), &hello), GT_CLIENT_HELLO_E_AGAIN);
    memset(bytes + n_bytes, 0x5a, 50); /* of the next record */
    assert_int_equal(gt_client_hello_parse(gt_span(bytes, n_bytes + 50), &hello), 0);
    assert_int_equal(hello.message.n, n_bytes - 5);
}

static void test_client_hello_head_decides_early(void **state)
{
    static const uint8_t heads[][9] = {
        {0x17, 3, 1, 0, 100, 1, 0, 0, 96},     /* not a handshake */
        {0x16, 3, 1, 0, 100, 2, 0, 0, 96},     /* not a ClientHello */
        {0x16, 3, 1, 0, 100, 1, 0, 0, 95},     /* shorter than its record */
        {0x16, 3, 1, 0, 100, 1, 0, 0, 97},     /* longer than its record */
        {0x16, 3, 1, 0, 100, 1, 1, 0, 96},     /* longer than any record */
        {0x16, 3, 1, 0x10, 1, 1, 0, 0xf, 253}, /* larger than the maximum */
        {0x16, 3, 1, 0, 0, 1, 0, 0, 0},        /* empty */
        {0x16, 3, 1, 0, 3, 1, 0xff, 0xff, 0xff},
    };
    static const uint8_t longest[] = {0x16, 3, 1, 0x10, 0, 1, 0, 0xf, 252};
    struct gt_client_hello hello;

    for (size_t i = 0; i < GT_ARRAY_SIZE(heads); i++)
        assert_int_equal(gt_client_hello_parse(gt_span(heads[i], 9), &hello),
                         GT_CLIENT_HELLO_E_FOREIGN);
    assert_int_equal(gt_client_hello_parse(gt_span(longest, 9), &hello), GT_CLIENT_HELLO_E_AGAIN);
}

/* One change of a length at a time: no length may lead outside its parent. */
static void test_client_hello_rejects_wrong_lengths(void **state)
{
    struct gt_client_hello hello;

    for (size_t i = 9 + 34; i + 1 < n_bytes; i++)
        for (int change = -2; change <= 2; change++) {
            bytes[i] = (uint8_t)(bytes[i] + change);
            int r = parse(&hello);
            assert_true(r == GT_CLIENT_HELLO_E_FOREIGN || r == 0);
            assert_true(r || !change || !gt_client_hello_proves(&hello, key));
            bytes[i] = (uint8_t)(bytes[i] - change);
        }
}

static int parse_extensions(struct gt_writer *w)
{
    struct gt_client_hello hello;

    assert_false(w->failed);
    make_hello(gt_span(w->data, w->n));
    return parse(&hello);
}

static void test_client_hello_needs_one_psk_at_its_end(void **state)
{
    char longest[GT_CLIENT_HELLO_IDENTITY_MAX + 2] = "";
    uint8_t extensions[1024];
    struct gt_writer w = gt_writer(extensions, sizeof(extensions));

    assert_int_equal(parse_extensions(&w), GT_CLIENT_HELLO_E_FOREIGN); /* none */
    gt_write_u32(&w, 0x002b0000);
    assert_int_equal(parse_extensions(&w), GT_CLIENT_HELLO_E_FOREIGN);
    write_psk(&w, "x");
    assert_int_equal(parse_extensions(&w), 0);
    gt_write_u32(&w, 0x002b0000);
    assert_int_equal(parse_extensions(&w), GT_CLIENT_HELLO_E_FOREIGN); /* not the last */
    w.n = 0;
    write_psk(&w, "x");
    write_psk(&w, "x");
    assert_int_equal(parse_extensions(&w), GT_CLIENT_HELLO_E_FOREIGN);
    w.n = 0;
    write_psk(&w, "");
    assert_int_equal(parse_extensions(&w), GT_CLIENT_HELLO_E_FOREIGN);
    w.n = 0;
    memset(longest, 'x', GT_CLIENT_HELLO_IDENTITY_MAX);
    write_psk(&w, longest);
    assert_int_equal(parse_extensions(&w), 0);
    w.n = 0;
    longest[GT_CLIENT_HELLO_IDENTITY_MAX] = 'x';
    write_psk(&w, longest);
    assert_int_equal(parse_extensions(&w), GT_CLIENT_HELLO_E_FOREIGN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_client_hello_proves_its_key_only, set_up),
        cmocka_unit_test_setup(test_client_hello_rejects_every_changed_bit, set_up),
        cmocka_unit_test_setup(test_client_hello_is_incomplete_until_its_last_byte, set_up),
        cmocka_unit_test_setup(test_client_hello_head_decides_early, set_up),
        cmocka_unit_test_setup(test_client_hello_rejects_wrong_lengths, set_up),
        cmocka_unit_test_setup(test_client_hello_needs_one_psk_at_its_end, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
