/* SPDX-License-Identifier: ISC */
/* Process restrictions by system calls; see the header. */
#include "gotthard/base/hardening.h"

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

/* Bytes; several times the need of the resolver, libmosquitto and a TLS handshake. */
#define THREAD_STACK ((size_t)1 << 20)

/* gcc reports sanitizers by macros, clang by features. The leak sanitizer attaches to its process
 * as a debugger, and all of them map more memory than the limit. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define IS_SANITIZED true
#endif
#endif
#if !defined(IS_SANITIZED) && (defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__))
#define IS_SANITIZED true
#endif
#ifndef IS_SANITIZED
#define IS_SANITIZED false
#endif

bool gt_hardening_is_sanitized(void)
{
    return IS_SANITIZED;
}

void gt_hardening_hide_memory(void)
{
    static const struct rlimit none = {0, 0};

    setrlimit(RLIMIT_CORE, &none);
    if (!IS_SANITIZED)
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

/* The whole stack of a thread counts against the limit. By default its size is `ulimit -s` of the
 * parent shell, which may be more than the limit. */
static void limit_stacks(size_t n)
{
    pthread_attr_t attributes;
    size_t current;

    if (pthread_getattr_default_np(&attributes) != 0)
        return;
    if (pthread_attr_getstacksize(&attributes, &current) == 0 && current > n &&
        pthread_attr_setstacksize(&attributes, n) == 0)
        pthread_setattr_default_np(&attributes);
    pthread_attr_destroy(&attributes);
}

/* Only the soft limit changes, so that it can be lifted. */
void gt_hardening_limit_memory(size_t n)
{
    struct rlimit limit;

    if (IS_SANITIZED || getrlimit(RLIMIT_DATA, &limit) < 0 || limit.rlim_cur <= n)
        return;
    limit.rlim_cur = n;
    setrlimit(RLIMIT_DATA, &limit);
    limit_stacks(THREAD_STACK);
}

void gt_hardening_lift_memory_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_DATA, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_DATA, &limit);
}

/* See close_range(2), which Linux has since 5.9. */
void gt_hardening_close_from(int first)
{
    if (syscall(SYS_close_range, (unsigned)first, ~0u, 0) == 0)
        return;
    for (int fd = first; fd < 1024; fd++)
        close(fd);
}

int gt_hardening_spawn_fresh(posix_spawnattr_t *attributes)
{
    sigset_t none, all;

    sigemptyset(&none);
    sigfillset(&all);
    int r = posix_spawnattr_setsigmask(attributes, &none);
    if (!r)
        r = posix_spawnattr_setsigdefault(attributes, &all);
    if (!r)
        r = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    return r;
}
