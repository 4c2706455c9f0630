/* SPDX-License-Identifier: ISC */
/*
 * The table and etc/agentd.conf (the argument): each line of the example, uncommented, is accepted
 * and changes nothing. Then the checks that involve several values.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "settings.h"

static const char *example;

/* Only what settings_check asks for. */
static void set_minimum(void)
{
    setenv("MACHINE_ID", "dev", 1);
    setenv("GOTTHARD_SERVER_HOST", "relay.example", 1);
    setenv("GOTTHARD_MQTT_ENDPOINT", "broker.example", 1);
    setenv("GOTTHARD_CRYPT_KEY", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
           1);
}

static int setup(void **state)
{
    clearenv();
    setenv("GOTTHARD_CONFIG_DIR", "/", 1);
    set_minimum();
    return 0;
}

static struct gt_config *load(const char *file, int expected, char *ret_error)
{
    struct gt_config_args args = {.file = file};
    struct gt_config *config = NULL;

    int r = gt_config_load(settings_program(), &args, &config, ret_error);
    if (r != expected)
        fail_msg("%d: %s", r, ret_error);
    return config;
}

/* "    #port = 7000;" */
static bool line_is_setting(const char *line)
{
    line += strspn(line, " ");
    if (*line != '#')
        return false;
    size_t n = strspn(line + 1, "abcdefghijklmnopqrstuvwxyz_");
    return n && strncmp(line + 1 + n, " = ", 3) == 0;
}

/* The example with every setting in force. */
static void uncomment(FILE *from, FILE *to)
{
    char line[512];

    while (fgets(line, sizeof(line), from)) {
        if (line_is_setting(line))
            *strchr(line, '#') = ' ';
        fputs(line, to);
    }
}

static void assert_same_value(const struct gt_config_item *item, const char *a, const char *b)
{
    const char *x, *y;

    switch (item->type) {
    case GT_CONFIG_STRING:
    case GT_CONFIG_NAME:
    case GT_CONFIG_HOST:
    case GT_CONFIG_PATH:
    case GT_CONFIG_PATHS:
    case GT_CONFIG_SECRET:
    case GT_CONFIG_PROXY:
    case GT_CONFIG_CHOICE:
        x = *(char *const *)(const void *)(a + item->offset);
        y = *(char *const *)(const void *)(b + item->offset);
        assert_int_equal(!x, !y);
        if (x)
            assert_string_equal(x, y);
        break;
    case GT_CONFIG_NUMBER:
    case GT_CONFIG_DURATION:
    case GT_CONFIG_SIZE: assert_memory_equal(a + item->offset, b + item->offset, 8); break;
    case GT_CONFIG_BOOL: assert_memory_equal(a + item->offset, b + item->offset, 1); break;
    case GT_CONFIG_MAP: break;
    }
}

static void test_example_shows_every_default(void **state)
{
    char path[] = "/tmp/test-settings.XXXXXX", error[GT_CONFIG_ERROR_MAX] = "";
    FILE *from = fopen(example, "r"), *to = fdopen(mkstemp(path), "w");

    assert_non_null(from);
    assert_non_null(to);
    uncomment(from, to);
    fclose(from);
    fclose(to);
    struct gt_config *plain = load(NULL, 0, error), *shown = load(path, 0, error);
    for (size_t i = 0; i < settings_program()->n_items; i++) {
        const struct gt_config_item *item = &settings_program()->items[i];

        assert_same_value(item, gt_config_settings(plain), gt_config_settings(shown));
        if (item->fallback && strstr(gt_config_origin(shown, item->path), path) == NULL)
            fail_msg("%s is not in %s", item->path, example);
    }
    gt_config_free(plain);
    gt_config_free(shown);
    unlink(path);
}

static void test_example_is_complete(void **state)
{
    static char text[32768];
    FILE *file = fopen(example, "r");

    assert_non_null(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = 0;
    fclose(file);
    for (size_t i = 0; i < settings_program()->n_items; i++) {
        const struct gt_config_item *item = &settings_program()->items[i];
        const char *leaf = strrchr(item->path, '.');
        char line[128];
        const char *begin = leaf ? "    #" : item->type == GT_CONFIG_MAP ? "" : "#";

        snprintf(line, sizeof(line), "\n%s%s = ", begin, leaf ? leaf + 1 : item->path);
        if (!strstr(text, line))
            fail_msg("no %s in %s", item->path, example);
        if (item->env && !strstr(text, item->env))
            fail_msg("%s does not name %s", example, item->env);
        snprintf(line, sizeof(line), "--%s", item->flag ? item->flag : "");
        if (!strstr(text, line))
            fail_msg("%s does not name %s", example, line);
    }
}

static void test_missing_setting_is_named(void **state)
{
    static const struct {
        const char *variable, *path;
    } cases[] = {
        {"MACHINE_ID", "device.name"},
        {"GOTTHARD_SERVER_HOST", "server.host"},
        {"GOTTHARD_MQTT_ENDPOINT", "mqtt.endpoint"},
    };
    char error[GT_CONFIG_ERROR_MAX];

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        setup(NULL);
        unsetenv(cases[i].variable);
        load(NULL, GT_CONFIG_E_BAD, error);
        if (!strstr(error, cases[i].path) || !strstr(error, cases[i].variable))
            fail_msg("%s: %s", cases[i].variable, error);
    }
}

static void test_contradicting_settings_are_rejected(void **state)
{
    static const char *const cases[][3] = {
        {"GOTTHARD_MQTT_ENDPOINT", "https://broker.example", "mqtt.endpoint"},
        {"GOTTHARD_MQTT_PASSWORD", "secret", "mqtt.password"},
        {"MACHINE_ID", "a/b", "MACHINE_ID"},
        {"MACHINE_ID", "#", "MACHINE_ID"},
        {"GOTTHARD_AGENT_DATA_PORT", "0", "GOTTHARD_AGENT_DATA_PORT"},
        {"GOTTHARD_AGENT_DATA_HOST", "a b", "GOTTHARD_AGENT_DATA_HOST"},
        {"GOTTHARD_LIMITS_SESSIONS", "0", "GOTTHARD_LIMITS_SESSIONS"},
        {"GOTTHARD_TIMEOUTS_DIAL", "10", "GOTTHARD_TIMEOUTS_DIAL"},
        {"GOTTHARD_TRUST_POLICY", "none", "GOTTHARD_TRUST_POLICY"},
    };
    char error[GT_CONFIG_ERROR_MAX];

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        setup(NULL);
        setenv(cases[i][0], cases[i][1], 1);
        load(NULL, GT_CONFIG_E_BAD, error);
        if (!strstr(error, cases[i][2]))
            fail_msg("%s=%s: %s", cases[i][0], cases[i][1], error);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_example_shows_every_default, setup),
        cmocka_unit_test_setup(test_example_is_complete, setup),
        cmocka_unit_test_setup(test_missing_setting_is_named, setup),
        cmocka_unit_test_setup(test_contradicting_settings_are_rejected, setup),
    };

    if (argc != 2)
        return 64;
    example = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
