/* SPDX-License-Identifier: ISC */
/* settings.c: the defaults, the login name as a name, relays by name, and the checks. */
#include "settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void test_login_becomes_a_name(void **state)
{
    static const struct {
        const char *login, *name;
    } rows[] = {
        {"alice", "alice"},       {"ACME\\alice", "ACME-alice"},
        {"_svc", "svc"},          {"a b/c#d", "a-b-c-d"},
        {"", "operator"},         {"###", "operator"},
        {"j\xc3\xb6rg", "j--rg"}, {"a@b.c", "a@b.c"},
    };
    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        char name[GT_NAME_MAX + 1];

        settings_name_of_login(rows[i].login, name);
        assert_string_equal(name, rows[i].name);
        assert_true(gt_text_is_name(gt_span_text(name)));
    }
}

static void test_long_login_is_truncated(void **state)
{
    char login[400], name[GT_NAME_MAX + 1];

    memset(login, 'x', sizeof(login) - 1);
    login[sizeof(login) - 1] = 0;
    settings_name_of_login(login, name);
    assert_int_equal(strlen(name), GT_NAME_MAX);
}

static void clear_environment(void)
{
    const struct gt_config_program *program = settings_program();
    char variable[GT_CONFIG_VARIABLE_MAX];

    setenv("GOTTHARD_CONFIG_DIR", "/", 1);
    setenv("HOME", "/nonexistent", 1);
    unsetenv("XDG_CONFIG_HOME");
    for (size_t i = 0; i < program->n_items; i++)
        if (gt_config_variable(&program->items[i], variable))
            unsetenv(variable);
}

static void test_defaults_without_layers(void **state)
{
    struct gt_config *config;
    struct gt_config_args args = {0};
    char error[GT_CONFIG_ERROR_MAX];

    clear_environment();
    assert_int_equal(gt_config_load(settings_program(), &args, &config, error), 0);
    const struct settings *settings = gt_config_settings(config);
    assert_null(settings->server_host);
    assert_int_equal(settings->server_port, 7000);
    assert_int_equal(settings->client_port, 4444);
    assert_string_equal(settings->relay, "main");
    assert_string_equal(settings->mqtt_prefix, "gotthard/v1");
    assert_int_equal(settings->mqtt_keepalive_ms, 30000);
    assert_int_equal(settings->lifetime_ms, 12 * 3600 * 1000);
    assert_int_equal(settings->ring_size, 0); /* depends on the machine */
    assert_string_equal(settings->trust_policy, "auto");
    assert_string_equal(settings->log_level, "info");
    assert_true(gt_text_is_name(gt_span_text(settings->client_name)));
    assert_false(gt_config_is_set(config, "client.port"));
    gt_config_free(config);
}

struct variable {
    const char *name, *value;
    bool is_good;
};

static const struct variable variables[] = {
    {"GOTTHARD_CLIENT_PORT", "0", true},
    {"GOTTHARD_CLIENT_PORT", "65535", true},
    {"GOTTHARD_CLIENT_PORT", "65536", false},
    {"GOTTHARD_CLIENT_PORT", "+22", false},
    {"GOTTHARD_CLIENT_PORT", " 22", false},
    {"GOTTHARD_SERVER_PORT", "0", false},
    {"GOTTHARD_CLIENT_NAME", "a/b", false},
    {"GOTTHARD_CLIENT_NAME", "#", false},
    {"GOTTHARD_MQTT_ENDPOINT", "mqtt://broker:1883", true},
    {"GOTTHARD_MQTT_ENDPOINT", "http://broker", false},
    {"GOTTHARD_MQTT_ENDPOINT", "a b", false},
    {"GOTTHARD_MQTT_PREFIX", "a/b/c/d", true},
    {"GOTTHARD_MQTT_PREFIX", "a/b/c/d/e/f", false},
    {"GOTTHARD_MQTT_PREFIX", "a/#", false},
    {"GOTTHARD_TIMEOUTS_LIFETIME", "999ms", false},
    {"GOTTHARD_TIMEOUTS_LIFETIME", "1s", true},
    {"GOTTHARD_TRUST_POLICY", "tofu", false},
};

static void test_variables_are_checked(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(variables); i++) {
        struct gt_config *config = NULL;
        struct gt_config_args args = {0};
        char error[GT_CONFIG_ERROR_MAX] = "";

        clear_environment();
        setenv(variables[i].name, variables[i].value, 1);
        int err = gt_config_load(settings_program(), &args, &config, error);
        if ((err == 0) != variables[i].is_good)
            fail_msg("%s=%s: %d %s", variables[i].name, variables[i].value, err, error);
        if (err == 0)
            gt_config_free(config);
        else
            assert_non_null(strstr(error, variables[i].name));
    }
}

static void test_relay_address_by_name(void **state)
{
    struct gt_config_pair pairs[] = {{"alps", "relay.example:7100"}, {"six", "[::1]:7000"}};
    struct settings settings = {.server_port = 7000, .relays = {pairs, 2}};
    struct gt_host_port relay;

    assert_false(settings_relay(&settings, "main", &relay));
    settings.server_host = (char *)"gate";
    assert_true(settings_relay(&settings, "main", &relay));
    assert_string_equal(relay.host, "gate");
    assert_int_equal(relay.port, 7000);
    assert_true(settings_relay(&settings, "six", &relay));
    assert_string_equal(relay.host, "::1");
    assert_true(settings_relay(&settings, "alps", &relay));
    assert_int_equal(relay.port, 7100);
    assert_false(settings_relay(&settings, "andes", &relay));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_login_becomes_a_name),
        cmocka_unit_test(test_long_login_is_truncated),
        cmocka_unit_test(test_defaults_without_layers),
        cmocka_unit_test(test_variables_are_checked),
        cmocka_unit_test(test_relay_address_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
