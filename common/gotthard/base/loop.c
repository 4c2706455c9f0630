/* SPDX-License-Identifier: ISC */
/* libev's allocator; see the header. It may never return NULL, except for nothing. */
#include "gotthard/loop.h"

#include <ev.h>
#include <stdlib.h>
#include <unistd.h>

#include "gotthard/log.h"

#define EXIT_INTERNAL 70

static void *loop_allocate(void *old, long n)
{
    if (n == 0) {
        free(old);
        return NULL;
    }
    void *fresh = realloc(old, (size_t)n);
    if (fresh)
        return fresh;
    gt_error("no memory for the event loop");
    _exit(EXIT_INTERNAL);
}

void gt_loop_end_without_memory(void)
{
    ev_set_allocator(loop_allocate);
}
