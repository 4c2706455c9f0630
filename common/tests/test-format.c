/* SPDX-License-Identifier: ISC */
/*
 * format.c: numbers as printf(3) writes them, and hostile text in every place of a line.
 * tests/e2e/test_log_fields.py reads random lines back to their fields.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "gotthard/base/format.h"

static char line[1024];

#define TEXT(...) (gt_format(GT_FORMAT_TEXT, line, sizeof(line), __VA_ARGS__), line)
#define LOG(...)  (gt_format(GT_FORMAT_LOG, line, sizeof(line), __VA_ARGS__), line)

#define assert_as_printf(...)                                                            \
    do {                                                                                 \
        char want[256];                                                                  \
        int n = snprintf(want, sizeof(want), __VA_ARGS__);                               \
        assert_int_equal(gt_format(GT_FORMAT_TEXT, line, sizeof(line), __VA_ARGS__), n); \
        assert_string_equal(line, want);                                                 \
    } while (0)

static void test_format_numbers_as_printf(void **state)
{
    assert_as_printf("%d %i %5d|%-5d|%05d %+d", -1, 2, 3, 4, 5, 6);
    assert_as_printf("%u %x %X %#x %o %04o %03ld", 4000000000u, 255, 255, 255, 8, 0600, 7l);
    assert_as_printf("%ld %lld %zu %zd %ju %td", -1l, -2ll, (size_t)3, (ssize_t)-4, (uintmax_t)5,
                     (ptrdiff_t)6);
    assert_as_printf("%llu %lu %hhu %hd", 18446744073709551615ull, 1ul, (unsigned char)7,
                     (short)-3);
    assert_as_printf("%.0f %.1f %8.3f %e %g", 1.5, 2.25, 3.14159, 1e9, 0.1);
    assert_as_printf("%c%%%s|%5s|%-5s|%.2s|%.*s|%*s|%-*s|", 'a', "b", "c", "d", "efg", 1, "hij", 3,
                     "k", 3, "l");
}

static void test_format_escapes_text_for_terminals(void **state)
{
    assert_string_equal(TEXT("a\n%s\xe2\x9c\x93", "\x1b[2J\r\n\"\\=\xe2\x80\xae\xc0\xaf\x7f"),
                        "a\n\\x1b[2J\\x0d\\x0a\"\\=\\xe2\\x80\\xae\\xc0\\xaf\\x7f\xe2\x9c\x93");
    assert_string_equal(TEXT("%s", "\\x1b"), "\\x1b"); /* escaping twice changes nothing */
}

static void test_format_quotes_values_of_log_fields(void **state)
{
    assert_string_equal(LOG("a=%s b=%s:%u c=\"%s\"", "plain", "::1", 80, "two words"),
                        "a=plain b=::1:80 c=\"two words\"");
    assert_string_equal(LOG("a=%s b=%s c=%d", "", "two words", 3), "a=\"\" b=\"two words\" c=3");
    assert_string_equal(LOG("a=%s b=\"%s\"", "x\" m=1 a=\"", "x\" m=1 a=\""),
                        "a=\"x\\x22 m=1 a=\\x22\" b=\"x\\x22 m=1 a=\\x22\"");
    assert_string_equal(LOG("a=%s", "x=1"), "a=\"x=1\"");
    assert_string_equal(LOG("a=%s", "\\x22"), "a=\"\\x5cx22\"");
    assert_string_equal(LOG("%s=%s end", "key", "a b"), "key=\"a b\" end");
}

static void test_format_adds_no_field_in_free_text(void **state)
{
    assert_string_equal(LOG("up %s (%s)", "member=g1 = x", "\n=\\"),
                        "up member\\x3dg1 = x (\\x0a\\x3d\\x5c)");
    assert_string_equal(LOG("use \"psk\" = %s", "x"), "use \"psk\" = x");
}

static void test_format_takes_formatted_fields(void **state)
{
    char prefix[64];

    gt_format(GT_FORMAT_LOG, prefix, sizeof(prefix), "s=%s o=%s", "1", "a b");
    assert_string_equal(LOG("%-s up r=%s", prefix, "x"), "s=1 o=\"a b\" up r=x");
}

static void test_format_limits_values(void **state)
{
    char text[3000];

    memset(text, '\n', sizeof(text));
    text[sizeof(text) - 1] = 0;
    for (int is_quoted = 0; is_quoted < 2; is_quoted++) {
        (void)LOG(is_quoted ? "a=\"%s\" b=%d" : "a=%s b=%d", text, 7);
        assert_in_range(strlen(line), GT_FORMAT_VALUE_MAX, GT_FORMAT_VALUE_MAX + 20);
        assert_non_null(strstr(line, "...\" b=7"));
    }
}

static void test_format_closes_truncated_quotes(void **state)
{
    char small[16];

    for (size_t cap = 0; cap <= sizeof(small); cap++) {
        memset(small, '#', sizeof(small));
        assert_int_equal(
            gt_format(GT_FORMAT_LOG, small, cap, "a=\"%s\" b=%d", "0123456789abcdef", 1), 24);
        if (cap > 0)
            assert_int_equal(strlen(small), cap - 1);
        if (cap > 4)
            assert_int_equal(small[cap - 2], '"');
        if (cap < sizeof(small))
            assert_int_equal(small[cap], '#');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format_numbers_as_printf),
        cmocka_unit_test(test_format_escapes_text_for_terminals),
        cmocka_unit_test(test_format_quotes_values_of_log_fields),
        cmocka_unit_test(test_format_adds_no_field_in_free_text),
        cmocka_unit_test(test_format_takes_formatted_fields),
        cmocka_unit_test(test_format_limits_values),
        cmocka_unit_test(test_format_closes_truncated_quotes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
