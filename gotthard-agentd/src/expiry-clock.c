/* SPDX-License-Identifier: ISC */
/* The floor of the wall clock, and its file; see the header. */
#include "expiry-clock.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/timex.h>

#include "gotthard/base/log.h"
#include "gotthard/base/text.h"
#include "gotthard/config/protected-file.h"

#define FILE_NAME       "clock"
#define SAVE_INTERVAL_S 900
#define STEP_S          5 /* a smaller difference is no step */

static time_t floor_at(const struct expiry_clock *clock, uint64_t now_ms)
{
    return clock->floor ? clock->floor + (time_t)((now_ms - clock->floor_ms) / 1000) : 0;
}

time_t expiry_clock_time(const struct expiry_clock *clock, time_t wall, uint64_t now_ms)
{
    return GT_MAX(wall, floor_at(clock, now_ms));
}

/* Returns 0 without a valid file. One that was made while others could write the
 * folder must neither block the agent nor lock operators out. */
static time_t load(const char *path)
{
    char text[24] = "", why[GT_PROTECTEDFILE_WHY];
    uint64_t seconds;
    struct stat status;
    gt_cleanup(gt_close) int fd = -1;

    if (gt_protectedfile_open(path, false, &fd, &status, why) && !gt_protectedfile_is_absent(path))
        gt_warn("%s is not used: %s", path, why);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
    text[n > 0 ? n : 0] = 0;
    text[strcspn(text, "\n")] = 0;
    return gt_text_number(text, 1, INT32_MAX * UINT64_C(100), &seconds) == 0 ? (time_t)seconds : 0;
}

static void save(struct expiry_clock *clock, time_t floor)
{
    gt_cleanup(gt_free) char *temporary = NULL;
    char text[24];
    int n = snprintf(text, sizeof(text), "%lld\n", (long long)floor);

    clock->saved = floor;
    if (!clock->path || asprintf(&temporary, "%s.new", clock->path) < 0)
        return;
    unlink(temporary); /* of a save that was interrupted */
    gt_cleanup(gt_close) int fd =
        open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || write(fd, text, (size_t)n) != n || fdatasync(fd) < 0 ||
        rename(temporary, clock->path) < 0)
        gt_warn_errno(errno, "%s cannot be written", clock->path);
}

void expiry_clock_init(struct expiry_clock *clock, const char *folder, time_t wall, uint64_t now_ms)
{
    *clock = (struct expiry_clock){.steady = wall, .steady_ms = now_ms};
    if (!folder || asprintf(&clock->path, "%s/" FILE_NAME, folder) < 0) {
        clock->path = NULL;
        return;
    }
    clock->floor = clock->saved = load(clock->path);
    clock->floor_ms = now_ms;
    if (wall < clock->floor)
        gt_warn("the wall clock is %llds behind the time in %s, by which pins expire",
                (long long)(clock->floor - wall), clock->path);
}

void expiry_clock_deinit(struct expiry_clock *clock, uint64_t now_ms)
{
    time_t floor = floor_at(clock, now_ms);

    if (floor > clock->saved)
        save(clock, floor);
    free(gt_steal(&clock->path));
}

void expiry_clock_raise(struct expiry_clock *clock, time_t time, uint64_t now_ms)
{
    if (time <= floor_at(clock, now_ms))
        return;
    clock->floor = time;
    clock->floor_ms = now_ms;
    save(clock, time);
}

/* Returns for how long the wall clock has had no step, in ms. */
static uint64_t steady_for(struct expiry_clock *clock, time_t wall, uint64_t now_ms)
{
    uint64_t passed_ms = now_ms - clock->steady_ms;
    time_t expected = clock->steady + (time_t)(passed_ms / 1000);

    if (wall <= expected + STEP_S && expected <= wall + STEP_S)
        return passed_ms;
    clock->steady = wall;
    clock->steady_ms = now_ms;
    return 0;
}

void expiry_clock_observe(struct expiry_clock *clock, time_t wall, uint64_t now_ms,
                          bool is_synchronized)
{
    uint64_t needed_ms = is_synchronized ? EXPIRY_CLOCK_SYNCHRONIZED_MS : EXPIRY_CLOCK_FREE_MS;

    if (steady_for(clock, wall, now_ms) >= needed_ms && wall > floor_at(clock, now_ms)) {
        clock->floor = wall;
        clock->floor_ms = now_ms;
    }
    time_t floor = floor_at(clock, now_ms);
    if (floor >= clock->saved + SAVE_INTERVAL_S)
        save(clock, floor);
}

bool expiry_clock_is_synchronized(void)
{
    struct timex timex = {.modes = 0};

    return adjtimex(&timex) != TIME_ERROR && !(timex.status & STA_UNSYNC);
}
