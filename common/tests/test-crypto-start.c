/* SPDX-License-Identifier: ISC */
/*
 * crypto-start.c: the test starts itself repeatedly, and in each run another allocation of OpenSSL
 * fails before main(). Such a process must end, because its OpenSSL would stay incomplete.
 */
#include "gotthard/crypto/crypto-start.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/crypto.h>

#include "gotthard/base/exit-status.h"
#include "gotthard/crypto/crypto.h"
#include "gotthard/tls/tls.h"

#define N_FIRST  30
#define N_POINTS 70

/* The allocation with this number fails, in a run of the test by itself. */
#define FAIL_AT "TEST_FAIL_AT"

static unsigned n_allocations;

void *__real_malloc(size_t n);
void *__real_realloc(void *memory, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_realloc(void *memory, size_t n);

static bool fails(void)
{
    const char *at = getenv(FAIL_AT);

    return at && ++n_allocations == (unsigned)atoi(at);
}

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}

void *__wrap_realloc(void *memory, size_t n)
{
    return fails() ? NULL : __real_realloc(memory, n);
}

/* Returns the exit status (124: it hangs), and the number of allocations before main(). */
static int start_failing_at(unsigned at, unsigned *ret_n)
{
    char path[PATH_MAX] = "", command[PATH_MAX + 64], number[16];

    assert_true(readlink("/proc/self/exe", path, sizeof(path) - 1) > 0);
    snprintf(command, sizeof(command), "timeout 60 '%s' 2>/dev/null", path);
    snprintf(number, sizeof(number), "%u", at);
    setenv(FAIL_AT, number, 1);
    FILE *child = popen(command, "r");
    unsetenv(FAIL_AT);
    assert_non_null(child);
    *ret_n = 0;
    bool is_read = fscanf(child, "%u", ret_n) == 1;
    int status = pclose(child);
    assert_true(WIFEXITED(status));
    assert_int_equal(is_read, WEXITSTATUS(status) == 0);
    return WEXITSTATUS(status);
}

static void test_failed_allocation_at_start_ends_the_process(void **state)
{
    unsigned n, unused;

    assert_int_equal(start_failing_at(UINT_MAX / 2, &n), 0);
    assert_true(n > 1000);
    for (unsigned at = 1; at <= N_FIRST; at++) /* while OpenSSL has no means to report an error */
        assert_int_equal(start_failing_at(at, &unused), GT_EXIT_INTERNAL);
    for (unsigned i = 0; i < N_POINTS; i++)
        assert_int_equal(start_failing_at(1 + i * (n - 1) / (N_POINTS - 1), &unused),
                         GT_EXIT_INTERNAL);
    assert_int_equal(start_failing_at(n + 1, &unused), 0);
}

static void test_failures_are_counted(void **state)
{
    unsigned before = gt_crypto_n_failed_allocations();

    n_allocations = 0;
    setenv(FAIL_AT, "2", 1);
    void *first = OPENSSL_malloc(1), *second = OPENSSL_malloc(1), *third = OPENSSL_malloc(1);
    unsetenv(FAIL_AT);
    assert_true(first && !second && third);
    assert_int_equal(gt_crypto_n_failed_allocations() - before, 1);
    OPENSSL_free(first);
    OPENSSL_free(third);
    assert_null(OPENSSL_malloc(0)); /* not a failure */
    first = OPENSSL_realloc(NULL, 8);
    assert_non_null(first);
    assert_null(OPENSSL_realloc(first, 0)); /* frees */
    assert_int_equal(gt_crypto_n_failed_allocations() - before, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failed_allocation_at_start_ends_the_process),
        cmocka_unit_test(test_failures_are_counted),
    };
    uint8_t byte = 0;

    if (getenv(FAIL_AT)) {
        printf("%u\n", n_allocations);
        gt_wipe(&byte, 1);                                   /* links crypto.c */
        return gt_tls_context_free(NULL) ? EXIT_FAILURE : 0; /* and tls-context.c */
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
