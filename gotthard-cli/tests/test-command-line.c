/* SPDX-License-Identifier: ISC */
/* command-line.c and command-table.c: which options a command accepts, and complete table rows. */
#include "command-line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define ARGV_MAX 10

/* Returns the option that the command @argv[1] does not accept, or NULL. */
static const char *foreign_option(const char *const *argv)
{
    char *copy[ARGV_MAX + 2] = {NULL};
    char error[GT_CONFIG_ERROR_MAX];
    struct command_line line;
    int n = 0;

    for (; argv[n]; n++)
        copy[n] = (char *)argv[n];
    assert_int_equal(command_line_parse(n, copy, &line, error), 0);
    const char *foreign = command_line_foreign_option(&line, command_find(argv[1]));
    command_line_deinit(&line);
    return foreign;
}

static void test_command_line_options_belong_to_commands(void **state)
{
    static const struct {
        const char *argv[ARGV_MAX];
        const char *foreign;
    } rows[] = {
        {{"x", "connect", "d", "--bind", "*", "--json", "--relay=main", "--config", "f"}, NULL},
        {{"x", "disconnect", "d", "--json", "--answer-timeout", "1s"}, NULL},
        {{"x", "disconnect", "d", "--relay", "main"}, "relay"},
        {{"x", "status", "--bind", "*"}, "bind"},
        {{"x", "devices", "--server-host", "h"}, "server-host"},
        {{"x", "keygen", "--json"}, "json"},
        {{"x", "keygen", "--log-level", "debug"}, NULL},
        {{"x", "fingerprint", "--cert-path", "/"}, NULL},
        {{"x", "config", "show", "--single-port", "--lifetime=1h"}, NULL},
        {{"x", "config", "show", "--print-port"}, "print-port"},
        {{"x", "version", "--json", "-q", "--no-color"}, NULL},
        {{"x", "version", "--config", "f"}, "config"},
        {{"x", "version", "--log-level", "debug"}, "log-level"},
        {{"x", "help", "--no-single-port"}, "single-port"},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        const char *argv[ARGV_MAX + 2] = {NULL};

        memcpy(argv, rows[i].argv, sizeof(rows[i].argv));
        const char *foreign = foreign_option(argv);
        if (!rows[i].foreign && foreign)
            fail_msg("row %zu: --%s is rejected", i, foreign);
        if (rows[i].foreign)
            assert_string_equal(foreign, rows[i].foreign);
    }
}

static void test_command_table_rows_are_complete(void **state)
{
    size_t n;
    uint32_t bits = 0;
    const struct command *commands = command_table(&n);

    for (size_t i = 0; i < n; i++) {
        assert_ptr_equal(command_find(commands[i].name), &commands[i]);
        assert_int_equal(bits & commands[i].bit, 0);
        bits |= commands[i].bit;
        assert_non_null(commands[i].run);
        assert_true(strlen(commands[i].help) > 0);
        assert_int_equal(strncmp(commands[i].examples, commands[i].name, strlen(commands[i].name)),
                         0);
        assert_true(commands[i].n_arguments_min <= commands[i].n_arguments_max);
    }
    assert_int_equal(bits, COMMAND_ANY);
    assert_null(command_find("frobnicate"));
    assert_null(command_find(""));
}

/* Options of ssh before the device, with their values; from the device on all is for ssh. */
static void test_command_line_passes_options_of_another_program(void **state)
{
    char *argv[] = {"x",   "ssh", "-vl", "pi",     "--relay=main", "-oUser=x", "-y", "-q",
                    "oli", "-p",  "1",   "--json", "--",           "-h",       NULL};
    static const char *const passed[] = {"-vl", "pi", "-oUser=x", "-y"};
    static const char *const arguments[] = {"ssh", "oli", "-p", "1", "--json", "--", "-h"};
    char error[GT_CONFIG_ERROR_MAX];
    struct command_line line;

    assert_int_equal(command_line_parse(GT_ARRAY_SIZE(argv) - 1, argv, &line, error), 0);
    assert_int_equal(line.n_passed, GT_ARRAY_SIZE(passed));
    for (size_t i = 0; i < line.n_passed; i++)
        assert_string_equal(line.passed[i], passed[i]);
    assert_int_equal(line.n_arguments, GT_ARRAY_SIZE(arguments));
    for (size_t i = 0; i < line.n_arguments; i++)
        assert_string_equal(line.arguments[i], arguments[i]);
    assert_non_null(line.given[OPTION_QUIET]);
    assert_null(line.given[OPTION_JSON]);
    assert_null(line.given[OPTION_YES]);
    assert_int_equal(line.settings.n_sets, 1);
    command_line_deinit(&line);
}

static void test_command_line_value_of_a_short_option(void **state)
{
    assert_true(command_line_takes_value("lp", "-l"));
    assert_true(command_line_takes_value("lp", "-vp"));
    assert_false(command_line_takes_value("lp", "-p22"));
    assert_false(command_line_takes_value("lp", "-v"));
    assert_false(command_line_takes_value("lp", "-"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_command_line_options_belong_to_commands),
        cmocka_unit_test(test_command_line_passes_options_of_another_program),
        cmocka_unit_test(test_command_line_value_of_a_short_option),
        cmocka_unit_test(test_command_table_rows_are_complete),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
