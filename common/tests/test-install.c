/* SPDX-License-Identifier: ISC */
/* The files of a new identity: all of them or none, and the way back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "gotthard/state/install.h"

struct fixture {
    char base[64];
    struct gt_install install;
    char why[GT_INSTALL_WHY];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    *state = f;
    snprintf(f->base, sizeof(f->base), "/tmp/gotthard-install-XXXXXX");
    return f && mkdtemp(f->base) ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[128];

    snprintf(command, sizeof(command), "rm -rf '%s'", f->base);
    free(f);
    return system(command);
}

static const char *path_of(const struct fixture *f, const char *name)
{
    static char path[4][256];
    static unsigned n;

    n = (n + 1) % 4;
    snprintf(path[n], sizeof(path[n]), "%s/%s", f->base, name);
    return path[n];
}

static bool exists(const struct fixture *f, const char *name)
{
    return access(path_of(f, name), F_OK) == 0;
}

static void assert_text(const struct fixture *f, const char *name, const char *want)
{
    char text[64] = "";
    FILE *file = fopen(path_of(f, name), "r");

    assert_non_null(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = 0;
    fclose(file);
    assert_string_equal(text, want);
}

static void prepare(struct fixture *f, const char *key)
{
    assert_int_equal(gt_install_init(&f->install, f->base, (gid_t)-1, f->why), 0);
    assert_int_equal(gt_install_add(&f->install, "key", gt_span_text(key), f->why), 0);
    assert_int_equal(gt_install_add_configuration(&f->install, path_of(f, "d/1.conf"),
                                                  gt_span_text(key), f->why),
                     0);
    assert_int_equal(gt_install_add_configuration(&f->install, path_of(f, "d/2.conf"),
                                                  gt_span_text(key), f->why),
                     0);
}

static void install(struct fixture *f, const char *key)
{
    prepare(f, key);
    assert_int_equal(gt_install_commit(&f->install, f->why), 0);
    gt_install_finish(&f->install);
}

static void test_install_writes_private_files(void **state)
{
    struct fixture *f = *state;
    struct stat st;

    install(f, "first");
    assert_text(f, "enrolled/key", "first");
    assert_text(f, "d/1.conf", "first");
    assert_text(f, "d/2.conf", "first");
    assert_int_equal(stat(path_of(f, "enrolled"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(stat(path_of(f, "enrolled/key"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_false(exists(f, "d/1.conf.new"));
    assert_false(exists(f, "d/1.conf.before"));
}

static void test_install_uses_nothing_before_commit(void **state)
{
    struct fixture *f = *state;

    prepare(f, "first");
    assert_false(exists(f, "d/1.conf"));
    gt_install_deinit(&f->install);
    assert_false(exists(f, "enrolled"));
    assert_false(exists(f, "d/1.conf.new"));
}

static void test_install_replaces_the_identity_before(void **state)
{
    struct fixture *f = *state;

    install(f, "first");
    install(f, "second");
    assert_text(f, "enrolled-2/key", "second");
    assert_text(f, "d/2.conf", "second");
    assert_false(exists(f, "enrolled")); /* with the keys before */
    install(f, "third");
    assert_text(f, "enrolled/key", "third");
    assert_false(exists(f, "enrolled-2"));
}

static void test_install_returns_to_the_identity_before(void **state)
{
    struct fixture *f = *state;

    install(f, "first");
    prepare(f, "second");
    assert_int_equal(gt_install_commit(&f->install, f->why), 0);
    assert_text(f, "d/2.conf", "second");
    gt_install_deinit(&f->install);
    assert_text(f, "d/1.conf", "first");
    assert_text(f, "d/2.conf", "first");
    assert_text(f, "enrolled/key", "first");
    assert_false(exists(f, "enrolled-2"));
}

/* The second file cannot be renamed: the first one is as before. */
static void test_install_that_fails_in_its_commit_changes_nothing(void **state)
{
    struct fixture *f = *state;

    install(f, "first");
    prepare(f, "second");
    assert_int_equal(unlink(path_of(f, "d/2.conf.new")), 0);
    assert_int_equal(gt_install_commit(&f->install, f->why), GT_INSTALL_E_FILE);
    assert_non_null(strstr(f->why, "2.conf"));
    assert_text(f, "d/1.conf", "first");
    assert_text(f, "d/2.conf", "first");
    gt_install_deinit(&f->install);
    assert_text(f, "d/2.conf", "first");
}

/* A link in place of a file that is about to be written. */
static void test_install_follows_no_link(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(gt_install_init(&f->install, f->base, (gid_t)-1, f->why), 0);
    assert_int_equal(symlink(path_of(f, "elsewhere"), path_of(f, "enrolled/key")), 0);
    assert_int_equal(gt_install_add(&f->install, "key", gt_span_text("k"), f->why),
                     GT_INSTALL_E_FILE);
    assert_false(exists(f, "elsewhere"));
    gt_install_deinit(&f->install);
}

static void test_install_keeps_the_files_of_others(void **state)
{
    struct fixture *f = *state;

    install(f, "first");
    fclose(fopen(path_of(f, "enrolled/note"), "w"));
    install(f, "second");
    assert_true(exists(f, "enrolled/note"));
    assert_false(exists(f, "enrolled/key"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_install_writes_private_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_install_uses_nothing_before_commit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_install_replaces_the_identity_before, setup, teardown),
        cmocka_unit_test_setup_teardown(test_install_returns_to_the_identity_before, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_install_that_fails_in_its_commit_changes_nothing,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_install_follows_no_link, setup, teardown),
        cmocka_unit_test_setup_teardown(test_install_keeps_the_files_of_others, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
