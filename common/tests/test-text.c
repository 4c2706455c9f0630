/* SPDX-License-Identifier: ISC */
/* text.c: the accepted forms of each parser, and similar texts that must be rejected. */
#include "gotthard/base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#define SYNTAX GT_TEXT_E_SYNTAX
#define RANGE  GT_TEXT_E_RANGE

static void test_number_accepts_plain_decimals_only(void **state)
{
    static const struct {
        const char *text;
        int r;
        uint64_t value;
    } table[] = {
        {"22", 0, 22},
        {"1", 0, 1},
        {"65535", 0, 65535},
        {"0", RANGE, 0},
        {"65536", RANGE, 0},
        {"4294967318", RANGE, 0},
        {"18446744073709551616", RANGE, 0},
        {"18446744073709551638", RANGE, 0},
        {"99999999999999999999999999", RANGE, 0},
        {"", SYNTAX, 0},
        {" 22", SYNTAX, 0},
        {"22 ", SYNTAX, 0},
        {"+22", SYNTAX, 0},
        {"-1", SYNTAX, 0},
        {"022", SYNTAX, 0},
        {"00", SYNTAX, 0},
        {"0x16", SYNTAX, 0},
        {"22L", SYNTAX, 0},
        {"22.0", SYNTAX, 0},
        {"1e3", SYNTAX, 0},
        {"22\n", SYNTAX, 0},
        {"\"22\"", SYNTAX, 0},
        {"99999999999999999999999999x", SYNTAX, 0},
        {"\xd9\xa2\xd9\xa2", SYNTAX, 0}, /* Arabic digits */
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(table); i++) {
        uint64_t value = 4242;

        print_message("%s\n", table[i].text);
        assert_int_equal(gt_text_number(table[i].text, 1, 65535, &value), table[i].r);
        assert_int_equal(value, table[i].r ? 4242 : table[i].value);
    }
    uint64_t value = 0;
    assert_int_equal(gt_text_number("18446744073709551615", 0, UINT64_MAX, &value), 0);
    assert_true(value == UINT64_MAX);
    assert_int_equal(gt_text_number("0", 0, 0, &value), 0);
    assert_int_equal(value, 0);
}

static void test_duration_and_size_require_a_unit(void **state)
{
    static const struct {
        const char *text;
        int r;
        uint64_t value;
        int (*parse)(const char *, uint64_t *);
    } table[] = {
        {"0", 0, 0, gt_text_duration},
        {"0s", 0, 0, gt_text_duration},
        {"250ms", 0, 250, gt_text_duration},
        {"30s", 0, 30000, gt_text_duration},
        {"5min", 0, 300000, gt_text_duration},
        {"12h", 0, 43200000, gt_text_duration},
        {"7d", 0, 604800000, gt_text_duration},
        {"30", SYNTAX, 0, gt_text_duration},
        {"30 s", SYNTAX, 0, gt_text_duration},
        {"s", SYNTAX, 0, gt_text_duration},
        {"5m", SYNTAX, 0, gt_text_duration},
        {"1h30min", SYNTAX, 0, gt_text_duration},
        {"1.5s", SYNTAX, 0, gt_text_duration},
        {"-1s", SYNTAX, 0, gt_text_duration},
        {"", SYNTAX, 0, gt_text_duration},
        {"213503982334d", 0, 18446744073657600000u, gt_text_duration},
        {"213503982335d", RANGE, 0, gt_text_duration},
        {"99999999999999999999s", RANGE, 0, gt_text_duration},
        {"99999999999999999999x", SYNTAX, 0, gt_text_duration},
        {"512B", 0, 512, gt_text_size},
        {"64KiB", 0, 65536, gt_text_size},
        {"4MiB", 0, 4194304, gt_text_size},
        {"1GiB", 0, 1073741824, gt_text_size},
        {"64", SYNTAX, 0, gt_text_size},
        {"0", SYNTAX, 0, gt_text_size},
        {"64K", SYNTAX, 0, gt_text_size},
        {"64kB", SYNTAX, 0, gt_text_size},
        {"17179869184GiB", RANGE, 0, gt_text_size},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(table); i++) {
        uint64_t value = 4242;

        print_message("%s\n", table[i].text);
        assert_int_equal(table[i].parse(table[i].text, &value), table[i].r);
        assert_true(value == (table[i].r ? 4242 : table[i].value));
    }
}

static void test_bool_accepts_listed_words_only(void **state)
{
    static const char *const bad[] = {"", "2", "True", "yes ", "y", "enabled"};
    bool value = false;

    assert_int_equal(gt_text_bool("yes", &value), 0);
    assert_true(value);
    assert_int_equal(gt_text_bool("off", &value), 0);
    assert_false(value);
    assert_int_equal(gt_text_bool("1", &value), 0);
    assert_true(value);
    for (size_t i = 0; i < GT_ARRAY_SIZE(bad); i++)
        assert_int_equal(gt_text_bool(bad[i], &value), SYNTAX);
    assert_true(value);
}

static void test_hex_is_exact(void **state)
{
    static const char *const bad[] = {"", "00", "0001020", "000102030", "0001020g", "0001 203"};
    uint8_t bytes[4] = {0x00, 0x7f, 0xab, 0xff}, back[4] = {0};
    char text[9];

    gt_text_hex(bytes, sizeof(bytes), text);
    assert_string_equal(text, "007fabff");
    assert_int_equal(gt_text_unhex("007FABff", back, sizeof(back)), 0);
    assert_memory_equal(back, bytes, sizeof(bytes));
    for (size_t i = 0; i < GT_ARRAY_SIZE(bad); i++)
        assert_int_equal(gt_text_unhex(bad[i], back, sizeof(back)), SYNTAX);
    assert_memory_equal(back, bytes, sizeof(bytes));
    gt_text_hex(bytes, 0, text);
    assert_string_equal(text, "");
}

/* RFC 4648, section 10, and texts that other decoders accept. */
static void test_base64_rejects_non_canonical_text(void **state)
{
    static const char *const good[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
    };

    static const struct {
        const char *text;
        int r;
    } table[] = {
        {"Zg", 0},
        {"Zm8", 0},
        {"-_-_", 0},
        {"+/+/", 0},
        {"+/-_", SYNTAX},
        {"Zg=", SYNTAX},
        {"Zg===", SYNTAX},
        {"Z", SYNTAX},
        {"Zh==", SYNTAX},
        {"Zm9=", SYNTAX},
        {"Zm9v=", SYNTAX},
        {"Zm9v====", SYNTAX},
        {"Zg==Zg==", SYNTAX},
        {"Zm 9", SYNTAX},
        {"Zm9v\n", SYNTAX},
        {"=", SYNTAX},
        {"====", SYNTAX},
        {"Zm9vYmFyZm9v", RANGE},
    };
    char text[16], back[8];
    size_t n;

    for (size_t i = 0; i < GT_ARRAY_SIZE(good); i++) {
        size_t n_good = strlen(good[i][0]);

        assert_int_equal(gt_text_base64(good[i][0], n_good, false, text, sizeof(text)), 0);
        assert_string_equal(text, good[i][1]);
        assert_int_equal(gt_text_unbase64(gt_span_text(text), back, sizeof(back), &n), 0);
        assert_int_equal(n, n_good);
        assert_memory_equal(back, good[i][0], n);
    }
    for (size_t i = 0; i < GT_ARRAY_SIZE(table); i++) {
        print_message("%s\n", table[i].text);
        assert_int_equal(gt_text_unbase64(gt_span_text(table[i].text), back, sizeof(back), &n),
                         table[i].r);
    }
    assert_int_equal(gt_text_unbase64(gt_span("Zm\0v", 4), back, sizeof(back), &n), SYNTAX);
    assert_int_equal(gt_text_base64("foo", 3, false, text, 4), RANGE);
    assert_int_equal(gt_text_base64("foo", 3, false, text, 5), 0);
    assert_int_equal(gt_text_base64("\xfb\xff", 2, true, text, sizeof(text)), 0);
    assert_string_equal(text, "-_8");
}

static void test_base64_decodes_its_own_output(void **state)
{
    unsigned seed = (unsigned)time(NULL);

    print_message("seed %u\n", seed);
    for (size_t n = 0; n < 200; n++) {
        uint8_t data[200], back[200];
        char text[300];
        size_t n_back;

        for (size_t i = 0; i < n; i++)
            data[i] = (uint8_t)rand_r(&seed);
        assert_int_equal(gt_text_base64(data, n, n % 2, text, sizeof(text)), 0);
        assert_int_equal(gt_text_unbase64(gt_span_text(text), back, n, &n_back), 0);
        assert_int_equal(n_back, n);
        assert_memory_equal(back, data, n);
    }
}

static void test_name_rejects_unsafe_characters(void **state)
{
    static const char *const good[] = {"a", "GatewayOli", "0", "a.b_c:d@e-f", "9-"};
    static const char *const bad[] = {"",         ".a",    "-x", "_a",   ":a",           "a/b",
                                      "a+",       "a#",    "$a", "a b",  "a\n",          "a\x1b[m",
                                      "\xc3\xa4", "a\x7f", "a*", "a\\b", "a\xe2\x80\xae"};
    char text[GT_NAME_MAX + 2];

    for (size_t i = 0; i < GT_ARRAY_SIZE(good); i++)
        assert_true(gt_text_is_name(gt_span_text(good[i])));
    for (size_t i = 0; i < GT_ARRAY_SIZE(bad); i++)
        assert_false(gt_text_is_name(gt_span_text(bad[i])));
    assert_false(gt_text_is_name(gt_span("a\0b", 3)));
    memset(text, 'x', sizeof(text));
    assert_true(gt_text_is_name(gt_span(text, GT_NAME_MAX)));
    assert_false(gt_text_is_name(gt_span(text, GT_NAME_MAX + 1)));
}

static void test_device_name_is_no_name_of_an_enrolment(void **state)
{
    static const char *const good[] = {"oli", "enroll", "enroll_1", "Enroll-1", "my-enroll-1"};
    static const char *const bad[] = {"enroll-", "enroll-6b49d200-627a14c6", "", "a/b"};

    for (size_t i = 0; i < GT_ARRAY_SIZE(good); i++)
        assert_true(gt_text_is_device_name(gt_span_text(good[i])));
    for (size_t i = 0; i < GT_ARRAY_SIZE(bad); i++)
        assert_false(gt_text_is_device_name(gt_span_text(bad[i])));
}

static void test_host_rejects_malformed_names(void **state)
{
    static const char *const good[] = {
        "localhost",
        "a",
        "relay.example.com",
        "relay.example.com.",
        "127.0.0.1",
        "::1",
        "::",
        "fe80::1%eth0",
        "2001:db8::1",
        "::ffff:1.2.3.4",
        "a_b.example",
        "3com.example",
        "x1",
        "1x",
    };
    static const char *const bad[] = {
        "",          ".",
        "a..b",      ".a",
        "-a",        "a-",
        "a.-b",      "127.1",
        "127.",      "a.1.",
        "1.2.3.4.5", "256.1.1.1",
        "1",         "[::1]",
        "http://a",  "a/b",
        "a b",       "a:b",
        "a:80",      ":::",
        "::1%",      "::1%eth0 ",
        "1::2::3",   "a\n",
        "a%b",       "fe80::1%aaaaaaaaaaaaaaaa",
        "\xc3\xa4",  "a@b",
        "0x7f.1",
    };
    char text[GT_HOST_MAX + 2];

    for (size_t i = 0; i < GT_ARRAY_SIZE(good); i++) {
        print_message("%s\n", good[i]);
        assert_true(gt_text_is_host(good[i]));
    }
    for (size_t i = 0; i < GT_ARRAY_SIZE(bad); i++) {
        print_message("%s\n", bad[i]);
        assert_false(gt_text_is_host(bad[i]));
    }
    for (size_t i = 0; i < GT_HOST_MAX + 1; i++)
        text[i] = i % 2 ? '.' : 'a';
    text[GT_HOST_MAX] = 0;
    assert_true(gt_text_is_host(text));
    text[GT_HOST_MAX] = '.';
    text[GT_HOST_MAX + 1] = 0;
    assert_false(gt_text_is_host(text));
    memset(text, 'a', 64);
    text[63] = 0;
    assert_true(gt_text_is_host(text));
    text[63] = 'a';
    text[64] = 0;
    assert_false(gt_text_is_host(text));
}

static void test_host_port_splits_each_form(void **state)
{
    static const struct {
        const char *text;
        uint16_t fallback;
        int r;
        const char *host;
        uint16_t port;
    } table[] = {
        {"relay", 7000, 0, "relay", 7000},
        {"relay:7001", 7000, 0, "relay", 7001},
        {"relay:7001", 0, 0, "relay", 7001},
        {"relay.example.com.", 7000, 0, "relay.example.com", 7000},
        {"relay.example.com.:7001", 0, 0, "relay.example.com", 7001},
        {"127.0.0.1:1", 0, 0, "127.0.0.1", 1},
        {"[::1]", 22, 0, "::1", 22},
        {"[::1]:65535", 22, 0, "::1", 65535},
        {"::1", 22, 0, "::1", 22},
        {"fe80::1%eth0", 22, 0, "fe80::1%eth0", 22},
        {"[fe80::1%eth0]:22", 0, 0, "fe80::1%eth0", 22},
        {"relay", 0, SYNTAX, "", 0},
        {"[::1]", 0, SYNTAX, "", 0},
        {"", 22, SYNTAX, "", 0},
        {":22", 22, SYNTAX, "", 0},
        {"relay:", 22, SYNTAX, "", 0},
        {"relay:0", 22, RANGE, "", 0},
        {"relay:65536", 22, RANGE, "", 0},
        {"relay:+22", 22, SYNTAX, "", 0},
        {"relay: 22", 22, SYNTAX, "", 0},
        {"relay:ssh", 22, SYNTAX, "", 0},
        {"[relay]:22", 22, SYNTAX, "", 0},
        {"[::1", 22, SYNTAX, "", 0},
        {"[::1]22", 22, SYNTAX, "", 0},
        {"[::1]:", 22, SYNTAX, "", 0},
        {"[]:22", 22, SYNTAX, "", 0},
        {"::1]:22", 22, SYNTAX, "", 0},
        {"tcp://relay:22", 22, SYNTAX, "", 0},
        {"relay:22/", 22, SYNTAX, "", 0},
        {"user@relay:22", 22, SYNTAX, "", 0},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(table); i++) {
        char host[GT_HOST_MAX + 1] = "untouched";
        uint16_t port = 4242;

        print_message("%s\n", table[i].text);
        assert_int_equal(gt_text_host_port(table[i].text, table[i].fallback, host, &port),
                         table[i].r);
        assert_string_equal(host, table[i].r ? "untouched" : table[i].host);
        assert_int_equal(port, table[i].r ? 4242 : table[i].port);
    }
    static char text[1 << 20];
    char host[GT_HOST_MAX + 1];
    uint16_t port;
    memset(text, 'a', sizeof(text) - 1);
    assert_int_equal(gt_text_host_port(text, 22, host, &port), SYNTAX);
}

static void test_escape_leaves_printable_ascii_only(void **state)
{
    static const struct {
        const char *text;
        size_t n, cap;
        const char *shown;
    } table[] = {
        {"plain text", 10, 64, "plain text"},
        {"a\x1b[31m\n\0b", 8, 64, "a\\x1b[31m\\x0a\\x00"},
        {"\\", 1, 64, "\\x5c"},
        {"\xc3\xa4\x7f", 3, 64, "\\xc3\\xa4\\x7f"},
        {"abcdefgh", 8, 9, "abcdefgh"},
        {"abcdefghi", 9, 9, "abcde..."},
        {"abcd\n", 5, 9, "abcd\\x0a"},
        {"abcde\n", 6, 9, "abcde..."},
        {"abc\nxyz", 7, 9, "abc..."},
        {"abcdef", 6, 4, "..."},
        {"abcdef", 6, 2, "."},
        {"abcdef", 6, 1, ""},
        {"", 0, 1, ""},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(table); i++) {
        char shown[64];

        memset(shown, '#', sizeof(shown));
        assert_string_equal(gt_text_escape(gt_span(table[i].text, table[i].n), shown, table[i].cap),
                            table[i].shown);
        if (table[i].cap < sizeof(shown))
            assert_int_equal(shown[table[i].cap], '#');
    }
}

static void test_shorten_keeps_bytes_and_marks_truncation(void **state)
{
    char text[8];

    assert_string_equal(gt_text_shorten("a\x1b[m", text, sizeof(text)), "a\x1b[m");
    assert_string_equal(gt_text_shorten("1234567", text, sizeof(text)), "1234567");
    assert_string_equal(gt_text_shorten("12345678", text, sizeof(text)), "1234...");
    assert_string_equal(gt_text_shorten("", text, sizeof(text)), "");
}

static void test_ago_rounds_for_people(void **state)
{
    static const struct {
        uint64_t ms;
        const char *shown;
    } table[] = {
        {0, "0 ms"},
        {999, "999 ms"},
        {1000, "1 s"},
        {1500, "1.5 s"},
        {9999, "9.9 s"},
        {42000, "42 s"},
        {119999, "119 s"},
        {180000, "3 min"},
        {7200000, "2 h"},
        {172800000, "2 d"},
        {UINT64_MAX, "213503982334 d"},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(table); i++) {
        char shown[32];

        assert_string_equal(gt_text_ago(table[i].ms, shown, sizeof(shown)), table[i].shown);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_number_accepts_plain_decimals_only),
        cmocka_unit_test(test_duration_and_size_require_a_unit),
        cmocka_unit_test(test_bool_accepts_listed_words_only),
        cmocka_unit_test(test_hex_is_exact),
        cmocka_unit_test(test_base64_rejects_non_canonical_text),
        cmocka_unit_test(test_base64_decodes_its_own_output),
        cmocka_unit_test(test_name_rejects_unsafe_characters),
        cmocka_unit_test(test_device_name_is_no_name_of_an_enrolment),
        cmocka_unit_test(test_host_rejects_malformed_names),
        cmocka_unit_test(test_host_port_splits_each_form),
        cmocka_unit_test(test_escape_leaves_printable_ascii_only),
        cmocka_unit_test(test_shorten_keeps_bytes_and_marks_truncation),
        cmocka_unit_test(test_ago_rounds_for_people),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
