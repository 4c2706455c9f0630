/* SPDX-License-Identifier: ISC */
/* config-mention.c: a setting and its origin in a sentence, for each kind of origin. */
#include "gotthard/config/config-mention.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

struct settings {
    char *endpoint, *prefix, *key;
    struct gt_config_map relays;
};

#define ITEM(...) GT_CONFIG_ITEM(struct settings, __VA_ARGS__)
static const struct gt_config_item items[] = {
    ITEM("mqtt.endpoint", STRING, endpoint, .env = "T_ENDPOINT", .flag = "mqtt-endpoint"),
    ITEM("mqtt.prefix", STRING, prefix, .env = "T_PREFIX", .fallback = "gotthard/v1"),
    ITEM("crypt.key", SECRET, key, .env = "T_KEY"),
    ITEM("relays", MAP, relays),
};
static const char *const variables[] = {"T_ENDPOINT", "T_PREFIX",        "T_KEY",
                                        "T_KEY_FILE", "XDG_CONFIG_HOME", "CREDENTIALS_DIRECTORY"};

static struct gt_config_program program = {
    .name = "cli",
    .items = items,
    .n_items = GT_ARRAY_SIZE(items),
    .settings_size = sizeof(struct settings),
    .has_home_file = true,
};

static char folder[64], error[GT_CONFIG_ERROR_MAX], shown[GT_CONFIG_MENTION];

static int set_up(void **state)
{
    strcpy(folder, "/tmp/test-config-mention.XXXXXX");
    assert_non_null(mkdtemp(folder));
    assert_int_equal(setenv("GOTTHARD_CONFIG_DIR", folder, 1), 0);
    assert_int_equal(setenv("HOME", folder, 1), 0);
    for (size_t i = 0; i < GT_ARRAY_SIZE(variables); i++)
        unsetenv(variables[i]);
    program.has_home_file = true;
    return 0;
}

static int tear_down(void **state)
{
    char command[128];

    snprintf(command, sizeof(command), "rm -r '%s'", folder);
    return system(command);
}

static const char *write_file(const char *name, const char *text)
{
    static char path[128];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0600), 0);
    return path;
}

static struct gt_config *load(const struct gt_config_args *args)
{
    struct gt_config *config = NULL;

    if (gt_config_load(&program, args, &config, error) != 0)
        fail_msg("%s", error);
    return config;
}

/* @expected: each '@' stands for the folder of the files. */
static void assert_all(const struct gt_config *config, const char *text, const char *expected)
{
    char filled[512] = "";

    for (size_t n = 0; *expected; expected++)
        n += (size_t)snprintf(filled + n, sizeof(filled) - n, "%.*s",
                              *expected == '@' ? (int)strlen(folder) : 1,
                              *expected == '@' ? folder : expected);
    assert_string_equal(gt_config_mention_all(config, text, shown, sizeof(shown)), filled);
}

static void test_mention_names_file_and_line(void **state)
{
    write_file("cli.conf", "# first line\nmqtt = { endpoint = \"broker\"; };\n");
    struct gt_config *config = load(NULL);

    assert_all(config, "check {mqtt.endpoint}", "check mqtt.endpoint (@/cli.conf:2)");
    assert_all(config, "check {+mqtt.endpoint}", "check mqtt.endpoint (@/cli.conf:2)");
    assert_all(config, "{mqtt.prefix}",
               "mqtt.prefix (default; set it in ~/.config/gotthard/cli.conf)");
    assert_all(config, "{crypt.key}", "crypt.key (not set; set it in ~/.config/gotthard/cli.conf)");
    assert_all(config, "set {+crypt.key}", "set crypt.key_file in ~/.config/gotthard/cli.conf");
    gt_config_free(config);
}

static void test_mention_names_variables_only_to_their_users(void **state)
{
    setenv("T_ENDPOINT", "broker", 1);
    struct gt_config *config = load(NULL);

    assert_all(config, "{mqtt.endpoint}; {mqtt.prefix}; {+crypt.key}; {+relays}",
               "T_ENDPOINT; T_PREFIX (default); T_KEY; relays in ~/.config/gotthard/cli.conf");
    gt_config_free(config);

    write_file("cli.conf", "mqtt = { prefix = \"a\"; };\n");
    config = load(NULL);
    assert_all(config, "{mqtt.endpoint}; {mqtt.prefix}; {+crypt.key}",
               "T_ENDPOINT; mqtt.prefix (@/cli.conf:1); crypt.key_file in "
               "~/.config/gotthard/cli.conf");
    gt_config_free(config);
}

static void test_mention_names_option_and_given_file(void **state)
{
    const char *sets[] = {"mqtt-endpoint", "broker"};
    struct gt_config_args args = {.file = write_file("my.conf", "\n"), .sets = sets, .n_sets = 1};
    struct gt_config *config = load(&args);

    assert_all(config, "{mqtt.endpoint}, {+crypt.key}",
               "--mqtt-endpoint, crypt.key_file in @/my.conf");
    gt_config_free(config);
}

static void test_mention_names_file_of_secret(void **state)
{
    setenv("T_KEY_FILE", write_file("fleet.key", "secret\n"), 1);
    struct gt_config *config = load(NULL);

    assert_all(config, "{crypt.key}", "T_KEY_FILE (@/fleet.key)");
    gt_config_free(config);

    write_file("cli.conf", "crypt = { key_file = \"fleet.key\"; };\n");
    config = load(NULL);
    assert_all(config, "{crypt.key}", "crypt.key (@/fleet.key)");
    gt_config_free(config);
}

static void test_mention_place_of_daemon_and_of_folders(void **state)
{
    setenv("XDG_CONFIG_HOME", "/srv/x", 1);
    struct gt_config *config = load(NULL);

    assert_all(config, "{+mqtt.endpoint}", "mqtt.endpoint in /srv/x/gotthard/cli.conf");
    gt_config_free(config);

    program.has_home_file = false;
    config = load(NULL);
    assert_all(config, "{+mqtt.endpoint}", "mqtt.endpoint in @/cli.conf.d/site.conf");
    gt_config_free(config);
    unsetenv("GOTTHARD_CONFIG_DIR");
}

static void test_mention_keeps_other_braces_and_limits(void **state)
{
    struct gt_config *config = load(NULL);

    assert_all(config, "{x} {} { a {mqtt.endpoint", "{x} {} { a {mqtt.endpoint");
    assert_all(NULL, "{mqtt.endpoint} and {+x.y}", "mqtt.endpoint and x.y");
    for (size_t cap = 1; cap < 70; cap++) {
        memset(shown, 'x', sizeof(shown));
        gt_config_mention_all(config, "set {+mqtt.endpoint} now", shown, cap);
        assert_true(strlen(shown) < cap);
        assert_int_equal(shown[cap], 'x');
    }
    assert_string_equal(gt_config_mention(config, "x.y", shown, sizeof(shown)), "x.y");
    gt_config_free(config);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_mention_names_file_and_line),
        TEST(test_mention_names_variables_only_to_their_users),
        TEST(test_mention_names_option_and_given_file),
        TEST(test_mention_names_file_of_secret),
        TEST(test_mention_place_of_daemon_and_of_folders),
        TEST(test_mention_keeps_other_braces_and_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
