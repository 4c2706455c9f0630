/* SPDX-License-Identifier: ISC */
/*
 * standard-fds.c in child processes that close each combination of the descriptors 0 to 2. The
 * children report by their exit status, since they may have no standard error.
 */
#include "gotthard/base/standard-fds.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

static bool is_null_device(int fd)
{
    struct stat opened, device;

    return fstat(fd, &opened) == 0 && stat("/dev/null", &device) == 0 && S_ISCHR(opened.st_mode) &&
           opened.st_rdev == device.st_rdev;
}

static bool is_same_file(int fd, const struct stat *before)
{
    struct stat now;

    return fstat(fd, &now) == 0 && now.st_dev == before->st_dev && now.st_ino == before->st_ino;
}

/* Closes the descriptors whose bit is set in @closed. Returns the exit status: 0 if all is well,
 * else the number of the line that failed. */
static int child(unsigned closed)
{
    struct stat before[3];
    int pipe_fds[2];

    if (pipe(pipe_fds) < 0)
        return __LINE__;
    for (int fd = 0; fd <= STDERR_FILENO; fd++) {
        if (dup2(pipe_fds[1], fd) < 0 || fstat(fd, &before[fd]) < 0)
            return __LINE__;
        if (closed & 1u << fd)
            close(fd);
    }
    if (gt_standard_fds_open() != 0)
        return __LINE__;
    for (int fd = 0; fd <= STDERR_FILENO; fd++) {
        bool is_closed = closed & 1u << fd;

        if (is_closed ? !is_null_device(fd) : !is_same_file(fd, &before[fd]))
            return __LINE__;
        if (is_closed && fcntl(fd, F_GETFD) != 0)
            return __LINE__;
    }
    if (open("/", O_RDONLY) <= STDERR_FILENO)
        return __LINE__;
    bool is_writable = write(STDOUT_FILENO, "x", 1) == 1;
    if (is_writable == (bool)(closed & 1u << STDOUT_FILENO))
        return __LINE__;
    return write(STDERR_FILENO, "x", 1) == 1 ? 0 : __LINE__;
}

static void test_standard_fds_open_only_the_closed_ones(void **state)
{
    for (unsigned closed = 0; closed < 8; closed++) {
        int status;
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0)
            _exit(child(closed));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) != 0)
            fail_msg("closed=%u: failure in line %d", closed, WEXITSTATUS(status));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_standard_fds_open_only_the_closed_ones),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
