/* SPDX-License-Identifier: ISC */
/* wrap.c: lines end before column 100, and markup is escaped. */
#include "gotthard/config/wrap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Returns the text that gt_wrap_paragraph() writes, which the caller frees. */
static char *wrapped(const char *prefix, const char *text)
{
    char *ret = calloc(1, 4096);
    FILE *file = tmpfile();

    assert_non_null(ret);
    assert_non_null(file);
    gt_wrap_paragraph(fileno(file), prefix, text);
    rewind(file);
    assert_true(fread(ret, 1, 4095, file) < 4095);
    fclose(file);
    return ret;
}

static void check_wrapped(const char *prefix, const char *text, const char *expected)
{
    char *got = wrapped(prefix, text);

    assert_string_equal(got, expected);
    free(got);
}

static void test_wrap_empty_text_is_no_line(void **state)
{
    check_wrapped("# ", "", "");
    check_wrapped("# ", "   ", "");
}

static void test_wrap_words_are_separated_by_one_blank(void **state)
{
    check_wrapped("# ", "  a   b ", "# a b\n");
}

/* The widest line, and one column more. */
static void test_wrap_breaks_before_column_101(void **state)
{
    char text[256], expected[256];

    for (int n = 94; n <= 97; n++) {
        memset(text, 'x', (size_t)n);
        snprintf(text + n, sizeof(text) - (size_t)n, " y");
        snprintf(expected, sizeof(expected), "# %.*s%sy\n", n, text, n <= 96 ? " " : "\n# ");
        check_wrapped("# ", text, expected);
    }
}

static void test_wrap_long_word_has_its_own_line(void **state)
{
    char text[256], expected[256];

    snprintf(text, sizeof(text), "a %0150d b", 7);
    snprintf(expected, sizeof(expected), "a\n%0150d\nb\n", 7);
    check_wrapped("", text, expected);
}

static void test_wrap_escape_marks_what_scdoc_would_take(void **state)
{
    char text[64];

    assert_string_equal(gt_wrap_escape("a_b *c* <d> \\e", text, sizeof(text)),
                        "a\\_b \\*c\\* \\<d\\> \\\\e");
    assert_string_equal(gt_wrap_escape("", text, sizeof(text)), "");
}

/* Never more than @cap bytes, and never half an escape. */
static void test_wrap_escape_stops_at_the_end(void **state)
{
    char text[8];

    for (size_t cap = 4; cap <= sizeof(text); cap++) {
        memset(text, 'z', sizeof(text));
        gt_wrap_escape("********", text, cap);
        assert_true(strlen(text) < cap);
        assert_int_equal(strlen(text) % 2, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrap_empty_text_is_no_line),
        cmocka_unit_test(test_wrap_words_are_separated_by_one_blank),
        cmocka_unit_test(test_wrap_breaks_before_column_101),
        cmocka_unit_test(test_wrap_long_word_has_its_own_line),
        cmocka_unit_test(test_wrap_escape_marks_what_scdoc_would_take),
        cmocka_unit_test(test_wrap_escape_stops_at_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
