/* SPDX-License-Identifier: ISC */
/* local-socket.c: its mode, the files that it replaces, those that it leaves, and bad paths. */
#include "local-socket.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cmocka.h>

static struct {
    char folder[64], path[96];
    char why[LOCAL_SOCKET_WHY];
    struct local_socket file;
    int fd;
} f;

static int set_up(void **state)
{
    memset(&f, 0, sizeof(f));
    f.fd = -1;
    strcpy(f.folder, "/tmp/gotthard-socket-XXXXXX");
    assert_non_null(mkdtemp(f.folder));
    snprintf(f.path, sizeof(f.path), "%s/oli", f.folder);
    return 0;
}

/* Nothing is left behind: neither a socket nor a temporary name. */
static int tear_down(void **state)
{
    gt_close(&f.fd);
    local_socket_remove(&f.file);
    unlink(f.path);
    assert_int_equal(rmdir(f.folder), 0);
    return 0;
}

static int listen_here(bool is_shared)
{
    return local_socket_listen(f.path, SOCK_STREAM, is_shared, &f.file, &f.fd, f.why);
}

static void check_unusable(const char *path, const char *reason)
{
    assert_int_equal(local_socket_listen(path, SOCK_STREAM, false, &f.file, &f.fd, f.why),
                     LOCAL_SOCKET_E_UNUSABLE);
    assert_non_null(strstr(f.why, reason));
    assert_int_equal(f.fd, -1);
}

static int dial(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    strcpy(name.sun_path, f.path);
    if (connect(fd, (struct sockaddr *)&name, sizeof(name)) == 0)
        return fd;
    close(fd);
    return -errno;
}

static mode_t mode_of(const char *path)
{
    struct stat st;

    assert_int_equal(lstat(path, &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    return st.st_mode & 07777;
}

static void test_socket_is_private(void **state)
{
    static const mode_t masks[] = {0, 022, 077, 0777};

    for (size_t i = 0; i < GT_ARRAY_SIZE(masks); i++) {
        mode_t before = umask(masks[i]);
        assert_int_equal(listen_here(false), 0);
        umask(before);
        assert_int_equal(mode_of(f.path), 0600);
        int client = dial();
        assert_true(client >= 0);
        close(client);
        gt_close(&f.fd);
        local_socket_remove(&f.file);
        assert_int_equal(access(f.path, F_OK), -1);
    }
}

static void test_shared_socket_is_open_to_all(void **state)
{
    mode_t before = umask(077);

    assert_int_equal(listen_here(true), 0);
    umask(before);
    assert_int_equal(mode_of(f.path), 0666);
}

static void test_socket_of_killed_program_is_replaced(void **state)
{
    assert_int_equal(listen_here(false), 0);
    gt_close(&f.fd);
    assert_int_equal(dial(), -ECONNREFUSED);
    struct local_socket old = f.file;
    assert_int_equal(listen_here(false), 0);
    int client = dial();
    assert_true(client >= 0);
    close(client);
    local_socket_remove(&old); /* the other one: it stays */
    assert_int_equal(access(f.path, F_OK), 0);
}

static void test_socket_in_use_is_left(void **state)
{
    struct local_socket second = {.path = ""};
    int fd = -1;

    assert_int_equal(listen_here(false), 0);
    assert_int_equal(local_socket_listen(f.path, SOCK_STREAM, false, &second, &fd, f.why),
                     LOCAL_SOCKET_E_BUSY);
    assert_int_equal(fd, -1);
    local_socket_remove(&second);
    int client = dial();
    assert_true(client >= 0);
    close(client);
}

/* A socket of another type, as a holder has. */
static void test_only_unused_socket_is_cleared(void **state)
{
    assert_int_equal(local_socket_clear(f.path, f.why), 0);
    assert_int_equal(local_socket_listen(f.path, SOCK_SEQPACKET, false, &f.file, &f.fd, f.why), 0);
    assert_int_equal(local_socket_clear(f.path, f.why), LOCAL_SOCKET_E_BUSY);
    assert_int_equal(access(f.path, F_OK), 0);
    gt_close(&f.fd);
    assert_int_equal(local_socket_clear(f.path, f.why), 0);
    assert_int_equal(access(f.path, F_OK), -1);
}

static void test_other_files_are_left(void **state)
{
    int fd = open(f.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    close(fd);
    check_unusable(f.path, "no socket");
    assert_int_equal(access(f.path, F_OK), 0);
    unlink(f.path);
    assert_int_equal(symlink("/nonexistent", f.path), 0); /* also if it leads nowhere */
    check_unusable(f.path, "no socket");
    unlink(f.path);
    assert_int_equal(mkdir(f.path, 0700), 0);
    check_unusable(f.path, "no socket");
    rmdir(f.path);
}

static void test_socket_of_another_user_is_left(void **state)
{
    if (geteuid() != 0) {
        print_message("only root can change an owner\n");
        skip();
    }
    assert_int_equal(listen_here(false), 0);
    gt_close(&f.fd);
    assert_int_equal(chown(f.path, 1001, 1001), 0);
    check_unusable(f.path, "another user");
    assert_int_equal(access(f.path, F_OK), 0);
}

/* Another user could put a socket of its own at the path. */
static void test_folder_that_others_can_write_is_not_used(void **state)
{
    assert_int_equal(chmod(f.folder, 0777), 0);
    check_unusable(f.path, "writable by others");
    assert_int_equal(chmod(f.folder, 01777), 0); /* as /tmp */
    assert_int_equal(listen_here(false), 0);
    gt_close(&f.fd);
    local_socket_remove(&f.file);
    assert_int_equal(chmod(f.folder, 0700), 0);
}

static void test_bad_paths(void **state)
{
    char longest[LOCAL_SOCKET_PATH_MAX + 2];

    check_unusable("/nonexistent/oli", "No such file");
    check_unusable("/dev/null/oli", "Not a directory");
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = 0;
    check_unusable(longest, "too long");
    snprintf(longest, sizeof(longest), "%s/%0*d", f.folder,
             (int)(LOCAL_SOCKET_PATH_MAX - strlen(f.folder) - 1), 0);
    assert_int_equal(strlen(longest), LOCAL_SOCKET_PATH_MAX);
    assert_int_equal(local_socket_listen(longest, SOCK_STREAM, false, &f.file, &f.fd, f.why), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_socket_is_private),
        TEST(test_shared_socket_is_open_to_all),
        TEST(test_socket_of_killed_program_is_replaced),
        TEST(test_socket_in_use_is_left),
        TEST(test_only_unused_socket_is_cleared),
        TEST(test_other_files_are_left),
        TEST(test_socket_of_another_user_is_left),
        TEST(test_folder_that_others_can_write_is_not_used),
        TEST(test_bad_paths),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
