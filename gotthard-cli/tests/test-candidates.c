/* SPDX-License-Identifier: ISC */
/* candidates.c: which words are offered, in which order. */
#include "candidates.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static char text[4096];

static const char *printed(struct candidates *candidates)
{
    FILE *file = tmpfile();

    assert_non_null(file);
    candidates_print(candidates, fileno(file));
    rewind(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = 0;
    fclose(file);
    candidates_deinit(candidates);
    return text;
}

static void add(struct candidates *candidates, const char *word, const char *help)
{
    candidates_add(candidates, word, strlen(word), help);
}

static void test_candidates_are_sorted_and_unique(void **state)
{
    struct candidates candidates = {.current = "", .lead = ""};

    add(&candidates, "web", NULL);
    add(&candidates, "ssh", "help");
    add(&candidates, "web", NULL);
    assert_string_equal(printed(&candidates), "ssh\thelp\nweb\n");
}

static void test_candidates_begin_with_the_current_text(void **state)
{
    struct candidates candidates = {.current = "8080:s", .lead = "8080:"};

    add(&candidates, "ssh", NULL);
    add(&candidates, "web", NULL);
    candidates_add(&candidates, "sftp and more", 4, NULL);
    add(&candidates, "s", NULL);
    assert_string_equal(printed(&candidates), "8080:s\n8080:sftp\n8080:ssh\n");
}

static void test_candidates_drop_what_a_shell_interprets(void **state)
{
    static const char *const words[] = {
        "",     "$(id)", "`id`", "a b", "a\tb", "a\nb", "a;b", "a&b",    "a|b",      "a<b",
        "a>b",  "(a",    "a)",   "{a",  "a}",   "a*",   "a?",  "[a",     "a]",       "~a",
        "a\\b", "a'b",   "a\"b", "#a",  "!a",   "a^b",  "a/b", "\x1b[m", "\xc3\xa9",
    };
    struct candidates candidates = {.current = "", .lead = ""};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        add(&candidates, words[i], NULL);
    add(&candidates, "gw:2@site.example_x-y=z,+", NULL);
    assert_string_equal(printed(&candidates), "gw:2@site.example_x-y=z,+\n");
}

static void test_candidates_grow(void **state)
{
    struct candidates candidates = {.current = "", .lead = ""};
    char word[16];

    for (int i = 0; i < 300; i++) {
        snprintf(word, sizeof(word), "w%d", i);
        add(&candidates, word, NULL);
    }
    assert_int_equal(candidates.n, 300);
    assert_non_null(strstr(printed(&candidates), "w299\n"));
}

static void test_candidates_files_are_a_slash(void **state)
{
    struct candidates candidates = {.current = "", .lead = "", .is_file = true};

    assert_string_equal(printed(&candidates), "/\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_candidates_are_sorted_and_unique),
        cmocka_unit_test(test_candidates_begin_with_the_current_text),
        cmocka_unit_test(test_candidates_drop_what_a_shell_interprets),
        cmocka_unit_test(test_candidates_grow),
        cmocka_unit_test(test_candidates_files_are_a_slash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
