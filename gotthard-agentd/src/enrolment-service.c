/* SPDX-License-Identifier: ISC */
/* The service of an enrolled device; see enrolment.h. */
#include <stdio.h>
#include <sys/wait.h>

#include "enrolment.h"
#include "gotthard/base/exit-status.h"

#define UNIT "gotthard-agentd.service"

static bool run_systemctl(const char *verb)
{
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        execlp("systemctl", "systemctl", verb, UNIT, (char *)NULL);
        _exit(GT_EXIT_NOT_STARTED);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* A running agent has the configuration before, so that it is not enough to start it. */
int enrolment_start_service(const struct enrolment_options *options)
{
    if (options->is_not_started || geteuid() != 0 || access("/run/systemd/system", F_OK) < 0) {
        dprintf(STDOUT_FILENO, "Start the agent, for example: systemctl enable --now " UNIT "\n");
        return GT_EXIT_SUCCESS;
    }
    if (!run_systemctl("enable") || !run_systemctl("restart")) {
        enrolment_print_error("this device is enrolled, but its service could not be started; see "
                              "journalctl -u " UNIT);
        return GT_EXIT_UNAVAILABLE;
    }
    dprintf(STDOUT_FILENO, "The service is enabled and started. `gotthard-agentd --doctor` checks "
                           "each hop to the operators.\n");
    return GT_EXIT_SUCCESS;
}
