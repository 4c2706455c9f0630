/* SPDX-License-Identifier: ISC */
/*
 * `gotthard server` and `gotthard edge-device`: commands of the original tool for the two daemons,
 * which are separate programs now. The environment is passed unchanged: it contains keys.
 */
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "gotthard/base/log.h"

/* Relative to this program: its own folder, then the folders of daemons. */
static const char *const folders[] = {"", "/../sbin", "/../../sbin", "/../libexec"};

static void exec_relative(const char *daemon, char **argv)
{
    char self[PATH_MAX], path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (n < 0)
        return;
    self[n] = 0;
    const char *folder = dirname(self);
    for (size_t i = 0; i < GT_ARRAY_SIZE(folders); i++)
        if (snprintf(path, sizeof(path), "%s%s/%s", folder, folders[i], daemon) < PATH_MAX)
            execv(path, argv);
}

int cmd_exec_daemon(const char *daemon, char **argv)
{
    argv[0] = (char *)daemon;
    exec_relative(daemon, argv);
    execvp(daemon, argv);
    gt_error_errno(errno, "cannot execute %s; install the package of that name", daemon);
    return GT_EXIT_CONFIGURATION;
}
