/* SPDX-License-Identifier: ISC */
/* Opening lifelines, and passing them through the service manager; see the header. */
#include "lifeline.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include "gotthard/base/notify.h"

#define FIRST_PASSED_FD 3
#define STORED_NAME     "sessions"

static int lifeline_open(struct lifeline *lifeline)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    *lifeline = (struct lifeline){.end = ends[0], .held = ends[1]};
    return 0;
}

static void lifeline_close(struct lifeline *lifeline)
{
    gt_close(&lifeline->end);
    gt_close(&lifeline->held);
}

/* Both ends of the pipe of an earlier listener are passed. They differ in their access mode. */
static void lifeline_take(struct lifeline *lifeline, unsigned n_passed)
{
    for (int fd = FIRST_PASSED_FD; fd < FIRST_PASSED_FD + (int)n_passed; fd++) {
        struct stat status;
        int mode = fcntl(fd, F_GETFL) & O_ACCMODE;
        bool is_pipe = fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode);

        if (is_pipe && mode == O_RDONLY && lifeline->end < 0)
            lifeline->end = fd;
        else if (is_pipe && mode == O_WRONLY && lifeline->held < 0)
            lifeline->held = fd;
        else
            close(fd);
    }
    if (lifeline->end < 0 || lifeline->held < 0)
        lifeline_close(lifeline);
}

/* What the manager has passed it still has. From now on its write end is the only one. */
static int lifeline_store(struct lifeline *lifeline)
{
    bool is_passed = lifeline->end >= 0;
    int r = is_passed ? 0 : lifeline_open(lifeline);

    if (r)
        return r;
    if (!is_passed)
        gt_notify_store_fds(STORED_NAME, (const int[]){lifeline->end, lifeline->held}, 2);
    gt_close(&lifeline->held);
    return 0;
}

int lifelines_open(struct lifelines *lifelines, unsigned n_passed, bool is_stored)
{
    *lifelines = (struct lifelines){{-1, -1}, {-1, -1}};
    lifeline_take(&lifelines->of_service, n_passed);
    int r = lifeline_open(&lifelines->of_process);
    if (r == 0 && is_stored)
        r = lifeline_store(&lifelines->of_service);
    return r;
}

void lifelines_close(struct lifelines *lifelines)
{
    lifeline_close(&lifelines->of_process);
    lifeline_close(&lifelines->of_service);
}

/* A manager that does not store descriptors has closed the write end. */
static bool has_ended(int end)
{
    struct pollfd polled = {.fd = end};

    return poll(&polled, 1, 0) > 0 && (polled.revents & POLLHUP);
}

int lifelines_for_worker(const struct lifelines *lifelines, bool has_file)
{
    int of_service = lifelines->of_service.end;

    if (!has_file)
        return lifelines->of_process.end;
    return of_service < 0 || has_ended(of_service) ? -1 : of_service;
}
