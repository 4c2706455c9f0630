/* SPDX-License-Identifier: ISC */
/*
 * The handful of macros that every file uses, and the rule of errors that every function follows:
 *
 *   0    good;
 *   < 0  a negative errno that nobody here expected: forwarded unchanged up to main, which logs
 *        it and exits (systemd starts the program again);
 *   > 0  one of the conditions its header documents: handled by the direct caller, never
 *        forwarded. Whatever a stranger sends only ever produces a condition.
 *
 * Out-parameters come last, are named ret_x, and are untouched on failure.
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

/* Frees at the end of the scope: gt_cleanup(gt_free) char *text = NULL; */
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
    int taken = *fd;
    *fd = -1;
    return taken;
}

#define gt_steal(pp)                        \
    ({                                      \
        __typeof__(*(pp)) gt_taken = *(pp); \
        *(pp) = NULL;                       \
        gt_taken;                           \
    })
