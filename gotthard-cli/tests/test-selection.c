/* SPDX-License-Identifier: ISC */
/* Which devices a selection accepts. */
#include "selection.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const struct device_row zurich = {.name = "gw-1",
                                         .knowledge = DEVICE_AUTHENTIC,
                                         .is_online = true,
                                         .tags = "role=gateway site=zurich"};
static const struct device_row bern = {
    .name = "gw-2", .knowledge = DEVICE_AUTHENTIC, .tags = "site=bern"};
static const struct device_row plain = {
    .name = "plc", .knowledge = DEVICE_AUTHENTIC, .is_online = true, .tags = ""};
static const struct device_row unknown = {.name = "gw-3", .tags = ""};
static const struct device_row foreign = {.name = "gw-4", .knowledge = DEVICE_FOREIGN, .tags = ""};

/* Returns a digit for each accepted row, 1 to 5. */
static const char *accepted(bool is_online_only, const char *const *words)
{
    static const struct device_row *const rows[] = {&zurich, &bern, &plain, &unknown, &foreign};
    static char text[sizeof("12345")];
    struct selection selection = {.is_online_only = is_online_only};
    size_t n = 0;

    for (; *words; words++)
        assert_null(selection_add(&selection, *words));
    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++)
        if (selection_accepts(&selection, rows[i]))
            text[n++] = (char)('1' + i);
    text[n] = 0;
    return text;
}

static void test_selection_without_words_accepts_all(void **state)
{
    assert_string_equal(accepted(false, (const char *const[]){NULL}), "12345");
    assert_string_equal(accepted(true, (const char *const[]){NULL}), "13");
}

static void test_selection_by_tags(void **state)
{
    static const struct {
        const char *words[3];
        const char *wanted;
    } cases[] = {
        {{"site=zurich"}, "1"},
        {{"site=*"}, "12"},
        {{"site="}, "12"},
        {{"site=[zb]*"}, "12"},
        {{"site=zur"}, ""},
        {{"sit=zurich"}, ""},
        {{"site=zurich", "role=gateway"}, "1"},
        {{"site=bern", "role=gateway"}, ""},
        {{"site!=zurich"}, "23"},
        {{"site!="}, "3"},
        {{"role!=gateway", "site=*"}, "2"},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++)
        assert_string_equal(accepted(false, cases[i].words), cases[i].wanted);
}

static void test_selection_by_names_and_tags(void **state)
{
    assert_string_equal(accepted(false, (const char *const[]){"gw-*", NULL}), "1245");
    assert_string_equal(accepted(false, (const char *const[]){"gw-1", "plc", NULL}), "13");
    assert_string_equal(accepted(false, (const char *const[]){"gw-*", "site=*", NULL}), "12");
    assert_string_equal(accepted(true, (const char *const[]){"gw-*", "site=*", NULL}), "1");
}

static void test_selection_rejects_other_words(void **state)
{
    struct selection selection = {0};

    assert_non_null(selection_add(&selection, ""));
    assert_non_null(selection_add(&selection, "=zurich"));
    assert_non_null(selection_add(&selection, "!=zurich"));
    assert_non_null(selection_add(&selection, "a b=zurich"));
    for (int i = 0; i < SELECTION_MAX; i++) {
        assert_null(selection_add(&selection, "site=zurich"));
        assert_null(selection_add(&selection, "gw-1"));
    }
    assert_non_null(selection_add(&selection, "site=zurich"));
    assert_non_null(selection_add(&selection, "gw-1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_selection_without_words_accepts_all),
        cmocka_unit_test(test_selection_by_tags),
        cmocka_unit_test(test_selection_by_names_and_tags),
        cmocka_unit_test(test_selection_rejects_other_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
