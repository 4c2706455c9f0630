/* SPDX-License-Identifier: ISC */
/* config-path.c: absolute paths, paths below the home, and paths relative to a folder. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "gotthard/config/config-path.h"

static void assert_resolved(const char *text, const char *folder, const char *wanted)
{
    gt_cleanup(gt_free) char *path = NULL;
    const char *why = NULL;

    assert_int_equal(gt_configpath_resolve(text, folder, &path, &why), 0);
    assert_string_equal(path, wanted);
}

static void test_resolve_each_form(void **state)
{
    setenv("HOME", "/home/oli", 1);
    assert_int_equal(chdir("/"), 0);
    assert_resolved("/a/b", "/etc", "/a/b");
    assert_resolved("a/b", "/etc", "/etc/a/b");
    assert_resolved("./a", "/etc", "/etc/a");
    assert_resolved("../a", "/etc/gotthard", "/etc/gotthard/../a");
    assert_resolved("a", "/", "/a");
    assert_resolved("a", NULL, "/a");
    assert_resolved("~", "/etc", "/home/oli");
    assert_resolved("~/a", "/etc", "/home/oli/a");
    assert_resolved("./~a", "/etc", "/etc/~a");
}

static void test_resolve_rejects_homes_of_others(void **state)
{
    char *path = NULL;
    const char *why = NULL;

    assert_int_equal(gt_configpath_resolve("~oli/a", "/etc", &path, &why), 1);
    assert_non_null(strstr(why, "another user"));
    assert_null(path);
}

static void test_home_is_that_of_the_environment(void **state)
{
    char home[PATH_MAX];

    setenv("HOME", "/home/oli", 1);
    unsetenv("XDG_CONFIG_HOME");
    assert_true(gt_configpath_home(home));
    assert_string_equal(home, "/home/oli/.config/gotthard");
    setenv("XDG_CONFIG_HOME", "/srv/x", 1);
    assert_true(gt_configpath_home(home));
    assert_string_equal(home, "/srv/x/gotthard");
    setenv("XDG_CONFIG_HOME", "relative", 1);
    assert_true(gt_configpath_home(home));
    assert_string_equal(home, "/home/oli/.config/gotthard");
    unsetenv("HOME");
    assert_false(gt_configpath_home(home));
    unsetenv("XDG_CONFIG_HOME");
}

static void test_resolve_all_resolves_each_word(void **state)
{
    gt_cleanup(gt_free) char *paths = NULL;
    const char *why = NULL;

    setenv("HOME", "/home/oli", 1);
    assert_int_equal(gt_configpath_resolve_all(" /a/*  b\t~/c ", "/etc", &paths, &why), 0);
    assert_string_equal(paths, "/a/* /etc/b /home/oli/c");
    free(gt_steal(&paths));
    assert_int_equal(gt_configpath_resolve_all("a ~b", "/etc", &paths, &why), 1);
}

static void assert_folder(const char *path, const char *wanted)
{
    gt_cleanup(gt_free) char *folder = gt_configpath_folder(path);

    assert_non_null(folder);
    assert_string_equal(folder, wanted);
}

static void test_folder_of_a_file(void **state)
{
    assert_int_equal(chdir("/usr"), 0);
    assert_folder("/etc/gotthard/cli.conf", "/etc/gotthard");
    assert_folder("/cli.conf", "/");
    assert_folder("cli.conf", "/usr");
    assert_folder("a/b/cli.conf", "/usr/a/b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resolve_each_form),
        cmocka_unit_test(test_resolve_rejects_homes_of_others),
        cmocka_unit_test(test_home_is_that_of_the_environment),
        cmocka_unit_test(test_resolve_all_resolves_each_word),
        cmocka_unit_test(test_folder_of_a_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
