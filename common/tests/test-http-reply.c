/* SPDX-License-Identifier: ISC */
/*
 * Heads of answers: each is fed whole, byte by byte, and with bytes of the tunnel behind it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs these before it */
#include <cmocka.h>

#include "gotthard/net/http-reply.h"

static struct gt_http_reply feed_bytewise(const char *text, size_t *ret_n)
{
    struct gt_http_reply reply = {0};

    for (*ret_n = 0; text[*ret_n] && reply.state == GT_HTTP_REPLY_MORE; (*ret_n)++)
        assert_int_equal(gt_http_reply_feed(&reply, gt_span(text + *ret_n, 1)), 1);
    return reply;
}

static void test_http_reply_reads_each_form(void **state)
{
    static const struct {
        const char *text;
        enum gt_http_reply_state state;
        unsigned code;
        const char *reason;
    } table[] = {
        {"HTTP/1.1 200 Connection established\r\n\r\n", GT_HTTP_REPLY_DONE, 200,
         "Connection established"},
        {"HTTP/1.0 200 OK\r\nA: b\r\nC:d\r\n\r\n", GT_HTTP_REPLY_DONE, 200, "OK"},
        {"HTTP/1.1 200\n\n", GT_HTTP_REPLY_DONE, 200, ""},
        {"\r\n\r\nHTTP/1.1  204  x\r\n\r\n", GT_HTTP_REPLY_DONE, 204, "x"},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 407 No\r\n\r\n", GT_HTTP_REPLY_DONE, 407, "No"},
        {"HTTP/1.1 403 \x1b[1mbold\r\n\r\n", GT_HTTP_REPLY_DONE, 403, "\\x1b[1mbold"},
        {"HTTP/1.1 200 OK\r\nA: b\r\n", GT_HTTP_REPLY_MORE, 200, "OK"},
        {"HTTP/1.1 100 Continue\r\n\r\n", GT_HTTP_REPLY_MORE, 0, "Continue"},
        {"", GT_HTTP_REPLY_MORE, 0, ""},
        {"HTTP/2 200\r\n", GT_HTTP_REPLY_BAD, 0, ""},
        {"HTTP/1.1 20\r\n", GT_HTTP_REPLY_BAD, 0, ""},
        {"HTTP/1.1 2000\r\n", GT_HTTP_REPLY_BAD, 0, ""},
        {"HTTP/1.1 099\r\n", GT_HTTP_REPLY_BAD, 0, ""},
        {"HTTP/1.1\r\n", GT_HTTP_REPLY_BAD, 0, ""},
        {"HTTP/1.1200 OK\r\n", GT_HTTP_REPLY_BAD, 0, ""},
        {"<html>\n", GT_HTTP_REPLY_BAD, 0, ""},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(table); i++) {
        struct gt_http_reply whole = {0};
        size_t n_whole = gt_http_reply_feed(&whole, gt_span_text(table[i].text)), n;
        struct gt_http_reply bytewise = feed_bytewise(table[i].text, &n);

        print_message("row %zu\n", i);
        assert_int_equal(whole.state, table[i].state);
        assert_int_equal(whole.code, table[i].code);
        assert_string_equal(whole.reason, table[i].reason);
        assert_int_equal(n_whole, strlen(table[i].text));
        assert_int_equal(n, n_whole);
        assert_memory_equal(&bytewise, &whole, sizeof(whole));
    }
}

static void test_http_reply_leaves_the_tunnel_s_bytes(void **state)
{
    static const char head[] = "HTTP/1.1 200 OK\r\n\r\n", both[] = "HTTP/1.1 200 OK\r\n\r\nabc\n\n";
    struct gt_http_reply reply = {0};

    assert_int_equal(gt_http_reply_feed(&reply, gt_span_text(both)), strlen(head));
    assert_int_equal(reply.state, GT_HTTP_REPLY_DONE);
    assert_int_equal(gt_http_reply_feed(&reply, gt_span_text("abc")), 0);
}

static void test_http_reply_finds_basic(void **state)
{
    static const struct {
        const char *fields;
        bool has_challenge, has_basic;
    } table[] = {
        {"Proxy-Authenticate: Basic realm=\"x\"\r\n", true, true},
        {"proxy-authenticate:NTLM\r\nPROXY-AUTHENTICATE: Negotiate, basic realm=a\r\n", true, true},
        {"Proxy-Authenticate: Negotiate\r\n", true, false},
        {"WWW-Authenticate: Basic\r\n", false, false},
        {"", false, false},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(table); i++) {
        struct gt_http_reply reply = {0};

        gt_http_reply_feed(&reply, gt_span_text("HTTP/1.1 407 x\r\n"));
        gt_http_reply_feed(&reply, gt_span_text(table[i].fields));
        gt_http_reply_feed(&reply, gt_span_text("\r\n"));
        assert_int_equal(reply.state, GT_HTTP_REPLY_DONE);
        assert_int_equal(reply.has_challenge, table[i].has_challenge);
        assert_int_equal(reply.has_basic, table[i].has_basic);
    }
}

/* A head of exactly the limit is accepted, one byte more is not. */
static void test_http_reply_is_bounded(void **state)
{
    static const char first[] = "HTTP/1.1 200 OK\r\nA: ", last[] = "\r\n\r\n";

    for (size_t more = 0; more < 2; more++) {
        size_t n_fill = GT_HTTP_REPLY_MAX + more - strlen(first) - strlen(last);
        struct gt_http_reply reply = {0};

        gt_http_reply_feed(&reply, gt_span_text(first));
        for (size_t i = 0; i < n_fill; i++)
            assert_int_equal(gt_http_reply_feed(&reply, gt_span_text("x")), 1);
        gt_http_reply_feed(&reply, gt_span_text(last));
        assert_int_equal(reply.state, more ? GT_HTTP_REPLY_TOO_LONG : GT_HTTP_REPLY_DONE);
    }
    struct gt_http_reply reply = {0};
    uint8_t zero = 0;
    gt_http_reply_feed(&reply, gt_span(&zero, 1));
    assert_int_equal(reply.state, GT_HTTP_REPLY_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_http_reply_reads_each_form),
        cmocka_unit_test(test_http_reply_leaves_the_tunnel_s_bytes),
        cmocka_unit_test(test_http_reply_finds_basic),
        cmocka_unit_test(test_http_reply_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
