/* SPDX-License-Identifier: ISC */
/* forward-spec.c: each form of the grammar, and texts that must be rejected. */
#include "forward-spec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define DEFAULT_LOCAL 4444

struct valid {
    const char *text;
    bool is_local_given;
    uint16_t local;
    const char *service;
};

static const struct valid valid_rows[] = {
    {"ssh", false, DEFAULT_LOCAL, "ssh"},
    {"22", false, DEFAULT_LOCAL, "22"},
    {"1023", false, DEFAULT_LOCAL, "1023"},
    {"1024", false, 1024, "1024"},
    {"1880", false, 1880, "1880"},
    {"65535", false, 65535, "65535"},
    {"8080:1880", true, 8080, "1880"},
    {"80:1", true, 80, "1"},
    {":22", true, 0, "22"},
    {"0:22", true, 0, "22"},
    {":ssh", true, 0, "ssh"},
    {"2222:ssh", true, 2222, "ssh"},
    {"node-red.2", false, DEFAULT_LOCAL, "node-red.2"},
    {"8080:10.0.0.5:80", true, 8080, "10.0.0.5:80"},
    {":10.0.0.5:80", true, 0, "10.0.0.5:80"},
    {"10.0.0.5:80", false, DEFAULT_LOCAL, "10.0.0.5:80"},
    {"printer:631", false, DEFAULT_LOCAL, "printer:631"},
    {"[::1]:80", false, DEFAULT_LOCAL, "[::1]:80"},
    {"8080:[fe80::1]:80", true, 8080, "[fe80::1]:80"},
    {":[::1]:80", true, 0, "[::1]:80"},
};

static void test_path_of_a_socket(void **state)
{
    struct forward_spec spec;
    const char *why = "";
    char text[160];

    assert_int_equal(forward_spec_parse("./oli:ssh", DEFAULT_LOCAL, &spec, &why), 0);
    assert_string_equal(spec.path, "./oli");
    assert_string_equal(spec.service, "ssh");
    assert_true(spec.is_local_given);
    assert_int_equal(forward_spec_parse("/run/a b.sock:[::1]:80", DEFAULT_LOCAL, &spec, &why), 0);
    assert_string_equal(spec.path, "/run/a b.sock");
    assert_string_equal(spec.service, "[::1]:80");
    assert_int_equal(forward_spec_parse("ssh", DEFAULT_LOCAL, &spec, &why), 0);
    assert_string_equal(spec.path, "");
    assert_int_equal(forward_spec_parse("/run/oli:", DEFAULT_LOCAL, &spec, &why),
                     FORWARD_SPEC_E_BAD);
    assert_int_equal(forward_spec_parse("/run/oli", DEFAULT_LOCAL, &spec, &why),
                     FORWARD_SPEC_E_BAD);
    snprintf(text, sizeof(text), "/%0100d:ssh", 0);
    assert_int_equal(forward_spec_parse(text, DEFAULT_LOCAL, &spec, &why), FORWARD_SPEC_E_BAD);
}

static void test_socks_is_a_forward_without_a_target(void **state)
{
    static const struct {
        const char *text;
        bool is_local_given;
        uint16_t local;
    } rows[] = {{"socks", false, 1080}, {"0:socks", true, 0}, {"1081:socks", true, 1081}};
    struct forward_spec spec;
    const char *why = "";

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        assert_int_equal(forward_spec_parse(rows[i].text, DEFAULT_LOCAL, &spec, &why), 0);
        assert_true(spec.is_socks);
        assert_string_equal(spec.service, "socks");
        assert_int_equal(spec.is_local_given, rows[i].is_local_given);
        assert_int_equal(spec.local, rows[i].local);
    }
    assert_int_equal(forward_spec_parse("./s:socks", DEFAULT_LOCAL, &spec, &why), 0);
    assert_true(spec.is_socks);
    assert_string_equal(spec.path, "./s");
    assert_int_equal(forward_spec_parse("socks:80", DEFAULT_LOCAL, &spec, &why), 0);
    assert_false(spec.is_socks); /* a host of that name */
}

static void test_option_of_socks(void **state)
{
    static const struct {
        const char *text, *bind;
        uint16_t local;
    } good[] = {
        {"1080", "", 1080},
        {"0", "", 0},
        {"127.0.0.2:1080", "127.0.0.2", 1080},
        {"*:1080", "*", 1080},
        {"[::1]:1080", "::1", 1080},
        {"localhost:1080", "", 1080},
    };
    static const char *const bad[] = {
        "",          ":",         ":1080",      "1080:", "host:1080",       "::1:1080",
        "[::1]",     "[::1]1080", "65536",      "01080", "[]:1080",         "[*]:1080",
        "127.0.0.2", "-1",        "127.1:1080", "1080 ", "[127.0.0.1]:1080"};
    struct forward_spec spec;

    for (size_t i = 0; i < GT_ARRAY_SIZE(good); i++) {
        const char *why = "";

        assert_int_equal(forward_spec_parse_socks(good[i].text, &spec, &why), 0);
        assert_true(spec.is_socks && spec.is_local_given);
        assert_string_equal(spec.bind, good[i].bind);
        assert_int_equal(spec.local, good[i].local);
    }
    for (size_t i = 0; i < GT_ARRAY_SIZE(bad); i++) {
        const char *why = NULL;

        if (forward_spec_parse_socks(bad[i], &spec, &why) != FORWARD_SPEC_E_BAD)
            fail_msg("'%s' was accepted", bad[i]);
        assert_non_null(why);
    }
}

static void test_forward_of_udp(void **state)
{
    static const struct {
        const char *text, *service;
        uint16_t local;
    } good[] = {
        {"udp:5353:dns", "udp:dns", 5353},
        {"udp:0:53", "udp:53", 0},
        {"udp::53", "udp:53", 0},
        {"udp:161:10.0.0.5:161", "udp:10.0.0.5:161", 161},
        {"udp:161:[fd00::1]:161", "udp:[fd00::1]:161", 161},
    };
    static const char *const bad[] = {"udp:",        "udp:dns",     "udp:53",  "udp:0:",
                                      "udp:0:socks", "udp:./s:dns", "udp:0:0", "udp:65536:53"};
    struct forward_spec spec;
    const char *why = "";

    for (size_t i = 0; i < GT_ARRAY_SIZE(good); i++) {
        assert_int_equal(forward_spec_parse(good[i].text, DEFAULT_LOCAL, &spec, &why), 0);
        assert_true(spec.is_udp && spec.is_local_given && !spec.is_socks);
        assert_string_equal(spec.service, good[i].service);
        assert_int_equal(spec.local, good[i].local);
    }
    for (size_t i = 0; i < GT_ARRAY_SIZE(bad); i++)
        if (forward_spec_parse(bad[i], DEFAULT_LOCAL, &spec, &why) != FORWARD_SPEC_E_BAD)
            fail_msg("'%s' was accepted", bad[i]);
}

static const char *const invalid_texts[] = {
    "",           ":",
    "::",         ":::1",
    "::1:80",     "8080:",
    "8080::80",   "0",
    "8080:0",     "65536",
    "65536:22",   "022",
    "8080:022",   "022:22",
    "000000:22",  "4294967318",
    "+22",        "-22",
    " 22",        "22 ",
    "0x16",       "22:22:22",
    "1:2:3:4",    "ssh:",
    "ssh:ssh",    "ssh:0",
    "ssh:65536",  "a b",
    "a/b",        "a#b",
    "-x",         "user@host",
    "[::1]",      "[::1]:",
    "[::1:80",    "[zz]:80",
    "8080:[::1]", "99999999999999999999:22",
    "\x1b[31m",   "ssh\n",
};

static void test_forward_spec_valid_forms(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(valid_rows); i++) {
        struct forward_spec spec;
        const char *why = NULL;
        int r = forward_spec_parse(valid_rows[i].text, DEFAULT_LOCAL, &spec, &why);

        if (r != 0)
            fail_msg("\"%s\" rejected: %s", valid_rows[i].text, why);
        assert_string_equal(spec.service, valid_rows[i].service);
        assert_int_equal(spec.is_local_given, valid_rows[i].is_local_given);
        assert_int_equal(spec.local, valid_rows[i].local);
    }
}

static void test_forward_spec_invalid_forms(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(invalid_texts); i++) {
        struct forward_spec spec = {.local = 7};
        const char *why = NULL;

        if (forward_spec_parse(invalid_texts[i], DEFAULT_LOCAL, &spec, &why) != FORWARD_SPEC_E_BAD)
            fail_msg("\"%s\" accepted as \"%s\" on %u", invalid_texts[i], spec.service, spec.local);
        assert_non_null(why);
        assert_int_equal(spec.local, 7); /* untouched */
    }
}

static void test_forward_spec_service_length(void **state)
{
    for (size_t n = GT_SERVICE_MAX - 1; n <= GT_SERVICE_MAX + 1; n++) {
        char text[GT_SERVICE_MAX + 2];
        struct forward_spec spec;
        const char *why;

        memset(text, 'a', n);
        text[n] = 0;
        int r = forward_spec_parse(text, 0, &spec, &why);
        assert_int_equal(r, n <= GT_SERVICE_MAX ? 0 : FORWARD_SPEC_E_BAD);
    }
}

/* An accepted text, written out again from the result, has the same result. */
static void test_forward_spec_random_text_round_trip(void **state)
{
    static const char alphabet[] = "0123:[]s.-h9 /";
    unsigned seed = (unsigned)getpid();

    printf("seed %u\n", seed);
    srandom(seed);
    for (int i = 0; i < 100000; i++) {
        char text[24], again[LOCAL_SOCKET_PATH_MAX + GT_SERVICE_MAX + 8];
        size_t n = (size_t)random() % (sizeof(text) - 1);

        for (size_t j = 0; j < n; j++)
            text[j] = alphabet[(size_t)random() % (sizeof(alphabet) - 1)];
        text[n] = 0;
        struct forward_spec first, second;
        const char *why;
        if (forward_spec_parse(text, DEFAULT_LOCAL, &first, &why) != 0)
            continue;
        if (first.path[0])
            snprintf(again, sizeof(again), "%s:%s", first.path, first.service);
        else if (first.is_local_given)
            snprintf(again, sizeof(again), "%u:%s", first.local, first.service);
        else
            snprintf(again, sizeof(again), "%s", first.service);
        assert_int_equal(forward_spec_parse(again, DEFAULT_LOCAL, &second, &why), 0);
        assert_memory_equal(&first, &second, sizeof(first));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward_spec_valid_forms),
        cmocka_unit_test(test_forward_spec_invalid_forms),
        cmocka_unit_test(test_forward_spec_service_length),
        cmocka_unit_test(test_forward_spec_random_text_round_trip),
        cmocka_unit_test(test_path_of_a_socket),
        cmocka_unit_test(test_socks_is_a_forward_without_a_target),
        cmocka_unit_test(test_option_of_socks),
        cmocka_unit_test(test_forward_of_udp),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
