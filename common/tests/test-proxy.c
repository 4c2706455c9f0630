/* SPDX-License-Identifier: ISC */
/*
 * The URL of a proxy, and the list of hosts without one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs these before it */
#include <cmocka.h>

#include <stdio.h>

#include "gotthard/base/proxy.h"

static void test_proxy_parse_accepts_each_form(void **state)
{
    static const struct {
        const char *text;
        struct gt_proxy expected;
    } table[] = {
        {"none", {.kind = GT_PROXY_NONE}},
        {"http://proxy.corp:3128", {GT_PROXY_HTTP, "proxy.corp", 3128, "", ""}},
        {"http://proxy.corp:3128/", {GT_PROXY_HTTP, "proxy.corp", 3128, "", ""}},
        {"HTTP://proxy.corp", {GT_PROXY_HTTP, "proxy.corp", 80, "", ""}},
        {"proxy:8080", {GT_PROXY_HTTP, "proxy", 8080, "", ""}},
        {"http://oli@10.0.0.1:80", {GT_PROXY_HTTP, "10.0.0.1", 80, "oli", ""}},
        {"http://oli:geheim@[2001:db8::1]:80", {GT_PROXY_HTTP, "2001:db8::1", 80, "oli", "geheim"}},
        {"oli:a:b@proxy:1", {GT_PROXY_HTTP, "proxy", 1, "oli", "a:b"}},
        {"oli:a@b@proxy:1", {GT_PROXY_HTTP, "proxy", 1, "oli", "a@b"}},
        {"http://o%20li:p%40ss%3A%25@p:1", {GT_PROXY_HTTP, "p", 1, "o li", "p@ss:%"}},
        {"socks5://gate", {GT_PROXY_SOCKS5, "gate", 1080, "", ""}},
        {"socks5h://a:b@gate:9050", {GT_PROXY_SOCKS5, "gate", 9050, "a", "b"}},
        {"socks://gate:1/", {GT_PROXY_SOCKS5, "gate", 1, "", ""}},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(table); i++) {
        struct gt_proxy proxy = {0};

        print_message("%s\n", table[i].text);
        assert_int_equal(gt_proxy_parse(table[i].text, &proxy), 0);
        assert_int_equal(proxy.kind, table[i].expected.kind);
        assert_string_equal(proxy.host, table[i].expected.host);
        assert_int_equal(proxy.port, table[i].expected.port);
        assert_string_equal(proxy.user, table[i].expected.user);
        assert_string_equal(proxy.password, table[i].expected.password);
    }
}

static void test_proxy_parse_rejects_other_texts(void **state)
{
    static const char *const table[] = {
        "",
        "http://",
        "https://proxy:3128",
        "socks4://proxy:1",
        "ftp://p:1",
        "p:0",
        "p:65536",
        "http://:80",
        "http://@p:1",
        "http://:pw@p:1",
        "p:1/path",
        "http://a%2@p:1",
        "http://a%zz@p:1",
        "http://a%00@p:1",
        "a b:1",
        "http://p:1 ",
        "http://p\n:1",
        "[::1",
        "none ",
    };
    char text[GT_PROXY_USER_MAX + 20], user[GT_PROXY_USER_MAX + 2];
    struct gt_proxy proxy = {.port = 7};

    for (size_t i = 0; i < GT_ARRAY_SIZE(table); i++) {
        print_message("%s\n", table[i]);
        assert_int_equal(gt_proxy_parse(table[i], &proxy), GT_TEXT_E_SYNTAX);
    }
    assert_int_equal(proxy.port, 7);
    memset(user, 'u', sizeof(user) - 1);
    user[sizeof(user) - 1] = 0; /* one byte too long */
    snprintf(text, sizeof(text), "%s@p:1", user);
    assert_int_equal(gt_proxy_parse(text, &proxy), GT_TEXT_E_SYNTAX);
    assert_int_equal(gt_proxy_parse(text + 1, &proxy), 0);
    assert_int_equal(strlen(proxy.user), GT_PROXY_USER_MAX);
}

static void test_proxy_password_is_hidden(void **state)
{
    static const struct {
        const char *text, *shown;
        bool has_password;
    } table[] = {
        {"http://oli:pw@p:1", "http://oli@p:1", true},
        {"oli:a@b:c@p:1", "oli@p:1", true},
        {"http://oli@p:1", "http://oli@p:1", false},
        {"http://p:1", "http://p:1", false},
        {"ftp://a:pw@", "ftp://a@", true},
        {"none", "none", false},
        {"", "", false},
        {"a:@p", "a@p", true},
    };
    char shown[64];

    for (size_t i = 0; i < GT_ARRAY_SIZE(table); i++) {
        assert_int_equal(gt_proxy_has_password(table[i].text), table[i].has_password);
        assert_string_equal(gt_proxy_without_password(table[i].text, shown), table[i].shown);
    }
}

static void test_proxy_name_has_brackets_around_ipv6(void **state)
{
    char name[GT_PROXY_NAME];

    assert_string_equal(gt_proxy_name(&(struct gt_proxy){.host = "p", .port = 1}, name), "p:1");
    assert_string_equal(gt_proxy_name(&(struct gt_proxy){.host = "::1", .port = 65535}, name),
                        "[::1]:65535");
}

/* As curl(1) 7.86 and newer. */
static void test_proxy_exclusions_are_those_of_curl(void **state)
{
    static const struct {
        const char *no_proxy, *host;
        bool is_excluded;
    } table[] = {
        {NULL, "relay.example.org", false},
        {"", "relay.example.org", false},
        {"*", "relay.example.org", true},
        {"*", "10.0.0.1", true},
        {"a,*", "relay.example.org", false},
        {"example.org", "relay.example.org", true},
        {"example.org", "EXAMPLE.ORG", true},
        {".example.org", "relay.example.org", true},
        {".example.org", "example.org", true},
        {"example.org.", "relay.example.org", true},
        {"example.org", "relay.example.org.", true},
        {"example.org", "notexample.org", false},
        {"relay.example.org", "example.org", false},
        {"a.b, c.d\texample.org,,", "relay.example.org", true},
        {"localhost,127.0.0.1", "127.0.0.1", true},
        {"127.0.0.1", "127.0.0.10", false},
        {"0.0.1", "127.0.0.1", false},
        {"10.0.0.0/8", "10.200.3.4", true},
        {"10.0.0.0/8", "11.0.0.1", false},
        {"192.168.4.0/22", "192.168.7.255", true},
        {"192.168.4.0/22", "192.168.8.0", false},
        {"1.2.3.4/32", "1.2.3.4", true},
        {"1.2.3.4/33", "1.2.3.4", false},
        {"1.2.3.4/", "1.2.3.4", false},
        {"0.0.0.0/0", "9.9.9.9", true},
        {"0.0.0.0/0", "2001:db8::1", false},
        {"2001:db8::/32", "2001:db8:1::9", true},
        {"2001:db8::/32", "2001:db9::", false},
        {"[2001:db8::1]", "2001:db8::1", true},
        {"2001:db8:0::1", "2001:db8::1", true},
        {"10.0.0.0/8", "ten.example.org", false},
        {".", "relay.example.org", false},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(table); i++) {
        print_message("%s %s\n", table[i].no_proxy ? table[i].no_proxy : "-", table[i].host);
        assert_int_equal(gt_proxy_is_excluded(table[i].no_proxy, table[i].host),
                         table[i].is_excluded);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_proxy_parse_accepts_each_form),
        cmocka_unit_test(test_proxy_parse_rejects_other_texts),
        cmocka_unit_test(test_proxy_password_is_hidden),
        cmocka_unit_test(test_proxy_name_has_brackets_around_ipv6),
        cmocka_unit_test(test_proxy_exclusions_are_those_of_curl),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
