/* SPDX-License-Identifier: ISC */
/* A few calls to the kernel; see the header. */
#include "gotthard/process.h"

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

/* What the resolver, libmosquitto and a handshake need, several times. */
#define THREAD_STACK ((size_t)1 << 20)

/* gcc says it with macros, clang with features. The leak sanitizer attaches to its process as a
 * debugger does, and all of them map more memory than there is. */
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

void gt_process_hide_memory(void)
{
    static const struct rlimit none = {0, 0};

    setrlimit(RLIMIT_CORE, &none);
    if (!IS_SANITIZED)
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

/* The stack of a thread counts whole, and is as large as that of the shell that began us, unless
 * it is said otherwise (`ulimit -s`: some make it larger than all of our memory). */
static void limit_stacks(size_t n)
{
    pthread_attr_t attributes;
    size_t now;

    if (pthread_getattr_default_np(&attributes) != 0)
        return;
    if (pthread_attr_getstacksize(&attributes, &now) == 0 && now > n &&
        pthread_attr_setstacksize(&attributes, n) == 0)
        pthread_setattr_default_np(&attributes);
    pthread_attr_destroy(&attributes);
}

/* The hard limit stays, so that it can be lifted. */
void gt_process_limit_memory(size_t n)
{
    struct rlimit limit;

    if (IS_SANITIZED || getrlimit(RLIMIT_DATA, &limit) < 0 || limit.rlim_cur <= n)
        return;
    limit.rlim_cur = n;
    setrlimit(RLIMIT_DATA, &limit);
    limit_stacks(THREAD_STACK);
}

void gt_process_lift_memory_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_DATA, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_DATA, &limit);
}

int gt_process_spawn_fresh(posix_spawnattr_t *attributes)
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
