/* SPDX-License-Identifier: ISC */
/* descriptor-limit.c, in child processes: a hard limit cannot be raised again. */
#include "gotthard/base/descriptor-limit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Returns what a process with these limits gets for @n, after it was checked against the kernel's
 * soft limit; 255: they differ. */
static int raised(rlim_t soft, rlim_t hard, size_t n)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        struct rlimit limit = {soft, hard};
        int r = setrlimit(RLIMIT_NOFILE, &limit);
        size_t result = gt_descriptor_limit_raise(n);

        if (r != 0 || getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur != result)
            _exit(255);
        _exit((int)result);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_descriptor_limit_is_raised_to_what_is_needed(void **state)
{
    assert_int_equal(raised(64, 128, 100), 100);
}

static void test_descriptor_limit_never_falls(void **state)
{
    assert_int_equal(raised(64, 128, 32), 64);
    assert_int_equal(raised(64, 128, 64), 64);
}

static void test_descriptor_limit_ends_at_the_hard_limit(void **state)
{
    assert_int_equal(raised(64, 128, 129), 128);
    assert_int_equal(raised(64, 128, SIZE_MAX), 128);
    assert_int_equal(raised(64, 64, 100), 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_descriptor_limit_is_raised_to_what_is_needed),
        cmocka_unit_test(test_descriptor_limit_never_falls),
        cmocka_unit_test(test_descriptor_limit_ends_at_the_hard_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
