/* SPDX-License-Identifier: ISC */
/*
 * private-group.c and what protected-file.c makes of it, with a user database of our own: its
 * functions take the place of libc's. Files belong to a user that is not root.
 */
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/xattr.h>

#include <cmocka.h>

#include "gotthard/config/private-group.h"
#include "gotthard/config/protected-file.h"

#define OLI   12345 /* the user, if this test runs as root */
#define ALICE 12346

static char folder[64], file[80];
static char why[GT_PROTECTEDFILE_WHY];

/* --- the database ---------------------------------------------------------------------------- */

static struct passwd users[2];
static char *members[3];
static struct group group;
static size_t n_users, at;

static struct passwd *next_user(void)
{
    return at < n_users ? &users[at++] : NULL;
}

struct passwd *getpwent(void)
{
    return next_user();
}

void setpwent(void)
{
    at = 0;
}

void endpwent(void)
{
}

struct passwd *getpwuid(uid_t uid)
{
    for (size_t i = 0; i < n_users; i++)
        if (users[i].pw_uid == uid)
            return &users[i];
    return NULL;
}

struct group *getgrgid(gid_t gid)
{
    return gid == group.gr_gid ? &group : NULL;
}

/* --- the files ------------------------------------------------------------------------------- */

static int each_setup(void **state)
{
    if (geteuid() == 0)
        assert_true(setegid(OLI) == 0 && seteuid(OLI) == 0);
    users[0] = (struct passwd){.pw_name = "oli", .pw_uid = geteuid(), .pw_gid = getegid()};
    users[1] = (struct passwd){.pw_name = "alice", .pw_uid = ALICE, .pw_gid = ALICE};
    n_users = 2;
    memset(members, 0, sizeof(members));
    group = (struct group){.gr_name = "oli", .gr_gid = getegid(), .gr_mem = members};
    snprintf(folder, sizeof(folder), "/tmp/test-private.XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(file, sizeof(file), "%s/file", folder);
    int fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    return chmod(file, 0664);
}

static int each_teardown(void **state)
{
    assert_int_equal(unlink(file), 0);
    assert_int_equal(rmdir(folder), 0);
    if (getuid() == 0)
        assert_true(seteuid(0) == 0 && setegid(0) == 0);
    return 0;
}

static bool opens(bool is_secret)
{
    struct stat st;
    int fd = -1;

    if (gt_protectedfile_open(file, is_secret, &fd, &st, why) != 0)
        return false;
    assert_int_equal(close(fd), 0);
    return true;
}

static bool is_private(void)
{
    return gt_private_group_is(getegid(), geteuid());
}

static void test_files_of_umask_002_are_accepted(void **state)
{
    assert_true(is_private());
    assert_true(opens(false));
    assert_int_equal(chmod(folder, 0775), 0);
    assert_true(opens(false));
    assert_false(opens(true)); /* others read it */
    assert_non_null(strstr(why, "mode 0664"));
    assert_int_equal(chmod(file, 0660), 0);
    assert_true(opens(true));
}

static void test_others_are_never_accepted(void **state)
{
    assert_int_equal(chmod(file, 0666), 0);
    assert_false(opens(false));
    assert_int_equal(chmod(file, 0664) | chmod(folder, 0777), 0);
    assert_false(opens(false));
}

static void test_group_with_another_member_is_not_private(void **state)
{
    members[0] = "oli";
    assert_true(is_private());
    members[1] = "alice";
    assert_false(is_private());
    assert_false(opens(false));
    assert_non_null(strstr(why, "must not be writable by its group (chmod g-w)"));
    members[0] = "alice";
    members[1] = NULL;
    assert_false(is_private());
    assert_int_equal(chmod(file, 0644) | chmod(folder, 0775), 0);
    assert_false(opens(false));
}

static void test_group_of_two_users_is_not_private(void **state)
{
    users[1].pw_gid = getegid();
    assert_false(is_private());
    assert_false(opens(false));
}

static void test_second_name_of_one_user_is_no_other_user(void **state)
{
    users[1].pw_uid = geteuid();
    users[1].pw_gid = getegid();
    assert_true(is_private());
}

static void test_group_must_be_the_users_own(void **state)
{
    group.gr_name = "users"; /* a database on a network need not list its users */
    assert_false(is_private());
    group.gr_name = "oli";
    users[0].pw_gid++;
    assert_false(is_private());
    users[0].pw_gid--;
    group.gr_gid++;
    assert_false(is_private());
    n_users = 0;
    assert_false(is_private());
}

static void test_root_has_no_private_group(void **state)
{
    users[0] = (struct passwd){.pw_name = "root"};
    group = (struct group){.gr_name = "root", .gr_mem = members};
    assert_false(gt_private_group_is(0, 0));
}

/* The mask of a list appears as the rights of the group. */
static void test_access_control_list_is_not_private(void **state)
{
    struct {
        uint32_t version;
        struct {
            uint16_t tag, rights;
            uint32_t id;
        } entries[5];
    } list = {2, {{1, 6, ~0U}, {2, 6, ALICE}, {4, 6, ~0U}, {0x10, 6, ~0U}, {0x20, 4, ~0U}}};

    if (setxattr(file, "system.posix_acl_access", &list, sizeof(list), 0) < 0)
        skip(); /* the file system has none */
    assert_false(opens(false));
    list.entries[1].rights = list.entries[3].rights = 4; /* alice reads */
    assert_int_equal(setxattr(file, "system.posix_acl_access", &list, sizeof(list), 0), 0);
    assert_true(opens(false));
    assert_true(gt_private_group_is_shared_by_acl(-1));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, each_setup, each_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_files_of_umask_002_are_accepted),
        TEST(test_others_are_never_accepted),
        TEST(test_group_with_another_member_is_not_private),
        TEST(test_group_of_two_users_is_not_private),
        TEST(test_second_name_of_one_user_is_no_other_user),
        TEST(test_group_must_be_the_users_own),
        TEST(test_root_has_no_private_group),
        TEST(test_access_control_list_is_not_private),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
