/* SPDX-License-Identifier: ISC */
/* Bundles: their bytes, and entries that a newcomer must not get. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "gotthard/trust/access-signature.h"
#include "gotthard/trust/bundle.h"

struct fixture {
    char device[GT_KEY_TEXT_MAX], operator_[GT_KEY_TEXT_MAX], relay[GT_KEY_TEXT_MAX];
    char authority[GT_AUTHORITY_TEXT_MAX];
    struct gt_bundle bundle; /* of a device, good */
    char why[GT_BUNDLE_WHY];
};

static struct gt_span text_of(const char *text)
{
    return gt_span_text(text);
}

static int setup(void **state)
{
    static struct fixture f;
    static const uint8_t authority[GT_KEY_SIZE] = "the public key of an authority.";
    struct gt_key key;

    assert_int_equal(
        gt_key_parse("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
                     "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf", &key),
        0);
    assert_int_equal(gt_key_format_device(&key, "oli", f.device), 0);
    assert_int_equal(gt_key_format_operator(&key, "oli", true, f.operator_), 0);
    assert_int_equal(gt_key_format_relay(&key, f.relay), 0);
    gt_authority_format_public(authority, f.authority);
    f.bundle = (struct gt_bundle){
        .kind = GT_TOKEN_DEVICE,
        .entries =
            {
                [GT_BUNDLE_NAME] = text_of("oli"),
                [GT_BUNDLE_KEY] = text_of(f.device),
                [GT_BUNDLE_CERTIFICATE] = text_of("a certificate"),
                [GT_BUNDLE_AUTHORITIES] = text_of("authorities"),
                [GT_BUNDLE_RELAY] = text_of("relay.example.org:7000"),
                [GT_BUNDLE_BROKER] = text_of("broker.example.org:8883"),
            },
    };
    *state = &f;
    return 0;
}

static int check(struct fixture *f, bool is_file)
{
    return gt_bundle_check(&f->bundle, is_file, f->why);
}

static void test_bundle_returns_its_entries(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[4096];
    struct gt_bundle decoded;
    size_t n = 0;

    f->bundle.entries[GT_BUNDLE_CONFIGURATION] = text_of("services = { };\n");
    assert_int_equal(gt_bundle_encode(&f->bundle, bytes, sizeof(bytes), &n, f->why), 0);
    assert_int_equal(n, gt_bundle_size(&f->bundle));
    assert_int_equal(gt_bundle_decode(gt_span(bytes, n), &decoded, f->why), 0);
    assert_int_equal(decoded.kind, GT_TOKEN_DEVICE);
    for (size_t i = 0; i < GT_BUNDLE_N; i++)
        assert_true(gt_span_equals(decoded.entries[i], f->bundle.entries[i]));
    for (size_t i = 0; i < n; i++) /* cut off, it is another bundle, or none */
        if (gt_bundle_decode(gt_span(bytes, i), &decoded, f->why) == 0)
            assert_true(gt_bundle_size(&decoded) == i);
    assert_int_equal(gt_bundle_encode(&f->bundle, bytes, n - 1, &n, f->why), GT_BUNDLE_E_BAD);
}

static size_t put(uint8_t *bytes, size_t n, uint8_t type, uint32_t size, const char *text)
{
    struct gt_writer w = gt_writer(bytes + n, 64);

    gt_write_u8(&w, type);
    gt_write_u32(&w, size);
    gt_write_span(&w, gt_span_text(text));
    assert_false(w.failed);
    return n + w.n;
}

static int decode(const uint8_t *bytes, size_t n, char *why)
{
    struct gt_bundle bundle;

    return gt_bundle_decode(gt_span(bytes, n), &bundle, why);
}

static void test_bundle_decodes_strictly(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[256] = "GTB1\001";

    assert_int_equal(decode(bytes, 5, f->why), 0);
    assert_int_equal(decode(bytes, put(bytes, 5, GT_BUNDLE_NAME, 3, "oli"), f->why), 0);
    assert_int_equal(decode(bytes, put(bytes, 5, GT_BUNDLE_NAME, 4, "oli"), f->why),
                     GT_BUNDLE_E_BAD);
    assert_int_equal(decode(bytes, put(bytes, 5, GT_BUNDLE_NAME, UINT32_MAX, "oli"), f->why),
                     GT_BUNDLE_E_BAD);
    assert_int_equal(decode(bytes, put(bytes, 5, GT_BUNDLE_NAME, 0, ""), f->why), GT_BUNDLE_E_BAD);
    size_t n = put(bytes, 5, GT_BUNDLE_NAME, 3, "oli");
    assert_int_equal(decode(bytes, put(bytes, n, GT_BUNDLE_NAME, 3, "oli"), f->why),
                     GT_BUNDLE_E_BAD);
    assert_non_null(strstr(f->why, "twice"));
    assert_int_equal(decode(bytes, put(bytes, n, 0x80, 3, "new"), f->why), 0);
    assert_int_equal(decode(bytes, put(bytes, n, 0x7f, 3, "new"), f->why), GT_BUNDLE_E_BAD);
    assert_int_equal(decode(bytes, put(bytes, n, 0, 3, "new"), f->why), GT_BUNDLE_E_BAD);
    bytes[n - 1] = 0;
    assert_int_equal(decode(bytes, n, f->why), GT_BUNDLE_E_BAD);
    for (int kind = 0; kind < 6; kind++) {
        bytes[4] = (uint8_t)kind;
        assert_int_equal(decode(bytes, 5, f->why), kind >= 1 && kind <= 3 ? 0 : GT_BUNDLE_E_BAD);
    }
    bytes[0] = 'g';
    assert_int_equal(decode(bytes, 5, f->why), GT_BUNDLE_E_BAD);
}

static void test_bundle_limits_each_entry(void **state)
{
    struct fixture *f = *state;
    static char name[GT_NAME_MAX + 2];
    uint8_t bytes[4096];
    size_t n;

    memset(name, 'a', sizeof(name) - 1);
    f->bundle.entries[GT_BUNDLE_NAME] = gt_span(name, GT_NAME_MAX);
    assert_int_equal(gt_bundle_encode(&f->bundle, bytes, sizeof(bytes), &n, f->why), 0);
    f->bundle.entries[GT_BUNDLE_NAME] = gt_span(name, GT_NAME_MAX + 1);
    assert_int_equal(gt_bundle_encode(&f->bundle, bytes, sizeof(bytes), &n, f->why),
                     GT_BUNDLE_E_BAD);
}

static void test_bundle_needs_what_its_kind_needs(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(check(f, false), 0);
    for (size_t i = 1; i < GT_BUNDLE_N; i++) {
        struct gt_span entry = f->bundle.entries[i];

        if (!entry.n)
            continue;
        f->bundle.entries[i] = gt_span("", 0);
        assert_int_equal(check(f, false), GT_BUNDLE_E_BAD);
        assert_non_null(strstr(f->why, gt_bundle_entry_text((enum gt_bundle_entry)i)));
        f->bundle.entries[i] = entry;
    }
    f->bundle.entries[GT_BUNDLE_DEVICE_KEYS] = text_of("oli AAAA");
    assert_int_equal(check(f, false), GT_BUNDLE_E_BAD); /* an operator's */
}

/* The fleet key, or the key of another name or kind, must not reach a newcomer unnoticed. */
static void test_bundle_key_is_of_this_kind_and_name(void **state)
{
    struct fixture *f = *state;
    const char *const others[] = {
        f->operator_, f->relay, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "gk1d.oli.AAAA"};

    for (size_t i = 0; i < GT_ARRAY_SIZE(others); i++) {
        f->bundle.entries[GT_BUNDLE_KEY] = text_of(others[i]);
        assert_int_equal(check(f, false), GT_BUNDLE_E_BAD);
    }
    f->bundle.entries[GT_BUNDLE_KEY] = text_of(f->device);
    f->bundle.entries[GT_BUNDLE_NAME] = text_of("olo");
    assert_int_equal(check(f, false), GT_BUNDLE_E_BAD);
    f->bundle.entries[GT_BUNDLE_NAME] = text_of("oli");
    f->bundle.kind = GT_TOKEN_OPERATOR;
    assert_int_equal(check(f, false), GT_BUNDLE_E_BAD);
    f->bundle.entries[GT_BUNDLE_KEY] = text_of(f->operator_);
    assert_int_equal(check(f, false), 0);
    f->bundle = (struct gt_bundle){.kind = GT_TOKEN_RELAY};
    f->bundle.entries[GT_BUNDLE_KEY] = text_of(f->relay);
    assert_int_equal(check(f, false), 0);
}

static void test_bundle_private_key_is_in_files_only(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(check(f, true), GT_BUNDLE_E_BAD);
    f->bundle.entries[GT_BUNDLE_PRIVATE_KEY] = text_of("a private key");
    assert_int_equal(check(f, true), 0);
    assert_int_equal(check(f, false), GT_BUNDLE_E_BAD);
}

/* These values are written into a configuration file between quotes. */
static void test_bundle_refuses_values_that_end_a_text(void **state)
{
    struct fixture *f = *state;
    static const struct {
        enum gt_bundle_entry entry;
        const char *text;
    } bad[] = {
        {GT_BUNDLE_NAME, "o\"li"},         {GT_BUNDLE_NAME, "enroll-1"},
        {GT_BUNDLE_BROKER, "a\"; b = \""}, {GT_BUNDLE_BROKER, "a\\"},
        {GT_BUNDLE_BROKER, "a\nb"},        {GT_BUNDLE_RELAY, "relay"},
        {GT_BUNDLE_RELAY, "re\"lay:7000"}, {GT_BUNDLE_RELAY, "relay:0"},
        {GT_BUNDLE_AUTHORITY, "gk1a.x"},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(bad); i++) {
        struct gt_span before = f->bundle.entries[bad[i].entry];

        f->bundle.entries[bad[i].entry] = text_of(bad[i].text);
        assert_int_equal(check(f, false), GT_BUNDLE_E_BAD);
        f->bundle.entries[bad[i].entry] = before;
    }
    assert_int_equal(check(f, false), 0);
}

static void test_bundle_list_needs_its_authority(void **state)
{
    struct fixture *f = *state;

    f->bundle.entries[GT_BUNDLE_ACCESS_LIST] = text_of("serial 1\n");
    assert_int_equal(check(f, false), GT_BUNDLE_E_BAD);
    f->bundle.entries[GT_BUNDLE_AUTHORITY] = text_of(f->authority);
    assert_int_equal(check(f, false), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_bundle_returns_its_entries, setup),
        cmocka_unit_test_setup(test_bundle_decodes_strictly, setup),
        cmocka_unit_test_setup(test_bundle_limits_each_entry, setup),
        cmocka_unit_test_setup(test_bundle_needs_what_its_kind_needs, setup),
        cmocka_unit_test_setup(test_bundle_key_is_of_this_kind_and_name, setup),
        cmocka_unit_test_setup(test_bundle_private_key_is_in_files_only, setup),
        cmocka_unit_test_setup(test_bundle_refuses_values_that_end_a_text, setup),
        cmocka_unit_test_setup(test_bundle_list_needs_its_authority, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
