/* SPDX-License-Identifier: ISC */
/* gt_config_save() and gt_config_load_saved(): each type of setting with its awkward values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "gotthard/config/config.h"

struct settings {
    char *text, *unset, *defaulted, *secret, *file_secret, *variable_secret, *choice, *path;
    uint64_t number, duration, size;
    bool flag;
    struct gt_config_proxy proxy, shared;
    struct gt_config_map map, empty;
};

#define ITEM(...) GT_CONFIG_ITEM(struct settings, __VA_ARGS__)
static const struct gt_config_item items[] = {
    ITEM("a.text", STRING, text, .env = "T_TEXT"),
    ITEM("a.unset", STRING, unset, .env = "T_UNSET"),
    ITEM("a.defaulted", STRING, defaulted, .env = "T_DEFAULTED", .fallback = "default"),
    ITEM("a.secret", SECRET, secret, .env = "T_SECRET"),
    ITEM("a.file_secret", SECRET, file_secret, .env = "T_FILE_SECRET"),
    ITEM("a.variable_secret", SECRET, variable_secret, .env = "T_VARIABLE_SECRET"),
    ITEM("a.choice", CHOICE, choice, .choices = "one two"),
    ITEM("a.path", PATH, path, .env = "T_PATH"),
    ITEM("a.number", NUMBER, number, .env = "T_NUMBER", .flag = "number", .max = 1000),
    ITEM("a.duration", DURATION, duration, .max = 100000),
    ITEM("a.size", SIZE, size, .max = 1 << 30),
    ITEM("a.flag", BOOL, flag),
    ITEM("a.proxy", PROXY, proxy, .env = "T_PROXY"),
    ITEM("a.shared", PROXY, shared, .env = "T_SHARED_OWN", .standard = "t_shared"),
    ITEM("map", MAP, map),
    ITEM("empty", MAP, empty),
};
static const struct gt_config_program program = {
    .name = "t",
    .items = items,
    .n_items = GT_ARRAY_SIZE(items),
    .settings_size = sizeof(struct settings),
};

static char folder[64];

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

static int set_up(void **state)
{
    strcpy(folder, "/tmp/test-config-saved.XXXXXX");
    assert_non_null(mkdtemp(folder));
    setenv("GOTTHARD_CONFIG_DIR", folder, 1);
    unsetenv("CREDENTIALS_DIRECTORY");
    write_file("secret", "of a file");
    write_file(
        "t.conf",
        "a = { text = \"a \\\"quoted\\\" text, \\\\ and #\"; secret = \"s\\\"e\\\\cret #1\";\n"
        "file_secret_file = \"secret\"; choice = \"two\"; path = \"below/here\";\n"
        "duration = \"5s\"; size = \"4KiB\"; flag = true;\n"
        "proxy = \"http://user:pa%20ss@proxy.example.org:3128\"; };\n"
        "map = { one = \"1\"; two = \"a:2\"; }; empty = { };\n");
    setenv("T_VARIABLE_SECRET", "of a variable", 1);
    setenv("T_TEXT", "overridden", 1);
    setenv("t_shared", "socks5://shared.example.org:1080", 1);
    return 0;
}

static int tear_down(void **state)
{
    char command[128];

    snprintf(command, sizeof(command), "rm -r '%s'", folder);
    return system(command);
}

/* Returns the saved text. */
static size_t save(const struct gt_config *config, char *ret, size_t cap)
{
    gt_cleanup(gt_close) int fd = memfd_create("saved", MFD_CLOEXEC);

    gt_config_save(config, fd);
    ssize_t n = pread(fd, ret, cap, 0);
    assert_true(n > 0 && (size_t)n < cap);
    return (size_t)n;
}

static struct gt_config *load(void)
{
    const char *const sets[] = {"number", "7"};
    const struct gt_config_args args = {.sets = sets, .n_sets = 1};
    char error[GT_CONFIG_ERROR_MAX];
    struct gt_config *config = NULL;

    if (gt_config_load(&program, &args, &config, error) != 0)
        fail_msg("%s", error);
    return config;
}

static void assert_same(const struct settings *a, const struct settings *b)
{
    assert_string_equal(a->text, b->text);
    assert_true(!a->unset && !b->unset);
    assert_string_equal(a->defaulted, b->defaulted);
    assert_string_equal(a->secret, b->secret);
    assert_string_equal(a->file_secret, b->file_secret);
    assert_string_equal(a->variable_secret, b->variable_secret);
    assert_string_equal(a->choice, b->choice);
    assert_string_equal(a->path, b->path);
    assert_true(a->number == b->number && a->duration == b->duration && a->size == b->size);
    assert_true(a->flag == b->flag);
    assert_string_equal(a->proxy.text, b->proxy.text);
    assert_string_equal(a->shared.text, b->shared.text);
    assert_true(a->proxy.is_shared == b->proxy.is_shared &&
                a->shared.is_shared == b->shared.is_shared);
    assert_string_equal(gt_config_map_get(&b->map, "one"), "1");
    assert_string_equal(gt_config_map_get(&b->map, "two"), "a:2");
    assert_int_equal(b->map.n_pairs, 2);
    assert_int_equal(b->empty.n_pairs, 0);
}

static void test_saved_configuration_has_the_same_values(void **state)
{
    char text[8192], error[GT_CONFIG_ERROR_MAX];
    struct gt_config *config = load(), *saved = NULL;
    const struct settings *settings = gt_config_settings(config);

    assert_string_equal(settings->variable_secret, "of a variable");
    size_t n = save(config, text, sizeof(text));
    setenv("T_NUMBER", "no number", 1); /* nothing but the text counts */
    setenv("T_TEXT", "another", 1);
    if (gt_config_load_saved(&program, "saved", gt_span(text, n), &saved, error) != 0)
        fail_msg("%s\n%s", error, text);
    assert_same(settings, gt_config_settings(saved));
    for (size_t i = 0; i < GT_ARRAY_SIZE(items); i++)
        assert_int_equal(gt_config_is_set(config, items[i].path),
                         gt_config_is_set(saved, items[i].path));
    assert_null(strstr(text, "of a file"));
    assert_null(strstr(text, "overrides"));
    unsetenv("T_NUMBER");
    unsetenv("T_TEXT");
    gt_config_free(saved);
    gt_config_free(config);
}

static void test_file_of_a_secret_must_be_there(void **state)
{
    char text[8192], path[128], error[GT_CONFIG_ERROR_MAX];
    struct gt_config *config = load(), *saved = NULL;
    size_t n = save(config, text, sizeof(text));

    gt_config_free(config);
    snprintf(path, sizeof(path), "%s/secret", folder);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(gt_config_load_saved(&program, "saved", gt_span(text, n), &saved, error),
                     GT_CONFIG_E_FILE);
    assert_non_null(strstr(error, path));
    assert_int_equal(gt_config_load_saved(&program, "saved", gt_span("a = {", 5), &saved, error),
                     GT_CONFIG_E_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_saved_configuration_has_the_same_values, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_file_of_a_secret_must_be_there, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
