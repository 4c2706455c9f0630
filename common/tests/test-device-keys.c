/* SPDX-License-Identifier: ISC */
/* device-keys.c: files of device keys, as keygen prints them and as people damage them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "gotthard/trust/device-keys.h"

#define KEY_HEX "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define IV_HEX  "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"
#define OLI     "GatewayOli Gv9yVqgMq_WTSqqeHbOcnzDYVmSITUjTLyzK5tiHKJY"
#define K       "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
#define ZERO    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

static struct gt_device_keys parse(const char *text)
{
    struct gt_device_keys keys;
    const char *why = "";
    size_t line = 0;

    if (gt_device_keys_parse(gt_span_text(text), &keys, &line, &why) != 0)
        fail_msg("line %zu: %s", line, why);
    return keys;
}

static void test_line_of_a_device_matches_known_answer(void **state)
{
    struct gt_key master, device;
    char line[GT_DEVICE_KEYS_LINE_MAX], text[GT_KEY_TEXT_MAX];

    assert_int_equal(gt_key_parse(KEY_HEX, IV_HEX, &master), 0);
    assert_int_equal(gt_device_keys_format(&master, "GatewayOli", line), 0);
    assert_string_equal(line, OLI);
    assert_int_equal(gt_device_keys_format(&master, "a/b", line), GT_KEY_E_SYNTAX);
    assert_int_equal(gt_key_format_operator(&master, "alice", false, text), 0);
    assert_int_equal(gt_key_parse(text, NULL, &device), 0);
    assert_int_equal(gt_device_keys_format(&device, "GatewayOli", line), GT_KEY_E_NOT_HELD);
}

static void test_longest_name_has_a_line(void **state)
{
    char name[GT_NAME_MAX + 1] = "", line[GT_DEVICE_KEYS_LINE_MAX];
    struct gt_key master;
    uint8_t want[GT_KEY_SIZE], got[GT_KEY_SIZE];

    memset(name, 'n', GT_NAME_MAX);
    assert_int_equal(gt_key_parse(KEY_HEX, IV_HEX, &master), 0);
    assert_int_equal(gt_device_keys_format(&master, name, line), 0);
    struct gt_device_keys keys = parse(line);
    assert_int_equal(gt_key_device(&master, name, want), 0);
    assert_true(gt_device_keys_find(&keys, name, got));
    assert_memory_equal(got, want, sizeof(got));
    gt_device_keys_deinit(&keys);
}

static void test_files_as_people_write_them_are_accepted(void **state)
{
    static const struct {
        const char *text;
        size_t n;
    } cases[] = {
        {"", 0},
        {"\n\n", 0},
        {"# nothing\n", 0},
        {OLI, 1},
        {OLI "\n", 1},
        {"\xef\xbb\xbf" OLI "\r\n", 1},
        {"  " OLI " \t# the gateway", 1},
        {"GatewayOli\t\t" K "=\n", 1},
        {"b " K "\n# comment\n\na " K "\nGatewayOli " K "\n", 3},
        {"gk1d " K, 1},
        {"GOTTHARD_CRYPT_KEY=gk1o.alice." K "\n" OLI "\n", 1}, /* as keygen prints both */
        {"A " K "\na " K, 2},                                  /* names are case-sensitive */
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_device_keys keys = parse(cases[i].text);
        uint8_t out[GT_KEY_SIZE];

        assert_int_equal(keys.n, cases[i].n);
        assert_int_equal(gt_device_keys_find(&keys, "GatewayOli", out),
                         strstr(cases[i].text, "GatewayOli") != NULL);
        assert_false(gt_device_keys_find(&keys, "Gateway", out));
        assert_false(gt_device_keys_find(&keys, "GatewayOlin", out));
        assert_false(gt_device_keys_find(&keys, "", out));
        gt_device_keys_deinit(&keys);
        gt_device_keys_deinit(&keys);
    }
}

static void test_damaged_files_are_rejected_with_their_line(void **state)
{
    static const struct {
        const char *text;
        size_t line;
        const char *why;
    } cases[] = {
        {"GatewayOli", 1, "second word"},
        {OLI "\nb", 2, "second word"},
        {"GatewayOli " K "A", 1, "second word"},
        {"GatewayOli AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh", 1, "second word"}, /* cut */
        {"GatewayOli " KEY_HEX, 1, "second word"},
        {"GatewayOli=" K, 1, "invalid name"},
        {K, 1, "second word"},
        {"GOTTHARD_CRYPT_KEY=" K, 1, "invalid name"},
        {"gk1d.GatewayOli." K K, 1, "gk1 string"},
        {"gk1o.alice." K, 1, "gk1 string"},
        {OLI "\n\ngk1o.alice." K, 3, "gk1 string"},
        {"GatewayOli gk1d.GatewayOli." K, 1, "second word"},
        {"\"GatewayOli\" " K, 1, "invalid name"},
        {"GatewayOli \"" K "\"", 1, "second word"},
        {"a/b " K, 1, "invalid name"},
        {"-a " K, 1, "invalid name"},
        {"GatewayOli " ZERO, 1, "all zeros"},
        {OLI " more", 1, "unexpected word"},
        {OLI " " OLI, 1, "unexpected word"},
        {OLI "\n" OLI, 2, "already has a key"},
        {"GatewayOli " K "\nb " K "\n\n" OLI, 4, "already has a key"},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_device_keys keys = {.n = 77};
        const char *why = "";
        size_t line = 0;

        assert_int_equal(gt_device_keys_parse(gt_span_text(cases[i].text), &keys, &line, &why),
                         GT_DEVICE_KEYS_E_BAD);
        if (line != cases[i].line || !strstr(why, cases[i].why))
            fail_msg("case %zu: line %zu: %s", i, line, why);
        assert_int_equal(keys.n, 77);
    }
}

static void test_file_of_any_size_up_to_the_limit(void **state)
{
    static const size_t sizes[] = {1, 2, 1000, GT_DEVICE_KEYS_MAX, GT_DEVICE_KEYS_MAX + 1};

    for (size_t i = 0; i < GT_ARRAY_SIZE(sizes); i++) {
        size_t n = 0, line = 0, cap = sizes[i] * 64;
        char *text = malloc(cap);
        struct gt_device_keys keys = {0};
        const char *why = "";
        uint8_t out[GT_KEY_SIZE];

        assert_non_null(text);
        for (size_t j = 0; j < sizes[i]; j++)
            n += (size_t)snprintf(text + n, cap - n, "d%zu " K "\n", j);
        int r = gt_device_keys_parse(gt_span(text, n), &keys, &line, &why);
        free(text);
        assert_int_equal(r, sizes[i] > GT_DEVICE_KEYS_MAX ? GT_DEVICE_KEYS_E_BAD : 0);
        if (r == 0)
            assert_true(gt_device_keys_find(&keys, "d0", out));
        gt_device_keys_deinit(&keys);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line_of_a_device_matches_known_answer),
        cmocka_unit_test(test_longest_name_has_a_line),
        cmocka_unit_test(test_files_as_people_write_them_are_accepted),
        cmocka_unit_test(test_damaged_files_are_rejected_with_their_line),
        cmocka_unit_test(test_file_of_any_size_up_to_the_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
