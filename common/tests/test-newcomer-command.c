/* SPDX-License-Identifier: ISC */
/* The places from which a token may be read, and texts that are no token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "gotthard/enrolment/newcomer-command.h"

static char token_text[GT_TOKEN_TEXT_MAX];
static char path[] = "/tmp/gotthard-token-XXXXXX";

static int setup(void **state)
{
    struct gt_token token = {.kind = GT_TOKEN_DEVICE,
                             .relay_host = "relay.example.org",
                             .relay_port = 7000,
                             .expires_at = 1800000000,
                             .seed = "seed"};

    gt_token_format(&token, token_text);
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
    return unlink(path);
}

static void write_file(const char *before, const char *text, const char *after)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fprintf(file, "%s%s%s", before, text, after);
    fclose(file);
}

static int read_token(const char *word, struct gt_token *ret, char *ret_why)
{
    return gt_newcomer_read_token(word, GT_TOKEN_DEVICE, ret, ret_why);
}

static void assert_token(const char *word)
{
    struct gt_token token;
    char why[GT_NEWCOMER_WHY];

    assert_int_equal(read_token(word, &token, why), 0);
    assert_string_equal(token.relay_host, "relay.example.org");
}

static void test_token_is_an_argument_or_a_file(void **state)
{
    assert_token(token_text);
    write_file("", token_text, "");
    assert_token(path);
    write_file(" \n\t", token_text, " \r\n\n");
    assert_token(path);
}

static void test_token_is_on_standard_input(void **state)
{
    static const char *const words[] = {"-", NULL};
    int before = dup(STDIN_FILENO);

    for (size_t i = 0; i < GT_ARRAY_SIZE(words); i++) {
        write_file("", token_text, "\n");
        assert_non_null(freopen(path, "r", stdin));
        assert_token(words[i]);
    }
    dup2(before, STDIN_FILENO);
    close(before);
}

static void assert_no_token(const char *word, const char *reason)
{
    struct gt_token token;
    char why[GT_NEWCOMER_WHY] = "";

    assert_int_equal(read_token(word, &token, why), GT_NEWCOMER_E_TOKEN);
    if (!strstr(why, reason))
        fail_msg("%s", why);
}

static void test_other_files_are_no_tokens(void **state)
{
    char longest[GT_TOKEN_TEXT_MAX + 100];

    assert_no_token("/nonexistent/token", "No such file or directory");
    write_file("", "", "");
    assert_no_token(path, "must begin with gk1t.");
    write_file("", "gk1d.oli.AAAA", "");
    assert_no_token(path, "must begin with gk1t.");
    memset(longest, 'a', sizeof(longest));
    longest[sizeof(longest) - 1] = 0;
    write_file("", longest, "");
    assert_no_token(path, "not a token");
    write_file("", token_text, " more");
    assert_no_token(path, "characters");
    assert_no_token("/", "not a token");
}

static void test_token_among_the_arguments_is_hidden(void **state)
{
    char token[] = "gk1t.relay:7000.secret", other[] = "gk1t", file[] = "/root/token";

    gt_newcomer_hide_token(token);
    assert_string_equal(token, "gk1t.*****************");
    gt_newcomer_hide_token(other);
    gt_newcomer_hide_token(file);
    gt_newcomer_hide_token(NULL);
    assert_string_equal(other, "gk1t");
    assert_string_equal(file, "/root/token");
}

static void test_token_of_another_kind_is_refused(void **state)
{
    struct gt_token token;
    char why[GT_NEWCOMER_WHY];

    assert_int_equal(gt_newcomer_read_token(token_text, GT_TOKEN_RELAY, &token, why),
                     GT_NEWCOMER_E_TOKEN);
    assert_string_equal(why, "this token is for a new device, not for a new relay");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_token_is_an_argument_or_a_file),
        cmocka_unit_test(test_token_is_on_standard_input),
        cmocka_unit_test(test_other_files_are_no_tokens),
        cmocka_unit_test(test_token_among_the_arguments_is_hidden),
        cmocka_unit_test(test_token_of_another_kind_is_refused),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
