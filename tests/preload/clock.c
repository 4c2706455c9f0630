/* SPDX-License-Identifier: ISC */
/*
 * A shifted wall clock: CLOCK_REALTIME, time() and gettimeofday() are off by the seconds in the
 * file $CLOCK_SHIFT (8 bytes, native), which may change at any time. Monotonic clocks are
 * unchanged.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static const volatile int64_t none = 0, *shift = &none;

__attribute__((constructor)) static void clock_begin(void)
{
    const char *path = getenv("CLOCK_SHIFT");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

    if (fd < 0)
        return;
    void *mapped = mmap(NULL, sizeof(*shift), PROT_READ, MAP_SHARED, fd, 0);
    if (mapped != MAP_FAILED)
        shift = mapped;
    close(fd);
}

#if defined(__USE_TIME_BITS64) && __TIMESIZE == 32
#define SYS_CLOCK_GETTIME SYS_clock_gettime64
#else
#define SYS_CLOCK_GETTIME SYS_clock_gettime
#endif

EXPORT int clock_gettime(clockid_t id, struct timespec *ret)
{
    int r = (int)syscall(SYS_CLOCK_GETTIME, id, ret);

    if (r == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE || id == CLOCK_TAI))
        ret->tv_sec += *shift;
    return r;
}

EXPORT int gettimeofday(struct timeval *restrict ret, void *restrict zone)
{
    struct timespec now;

    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    *ret = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return 0;
}

EXPORT time_t time(time_t *ret)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (ret)
        *ret = now.tv_sec;
    return now.tv_sec;
}

#if defined(__USE_TIME_BITS64) && __TIMESIZE == 32
/* The names that libraries with 32-bit times call. */
struct timespec32 {
    int32_t tv_sec, tv_nsec;
};

struct timeval32 {
    int32_t tv_sec, tv_usec;
};

EXPORT int clock_gettime32(clockid_t id, struct timespec32 *ret) __asm__("clock_gettime");
EXPORT int gettimeofday32(struct timeval32 *ret, void *zone) __asm__("gettimeofday");
EXPORT int32_t time32(int32_t *ret) __asm__("time");

int clock_gettime32(clockid_t id, struct timespec32 *ret)
{
    struct timespec now = {0};
    int r = clock_gettime(id, &now);

    *ret = (struct timespec32){(int32_t)now.tv_sec, (int32_t)now.tv_nsec};
    return r;
}

int gettimeofday32(struct timeval32 *ret, void *zone)
{
    struct timespec now;

    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    *ret = (struct timeval32){(int32_t)now.tv_sec, (int32_t)now.tv_nsec / 1000};
    return 0;
}

int32_t time32(int32_t *ret)
{
    int32_t now = (int32_t)time(NULL);

    if (ret)
        *ret = now;
    return now;
}
#endif
