/* SPDX-License-Identifier: ISC */
/* config-sources.c: the files, variables and options that gave a value. */
#include "gotthard/config/config-sources.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

struct settings {
    char *endpoint, *prefix, *host;
};

#define ITEM(...) GT_CONFIG_ITEM(struct settings, __VA_ARGS__)
static const struct gt_config_item items[] = {
    ITEM("mqtt.endpoint", STRING, endpoint, .env = "T_ENDPOINT", .flag = "mqtt-endpoint"),
    ITEM("mqtt.prefix", STRING, prefix, .env = "T_PREFIX", .fallback = "gotthard/v1"),
    ITEM("server.host", STRING, host, .env = "T_HOST"),
};
static const struct gt_config_program program = {
    .name = "cli",
    .items = items,
    .n_items = GT_ARRAY_SIZE(items),
    .settings_size = sizeof(struct settings),
};

static char folder[64], shown[256];

static int set_up(void **state)
{
    strcpy(folder, "/tmp/test-config-sources.XXXXXX");
    assert_non_null(mkdtemp(folder));
    assert_int_equal(setenv("GOTTHARD_CONFIG_DIR", folder, 1), 0);
    unsetenv("CREDENTIALS_DIRECTORY");
    unsetenv("T_ENDPOINT");
    unsetenv("T_PREFIX");
    unsetenv("T_HOST");
    return 0;
}

static int tear_down(void **state)
{
    char command[128];

    snprintf(command, sizeof(command), "rm -r '%s'", folder);
    return system(command);
}

static void write_file(const char *name, const char *text)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0600), 0);
}

/* @expected: '@' at its begin stands for the folder. */
static void assert_sources(const struct gt_config_args *args, const char *expected)
{
    char error[GT_CONFIG_ERROR_MAX], filled[256];
    struct gt_config *config = NULL;

    if (gt_config_load(&program, args, &config, error) != 0)
        fail_msg("%s", error);
    snprintf(filled, sizeof(filled), "%s%s", *expected == '@' ? folder : "",
             expected + (*expected == '@'));
    assert_string_equal(gt_config_sources(config, shown, sizeof(shown)), filled);
    gt_config_sources(config, shown, 8); /* truncated, with its NUL */
    assert_true(strlen(shown) < 8);
    gt_config_free(config);
}

static void test_sources_of_defaults(void **state)
{
    assert_sources(NULL, "defaults only");
}

static void test_sources_name_a_file_once(void **state)
{
    write_file("cli.conf", "mqtt = { endpoint = \"a\"; prefix = \"b\"; };\n");
    assert_sources(NULL, "@/cli.conf");
}

static void test_sources_count_variables_and_options(void **state)
{
    const char *sets[] = {"mqtt-endpoint", "broker"};
    struct gt_config_args args = {.sets = sets, .n_sets = 1};

    setenv("T_PREFIX", "b", 1);
    setenv("T_HOST", "c", 1);
    assert_sources(&args, "2 variables, 1 option");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sources_of_defaults, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sources_name_a_file_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sources_count_variables_and_options, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
