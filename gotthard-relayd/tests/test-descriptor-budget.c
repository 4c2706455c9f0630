/* SPDX-License-Identifier: ISC */
/* descriptor-budget.c: the smallest budget, its parts for many sizes, and the limit of the process.
 */
#include "limits/descriptor-budget.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/resource.h>

#include <cmocka.h>

#define N_OWN        16
#define N_MIN        16
#define N_PER_THREAD ((size_t)4)

static void test_descriptor_budget_rejects_too_few(void **state)
{
    for (size_t n_threads = 1; n_threads <= 64; n_threads++) {
        size_t n_least = N_OWN + n_threads * N_PER_THREAD + N_MIN;
        struct descriptor_budget budget = {.n_data_threads = 99};

        assert_int_equal(descriptor_budget_divide(0, n_threads, N_PER_THREAD, &budget),
                         DESCRIPTOR_BUDGET_E_TOO_SMALL);
        assert_int_equal(descriptor_budget_divide(n_least - 1, n_threads, N_PER_THREAD, &budget),
                         DESCRIPTOR_BUDGET_E_TOO_SMALL);
        assert_int_equal(budget.n_data_threads, 99); /* untouched */
        assert_int_equal(descriptor_budget_divide(n_least, n_threads, N_PER_THREAD, &budget), 0);
        assert_int_equal(budget.n_data_threads, n_threads);
        assert_true(budget.n_connections >= N_MIN / 2);
    }
}

/* Connections, pipes and the relay's own descriptors together never exceed the limit, but for the
 * one pipe that each thread may always have. */
static void test_descriptor_budget_parts_fit_into_the_whole(void **state)
{
    static const size_t sizes[] = {100, 256, 1023, 1024, 4096, 65536, 1 << 20};

    for (size_t i = 0; i < GT_ARRAY_SIZE(sizes); i++)
        for (size_t n_threads = 1; n_threads <= 8; n_threads *= 2) {
            size_t n_own = N_OWN + n_threads * N_PER_THREAD;
            struct descriptor_budget budget;
            int r = descriptor_budget_divide(sizes[i], n_threads, N_PER_THREAD, &budget);

            assert_int_equal(r, 0);
            size_t n_pipe_fds = 2 * budget.n_pipes * n_threads;
            assert_true(budget.n_pipes >= 1);
            assert_true(budget.n_pipes * n_threads <= 1024);
            assert_true(n_own + budget.n_connections + n_pipe_fds <= sizes[i]);
            assert_true(budget.n_connections >= (sizes[i] - n_own) / 2);
        }
}

static void test_descriptor_budget_of_the_default_limit(void **state)
{
    struct descriptor_budget budget;

    assert_int_equal(descriptor_budget_divide(1024, 2, N_PER_THREAD, &budget), 0);
    assert_int_equal(budget.n_pipes, 31);        /* (1024 - 24) / 16 / 2 */
    assert_int_equal(budget.n_connections, 876); /* 1000 - 2 * 31 * 2 */
}

static void test_descriptor_budget_raises_the_soft_limit(void **state)
{
    const struct descriptor_budget_request request = {
        .n_data_threads = 100, .n_data_threads_max = 3, .n_fds_per_thread = N_PER_THREAD};
    struct rlimit limit;
    struct descriptor_budget budget;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_max < 512)
        skip();
    struct rlimit lowered = {64, limit.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &lowered), 0);
    assert_int_equal(descriptor_budget_compute(&request, &budget), 0);
    assert_int_equal(budget.n_data_threads, 3);
    assert_true(budget.n_connections > 64);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_true(limit.rlim_cur > 64);
}

static void test_descriptor_budget_follows_configured_maximum(void **state)
{
    struct descriptor_budget_request request = {.n_descriptors_max = 60,
                                                .n_data_threads = 2,
                                                .n_data_threads_max = 64,
                                                .n_fds_per_thread = N_PER_THREAD};
    struct descriptor_budget budget;

    assert_int_equal(descriptor_budget_compute(&request, &budget), 0);
    assert_true(budget.n_connections <= 60 - N_OWN - 2 * N_PER_THREAD);
    request.n_descriptors_max = 39;
    assert_int_equal(descriptor_budget_compute(&request, &budget), DESCRIPTOR_BUDGET_E_TOO_SMALL);
}

static void test_descriptor_budget_starts_a_thread_per_core(void **state)
{
    const struct descriptor_budget_request request = {.n_data_threads_max = 64,
                                                      .n_fds_per_thread = N_PER_THREAD};
    struct descriptor_budget budget;

    assert_int_equal(descriptor_budget_compute(&request, &budget), 0);
    assert_in_range(budget.n_data_threads, 1, 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_descriptor_budget_rejects_too_few),
        cmocka_unit_test(test_descriptor_budget_parts_fit_into_the_whole),
        cmocka_unit_test(test_descriptor_budget_of_the_default_limit),
        cmocka_unit_test(test_descriptor_budget_raises_the_soft_limit),
        cmocka_unit_test(test_descriptor_budget_follows_configured_maximum),
        cmocka_unit_test(test_descriptor_budget_starts_a_thread_per_core),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
