/* SPDX-License-Identifier: ISC */
/* The allocator of libev; see the header. It must not return NULL, except for a size of 0. */
#include "gotthard/base/loop.h"

#include <ev.h>
#include <stdlib.h>
#include <unistd.h>

#include "gotthard/base/exit-status.h"
#include "gotthard/base/log.h"

static void *loop_allocate(void *old, long n)
{
    if (n == 0) {
        free(old);
        return NULL;
    }
    void *data = realloc(old, (size_t)n);
    if (data)
        return data;
    gt_error("event loop failed reason=\"out of memory\"");
    _exit(GT_EXIT_INTERNAL);
}

void gt_loop_exit_on_out_of_memory(void)
{
    ev_set_allocator(loop_allocate);
}
