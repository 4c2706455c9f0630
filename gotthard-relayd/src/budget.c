/* SPDX-License-Identifier: ISC */
/* The arithmetic of descriptors. What is left after the fixed ones and the pipes is for
 * connections. */
#include "budget.h"

#include <sys/resource.h>

#include "plane.h"

#define OWN_FDS       16 /* the standard three, the loop's, signals, main listeners, a spare */
#define N_CONNECTIONS 16 /* below which there is no point in running */
#define N_PIPES_MAX   1024
#define N_THREADS_MAX 8 /* unless told otherwise */
#define N_FDS_MAX     ((rlim_t)1 << 20)

size_t budget_n_descriptors(const struct settings *settings)
{
    struct rlimit limit = {1024, 1024};

    if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur < limit.rlim_max) {
        struct rlimit raised = {GT_MIN(limit.rlim_max, N_FDS_MAX), limit.rlim_max};
        if (!setrlimit(RLIMIT_NOFILE, &raised))
            limit = raised;
    }
    size_t n = (size_t)GT_MIN(limit.rlim_cur, N_FDS_MAX);
    return settings->n_descriptors ? GT_MIN(n, (size_t)settings->n_descriptors) : n;
}

size_t budget_n_threads(const struct settings *settings)
{
    long n_cores = sysconf(_SC_NPROCESSORS_ONLN);

    if (settings->n_threads)
        return settings->n_threads;
    return n_cores < 1 ? 1 : GT_MIN((size_t)n_cores, (size_t)N_THREADS_MAX);
}

static size_t budget_fixed(size_t n_planes)
{
    return OWN_FDS + n_planes * PLANE_N_FDS;
}

size_t budget_least(size_t n_planes)
{
    return budget_fixed(n_planes) + 2 * n_planes + N_CONNECTIONS; /* a pipe each */
}

int budget_make(size_t n_descriptors, size_t n_planes, struct budget *ret)
{
    size_t n_shared = n_descriptors - budget_fixed(n_planes);

    if (n_descriptors < budget_least(n_planes))
        return BUDGET_E_SMALL;
    ret->n_pipes = GT_MAX(GT_MIN(n_shared / 16, (size_t)N_PIPES_MAX) / n_planes, (size_t)1);
    ret->n_connections = n_shared - 2 * ret->n_pipes * n_planes;
    return 0;
}
