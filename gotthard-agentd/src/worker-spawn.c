/* SPDX-License-Identifier: ISC */
/*
 * Starting a worker; see the header. The child between fork and exec runs only
 * posix_spawn(3)'s code, because the MQTT thread may hold locks at the fork.
 */
#include "worker-spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>

#include "gotthard/base/hardening.h"
#include "session-file.h"
#include "worker-events.h"
#include "worker-reports.h"

extern char **environ;

/* The worker needs none of our secrets, and must not notify the service manager in our name. */
static bool is_our_variable(const char *variable)
{
    static const char *const ours[] = {
        "GOTTHARD_", "MACHINE_ID=", "NOTIFY_SOCKET=",        "WATCHDOG_",
        "LISTEN_",   "FDSTORE",     "CREDENTIALS_DIRECTORY="};

    for (size_t i = 0; i < GT_ARRAY_SIZE(ours); i++)
        if (strncmp(variable, ours[i], strlen(ours[i])) == 0)
            return true;
    return false;
}

/* Returns an array to free, whose strings are environ's; NULL: out of memory. */
static char **worker_environment(void)
{
    size_t n = 0, n_kept = 0;

    while (environ && environ[n])
        n++;
    char **kept = calloc(n + 1, sizeof(*kept));
    for (size_t i = 0; kept && i < n; i++)
        if (!is_our_variable(environ[i]))
            kept[n_kept++] = environ[i];
    return kept;
}

/* The worker's descriptors in this process: above its own numbers, so that dup2(2) to one of them
 * cannot close another. -1: none. */
struct given {
    int parameters, session_file, reports, lifeline, events, audit;
};

static void given_close(struct given *given)
{
    gt_close(&given->parameters);
    gt_close(&given->session_file);
    gt_close(&given->reports);
    gt_close(&given->lifeline);
    gt_close(&given->events);
    gt_close(&given->audit);
}

/* Returns the number of a copy of @fd, or a negative errno. */
static int copy_up(int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, WORKER_FDS_END);

    return copy < 0 ? -errno : copy;
}

/* @fd: -1: there is nothing to copy. */
static int copy_optional(int fd, int *ret)
{
    int copy = fd < 0 ? -1 : copy_up(fd);

    *ret = GT_MAX(copy, -1);
    return fd < 0 ? 0 : GT_MIN(copy, 0);
}

/* Creates a pipe whose end @number (0 or 1) is the worker's. The other end does not block. */
static int pipe_new(int number, int *ret_given, int *ret_own)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    int copy = copy_up(ends[number]);
    close(ends[number]);
    int r = copy < 0 ? copy : fcntl(ends[!number], F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
    *ret_given = copy;
    *ret_own = ends[!number];
    return r;
}

/* @fd: -1: the worker has nothing at @number. Returns 0 or a positive errno. */
static int add_optional(posix_spawn_file_actions_t *actions, int fd, int number)
{
    return fd >= 0 ? posix_spawn_file_actions_adddup2(actions, fd, number)
                   : posix_spawn_file_actions_addclose(actions, number);
}

/* Returns 0 or a positive errno, as posix_spawn(3) does. */
static int add_file_actions(posix_spawn_file_actions_t *actions, const struct given *given)
{
    int err = posix_spawn_file_actions_adddup2(actions, given->parameters, WORKER_PARAMETERS_FD);

    if (!err)
        err = posix_spawn_file_actions_adddup2(actions, given->reports, WORKER_REPORTS_FD);
    if (!err)
        err = add_optional(actions, given->session_file, SESSION_FILE_FD);
    if (!err)
        err = add_optional(actions, given->lifeline, WORKER_LIFELINE_FD);
    if (!err)
        err = add_optional(actions, given->events, WORKER_EVENTS_FD);
    if (!err)
        err = add_optional(actions, given->audit, WORKER_AUDIT_FD);
    return err;
}

static int spawn(const char *title, const struct given *given, pid_t *ret_pid)
{
    char *const argv[] = {(char *)title, (char *)"--worker", NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;

    gt_cleanup(gt_free) char **envp = worker_environment();
    if (!envp || posix_spawn_file_actions_init(&actions) != 0)
        return -ENOMEM;
    if (posix_spawnattr_init(&attributes) != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return -ENOMEM;
    }
    int err = add_file_actions(&actions, given);
    if (!err)
        err = gt_hardening_spawn_fresh(&attributes);
    if (!err)
        err = posix_spawn(ret_pid, "/proc/self/exe", &actions, &attributes, argv, envp);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return -err;
}

/* The copy of the session file is closed here; the lock stays with the open file description, which
 * the worker shares. */
int worker_spawn(const char *title, const struct worker_fds *fds, struct worker_process *ret)
{
    struct worker_process process = {.parameters = -1, .reports = -1};
    struct given given = {-1, -1, -1, -1, -1, -1};
    int r = pipe_new(0, &given.parameters, &process.parameters);

    if (r == 0)
        r = pipe_new(1, &given.reports, &process.reports);
    if (r == 0)
        r = copy_optional(fds->session_file, &given.session_file);
    if (r == 0)
        r = copy_optional(fds->lifeline, &given.lifeline);
    if (r == 0)
        r = copy_optional(fds->events, &given.events);
    if (r == 0)
        r = copy_optional(fds->audit, &given.audit);
    if (r == 0)
        r = spawn(title, &given, &process.pid);
    given_close(&given);
    if (r) {
        gt_close(&process.parameters);
        gt_close(&process.reports);
        return r;
    }
    *ret = process;
    return 0;
}
