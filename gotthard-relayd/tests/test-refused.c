/* SPDX-License-Identifier: ISC */
/* refused.c: the form of the file, and the lookup. */
#include "limits/refused.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gotthard/crypto/key.h"

static int parse(const char *text, struct refused *ret, size_t *ret_line)
{
    const char *why = NULL;
    int r = refused_parse(strdup(text), ret, ret_line, &why);

    assert_true(r == 0 || why != NULL);
    return r;
}

static void test_refused_identities_are_found(void **state)
{
    struct refused refused;
    size_t line;

    assert_int_equal(parse("\xef\xbb\xbf# list\r\n\r\n\to:mallory \t\r\nd:stolen-17 # on 1 May\n"
                           "o:mallory\nd:a:b@c\n#o:eve\no:x#y\no:last",
                           &refused, &line),
                     REFUSED_E_SYNTAX); /* # begins a comment after a blank only */
    assert_int_equal(line, 8);
    assert_int_equal(parse("\xef\xbb\xbf# list\r\n\r\n\to:mallory \t\r\nd:stolen-17 # on 1 May\n"
                           "o:mallory\nd:a:b@c\n#o:eve\no:last",
                           &refused, &line),
                     0);
    static const char *const listed[] = {"g1:o:mallory", "g1:d:stolen-17", "g1:d:a:b@c",
                                         "g1:o:last"};
    static const char *const others[] = {"g1:d:mallory",   "g1:o:Mallory",  "g1:o:mallor",
                                         "g1:o:mallory2",  "g1:o:eve",      "g1:o:las",
                                         "g1:d:Stolen-17", "g1:o:stolen-17"};
    for (size_t i = 0; i < GT_ARRAY_SIZE(listed); i++)
        assert_true(refused_has(&refused, listed[i]));
    for (size_t i = 0; i < GT_ARRAY_SIZE(others); i++)
        assert_false(refused_has(&refused, others[i]));
    refused_deinit(&refused);
    assert_false(refused_has(&refused, "g1:o:mallory"));
}

static void test_refused_list_without_identities_refuses_none(void **state)
{
    struct refused refused;
    size_t line;

    assert_int_equal(parse("# none", &refused, &line), 0);
    assert_int_equal(refused.n, 0);
    assert_false(refused_has(&refused, "g1:o:mallory"));
    refused_deinit(&refused);
}

static void test_refused_list_of_blanks_is_rejected(void **state)
{
    static const char *const texts[] = {"", "\n", " \t\r\n\n", "\xef\xbb\xbf", "\xef\xbb\xbf\n"};
    struct refused refused;
    size_t line;

    for (size_t i = 0; i < GT_ARRAY_SIZE(texts); i++)
        assert_int_equal(parse(texts[i], &refused, &line), REFUSED_E_SYNTAX);
}

static void test_refused_line_that_is_malformed_is_rejected(void **state)
{
    static const char *const words[] = {
        "mallory",    "o",           "o:",         ":mallory", "O:mallory", "g1:o:mallory",
        "o: mallory", "o:a b",       "o:a d:b",    "o:-a",     "o:.a",      "o:a/b",
        "o:a+",       "o:m\xc3\xa4", "\xd0\xbe:a", "o:a\x01",  "a:mallory", "revoked o:mallory",
        "o:a,d:b",    "\"o:a\"",     "o:a;",       "o:a\x0b"};
    char text[64 + GT_NAME_MAX + 2], name[GT_NAME_MAX + 2];
    struct refused refused;
    size_t line;

    for (size_t i = 0; i < GT_ARRAY_SIZE(words); i++) {
        snprintf(text, sizeof(text), "o:good\n\n%s\n", words[i]);
        assert_int_equal(parse(text, &refused, &line), REFUSED_E_SYNTAX);
        assert_int_equal(line, 3);
    }
    for (size_t n = GT_NAME_MAX - 1; n <= GT_NAME_MAX + 1; n++) {
        memset(name, 'n', n);
        name[n] = 0;
        snprintf(text, sizeof(text), "d:%s", name);
        int r = parse(text, &refused, &line);
        assert_int_equal(r, n <= GT_NAME_MAX ? 0 : REFUSED_E_SYNTAX);
        if (r == 0) {
            char identity[GT_IDENTITY_MAX + 1];

            gt_key_identity(GT_ROLE_DEVICE, name, identity);
            assert_true(refused_has(&refused, identity));
            refused_deinit(&refused);
        }
    }
}

static void test_refused_list_of_thousands(void **state)
{
    enum { N = 20000 };
    char *text = malloc(N * 16), identity[32], *end = text;
    struct refused refused;
    const char *why;
    size_t line;

    assert_non_null(text);
    for (unsigned i = 0; i < N; i++)
        end += sprintf(end, "o:user-%u\n", i * 7919 % N);
    assert_int_equal(refused_parse(text, &refused, &line, &why), 0);
    assert_int_equal(refused.n, N);
    for (unsigned i = 0; i < N + 10; i++) {
        snprintf(identity, sizeof(identity), "g1:o:user-%u", i);
        assert_int_equal(refused_has(&refused, identity), i < N);
    }
    refused_deinit(&refused);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_identities_are_found),
        cmocka_unit_test(test_refused_list_without_identities_refuses_none),
        cmocka_unit_test(test_refused_list_of_blanks_is_rejected),
        cmocka_unit_test(test_refused_line_that_is_malformed_is_rejected),
        cmocka_unit_test(test_refused_list_of_thousands),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
