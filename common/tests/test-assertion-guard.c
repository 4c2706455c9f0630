/* SPDX-License-Identifier: ISC */
/*
 * assertion-guard.c: assertions that fail inside guarded work, and outside of it. test-mqtt.c tests
 * it with libmosquitto and a broker that sends unexpected properties.
 */
#include "gotthard/base/assertion-guard.h"

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmocka.h>

static void count(void *userdata)
{
    ++*(unsigned *)userdata;
}

static void assert_odd(void *userdata)
{
    unsigned *number = userdata;

    assert(*number % 2 == 1);
    *number = 100;
}

static void test_guarded_work_without_failure_completes(void **state)
{
    unsigned n = 0;

    assert_true(gt_assertion_guard_run(count, &n));
    assert_int_equal(n, 1);
    assert_true(gt_assertion_guard_run(assert_odd, &n));
    assert_int_equal(n, 100);
}

static void test_failed_assertion_abandons_guarded_work(void **state)
{
    unsigned n = 2;

    for (int i = 0; i < 3; i++)
        assert_false(gt_assertion_guard_run(assert_odd, &n));
    assert_int_equal(n, 2);
    assert_true(gt_assertion_guard_run(count, &n));
}

static void *assert_in_thread(void *userdata)
{
    assert_odd(userdata);
    return NULL;
}

static void run_thread(void *userdata)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, assert_in_thread, userdata) == 0)
        pthread_join(thread, NULL);
}

/* Runs @work in a child process, guarded or not. Returns the signal that ended it, or 0. */
static int signal_of(bool is_guarded, void (*work)(void *userdata))
{
    unsigned n = 2;
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        signal(SIGABRT, SIG_DFL); /* not the handler of cmocka */
        dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
        if (!is_guarded)
            work(&n);
        _exit(is_guarded && gt_assertion_guard_run(work, &n) ? 1 : 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void test_unguarded_assertion_aborts(void **state)
{
    assert_int_equal(signal_of(false, assert_odd), SIGABRT);
    assert_int_equal(signal_of(true, run_thread), SIGABRT);
    assert_int_equal(signal_of(true, assert_odd), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_guarded_work_without_failure_completes),
        cmocka_unit_test(test_failed_assertion_abandons_guarded_work),
        cmocka_unit_test(test_unguarded_assertion_aborts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
