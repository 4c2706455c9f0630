/* SPDX-License-Identifier: ISC */
/* Where the limit cannot be read or changed, the usual one is assumed. */
#include "gotthard/base/descriptor-limit.h"

#include <sys/resource.h>

size_t gt_descriptor_limit_raise(size_t n)
{
    struct rlimit limit = {1024, 1024};
    rlim_t wanted = (rlim_t)n;

    if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur < GT_MIN(wanted, limit.rlim_max)) {
        struct rlimit raised = {GT_MIN(wanted, limit.rlim_max), limit.rlim_max};

        if (!setrlimit(RLIMIT_NOFILE, &raised))
            limit = raised;
    }
    return (size_t)GT_MIN(limit.rlim_cur, (rlim_t)SIZE_MAX);
}
