/* SPDX-License-Identifier: ISC */
/*
 * The macros that every file uses, and the error convention that every function follows:
 *
 *   0    success;
 *   < 0  a negative errno that was not expected here. It is forwarded unchanged up to main(), which
 *        logs it and exits; systemd starts the program again;
 *   > 0  a condition that the function's header documents. The direct caller handles it and never
 *        forwards it. Input of a peer only ever produces a condition.
 *
 * Out-parameters come last, are named ret_x, and stay untouched on failure.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define GT_MUST_CHECK       __attribute__((warn_unused_result))
#define GT_PRINTF(fmt, arg) __attribute__((format(printf, fmt, arg)))
#define GT_ARRAY_SIZE(a)    (sizeof(a) / sizeof((a)[0]))
#define GT_MIN(a, b)        ((a) < (b) ? (a) : (b))
#define GT_MAX(a, b)        ((a) > (b) ? (a) : (b))

#define gt_container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Calls @fn at the end of the scope: gt_cleanup(gt_free) char *text = NULL; */
#define gt_cleanup(fn) __attribute__((cleanup(fn)))

static inline void gt_free(void *pp)
{
    free(*(void **)pp);
}

static inline void gt_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static inline int gt_steal_fd(int *fd)
{
    int stolen = *fd;

    *fd = -1;
    return stolen;
}

#define gt_steal(pp)                         \
    ({                                       \
        __typeof__(*(pp)) gt_stolen = *(pp); \
        *(pp) = NULL;                        \
        gt_stolen;                           \
    })
