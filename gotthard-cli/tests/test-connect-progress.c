/* SPDX-License-Identifier: ISC */
/* connect-progress.c: the line of a step, on terminals of several widths. */
#include "connect-progress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "print-width.h"

#define STEP "gateway-with-a-long-name answered, connecting through the relay"

static void test_progress_line_by_width(void **state)
{
    static const struct {
        const char *step;
        double seconds;
        const char *until;
        unsigned columns;
        const char *wanted;
    } rows[] = {
        {"waiting", 2.9, "12:00:00", 80, "waiting"},
        {"waiting", 3., "", 80, "waiting, 3 s"},
        {"waiting", 12., "12:00:00", 80, "waiting, 12 s, until 12:00:00"},
        {"waiting", 12., "12:00:00", 29, "waiting, 12 s, until 12:00:00"},
        {"waiting", 12., "12:00:00", 28, "waiting, 12 s"},
        {STEP, 12., "12:00:00", 0, STEP ", 12 s, until 12:00:00"},
        {STEP, 12., "12:00:00", 75, STEP ", 12 s"},
        {STEP, 12., "", 35, "gateway-with-a-long-name a..., 12 s"},
        {STEP, 12., "", 15, "gatewa..., 12 s"},
        {"w\xc3\xa4hrend", 12., "", 14, "w\xc3\xa4hrend, 12 s"},
    };
    char text[320];

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        connect_progress_format(rows[i].step, rows[i].seconds, rows[i].until, rows[i].columns, text,
                                sizeof(text));
        assert_string_equal(text, rows[i].wanted);
        assert_true(rows[i].columns == 0 || print_columns(text) <= rows[i].columns);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_progress_line_by_width),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
