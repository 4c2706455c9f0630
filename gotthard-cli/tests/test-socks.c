/* SPDX-License-Identifier: ISC */
/* socks.c: requests, whole and byte by byte, and input that no correct client sends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "socks.h"

#define BYTES(...)                                                             \
    {                                                                          \
        (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}) \
    }

#define HELLO       5, 1, 0
#define ACCEPTED    5, 0
#define REPLY(code) 5, code, 0, 1, 0, 0, 0, 0, 0, 0

static const struct {
    struct gt_span in, out;
    enum socks_state state;
    const char *target;
} cases[] = {
    {BYTES(HELLO, 5, 1, 0, 1, 10, 0, 0, 5, 0, 80), BYTES(ACCEPTED), SOCKS_READY, "10.0.0.5:80"},
    {BYTES(5, 3, 2, 0, 1, 5, 1, 0, 1, 127, 0, 0, 1, 255, 255), BYTES(ACCEPTED), SOCKS_READY,
     "127.0.0.1:65535"},
    {BYTES(HELLO, 5, 1, 0, 4, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 22),
     BYTES(ACCEPTED), SOCKS_READY, "[fd00::1]:22"},
    {BYTES(HELLO, 5, 1, 0, 3, 3, 'p', 'l', 'c', 0, 102), BYTES(ACCEPTED), SOCKS_READY, "plc:102"},
    {BYTES(HELLO, 5, 1, 0, 3, 1, 'x', 1, 0), BYTES(ACCEPTED), SOCKS_READY, "x:256"},
    {BYTES(HELLO, 5, 1, 0, 3, 3, ':', ':', '1', 0, 80), BYTES(ACCEPTED), SOCKS_READY, "[::1]:80"},
    {BYTES(HELLO, 5, 1, 0, 3, 4, 'p', 'l', 'c', '.', 0, 102), BYTES(ACCEPTED), SOCKS_READY,
     "plc:102"},
    {BYTES(5), {NULL, 0}, SOCKS_METHODS_HEAD, ""},
    {BYTES(HELLO, 5, 1), BYTES(ACCEPTED), SOCKS_REQUEST_HEAD, ""},
    /* other protocols get no byte */
    {BYTES(4, 1, 0, 80, 10, 0, 0, 5, 0), {NULL, 0}, SOCKS_FAILED, ""},
    {BYTES('G', 'E', 'T', ' '), {NULL, 0}, SOCKS_FAILED, ""},
    {BYTES('C', 'O', 'N', 'N'), {NULL, 0}, SOCKS_FAILED, ""},
    {BYTES(0, 0), {NULL, 0}, SOCKS_FAILED, ""},
    /* no acceptable method */
    {BYTES(5, 0), BYTES(5, 0xff), SOCKS_FAILED, ""},
    {BYTES(5, 1, 2), BYTES(5, 0xff), SOCKS_FAILED, ""},
    /* requests that are refused */
    {BYTES(HELLO, 4, 1, 0, 1, 10), BYTES(ACCEPTED, REPLY(1)), SOCKS_FAILED, ""},
    {BYTES(HELLO, 5, 1, 1, 1, 10), BYTES(ACCEPTED, REPLY(1)), SOCKS_FAILED, ""},
    {BYTES(HELLO, 5, 2, 0, 1, 10), BYTES(ACCEPTED, REPLY(7)), SOCKS_FAILED, ""},
    {BYTES(HELLO, 5, 3, 0, 1, 10), BYTES(ACCEPTED, REPLY(7)), SOCKS_FAILED, ""},
    {BYTES(HELLO, 5, 0, 0, 1, 10), BYTES(ACCEPTED, REPLY(7)), SOCKS_FAILED, ""},
    {BYTES(HELLO, 5, 1, 0, 0, 10), BYTES(ACCEPTED, REPLY(8)), SOCKS_FAILED, ""},
    {BYTES(HELLO, 5, 1, 0, 2, 10), BYTES(ACCEPTED, REPLY(8)), SOCKS_FAILED, ""},
    {BYTES(HELLO, 5, 1, 0, 255, 10), BYTES(ACCEPTED, REPLY(8)), SOCKS_FAILED, ""},
    {BYTES(HELLO, 5, 1, 0, 3, 0), BYTES(ACCEPTED, REPLY(1)), SOCKS_FAILED, ""},
    {BYTES(HELLO, 5, 1, 0, 1, 10, 0, 0, 5, 0, 0), BYTES(ACCEPTED, REPLY(1)), SOCKS_FAILED, ""},
    {BYTES(HELLO, 5, 1, 0, 3, 3, 'a', 0, 'b', 0, 80), BYTES(ACCEPTED, REPLY(1)), SOCKS_FAILED, ""},
    {BYTES(HELLO, 5, 1, 0, 3, 3, 'a', ' ', 'b', 0, 80), BYTES(ACCEPTED, REPLY(1)), SOCKS_FAILED,
     ""},
    {BYTES(HELLO, 5, 1, 0, 3, 3, 'a', '\n', 'b', 0, 80), BYTES(ACCEPTED, REPLY(1)), SOCKS_FAILED,
     ""},
    {BYTES(HELLO, 5, 1, 0, 3, 3, 'a', '/', 'b', 0, 80), BYTES(ACCEPTED, REPLY(1)), SOCKS_FAILED,
     ""},
};

/* Feeds @in in pieces of at most @piece bytes, as far as it is wanted. */
static void feed(struct socks *socks, struct gt_span in, size_t piece, uint8_t *ret_out,
                 size_t *ret_n_out)
{
    while (in.n > 0 && socks_wanted(socks) > 0) {
        size_t n = GT_MIN(GT_MIN(in.n, piece), socks_wanted(socks));

        socks_consume(socks, in.data, n);
        in = gt_span(in.data + n, in.n - n);
        memcpy(ret_out + *ret_n_out, socks->out, socks->n_out);
        *ret_n_out += socks->n_out;
        socks->n_out = 0;
    }
}

static void test_negotiation_of_each_kind(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++)
        for (size_t piece = 1; piece <= 16; piece++) {
            struct socks socks = {0};
            uint8_t out[64];
            size_t n_out = 0;

            feed(&socks, cases[i].in, piece, out, &n_out);
            assert_int_equal(socks.state, cases[i].state);
            assert_string_equal(socks.target, cases[i].target);
            assert_int_equal(n_out, cases[i].out.n);
            if (n_out > 0)
                assert_memory_equal(out, cases[i].out.data, n_out);
            assert_int_equal(socks_wanted(&socks) == 0,
                             socks.state == SOCKS_READY || socks.state == SOCKS_FAILED);
        }
}

/* Bytes after the request belong to the target. */
static void test_request_takes_no_byte_too_many(void **state)
{
    static const uint8_t in[] = {HELLO, 5, 1, 0, 1, 10, 0, 0, 5, 0, 80};
    struct socks socks = {0};
    size_t n = 0;

    while (socks_wanted(&socks) > 0) {
        size_t n_wanted = socks_wanted(&socks);

        assert_true(n + n_wanted <= sizeof(in));
        socks_consume(&socks, in + n, n_wanted);
        n += n_wanted;
    }
    assert_int_equal(n, sizeof(in));
    assert_int_equal(socks.state, SOCKS_READY);
}

static void test_longest_names(void **state)
{
    for (unsigned n = 100; n <= 255; n++) {
        uint8_t in[SOCKS_IN_MAX + 8] = {HELLO, 5, 1, 0, 3, (uint8_t)n};
        struct socks socks = {0};
        uint8_t out[64];
        size_t n_out = 0;

        for (unsigned i = 0; i < n; i++)
            in[8 + i] = i % 2 ? '.' : 'a';
        in[8 + n - 1] = 'a';
        in[8 + n - 2] = 'a';
        in[8 + n] = 0xff; /* port 65280 */
        feed(&socks, gt_span(in, 8 + n + 2), 999, out, &n_out);
        assert_int_equal(socks.state,
                         n + sizeof(":65280") - 1 <= GT_SERVICE_MAX ? SOCKS_READY : SOCKS_FAILED);
    }
}

static void test_reply_of_each_code(void **state)
{
    static const struct {
        enum gt_rst code;
        enum socks_reply reply;
    } replies[] = {
        {GT_RST_REFUSED, SOCKS_REFUSED},
        {GT_RST_TIMEOUT, SOCKS_TIMED_OUT},
        {GT_RST_DENIED, SOCKS_NOT_ALLOWED},
        {GT_RST_WITHDRAWN, SOCKS_NOT_ALLOWED},
        {GT_RST_UNREACHABLE, SOCKS_UNREACHABLE},
        {GT_RST_NO_NAME, SOCKS_UNREACHABLE},
        {GT_RST_NO_RESOLVER, SOCKS_UNREACHABLE},
        {GT_RST_LIMIT, SOCKS_GENERAL},
        {GT_RST_LOST, SOCKS_GENERAL},
        {GT_RST_NONE, SOCKS_GENERAL},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(replies); i++)
        assert_int_equal(socks_reply_of(replies[i].code), replies[i].reply);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_negotiation_of_each_kind),
        cmocka_unit_test(test_request_takes_no_byte_too_many),
        cmocka_unit_test(test_longest_names),
        cmocka_unit_test(test_reply_of_each_code),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
