/* SPDX-License-Identifier: ISC */
/* runtime-folder.c: which folder is used, and which never. */
#include "runtime-folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static struct {
    char base[64], folder[96];
    char found[RUNTIME_FOLDER_MAX + 1], why[RUNTIME_FOLDER_WHY];
} f;

static int set_up(void **state)
{
    memset(&f, 0, sizeof(f));
    strcpy(f.base, "/tmp/gotthard-run-XXXXXX");
    assert_non_null(mkdtemp(f.base));
    snprintf(f.folder, sizeof(f.folder), "%s/gotthard", f.base);
    setenv("XDG_RUNTIME_DIR", f.base, 1);
    return 0;
}

static int tear_down(void **state)
{
    char fallback[64];

    unlink(f.folder);
    rmdir(f.folder);
    snprintf(fallback, sizeof(fallback), "/tmp/gotthard-%u", geteuid());
    rmdir(fallback); /* unless a session uses it */
    assert_int_equal(rmdir(f.base), 0);
    return 0;
}

static bool is_found(void)
{
    return runtime_folder_find(f.found, f.why) == 0 && strcmp(f.found, f.folder) == 0;
}

static void test_folder_is_created_for_this_user_alone(void **state)
{
    struct stat st;
    mode_t before = umask(0);

    assert_true(is_found());
    umask(before);
    assert_int_equal(stat(f.folder, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_true(is_found());
}

static void test_folder_that_others_can_enter_is_not_used(void **state)
{
    static const mode_t modes[] = {0701, 0710, 0755, 0777, 01777};

    assert_int_equal(mkdir(f.folder, 0700), 0);
    for (size_t i = 0; i < GT_ARRAY_SIZE(modes); i++) {
        assert_int_equal(chmod(f.folder, modes[i]), 0);
        assert_false(is_found());
    }
    assert_int_equal(chmod(f.folder, 0700), 0);
    assert_true(is_found());
}

static void test_folder_of_another_user_is_not_used(void **state)
{
    if (geteuid() != 0)
        skip();
    assert_int_equal(mkdir(f.folder, 0700), 0);
    assert_int_equal(chown(f.folder, 65533, 65533), 0);
    assert_false(is_found());
    assert_int_equal(rmdir(f.folder), 0);
    assert_int_equal(chown(f.base, 65533, 65533), 0);
    assert_false(is_found());
    assert_int_equal(access(f.folder, F_OK), -1);
}

static void test_file_in_its_place_is_not_used(void **state)
{
    FILE *file = fopen(f.folder, "w");

    assert_non_null(file);
    fclose(file);
    assert_false(is_found());
}

static void test_variable_that_names_no_folder_is_not_used(void **state)
{
    static const char *const values[] = {"relative", "/nonexistent/run", "/dev/null"};

    for (size_t i = 0; i < GT_ARRAY_SIZE(values); i++) {
        setenv("XDG_RUNTIME_DIR", values[i], 1);
        assert_false(is_found());
    }
}

/* /tmp/gotthard-UID in a form that is never used. */
static void test_cache_is_used_where_tmp_is_occupied(void **state)
{
    char tmp[64], cache[96];

    setenv("XDG_RUNTIME_DIR", "/nonexistent/run", 1);
    setenv("HOME", f.base, 1);
    unsetenv("XDG_CACHE_HOME");
    snprintf(tmp, sizeof(tmp), "/tmp/gotthard-%u", geteuid());
    snprintf(cache, sizeof(cache), "%s/.cache", f.base);
    snprintf(f.folder, sizeof(f.folder), "%s/.cache/gotthard", f.base);
    if (mkdir(tmp, 0755) < 0)
        skip(); /* a session uses it */
    assert_true(is_found());
    assert_int_equal(chmod(f.folder, 0755), 0);
    assert_false(is_found());
    assert_int_equal(rmdir(f.folder), 0);
    setenv("HOME", "/nonexistent/home", 1);
    assert_false(is_found());
    assert_int_equal(rmdir(cache), 0);
}

static void test_path_of_a_socket_fits(void **state)
{
    assert_true(RUNTIME_FOLDER_MAX + 1 + RUNTIME_FOLDER_NAME_MAX <= LOCAL_SOCKET_PATH_MAX);
    assert_true(strlen("/run/user/4294967295/gotthard") <= RUNTIME_FOLDER_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_folder_is_created_for_this_user_alone, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_folder_that_others_can_enter_is_not_used, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_folder_of_another_user_is_not_used, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_file_in_its_place_is_not_used, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_variable_that_names_no_folder_is_not_used, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_cache_is_used_where_tmp_is_occupied, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_path_of_a_socket_fits, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
