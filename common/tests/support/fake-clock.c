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

#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>

#include "gotthard/base/base.h"

#define GRACE_MS 20 /* for events that the kernel delivers late */
#define S_NS     INT64_C(1000000000)

static struct {
    bool is_started;
    int slowness;                         /* 0: neither slow nor started so far */
    int64_t begin_ns[CLOCK_BOOTTIME + 1]; /* of each real clock, then */
    int64_t ahead_ms;                     /* never decreases */
} fake_clock;

void fake_clock_start(void)
{
    fake_clock_slow();
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

static int64_t real_ns(clockid_t id)
{
    struct timespec now = {0};

    (void)syscall(SYS_CLOCK_GETTIME, id, &now);
    return now.tv_sec * S_NS + now.tv_nsec;
}

void fake_clock_slow(void)
{
    const char *slowness = getenv("GOTTHARD_TEST_SLOWNESS");

    if (fake_clock.slowness > 0)
        return;
    for (clockid_t id = 0; id <= CLOCK_BOOTTIME; id++)
        fake_clock.begin_ns[id] = real_ns(id);
    fake_clock.slowness = slowness ? GT_MAX(atoi(slowness), 1) : 1;
}

double fake_clock_real(void)
{
    return (double)real_ns(CLOCK_BOOTTIME) / S_NS;
}

static bool is_of_processor(clockid_t id)
{
    return id == CLOCK_PROCESS_CPUTIME_ID || id == CLOCK_THREAD_CPUTIME_ID;
}

int clock_gettime(clockid_t id, struct timespec *ret)
{
    int r = (int)syscall(SYS_CLOCK_GETTIME, id, ret);

    if (r || fake_clock.slowness == 0 || id < 0 || id > CLOCK_BOOTTIME || is_of_processor(id))
        return r;
    int64_t past_ns = ret->tv_sec * S_NS + ret->tv_nsec - fake_clock.begin_ns[id];
    int64_t now_ns = fake_clock.begin_ns[id] + past_ns / fake_clock.slowness +
                     fake_clock.ahead_ms * (S_NS / 1000);
    ret->tv_sec = (time_t)(now_ns / S_NS);
    ret->tv_nsec = (long)(now_ns % S_NS);
    return 0;
}

int epoll_wait(int fd, struct epoll_event *events, int n, int timeout_ms)
{
    bool is_skipped = fake_clock.is_started && timeout_ms > GRACE_MS;
    int wait_ms = (is_skipped ? GRACE_MS : timeout_ms) * GT_MAX(fake_clock.slowness, 1);
    int r = (int)syscall(SYS_epoll_pwait, fd, events, n, wait_ms, NULL, 0);

    if (r == 0 && is_skipped)
        fake_clock.ahead_ms += timeout_ms - GRACE_MS;
    return r;
}
