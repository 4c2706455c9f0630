/* SPDX-License-Identifier: ISC */
/*
 * The handshake over a socket pair: the bytes that it sends, and those that it leaves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs these before it */
#include <cmocka.h>

#include "gotthard/net/proxy-handshake.h"
#include "gotthard/net/sock.h"

static const struct gt_proxy http = {GT_PROXY_HTTP, "proxy", 3128, "", ""};
static const struct gt_proxy socks5 = {GT_PROXY_SOCKS5, "proxy", 1080, "oli", "pw"};
static const struct gt_host_port relay = {"relay.example.org", 7000};

struct ends {
    int here, there;
    struct gt_proxy_handshake handshake;
};

static void ends_init(struct ends *ends, const struct gt_proxy *proxy)
{
    int fds[2];

    assert_int_equal(gt_sock_pair(fds), 0);
    ends->here = fds[0];
    ends->there = fds[1];
    gt_proxy_handshake_init(&ends->handshake, proxy, &relay);
}

static void ends_deinit(struct ends *ends)
{
    gt_close(&ends->here);
    gt_close(&ends->there);
}

static int run(struct ends *ends)
{
    return gt_proxy_handshake_run(&ends->handshake, ends->here);
}

static void say(struct ends *ends, const void *bytes, size_t n)
{
    assert_int_equal(write(ends->there, bytes, n), n);
}

static void expect(int fd, const void *bytes, size_t n)
{
    char got[2000];

    assert_int_equal(read(fd, got, sizeof(got)), n);
    assert_memory_equal(got, bytes, n);
}

static void expect_failure(struct ends *ends, const char *why, bool is_answered, bool is_denied)
{
    assert_int_equal(run(ends), GT_PROXY_HANDSHAKE_E_FAILED);
    assert_string_equal(ends->handshake.why, why);
    assert_int_equal(ends->handshake.is_answered, is_answered);
    assert_int_equal(ends->handshake.is_denied, is_denied);
    ends_deinit(ends);
}

static void test_proxy_handshake_connects_by_http(void **state)
{
    static const char request[] = "CONNECT relay.example.org:7000 HTTP/1.1\r\n"
                                  "Host: relay.example.org:7000\r\nUser-Agent: gotthard\r\n\r\n";
    static const char answer[] = "HTTP/1.1 200 OK\r\nA: b\r\n\r\ntunnel";
    struct ends ends;

    ends_init(&ends, &http);
    assert_int_equal(run(&ends), GT_PROXY_HANDSHAKE_E_READ);
    expect(ends.there, request, strlen(request));
    for (size_t i = 0; i < 8; i++) {
        say(&ends, answer + i, 1);
        assert_int_equal(run(&ends), GT_PROXY_HANDSHAKE_E_READ);
    }
    say(&ends, answer + 8, strlen(answer) - 8);
    assert_int_equal(run(&ends), 0);
    expect(ends.here, "tunnel", 6);
    ends_deinit(&ends);
}

static void test_proxy_handshake_sends_credentials_and_wipes_them(void **state)
{
    static const char line[] = "Proxy-Authorization: Basic b2xpOnA6dw==\r\n\r\n"; /* RFC 7617 */
    struct gt_proxy proxy = {GT_PROXY_HTTP, "proxy", 3128, "oli", "p:w"};
    static const uint8_t zeros[GT_PROXY_HANDSHAKE_OUT];
    struct ends ends;
    char got[2000] = "";

    ends_init(&ends, &proxy);
    assert_int_equal(run(&ends), GT_PROXY_HANDSHAKE_E_READ);
    ssize_t n = read(ends.there, got, sizeof(got) - 1);
    assert_true(n > (ssize_t)strlen(line));
    assert_string_equal(got + n - strlen(line), line);
    assert_memory_equal(ends.handshake.out, zeros, sizeof(zeros));
    ends_deinit(&ends);
}

static void test_proxy_handshake_has_room_for_the_longest(void **state)
{
    struct gt_proxy proxy = {.kind = GT_PROXY_HTTP, .host = "p", .port = 65535};
    struct gt_host_port to = {.port = 65535};
    struct gt_proxy_handshake handshake;

    memset(proxy.user, 'u', GT_PROXY_USER_MAX);
    memset(proxy.password, 'p', GT_PROXY_USER_MAX);
    memset(to.host, 'h', GT_HOST_MAX);
    gt_proxy_handshake_init(&handshake, &proxy, &to);
    assert_true(handshake.n_out < sizeof(handshake.out) - 1);
    assert_memory_equal(handshake.out + handshake.n_out - 4, "\r\n\r\n", 4);
}

static void test_proxy_handshake_reports_http_failures(void **state)
{
#define DENIED "proxy proxy:3128 denied a connection to relay.example.org:7000: "
#define FAILED "proxy proxy:3128 could not make a connection to relay.example.org:7000: "
    static const struct {
        const char *answer, *why;
        bool is_answered, is_denied;
    } table[] = {
        {"HTTP/1.1 403 Forbidden\r\n\r\n", DENIED "403 Forbidden", true, true},
        {"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: NTLM\r\n\r\n",
         DENIED "407 Proxy Authentication Required (it does not offer Basic)", true, true},
        {"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n\r\n", DENIED "407 No", true, true},
        {"HTTP/1.1 502 Bad Gateway\r\n\r\n", FAILED "502 Bad Gateway", true, false},
        {"HTTP/1.1 429\r\n\r\n", FAILED "429", true, false},
        {"HTTP/1.1 302 Found\r\n\r\n", FAILED "302 Found", true, false},
        {"SSH-2.0-x\r\n", FAILED "its answer is not HTTP", false, false},
        {NULL, FAILED "closed without an answer", false, false},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(table); i++) {
        struct ends ends;

        print_message("row %zu\n", i);
        ends_init(&ends, &http);
        assert_int_equal(run(&ends), GT_PROXY_HANDSHAKE_E_READ);
        if (table[i].answer)
            say(&ends, table[i].answer, strlen(table[i].answer));
        else
            shutdown(ends.there, SHUT_WR);
        expect_failure(&ends, table[i].why, table[i].is_answered, table[i].is_denied);
    }
}

static void test_proxy_handshake_connects_by_socks5(void **state)
{
    struct ends ends;

    ends_init(&ends, &socks5);
    assert_int_equal(run(&ends), GT_PROXY_HANDSHAKE_E_READ);
    expect(ends.there, "\5\2\0\2", 4);
    say(&ends, "\5\2", 2);
    assert_int_equal(run(&ends), GT_PROXY_HANDSHAKE_E_READ);
    expect(ends.there, "\1\3oli\2pw", 8);
    say(&ends, "\1\0", 2);
    assert_int_equal(run(&ends), GT_PROXY_HANDSHAKE_E_READ);
    expect(ends.there, "\5\1\0\3\21relay.example.org\x1b\x58", 24);
    say(&ends, "\5\0\0\1\0\0\0\0\0\0tunnel", 16);
    assert_int_equal(run(&ends), 0);
    expect(ends.here, "tunnel", 6);
    ends_deinit(&ends);
}

static void test_proxy_handshake_reports_socks5_failures(void **state)
{
    struct ends ends;

    ends_init(&ends, &socks5);
    assert_int_equal(run(&ends), GT_PROXY_HANDSHAKE_E_READ);
    say(&ends, "\5\2\1\1", 4);
    expect_failure(&ends,
                   "proxy proxy:1080 rejected the user name or the password "
                   "(relay.example.org:7000)",
                   true, true);
}

static void test_proxy_handshake_expires(void **state)
{
    struct gt_proxy_handshake handshake;

    gt_proxy_handshake_init(&handshake, &http, &relay);
    gt_proxy_handshake_expire(&handshake);
    assert_string_equal(handshake.why, FAILED "no answer");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_proxy_handshake_connects_by_http),
        cmocka_unit_test(test_proxy_handshake_sends_credentials_and_wipes_them),
        cmocka_unit_test(test_proxy_handshake_has_room_for_the_longest),
        cmocka_unit_test(test_proxy_handshake_reports_http_failures),
        cmocka_unit_test(test_proxy_handshake_connects_by_socks5),
        cmocka_unit_test(test_proxy_handshake_reports_socks5_failures),
        cmocka_unit_test(test_proxy_handshake_expires),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
