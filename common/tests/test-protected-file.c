/* SPDX-License-Identifier: ISC */
/*
 * protected-file.c: owner, mode and type of a file, and everybody who could replace it: the folders
 * and links on the way to it. What needs another owner runs as root only.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "gotthard/config/private-group.h"
#include "gotthard/config/protected-file.h"

#define OTHER 54321 /* a user that owns nothing here */

static char folder[64];
static char why[GT_PROTECTEDFILE_WHY];

static GT_PRINTF(1, 2) void run(const char *fmt, ...)
{
    char command[1024], words[768];
    va_list arguments;

    va_start(arguments, fmt);
    vsnprintf(words, sizeof(words), fmt, arguments);
    va_end(arguments);
    snprintf(command, sizeof(command), "cd %s && umask 022 && %s", folder, words);
    if (system(command) != 0)
        fail_msg("%s", command);
}

static int each_setup(void **state)
{
    snprintf(folder, sizeof(folder), "/tmp/test-protected.XXXXXX");
    assert_non_null(mkdtemp(folder));
    run("mkdir a a/b && echo text >a/b/file && echo text >a/b/secret && chmod 600 a/b/secret");
    return 0;
}

static int each_teardown(void **state)
{
    run("chmod -R u+rwx . && rm -r %s", folder);
    return 0;
}

static int open_it(const char *path, bool is_secret)
{
    char absolute[8192];
    struct stat st;
    int fd = -1;

    snprintf(absolute, sizeof(absolute), "%s/%s", folder, path);
    *why = 0;
    int r = gt_protectedfile_open(*path == '/' ? path : absolute, is_secret, &fd, &st, why);
    if (r == 0)
        assert_int_equal(close(fd), 0);
    else
        assert_int_equal(fd, -1);
    return r;
}

static void assert_opens(const char *path, bool is_secret)
{
    if (open_it(path, is_secret) != 0)
        fail_msg("%s: %s", path, why);
}

static void assert_refused(const char *path, bool is_secret, const char *wanted)
{
    assert_int_equal(open_it(path, is_secret), GT_PROTECTEDFILE_E_UNUSABLE);
    if (!strstr(why, wanted))
        fail_msg("%s: wanted \"%s\", got \"%s\"", path, wanted, why);
}

/* Returns true if the group that may write is of this test's user alone (test-private-group.c). */
static bool is_own_group(const char *mode)
{
    unsigned long bits = strtoul(mode, NULL, 8);

    return (bits & S_IWGRP) && !(bits & S_IWOTH) && gt_private_group_is(getegid(), geteuid());
}

static void test_mode_of_a_file_decides(void **state)
{
    static const struct {
        const char *mode, *as_trust, *as_secret; /* NULL: accepted */
    } cases[] = {
        {"0400", NULL, NULL},
        {"0600", NULL, NULL},
        {"0640", NULL, NULL},
        {"0440", NULL, NULL},
        {"0700", NULL, NULL},
        {"0644", NULL, "mode 0644, must not be accessible by others (chmod o-rwx)"},
        {"0444", NULL, "chmod o-rwx"},
        {"0604", NULL, "chmod o-rwx"},
        {"0660", "mode 0660, must not be writable by its group (chmod g-w)", "chmod g-w)"},
        {"0620", "chmod g-w)", "chmod g-w)"},
        {"0664", "chmod g-w)", "chmod g-w,o-rwx)"},
        {"0602", "must not be writable by others (chmod o-w)", "chmod o-rwx)"},
        {"0666", "its group and others (chmod go-w)", "chmod g-w,o-rwx)"},
        {"0777", "chmod go-w", "chmod g-w,o-rwx)"},
        {"4640", NULL, NULL},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        if (is_own_group(cases[i].mode))
            continue;
        run("chmod %s a/b/file", cases[i].mode);
        if (cases[i].as_trust)
            assert_refused("a/b/file", false, cases[i].as_trust);
        else
            assert_opens("a/b/file", false);
        if (cases[i].as_secret)
            assert_refused("a/b/file", true, cases[i].as_secret);
        else
            assert_opens("a/b/file", true);
    }
}

static void test_folder_that_others_can_write_is_refused(void **state)
{
    static const char *const modes[] = {"0777", "0770", "0775", "0702", "0720"};
    static const char *const folders[] = {"a", "a/b", "."};

    for (size_t i = 0; i < GT_ARRAY_SIZE(modes); i++) {
        for (size_t j = 0; j < GT_ARRAY_SIZE(folders) && !is_own_group(modes[i]); j++) {
            run("chmod %s %s", modes[i], folders[j]);
            assert_refused("a/b/file", false, modes[i]);
            assert_refused("a/b/secret", true, "must not be writable by others (chmod go-w /tmp/");
            assert_refused("a/b/none", false, modes[i]); /* its absence was not decided by us */
            run("chmod 0755 %s", folders[j]);
        }
    }
    assert_opens("a/b/file", false);
}

static void test_sticky_folder_protects_own_entries(void **state)
{
    run("chmod 1777 a/b && chmod 1775 a");
    assert_opens("a/b/file", false);
    if (geteuid() != 0)
        skip();
    run("chown %d a/b/file", OTHER);
    assert_refused("a/b/file", false, "in the shared folder");
    run("chown 0 a/b/file && ln -s file a/b/link && chown -h %d a/b/link", OTHER);
    assert_refused("a/b/link", false, "link in the shared folder");
    run("chown 0 a/b/file && mkdir a/b/c && echo >a/b/c/d && chown %d a/b/c", OTHER);
    assert_refused("a/b/c/d", false, "c in the shared folder");
    run("chown %d a/b", OTHER); /* its owner may replace every entry */
    assert_refused("a/b/file", false, "belongs to uid 54321");
}

static void test_owner_is_root_or_this_user(void **state)
{
    if (geteuid() != 0)
        skip();
    run("chown %d a/b/secret", OTHER);
    assert_refused("a/b/secret", true, "belongs to uid 54321, must belong to root");
    run("chmod 755 . && chown %d:%d a/b/file && chown %d a/b", OTHER, OTHER, OTHER);
    assert_refused("a/b/file", false, "the folder /tmp/");
    assert_refused("a/b/file", false, "belongs to uid 54321");
    assert_int_equal(seteuid(OTHER), 0);
    assert_opens("a/b/file", false);
    assert_opens("a/b/secret", true);
    assert_int_equal(seteuid(0), 0);
    run("chown 0 a/b a/b/secret a/b/file && chmod 640 a/b/secret && chgrp %d a/b/secret", OTHER);
    assert_int_equal(setegid(OTHER), 0);
    assert_int_equal(seteuid(OTHER), 0);
    assert_opens("a/b/secret", true); /* root's file, readable by the group of the service */
    assert_opens("a/b/file", false);
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(setegid(0), 0);
}

static void test_links_are_walked_by_the_same_rules(void **state)
{
    run("mkdir open && echo x >open/file && ln -s ../a/b/file open/out && chmod 777 open");
    run("ln -s a/b/file relative && ln -s %s/a/b/file absolute && ln -s a way", folder);
    run("ln -s ../open/file a/into && ln -s relative twice && ln -s loop loop && ln -s none gone");
    assert_opens("relative", false);
    assert_opens("absolute", false);
    assert_opens("twice", false);
    assert_opens("way/b/file", false);
    assert_opens("way/../a/./b//file", false);
    assert_opens("/dev/fd/../../../etc/passwd", false);
    assert_refused("open/out", false, "open)"); /* others can replace the link */
    assert_refused("a/into", false, "open)");   /* others can replace its target */
    assert_refused("loop", false, "symbolic links");
    assert_refused("gone", false, "No such file");
    run("ln -s / root && ln -s '' empty 2>/dev/null || true");
    assert_refused("root", false, "not a regular file");
}

static void test_only_regular_files_open(void **state)
{
    run("mkfifo a/fifo && ln -s /dev/zero zero");
    assert_refused("a/fifo", false, "not a regular file");
    assert_refused("a", false, "not a regular file");
    assert_refused("a/", false, "not a regular file");
    assert_refused("a/.", false, "not a regular file");
    assert_refused("/", false, "not a regular file");
    assert_refused("/dev/null", false, "not a regular file");
    assert_refused("zero", false, "not a regular file");
    assert_refused("a/b/file/", false, "Not a directory");
    assert_refused("a/b/file/x", false, "Not a directory");
    assert_refused("none/file", false, "No such file");
    int ends[2];
    char path[32];
    assert_int_equal(pipe(ends), 0);
    snprintf(path, sizeof(path), "/dev/fd/%d", ends[0]);
    assert_refused(path, true, "not a regular file"); /* as <(COMMAND) of a shell */
    close(ends[0]);
    close(ends[1]);
}

static void test_length_of_a_path_is_limited(void **state)
{
    char name[300], path[5000];

    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = 0;
    assert_refused(name, false, "File name too long");
    memset(path, '/', sizeof(path) - 1);
    path[sizeof(path) - 1] = 0;
    assert_refused(path, false, "File name too long");
}

static void test_relative_path_begins_at_the_working_directory(void **state)
{
    char *before = getcwd(NULL, 0);
    struct stat st;
    int fd = -1;

    assert_int_equal(chdir(folder), 0);
    assert_int_equal(gt_protectedfile_open("a/b/file", false, &fd, &st, why), 0);
    assert_int_equal(close(fd), 0);
    run("chmod 777 a");
    assert_int_equal(gt_protectedfile_open("a/b/file", false, &fd, &st, why), 1);
    assert_int_equal(chdir(before), 0);
    free(before);
}

static void test_folder_obeys_the_same_rules(void **state)
{
    char path[256];
    int fd = -1;

    snprintf(path, sizeof(path), "%s/a/b", folder);
    assert_int_equal(gt_protectedfile_open_folder(path, &fd, why), 0);
    assert_int_equal(faccessat(fd, "file", F_OK, 0), 0);
    gt_close(&fd);
    run("chmod 777 a/b");
    assert_int_equal(gt_protectedfile_open_folder(path, &fd, why), 1);
    assert_int_equal(fd, -1);
    assert_non_null(strstr(why, "chmod go-w"));
    run("chmod 755 a/b");
    snprintf(path, sizeof(path), "%s/a/b/file", folder);
    assert_int_equal(gt_protectedfile_open_folder(path, &fd, why), 1);
    assert_string_equal(why, "Not a directory");
}

static void test_absence_is_certain(void **state)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/a/b/file", folder);
    assert_false(gt_protectedfile_is_absent(path));
    snprintf(path, sizeof(path), "%s/a/b/none", folder);
    assert_true(gt_protectedfile_is_absent(path));
    run("ln -s nowhere a/b/none");
    assert_false(gt_protectedfile_is_absent(path));
    if (geteuid() == 0)
        skip();
    run("rm a/b/none && chmod 000 a");
    assert_false(gt_protectedfile_is_absent(path));
}

static void test_private_key_is_recognized(void **state)
{
    static const char *const keys[] = {
        "-----BEGIN PRIVATE KEY-----\n",
        "-----BEGIN CERTIFICATE-----\nMII\n-----BEGIN RSA PRIVATE KEY-----",
        "x-----BEGIN ENCRYPTED PRIVATE KEY-----",
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(keys); i++)
        assert_true(gt_protectedfile_has_private_key(gt_span_text(keys[i])));
    assert_false(gt_protectedfile_has_private_key(gt_span_text("-----BEGIN CERTIFICATE-----")));
    assert_false(gt_protectedfile_has_private_key(gt_span_text("")));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, each_setup, each_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_mode_of_a_file_decides),
        TEST(test_folder_that_others_can_write_is_refused),
        TEST(test_sticky_folder_protects_own_entries),
        TEST(test_owner_is_root_or_this_user),
        TEST(test_links_are_walked_by_the_same_rules),
        TEST(test_only_regular_files_open),
        TEST(test_length_of_a_path_is_limited),
        TEST(test_relative_path_begins_at_the_working_directory),
        TEST(test_folder_obeys_the_same_rules),
        TEST(test_absence_is_certain),
        TEST(test_private_key_is_recognized),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
