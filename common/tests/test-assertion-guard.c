/* SPDX-License-Identifier: ISC */
/*
 * Assertions that fail inside surveyed work, beside it, and in the library this is made for: a
 * broker that says what libmosquitto does not expect (test-mqtt.c has the rest of that).
 */
#include "gotthard/assertion.h"

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

static void assume_odd(void *userdata)
{
    unsigned *number = userdata;
    assert(*number % 2 == 1);
    *number = 100;
}

static void what_holds_goes_on(void **state)
{
    unsigned n = 0;
    assert_true(gt_assertion_holds(count, &n));
    assert_int_equal(n, 1);
    assert_true(gt_assertion_holds(assume_odd, &n));
    assert_int_equal(n, 100);
}

static void what_fails_is_left(void **state)
{
    unsigned n = 2;
    for (int i = 0; i < 3; i++)
        assert_false(gt_assertion_holds(assume_odd, &n));
    assert_int_equal(n, 2);
    assert_true(gt_assertion_holds(count, &n));
}

static void *assume_in_thread(void *userdata)
{
    assume_odd(userdata);
    return NULL;
}

static void begin_thread(void *userdata)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, assume_in_thread, userdata) == 0)
        pthread_join(thread, NULL);
}

/* How a child ends that runs @work, surveyed or not: the signal, or 0. */
static int ending_of(bool is_surveyed, void (*work)(void *userdata))
{
    unsigned n = 2;
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        signal(SIGABRT, SIG_DFL); /* cmocka's own is none of a child's */
        dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
        if (!is_surveyed)
            work(&n);
        _exit(is_surveyed && gt_assertion_holds(work, &n) ? 1 : 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void all_else_aborts(void **state)
{
    assert_int_equal(ending_of(false, assume_odd), SIGABRT);
    assert_int_equal(ending_of(true, begin_thread), SIGABRT);
    assert_int_equal(ending_of(true, assume_odd), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_holds_goes_on),
        cmocka_unit_test(what_fails_is_left),
        cmocka_unit_test(all_else_aborts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
