/* SPDX-License-Identifier: ISC */
/* loop.c, in child processes that have no memory left. */
#include "gotthard/base/loop.h"

#include <ev.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "gotthard/base/exit-status.h"
#include "gotthard/base/hardening.h"

#define TIMERS_MAX 400000

static struct {
    ev_timer timers[TIMERS_MAX];
    int fired;
} f;

static void on_timer(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    f.fired++;
}

static void start_timers(struct ev_loop *loop, int from, int to)
{
    for (int i = from; i < to; i++) {
        ev_timer_init(&f.timers[i], on_timer, 0, 0);
        ev_timer_start(loop, &f.timers[i]);
    }
}

static void exhaust_memory(void)
{
    gt_hardening_limit_memory(1);
    for (size_t n = 1 << 20; n >= 16; n /= 2)
        while (malloc(n))
            ;
}

/* Returns the exit status of a process whose loop has @before timers when its memory ends and @n
 * when it runs; 255: not all fired. */
static int run_loop(int before, int n)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        gt_loop_set_allocator();
        struct ev_loop *loop = ev_loop_new(0);
        start_timers(loop, 0, before);
        exhaust_memory();
        start_timers(loop, before, n);
        ev_run(loop, 0);
        ev_loop_destroy(loop);
        _exit(f.fired == n ? 0 : 255);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_loop_grows_without_memory(void **state)
{
    assert_int_equal(run_loop(0, 1), 0);
    assert_int_equal(run_loop(1000, 10000), 0);
}

static void test_loop_exits_when_the_reserve_is_exhausted(void **state)
{
    assert_int_equal(run_loop(1000, TIMERS_MAX), GT_EXIT_INTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loop_grows_without_memory),
        cmocka_unit_test(test_loop_exits_when_the_reserve_is_exhausted),
    };

    /* A sanitizer has a malloc of its own, which the limit of the data segment does not bound. */
    return gt_hardening_is_sanitized() ? 77 : cmocka_run_group_tests(tests, NULL, NULL);
}
