/* SPDX-License-Identifier: ISC */
/* systemctl(1); see the header. */
#include "gotthard/enrolment/service.h"

#include <stdio.h>
#include <sys/wait.h>

#include "gotthard/enrolment/newcomer-command.h"

static bool run_systemctl(const char *verb, const char *unit)
{
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        execlp("systemctl", "systemctl", verb, unit, (char *)NULL);
        _exit(GT_EXIT_NOT_STARTED);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* One that runs has the configuration before, so that it is not enough to start it. */
enum gt_exit_status gt_service_start(const char *program, bool is_left_alone, bool *ret_is_started)
{
    char unit[80];

    *ret_is_started = false;
    snprintf(unit, sizeof(unit), "%s.service", program);
    if (is_left_alone || geteuid() != 0 || access("/run/systemd/system", F_OK) < 0) {
        dprintf(STDOUT_FILENO, "Start it, for example: systemctl enable --now %s\n", unit);
        return GT_EXIT_SUCCESS;
    }
    if (!run_systemctl("enable", unit) || !run_systemctl("restart", unit)) {
        gt_newcomer_print_error(program,
                                "this machine is enrolled, but the service could not be started; "
                                "see journalctl -u %s",
                                unit);
        return GT_EXIT_UNAVAILABLE;
    }
    *ret_is_started = true;
    dprintf(STDOUT_FILENO, "The service %s is enabled and started.\n", unit);
    return GT_EXIT_SUCCESS;
}
