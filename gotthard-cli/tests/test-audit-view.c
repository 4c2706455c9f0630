/* SPDX-License-Identifier: ISC */
/* The time from which lines of an audit are printed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "audit-view.h"

#define NOW 1796047500 /* 2026-11-30T14:05:00Z */

static void test_since_is_a_duration_or_a_date(void **state)
{
    static const struct {
        const char *text, *since; /* NULL: not valid */
    } cases[] = {
        {"2h", "2026-11-30T12:05:00"},
        {"1d", "2026-11-29T14:05:00"},
        {"0", "2026-11-30T14:05:00"},
        {"2026-11-30", "2026-11-30"},
        {"2026-11-30T14:05", "2026-11-30T14:05"},
        {"2026-11-30T14:05:06", "2026-11-30T14:05:06"},
        {"2026-11-30T14:05:06Z", "2026-11-30T14:05:06"},
        {"", NULL},
        {"yesterday", NULL},
        {"2026-11", NULL},
        {"2026-11-3x", NULL},
        {"2026-11-30 14:05:06", NULL},
        {"2026-11-30T14:05:06Zx", NULL},
        {"2026-11-30T14:05:06+01:00", NULL},
        {"-2h", NULL},
        {"2", NULL},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        char since[sizeof("2026-11-30T14:05:00.123Z")] = "";
        bool is_valid = audit_view_parse_since(cases[i].text, NOW, since);

        assert_int_equal(is_valid, cases[i].since != NULL);
        assert_string_equal(since, cases[i].since ? cases[i].since : "");
    }
}

/* A line at exactly that second is printed. */
static void test_since_sorts_before_the_lines_of_its_second(void **state)
{
    char since[sizeof("2026-11-30T14:05:00.123Z")];

    assert_true(audit_view_parse_since("2026-11-30T14:05:06Z", NOW, since));
    assert_true(strcmp("2026-11-30T14:05:06.000Z", since) >= 0);
    assert_true(strcmp("2026-11-30T14:05:05.999Z", since) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_since_is_a_duration_or_a_date),
        cmocka_unit_test(test_since_sorts_before_the_lines_of_its_second),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
