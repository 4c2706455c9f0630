/* SPDX-License-Identifier: ISC */
/* A table never exceeds the terminal, and keeps its most important columns. */
#include "table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct table_column sample[] = {
    {.title = "NAME", .width = 30, .min = 8},
    {.title = "STATE", .width = 7},
    {.title = "SINCE", .width = 19, .priority = 2},
    {.title = "TAGS", .width = 60, .min = 14, .priority = 1},
};
#define N GT_ARRAY_SIZE(sample)

static int width_of(const struct table_column *columns)
{
    int width = 0;

    for (size_t i = 0; i < N; i++)
        if (columns[i].width > 0)
            width += columns[i].width + (i > 0 ? TABLE_GAP : 0);
    return width;
}

static void test_table_fits_every_width(void **state)
{
    for (int width = 20; width <= 200; width++) {
        struct table_column columns[N];

        memcpy(columns, sample, sizeof(sample));
        table_fit(columns, N, width);
        assert_in_range(width_of(columns), 1, width);
        assert_in_range(columns[0].width, 8, 30);
        assert_int_equal(columns[1].width, 7);
        if (width >= 40)
            assert_in_range(columns[3].width, 14, 60);
        if (width >= 122)
            assert_memory_equal(columns, sample, sizeof(sample));
        else
            assert_in_range(width_of(columns), columns[3].width == 0 ? 1 : width - 25, width);
    }
}

static void test_table_without_a_terminal_is_not_changed(void **state)
{
    struct table_column columns[N];

    memcpy(columns, sample, sizeof(sample));
    table_fit(columns, N, 0);
    assert_memory_equal(columns, sample, sizeof(sample));
}

static void test_table_cell_is_shortened(void **state)
{
    char ret[16];

    assert_string_equal(table_cell("abcdef", 6, ret, sizeof(ret)), "abcdef");
    assert_string_equal(table_cell("abcdef", 5, ret, sizeof(ret)), "ab...");
    assert_string_equal(table_cell("abcdef", 3, ret, sizeof(ret)), "abc");
    assert_string_equal(table_cell("abcdef", 0, ret, sizeof(ret)), "");
    assert_string_equal(table_cell("a text that is longer", 100, ret, sizeof(ret)),
                        "a text that ...");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_fits_every_width),
        cmocka_unit_test(test_table_without_a_terminal_is_not_changed),
        cmocka_unit_test(test_table_cell_is_shortened),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
