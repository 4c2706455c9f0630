/* SPDX-License-Identifier: ISC */
/*
 * The formats of a table: --help, the annotated file and the manual page's part. What the formats
 * contain of each program's table is compared with the committed files by tests/generate --check.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "gotthard/config/config.h"

struct settings {
    char *host, *key, *name, *policy;
    uint64_t port;
    bool is_single;
    struct gt_config_map services;
};

#define ITEM(...) GT_CONFIG_ITEM(struct settings, __VA_ARGS__)
#define LONG                                                                                       \
    "This text is longer than one line of the file, which holds a hundred columns, and therefore " \
    "continues on the next line."

static const struct gt_config_item items[] = {
    ITEM("server.host", HOST, host, .flag = "server-host", .help = "Host of the relay."),
    ITEM("server.port", NUMBER, port, .flag = "server-port", .fallback = "7000", .min = 1,
         .max = 65535, .commands = 2, .help = "Port.", .details = LONG),
    ITEM("services", MAP, services, .help = "Services."),
    ITEM("client.name", NAME, name, .env = "THE_NAME", .fallback = "root",
         .fallback_help = "the login name", .help = "Name <of> *this* operator."),
    ITEM("crypt.key", SECRET, key, .help = "Key."),
    ITEM("server.single_port", BOOL, is_single, .flag = "single-port", .fallback = "false",
         .commands = 3, .help = "One port."),
    ITEM("trust.policy", CHOICE, policy, .fallback = "auto", .choices = "auto pin",
         .help = "Policy."),
};

static const struct gt_config_group groups[] = {{"server", "The relay."}, {"crypt", "Keys."}};

static const struct gt_config_program program = {
    .name = "test",
    .items = items,
    .n_items = GT_ARRAY_SIZE(items),
    .settings_size = sizeof(struct settings),
    .groups = groups,
    .n_groups = GT_ARRAY_SIZE(groups),
    .manual = "test(1)",
    .usage = "`test --check` shows it.",
};

static char text[16384];

static const char *output_of(void (*format)(int fd))
{
    FILE *file = tmpfile();

    assert_non_null(file);
    format(fileno(file));
    rewind(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = 0;
    fclose(file);
    return text;
}

static void assert_contains(const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" is missing in:\n%s", part, text);
}

static void print_file(int fd)
{
    gt_config_format_file(&program, fd);
}

static void print_manual(int fd)
{
    gt_config_format_manual(&program, fd);
}

static void print_help(int fd)
{
    gt_config_help(&program, 0, fd);
}

static void print_help_of_command_1(int fd)
{
    gt_config_help(&program, 1, fd);
}

static void test_variable_follows_path(void **state)
{
    char variable[GT_CONFIG_VARIABLE_MAX];

    assert_true(gt_config_variable(&items[5], variable));
    assert_string_equal(variable, "GOTTHARD_SERVER_SINGLE_PORT");
    assert_true(gt_config_variable(&items[3], variable));
    assert_string_equal(variable, "THE_NAME");
    assert_false(gt_config_variable(&items[2], variable));
}

static void test_variable_of_longest_path_fits(void **state)
{
    char path[GT_CONFIG_PATH_MAX + 1], variable[GT_CONFIG_VARIABLE_MAX];

    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = 0;
    const struct gt_config_item item = {.path = path, .type = GT_CONFIG_NUMBER};
    assert_true(gt_config_variable(&item, variable));
    assert_int_equal(strlen(variable), strlen("GOTTHARD_") + GT_CONFIG_PATH_MAX);
}

static void test_file_shows_each_setting_at_its_default(void **state)
{
    output_of(print_file);
    assert_contains("# Settings of test(1), which gotthard-test.conf(5) describes. This file is ");
    assert_contains("/etc/gotthard/test.conf.d/site.conf, ");
    assert_contains("`test --check` shows it.");
    assert_contains("\n# The relay.\nserver = {\n    # Host of the relay.\n");
    assert_contains(
        "    # (host name or address, no default; GOTTHARD_SERVER_HOST, --server-host)\n"
        "    #host = \"\";\n\n    # Port. ");
    assert_contains("\n    #port = 7000;\n");
    assert_contains("\n    #single_port = false;\n};\n");
    assert_contains("\n# Services.\n# (group of texts, no default)\nservices = {\n};\n");
    assert_contains("    #key = \"\";\n    #key_file = \"\";\n");
    assert_contains("GOTTHARD_CRYPT_KEY, GOTTHARD_CRYPT_KEY_FILE)");
    assert_contains("(name, default the login name; THE_NAME)\n    #name = \"\";\n");
    assert_null(strstr(text, "root"));
}

static void test_file_wraps_at_100_columns(void **state)
{
    output_of(print_file);
    assert_contains("# Port. This text is longer");
    assert_contains(" columns, and\n    # therefore continues on the next line.\n");
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        assert_true(strlen(line) <= 100);
}

static void print_manual_options(int fd)
{
    gt_config_format_manual_options(&program, fd);
}

static void print_manual_variables(int fd)
{
    gt_config_format_manual_variables(&program, fd);
}

static void test_manual_lists_options_with_their_settings(void **state)
{
    output_of(print_manual_options);
    assert_contains("\n*--server-host* _HOST_\n\tHost of the relay. Setting: *server.host*.\n");
    assert_contains("\n*--single-port*\n\tOne port. Setting: *server.single\\_port*.\n");
    assert_null(strstr(text, "client.name"));
}

static void test_manual_lists_variables(void **state)
{
    output_of(print_manual_variables);
    assert_contains("\n*GOTTHARD\\_SERVER\\_HOST*\n\t*server.host*\n");
    assert_contains("\n*GOTTHARD\\_CRYPT\\_KEY*, *GOTTHARD\\_CRYPT\\_KEY\\_FILE*\n\t*crypt.key*\n");
    assert_contains("\n*THE\\_NAME*\n\t*client.name*\n");
    assert_null(strstr(text, "services"));
}

static void test_help_shows_choices(void **state)
{
    output_of(print_help);
    assert_contains("trust.policy, GOTTHARD_TRUST_POLICY (auto pin; default auto)\n");
}

static void test_manual_shows_each_setting(void **state)
{
    output_of(print_manual);
    assert_contains(
        "\n## server\n\nThe relay.\n\n*server.host* (host name or address, no default)\n"
        "\tHost of the relay.\n\n"
        "\tVariable: GOTTHARD\\_SERVER\\_HOST. Option: *--server-host* _HOST_.\n");
    assert_contains("*server.single\\_port* (true or false, default false)\n");
    assert_contains("Option: *--single-port*.\n");
    assert_contains("\n## services\n\n*services* (group of texts, no default)\n\tServices.\n");
    assert_contains("Name \\<of\\> \\*this\\* operator.");
    assert_contains("or GOTTHARD\\_CRYPT\\_KEY\\_FILE; file: *crypt.key\\_file*\n");
}

static void test_help_separates_options_from_other_settings(void **state)
{
    output_of(print_help);
    assert_contains(
        "  --server-port N                Port.\n"
        "                                 server.port, GOTTHARD_SERVER_PORT (default 7000)\n");
    const char *others = strstr(text, "Only in a configuration file");
    assert_non_null(others);
    assert_true(strstr(text, "--single-port") < others);
    assert_true(strstr(text, "crypt.key SECRET") > others);
    assert_contains("client.name, THE_NAME (default the login name)\n");
}

static void test_help_of_command_shows_only_its_options(void **state)
{
    output_of(print_help_of_command_1);
    assert_contains("--server-host HOST");
    assert_contains("--single-port");
    assert_null(strstr(text, "--server-port"));
    assert_null(strstr(text, "crypt.key"));
}

static void test_foreign_flag_is_found_by_command(void **state)
{
    const char *sets[] = {"server-host", "a", "single-port", "true", "server-port", "1"};
    struct gt_config_args args = {NULL, sets, 3};

    assert_string_equal(gt_config_foreign_flag(&program, &args, 1), "server-port");
    assert_null(gt_config_foreign_flag(&program, &args, 2));
    assert_string_equal(gt_config_foreign_flag(&program, &args, 4), "single-port");
    args.n_sets = 1;
    assert_null(gt_config_foreign_flag(&program, &args, 4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_variable_follows_path),
        cmocka_unit_test(test_variable_of_longest_path_fits),
        cmocka_unit_test(test_file_shows_each_setting_at_its_default),
        cmocka_unit_test(test_file_wraps_at_100_columns),
        cmocka_unit_test(test_manual_shows_each_setting),
        cmocka_unit_test(test_manual_lists_options_with_their_settings),
        cmocka_unit_test(test_manual_lists_variables),
        cmocka_unit_test(test_help_shows_choices),
        cmocka_unit_test(test_help_separates_options_from_other_settings),
        cmocka_unit_test(test_help_of_command_shows_only_its_options),
        cmocka_unit_test(test_foreign_flag_is_found_by_command),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
