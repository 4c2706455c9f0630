/* SPDX-License-Identifier: ISC */
/*
 * Interposed clock_gettime(2) and epoll_wait(2): symbols of the executable precede those of the C
 * library. Must never let time pass while an event is pending.
 */
#include "support/fake-clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>

#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define GRACE_MS 20 /* for events that the kernel delivers late */

static struct {
    bool is_started;
    int64_t ahead_ms; /* of the real clocks; never decreases */
} fake_clock;

void fake_clock_start(void)
{
    fake_clock.is_started = true;
}

void fake_clock_stop(void)
{
    fake_clock.is_started = false;
}

#if defined(__USE_TIME_BITS64) && __TIMESIZE == 32
#define SYS_CLOCK_GETTIME SYS_clock_gettime64

/* The name that libraries with 32-bit times call, as libev may: seconds and nanoseconds. */
int clock_gettime32(clockid_t id, int32_t ret[static 2]) __asm__("clock_gettime");

int clock_gettime32(clockid_t id, int32_t ret[static 2])
{
    struct timespec now = {0};
    int r = clock_gettime(id, &now);

    ret[0] = (int32_t)now.tv_sec;
    ret[1] = (int32_t)now.tv_nsec;
    return r;
}
#else
#define SYS_CLOCK_GETTIME SYS_clock_gettime
#endif

int clock_gettime(clockid_t id, struct timespec *ret)
{
    int r = (int)syscall(SYS_CLOCK_GETTIME, id, ret);

    if (r == 0 && id != CLOCK_PROCESS_CPUTIME_ID && id != CLOCK_THREAD_CPUTIME_ID) {
        ret->tv_sec += fake_clock.ahead_ms / 1000;
        ret->tv_nsec += (long)(fake_clock.ahead_ms % 1000) * 1000000;
        if (ret->tv_nsec >= 1000000000) {
            ret->tv_nsec -= 1000000000;
            ret->tv_sec++;
        }
    }
    return r;
}

int epoll_wait(int fd, struct epoll_event *events, int n, int timeout_ms)
{
    bool is_skipped = fake_clock.is_started && timeout_ms > GRACE_MS;
    int r =
        (int)syscall(SYS_epoll_pwait, fd, events, n, is_skipped ? GRACE_MS : timeout_ms, NULL, 0);

    if (r == 0 && is_skipped)
        fake_clock.ahead_ms += timeout_ms - GRACE_MS;
    return r;
}
