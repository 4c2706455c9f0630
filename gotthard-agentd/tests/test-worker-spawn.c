/* SPDX-License-Identifier: ISC */
/*
 * worker-spawn.c: the environment, the descriptors and the signals of a worker. The test is its own
 * worker; its exit code is the sum of the faults that it found.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "session-file.h"
#include "worker-events.h"
#include "worker-reports.h"
#include "worker-spawn.h"

enum fault {
    FAULT_OUR_VARIABLE = 1,
    FAULT_OTHER_VARIABLE = 2,
    FAULT_PARAMETERS = 4,
    FAULT_SESSION_FILE = 8,
    FAULT_SIGNAL = 16,
    FAULT_OTHER_FD = 32,
    FAULT_REPORTS = 64,
    FAULT_LIFELINE = 128, /* or the pipe of events */
};

#define SENT "parameters"

static int session_file_is_open(void)
{
    return fcntl(SESSION_FILE_FD, F_GETFD) >= 0;
}

static int worker(void)
{
    static const char *const ours[] = {"GOTTHARD_CRYPT_KEY", "MACHINE_ID", "NOTIFY_SOCKET",
                                       "WATCHDOG_USEC",      "LISTEN_FDS", "CREDENTIALS_DIRECTORY"};
    struct sigaction action;
    char got[32] = "";
    sigset_t blocked;
    int faults = 0;

    for (size_t i = 0; i < GT_ARRAY_SIZE(ours); i++)
        if (getenv(ours[i]))
            faults |= FAULT_OUR_VARIABLE;
    const char *kept = getenv("KEPT");
    if (!kept || strcmp(kept, "1") != 0)
        faults |= FAULT_OTHER_VARIABLE;
    if (read(WORKER_PARAMETERS_FD, got, sizeof(got)) != (ssize_t)strlen(SENT) ||
        memcmp(got, SENT, strlen(SENT)) != 0)
        faults |= FAULT_PARAMETERS;
    if (session_file_is_open() != (getenv("HAS_SESSION_FILE") != NULL))
        faults |= FAULT_SESSION_FILE;
    sigprocmask(SIG_SETMASK, NULL, &blocked);
    sigaction(SIGPIPE, NULL, &action);
    if (sigismember(&blocked, SIGTERM) || action.sa_handler != SIG_DFL)
        faults |= FAULT_SIGNAL;
    if (fcntl(WORKER_REPORTS_FD, F_GETFD) < 0)
        faults |= FAULT_REPORTS;
    if ((fcntl(WORKER_LIFELINE_FD, F_GETFD) >= 0) != (getenv("HAS_LIFELINE") != NULL))
        faults |= FAULT_LIFELINE;
    if ((fcntl(WORKER_EVENTS_FD, F_GETFD) >= 0) != (getenv("HAS_LIFELINE") != NULL))
        faults |= FAULT_LIFELINE;
    for (int fd = WORKER_FDS_END; fd < 64; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            faults |= FAULT_OTHER_FD;
    return faults;
}

/* Returns the worker's faults. */
static int spawn(int session_file, int lifeline)
{
    const struct worker_fds fds = {session_file, lifeline, .events = lifeline, .audit = -1};
    struct worker_process process;
    int status;

    assert_int_equal(worker_spawn("test worker", &fds, &process), 0);
    assert_int_equal(fcntl(process.parameters, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    assert_int_equal(fcntl(process.reports, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    assert_int_equal(write(process.parameters, SENT, strlen(SENT)), strlen(SENT));
    close(process.parameters);
    assert_int_equal(waitpid(process.pid, &status, 0), process.pid);
    close(process.reports);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_spawn_without_session_file(void **state)
{
    unsetenv("HAS_SESSION_FILE");
    assert_int_equal(spawn(-1, -1), 0);
}

/* The number of the session file may be that of either of the worker's descriptors. */
static void test_spawn_with_session_file_of_any_number(void **state)
{
    setenv("HAS_SESSION_FILE", "1", 1);
    for (int number = WORKER_PARAMETERS_FD; number <= SESSION_FILE_FD + 2; number++) {
        int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(dup3(fd, number + 20, O_CLOEXEC), number + 20);
        close(fd);
        int session_file = fcntl(number + 20, F_DUPFD_CLOEXEC, number);
        close(number + 20);
        assert_int_equal(spawn(session_file, -1), 0);
        close(session_file);
    }
    unsetenv("HAS_SESSION_FILE");
}

static void test_spawn_with_lifeline_of_any_number(void **state)
{
    setenv("HAS_LIFELINE", "1", 1);
    for (int number = WORKER_PARAMETERS_FD; number <= WORKER_FDS_END; number++) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        int lifeline = fcntl(fd, F_DUPFD_CLOEXEC, number);
        close(fd);
        assert_int_equal(spawn(-1, lifeline), 0);
        close(lifeline);
    }
    unsetenv("HAS_LIFELINE");
}

static void test_spawn_leaves_no_descriptor_open(void **state)
{
    int before = open("/dev/null", O_RDWR | O_CLOEXEC);

    close(before);
    assert_int_equal(spawn(-1, -1), 0);
    int after = open("/dev/null", O_RDWR | O_CLOEXEC);
    close(after);
    assert_int_equal(after, before);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spawn_without_session_file),
        cmocka_unit_test(test_spawn_with_session_file_of_any_number),
        cmocka_unit_test(test_spawn_with_lifeline_of_any_number),
        cmocka_unit_test(test_spawn_leaves_no_descriptor_open),
    };
    sigset_t blocked;

    if (argc == 2 && strcmp(argv[1], "--worker") == 0)
        return worker();
    for (int fd = WORKER_PARAMETERS_FD; fd < 64; fd++) /* of the test runner */
        close(fd);
    setenv("GOTTHARD_CRYPT_KEY", "secret", 1);
    setenv("MACHINE_ID", "dev", 1);
    setenv("NOTIFY_SOCKET", "/nonexistent", 1);
    setenv("WATCHDOG_USEC", "1", 1);
    setenv("LISTEN_FDS", "1", 1);
    setenv("CREDENTIALS_DIRECTORY", "/nonexistent", 1);
    setenv("KEPT", "1", 1);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
