/* SPDX-License-Identifier: ISC */
/* print-width.c: wrapping and shortening. */
#include "print-width.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_wrap(void **state)
{
    static const struct {
        const char *text;
        unsigned width;
        const char *wrapped;
    } rows[] = {
        {"", 10, ""},
        {"one two three", 0, "one two three"},
        {"one two three", 13, "one two three"},
        {"one two three", 12, "one two\n  three"},
        {"one two three", 7, "one two\n  three"},
        {"one two three", 6, "one\n  two\n  three"},
        {"a-long-word-that-does-not-fit x", 10, "a-long-word-that-does-not-fit\n  x"},
        {"what failed\n  what to do now", 14, "what failed\n  what to do\n  now"},
        {"\n", 10, "\n"},
        {"a\n\nb", 10, "a\n\nb"},
        {"    deep one two", 12, "    deep one\n    two"},
        {"✓ äöü äöü", 9, "✓ äöü äöü"}, /* columns, not bytes */
        {"✓ äöü äöü", 8, "✓ äöü\n  äöü"},
        {"✗ unbreakable-word", 10, "✗ unbreakable-word"}, /* the mark stays beside it */
        {"one  [GTD-E20]", 10, "one\n  [GTD-E20]"},
    };
    char got[128];

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        size_t n = print_wrap(rows[i].text, rows[i].width, got, sizeof(got));

        assert_string_equal(got, rows[i].wrapped);
        assert_int_equal(n, strlen(got));
    }
}

static void test_wrap_is_cut_off(void **state)
{
    static const char text[] = "one two three\n  four";
    char whole[64], got[64];
    size_t n = print_wrap(text, 8, whole, sizeof(whole));

    for (size_t cap = 1; cap <= n + 1; cap++) {
        memset(got, 'x', sizeof(got));
        assert_int_equal(print_wrap(text, 8, got, cap), cap - 1);
        assert_memory_equal(got, whole, cap - 1);
        assert_int_equal(got[cap - 1], 0);
        assert_int_equal(got[cap], 'x');
    }
}

static void test_shorten(void **state)
{
    static const struct {
        const char *text;
        unsigned width;
        const char *shortened;
    } rows[] = {
        {"12345678", 0, "12345678"}, {"12345678", 8, "12345678"},
        {"12345678", 7, "1234..."},  {"12345678", 4, "1..."},
        {"… 345678", 7, "… 34..."},  {"äöüäöüäö", 7, "äöüä..."},
        {"äöüäöüäö", 8, "äöüäöüäö"}, {"1234567\xe2\x80\xa6", 7, "1234..."},
    };
    char text[32];

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        strcpy(text, rows[i].text);
        assert_string_equal(print_shorten(text, rows[i].width), rows[i].shortened);
    }
}

static void test_width_of_something_else(void **state)
{
    assert_int_equal(print_terminal_width(-1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrap),
        cmocka_unit_test(test_wrap_is_cut_off),
        cmocka_unit_test(test_shorten),
        cmocka_unit_test(test_width_of_something_else),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
