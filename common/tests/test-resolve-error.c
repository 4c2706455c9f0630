/* SPDX-License-Identifier: ISC */
/* resolve-error.c: the words and the class of each error of the resolver. */
#include "gotthard/net/resolve-error.h"

#include <netdb.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_resolve_error_has_words(void **state)
{
    static const struct {
        int err;
        double took_s;
        bool is_unknown;
        const char *words;
    } rows[] = {
        {EAI_NONAME, 10, true, "there is no such name"},
        {EAI_NODATA, 0, true, "the name exists, but has no address"},
        {EAI_ADDRFAMILY, 0, true, "the name exists, but has no address of this family"},
        {EAI_AGAIN, 0.1, false, "the name server fails (SERVFAIL), or cannot be reached"},
        {EAI_AGAIN, 9.8, false, "no name server has answered within 10 s"},
        {EAI_FAIL, 10, false, "the name server refuses to answer"},
        {EAI_MEMORY, 0, false, "out of memory"},
    };
    char why[GT_RESOLVE_WHY];

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        assert_string_equal(gt_resolve_describe(rows[i].err, rows[i].took_s, why, sizeof(why)),
                            rows[i].words);
        assert_int_equal(gt_resolve_is_unknown(rows[i].err), rows[i].is_unknown);
    }
    assert_true(strlen(gt_resolve_describe(EAI_SYSTEM, 0, why, sizeof(why))) > 0);
    assert_string_equal(gt_resolve_describe(EAI_NONAME, 0, why, 6), "there");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_resolve_error_has_words)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
