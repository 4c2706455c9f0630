/* SPDX-License-Identifier: ISC */
/* ssh-options.c: the lines, and the quotes that a shell and ssh undo. */
#include "ssh-options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char *text;

/* Writes the options of a command with one setting. Returns the condition. */
static int format(const char *self, const char *flag, const char *value)
{
    const char *const sets[] = {flag, value};
    const struct command_line line = {.settings = {.sets = sets, .n_sets = flag ? 1 : 0}};
    size_t n;

    free(text);
    FILE *file = open_memstream(&text, &n);
    assert_non_null(file);
    int r = ssh_options_write(&line, self, "  ", file);
    assert_int_equal(fclose(file), 0);
    return r;
}

static int tear_down(void **state)
{
    free(text);
    text = NULL;
    return 0;
}

static void test_ssh_options_without_settings(void **state)
{
    assert_int_equal(format("/usr/bin/gotthard-cli", NULL, NULL), 0);
    assert_string_equal(text, "  ProxyCommand /usr/bin/gotthard-cli proxy %n %p\n"
                              "  KnownHostsCommand /usr/bin/gotthard-cli known-hosts %n %H\n"
                              "  StrictHostKeyChecking yes\n"
                              "  CheckHostIP no\n"
                              "  UpdateHostKeys no\n"
                              "  ServerAliveInterval 15\n");
}

static void test_ssh_options_quote_for_both_readers(void **state)
{
    static const struct {
        const char *value, *shell, *ssh;
    } rows[] = {
        {"plain-1.5_x:y@z", "--relay=plain-1.5_x:y@z", "--relay=plain-1.5_x:y@z"},
        {"a b", "'--relay=a b'", "\"--relay=a b\""},
        {"it's", "'--relay=it'\\''s'", "\"--relay=it\\'s\""},
        {"a\"b", "'--relay=a\"b'", "\"--relay=a\\\"b\""},
        {"a\\b", "'--relay=a\\b'", "\"--relay=a\\\\b\""},
        {"50%h", "'--relay=50%%h'", "\"--relay=50%%h\""},
        {"$(x);`y`", "'--relay=$(x);`y`'", "\"--relay=$(x);`y`\""},
    };
    char wanted[256];

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        assert_int_equal(format("/x", "relay", rows[i].value), 0);
        snprintf(wanted, sizeof(wanted), "ProxyCommand /x proxy %s %%n %%p\n", rows[i].shell);
        assert_non_null(strstr(text, wanted));
        snprintf(wanted, sizeof(wanted), "KnownHostsCommand /x known-hosts %s %%n %%H\n",
                 rows[i].ssh);
        assert_non_null(strstr(text, wanted));
    }
}

static void test_ssh_options_reject_text_that_cannot_be_quoted(void **state)
{
    static const char *const values[] = {"a\nb", "a\tb", "\x7f", "${HOME}", "\r"};

    for (size_t i = 0; i < GT_ARRAY_SIZE(values); i++)
        assert_int_equal(format("/x", "relay", values[i]), SSH_OPTIONS_E_TEXT);
    assert_int_equal(format("/a\nb", NULL, NULL), SSH_OPTIONS_E_TEXT);
}

static void test_ssh_options_name_the_absolute_path(void **state)
{
    assert_int_equal(chdir("/usr"), 0);
    assert_int_equal(format("/x", "cert-path", "bin/.."), 0);
    assert_non_null(strstr(text, " --cert-path=/usr %n"));
    assert_int_equal(format("/x", "cert-path", "~/x"), 0);
    assert_non_null(strstr(text, "'--cert-path=~/x' %n"));
}

static void test_ssh_options_name_this_program(void **state)
{
    char self[4096];

    assert_int_equal(ssh_options_self(self, sizeof(self)), 0);
    assert_non_null(strstr(self, "/test-ssh-options"));
}

/* Such a device would be another one for ssh. */
static void test_ssh_options_can_name_one_device_only(void **state)
{
    assert_true(ssh_options_can_name("gw-1"));
    assert_true(ssh_options_can_name("gw.gotthard-1"));
    assert_true(ssh_options_can_name("gotthard"));
    assert_false(ssh_options_can_name("root@gw-1"));
    assert_false(ssh_options_can_name("gw-1.gotthard"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_ssh_options_without_settings, tear_down),
        cmocka_unit_test_teardown(test_ssh_options_quote_for_both_readers, tear_down),
        cmocka_unit_test_teardown(test_ssh_options_reject_text_that_cannot_be_quoted, tear_down),
        cmocka_unit_test_teardown(test_ssh_options_name_the_absolute_path, tear_down),
        cmocka_unit_test(test_ssh_options_name_this_program),
        cmocka_unit_test(test_ssh_options_can_name_one_device_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
