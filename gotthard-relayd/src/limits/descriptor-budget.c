/* SPDX-License-Identifier: ISC */
/*
 * A sixteenth of the free descriptors may become pipes (two descriptors each), up to 1024 pipes.
 * More would not help: a pipe is held only while bytes wait in it, and without a free one a buffer
 * in memory is used.
 */
#include "limits/descriptor-budget.h"

#include <unistd.h>

#include "gotthard/base/descriptor-limit.h"
#include "gotthard/base/log.h"

#define N_OWN_FDS          16 /* standard streams, loop, signals, main listeners, the reserve */
#define N_FDS_MIN          16 /* without as many for connections, the relay does not start */
#define N_FDS_MAX          ((size_t)1 << 20)
#define N_PIPES_MAX        ((size_t)1024)
#define N_AUTO_THREADS_MAX ((size_t)8)
#define PIPE_SHARE         16 /* one pipe for as many free descriptors */

/* Returns the number of descriptors that the process may have, after raising its soft limit. */
static size_t descriptor_budget_raise_limit(size_t n_max)
{
    size_t n = GT_MIN(gt_descriptor_limit_raise(N_FDS_MAX), N_FDS_MAX);

    return n_max ? GT_MIN(n, n_max) : n;
}

static size_t descriptor_budget_n_threads(const struct descriptor_budget_request *request)
{
    long n_cores = sysconf(_SC_NPROCESSORS_ONLN);

    if (request->n_data_threads)
        return GT_MIN(request->n_data_threads, request->n_data_threads_max);
    return n_cores < 1 ? 1 : GT_MIN((size_t)n_cores, N_AUTO_THREADS_MAX);
}

int descriptor_budget_divide(size_t n_descriptors, size_t n_data_threads, size_t n_fds_per_thread,
                             struct descriptor_budget *ret)
{
    size_t n_fixed = N_OWN_FDS + n_data_threads * n_fds_per_thread;

    if (n_descriptors < n_fixed + N_FDS_MIN) {
        gt_error("%zu file descriptors are too few: raise the limit to %zu at least", n_descriptors,
                 n_fixed + N_FDS_MIN);
        return DESCRIPTOR_BUDGET_E_TOO_SMALL;
    }
    size_t n_free = n_descriptors - n_fixed;
    size_t n_pipes = GT_MAX(GT_MIN(n_free / PIPE_SHARE, N_PIPES_MAX) / n_data_threads, (size_t)1);
    size_t n_pipe_fds = GT_MIN(2 * n_pipes * n_data_threads, n_free / 2);
    *ret = (struct descriptor_budget){
        .n_data_threads = n_data_threads, .n_connections = n_free - n_pipe_fds, .n_pipes = n_pipes};
    return 0;
}

int descriptor_budget_compute(const struct descriptor_budget_request *request,
                              struct descriptor_budget *ret)
{
    return descriptor_budget_divide(descriptor_budget_raise_limit(request->n_descriptors_max),
                                    descriptor_budget_n_threads(request), request->n_fds_per_thread,
                                    ret);
}
