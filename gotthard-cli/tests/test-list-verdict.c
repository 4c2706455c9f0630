/* SPDX-License-Identifier: ISC */
#include "list-verdict.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define WHOLE NULL

static const struct row {
    struct list_facts facts;
    const char *why; /* a part of the reason, or WHOLE */
    bool is_by_name;
} rows[] = {
    {{.n_by_all = 5}, WHOLE, false},
    {{.n_by_all = 1, .is_declared = true}, WHOLE, false},
    {{.n_by_all = 5, .n_unasked = 9}, WHOLE, false},
    {{.n_by_name = 5, .is_declared = true}, WHOLE, true},
    {{.is_declared = true}, "no state of a device", true},
    {{.is_all_refused = true, .n_by_name = 2, .is_declared = true}, WHOLE, true},
    {{0}, "no state of a device", true},
    {{.is_all_refused = true}, "no state of a device", true},
    {{.n_by_name = 5}, "asked by name", true},
    {{.n_by_name = 5, .is_declared = true, .n_unasked = 1}, "not all known names", true},
    {{.n_by_all = 5, .n_by_name = 1}, "at once", false},
    {{.n_by_all = 5, .is_dropping = true}, "at once", false},
    {{.n_by_all = 5, .n_refused = 1}, "refuses", false},
    {{.n_by_all = 5, .n_dropped = 1}, "room", false},
    {{.n_by_all = 5, .end = LIST_LOST, .why = "reset"}, "lost: reset", false},
    {{.n_by_all = 5, .end = LIST_SILENT}, "stopped answering", false},
    {{.n_by_all = 5, .end = LIST_OVERDUE}, "10 minutes", false},
    {{.n_by_all = 5, .end = LIST_FLOODED}, "do not open", false},
    {{.is_declared = true, .keeps_no_states = true}, "keeps no retained", true},
};

static void test_verdict_of_facts(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        struct list_verdict verdict;

        list_verdict_of(&rows[i].facts, &verdict);
        if (verdict.is_whole != !rows[i].why || verdict.is_by_name != rows[i].is_by_name ||
            (rows[i].why && !strstr(verdict.why, rows[i].why)) ||
            verdict.is_whole != !verdict.hint || verdict.is_whole != !*verdict.why)
            fail_msg("row %zu: whole %d, by name %d, \"%s\"", i, verdict.is_whole,
                     verdict.is_by_name, verdict.why);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_verdict_of_facts)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
