/* SPDX-License-Identifier: ISC */
/*
 * The client's side of SOCKS5, byte for byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs these before it */
#include <cmocka.h>

#include "gotthard/net/socks5.h"

static const struct gt_proxy anonymous = {.kind = GT_PROXY_SOCKS5, .host = "p", .port = 1080};
static const struct gt_proxy known = {GT_PROXY_SOCKS5, "p", 1080, "oli", "pw"};

#define BYTES(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

static void expect_message(const struct gt_socks5 *socks5, const uint8_t *bytes, size_t n)
{
    uint8_t message[GT_SOCKS5_MESSAGE_MAX];

    assert_int_equal(gt_socks5_message(socks5, message), n);
    assert_memory_equal(message, bytes, n);
}

/* Feeds the answer byte by byte. */
static void feed(struct gt_socks5 *socks5, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(gt_socks5_feed(socks5, gt_span(bytes + i, 1)), 1);
}

static void test_socks5_connects_by_name(void **state)
{
    struct gt_socks5 socks5;

    gt_socks5_init(&socks5, &known, "relay", 7000);
    expect_message(&socks5, BYTES(5, 2, 0, 2));
    feed(&socks5, BYTES(5, 2));
    expect_message(&socks5, BYTES(1, 3, 'o', 'l', 'i', 2, 'p', 'w'));
    feed(&socks5, BYTES(1, 0));
    expect_message(&socks5, BYTES(5, 1, 0, 3, 5, 'r', 'e', 'l', 'a', 'y', 7000 >> 8, 7000 & 0xff));
    feed(&socks5, BYTES(5, 0, 0, 1, 0, 0, 0, 0, 0, 0));
    assert_int_equal(socks5.state, GT_SOCKS5_DONE);
    assert_int_equal(gt_socks5_feed(&socks5, gt_span_text("x")), 0);
}

static void test_socks5_accepts_each_kind_of_address(void **state)
{
    static const uint8_t kinds[][2] = {{1, 4}, {4, 16}, {3, 0}};

    for (size_t i = 0; i < GT_ARRAY_SIZE(kinds); i++) {
        size_t n = 4 + kinds[i][1] + 2u + (kinds[i][0] == 3 ? 1 + 200 : 0);
        uint8_t answer[300] = {5, 0, 0, kinds[i][0], 200};
        struct gt_socks5 socks5;

        gt_socks5_init(&socks5, &anonymous, i == 0 ? "10.0.0.1" : "2001:db8::1", 1);
        expect_message(&socks5, BYTES(5, 1, 0));
        feed(&socks5, BYTES(5, 0));
        if (i == 0)
            expect_message(&socks5, BYTES(5, 1, 0, 1, 10, 0, 0, 1, 0, 1));
        assert_int_equal(gt_socks5_feed(&socks5, gt_span(answer, sizeof(answer))), n);
        assert_int_equal(socks5.state, GT_SOCKS5_DONE);
    }
}

static void test_socks5_reports_each_failure(void **state)
{
    static const struct {
        const struct gt_proxy *proxy;
        uint8_t method[2], answer[10];
        const char *why;
        bool is_denied;
    } table[] = {
        {&anonymous, {5, 0xff}, {0}, "requires a user", true},
        {&known, {5, 0xff}, {0}, "another kind", true},
        {&known, {5, 1}, {0}, "another kind", true},
        {&anonymous, {5, 2}, {0}, "another kind", true},
        {&anonymous, {'H', 'T'}, {0}, "does not speak SOCKS5", false},
        {&anonymous, {5, 0}, {5, 1, 0, 1}, "general failure", false},
        {&anonymous, {5, 0}, {5, 2, 0, 1}, "denied the connection by its rules", true},
        {&anonymous, {5, 0}, {5, 5, 0, 1}, "connection refused", false},
        {&anonymous, {5, 0}, {5, 9, 0, 1}, "unknown failure", false},
        {&anonymous, {5, 0}, {4, 0, 0, 1}, "does not speak SOCKS5", false},
        {&anonymous, {5, 0}, {5, 0, 0, 9}, "malformed", false},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(table); i++) {
        struct gt_socks5 socks5;
        uint8_t message[GT_SOCKS5_MESSAGE_MAX];

        print_message("row %zu\n", i);
        gt_socks5_init(&socks5, table[i].proxy, "relay", 7000);
        gt_socks5_feed(&socks5, gt_span(table[i].method, 2));
        gt_socks5_feed(&socks5, gt_span(table[i].answer, 10));
        assert_int_equal(socks5.state, GT_SOCKS5_FAILED);
        assert_non_null(strstr(socks5.why, table[i].why));
        assert_int_equal(socks5.is_denied, table[i].is_denied);
        assert_int_equal(gt_socks5_message(&socks5, message), 0);
    }
}

static void test_socks5_reports_a_wrong_password(void **state)
{
    struct gt_socks5 socks5;

    gt_socks5_init(&socks5, &known, "relay", 7000);
    feed(&socks5, BYTES(5, 2));
    feed(&socks5, BYTES(1, 1));
    assert_int_equal(socks5.state, GT_SOCKS5_FAILED);
    assert_true(socks5.is_denied);
}

/* The longest name, user and password fit into a message. */
static void test_socks5_messages_have_room(void **state)
{
    char host[GT_HOST_MAX + 1] = {0};
    uint8_t message[GT_SOCKS5_MESSAGE_MAX];
    struct gt_proxy proxy = {.kind = GT_PROXY_SOCKS5};
    struct gt_socks5 socks5;

    memset(host, 'h', GT_HOST_MAX);
    memset(proxy.user, 'u', GT_PROXY_USER_MAX);
    memset(proxy.password, 'p', GT_PROXY_USER_MAX);
    gt_socks5_init(&socks5, &proxy, host, 65535);
    feed(&socks5, BYTES(5, 2));
    assert_int_equal(gt_socks5_message(&socks5, message), 3 + 2 * GT_PROXY_USER_MAX);
    feed(&socks5, BYTES(1, 0));
    assert_int_equal(gt_socks5_message(&socks5, message), 4 + 1 + GT_HOST_MAX + 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_socks5_connects_by_name),
        cmocka_unit_test(test_socks5_accepts_each_kind_of_address),
        cmocka_unit_test(test_socks5_reports_each_failure),
        cmocka_unit_test(test_socks5_reports_a_wrong_password),
        cmocka_unit_test(test_socks5_messages_have_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
