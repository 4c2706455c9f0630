/* SPDX-License-Identifier: ISC */
/*
 * From a listener to a worker; see the header. Between fork and exec nothing of ours runs
 * (posix_spawn): there is an MQTT thread in this process, and what it may have locked must not
 * matter.
 */
#include "launch.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>

#include "gotthard/process.h"
#include "record.h"

extern char **environ;

/* The worker needs no secret of ours, and must not speak to the service manager in our name. */
static bool variable_is_ours(const char *variable)
{
    static const char *const ours[] = {
        "GOTTHARD_", "MACHINE_ID=", "NOTIFY_SOCKET=",        "WATCHDOG_",
        "LISTEN_",   "FDSTORE",     "CREDENTIALS_DIRECTORY="};

    for (size_t i = 0; i < GT_ARRAY_SIZE(ours); i++)
        if (strncmp(variable, ours[i], strlen(ours[i])) == 0)
            return true;
    return false;
}

/* Borrows the strings of environ. */
static char **clean_environment(void)
{
    size_t n = 0, n_kept = 0;

    while (environ && environ[n])
        n++;
    char **kept = calloc(n + 1, sizeof(*kept));
    for (size_t i = 0; kept && i < n; i++)
        if (!variable_is_ours(environ[i]))
            kept[n_kept++] = environ[i];
    return kept;
}

/* The worker's descriptors: the pipe, and the record's lock when there is one. */
static int launch_actions(posix_spawn_file_actions_t *actions, const int *fds)
{
    int r = posix_spawn_file_actions_adddup2(actions, fds[0], HANDOVER_FD);
    if (r)
        return r;
    return fds[1] >= 0 ? posix_spawn_file_actions_adddup2(actions, fds[1], RECORD_FD)
                       : posix_spawn_file_actions_addclose(actions, RECORD_FD);
}

int launch_worker(const char *title, const int fds[static 2], pid_t *ret_pid)
{
    char *const argv[] = {(char *)title, (char *)"--worker", NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;

    gt_cleanup(gt_free) char **envp = clean_environment();
    if (!envp || posix_spawn_file_actions_init(&actions) != 0)
        return -ENOMEM;
    if (posix_spawnattr_init(&attributes) != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return -ENOMEM;
    }
    int r = launch_actions(&actions, fds);
    if (!r)
        r = gt_process_spawn_fresh(&attributes);
    if (!r)
        r = posix_spawn(ret_pid, "/proc/self/exe", &actions, &attributes, argv, envp);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return -r;
}

int launch_move_up(int fd)
{
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, RECORD_FD + 1);
    int err = errno;

    close(fd);
    return moved < 0 ? -err : moved;
}
