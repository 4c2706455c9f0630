/* SPDX-License-Identifier: ISC */
/*
 * `gotthard server` and `gotthard edge-device`, the original tool's words for what are two programs
 * of their own now. The environment goes along untouched: keys are in it.
 */
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "gotthard/log.h"

/* Beside this program, then where daemons are installed. */
static const char *const folders[] = {"", "/../sbin", "/../../sbin", "/../libexec"};

static void exec_near(const char *daemon, char **argv)
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
    exec_near(daemon, argv);
    execvp(daemon, argv);
    gt_error_errno(errno, "%s (is the package of that name installed?)", daemon);
    return EXIT_CONFIGURATION;
}
