/* SPDX-License-Identifier: ISC */
/* config-sources.c: the files, variables and options that gave a value. */
#include "gotthard/config/config-sources.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "gotthard/config/config-proxy.h"

struct settings {
    char *endpoint, *prefix, *host;
    struct gt_config_proxy proxy;
};

#define ITEM(...) GT_CONFIG_ITEM(struct settings, __VA_ARGS__)
static const struct gt_config_item items[] = {
    ITEM("mqtt.endpoint", STRING, endpoint, .env = "T_ENDPOINT", .flag = "mqtt-endpoint"),
    ITEM("mqtt.prefix", STRING, prefix, .env = "T_PREFIX", .fallback = "gotthard/v1"),
    ITEM("server.host", STRING, host, .env = "T_HOST"),
    ITEM("server.proxy", PROXY, proxy, .env = "T_PROXY", .standard = "t_shared"),
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

/* Other programs can use it: curl knows proxies with TLS. */
static void test_unusable_shared_variable_is_no_error(void **state)
{
    static const struct {
        const char *shared, *own, *no_proxy, *unusable;
        bool has_proxy;
    } cases[] = {
        {"https://proxy.test:8443", NULL, "", "t_shared", false},
        {"https://proxy.test:8443", NULL, "*", NULL, false},
        {"https://proxy.test:8443", "http://own.test:1", "", NULL, true},
        {"http://proxy.test:8", NULL, "", NULL, true},
        {"http://proxy.test:8", NULL, "*", NULL, false},
        {"http://proxy.test:8\n", NULL, "", "t_shared", false},
    };
    char error[GT_CONFIG_ERROR_MAX];

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_config *config = NULL;
        struct gt_proxy proxy;

        setenv("t_shared", cases[i].shared, 1);
        setenv("no_proxy", cases[i].no_proxy, 1);
        unsetenv("NO_PROXY");
        if (cases[i].own)
            setenv("T_PROXY", cases[i].own, 1);
        else
            unsetenv("T_PROXY");
        if (gt_config_load(&program, NULL, &config, error) != 0)
            fail_msg("case %zu: %s", i, error);
        const struct settings *settings = gt_config_settings(config);
        const char *unusable = gt_config_proxy_unusable(&settings->proxy, "relay.test");
        assert_int_equal(unusable != NULL, cases[i].unusable != NULL);
        if (unusable)
            assert_string_equal(unusable, cases[i].unusable);
        assert_int_equal(gt_config_proxy(&settings->proxy, NULL, "relay.test", &proxy),
                         cases[i].has_proxy);
        gt_config_free(config);
    }
    unsetenv("t_shared");
    unsetenv("no_proxy");
    unsetenv("T_PROXY");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sources_of_defaults, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sources_name_a_file_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sources_count_variables_and_options, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_unusable_shared_variable_is_no_error, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
