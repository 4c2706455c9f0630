/* SPDX-License-Identifier: ISC */
/*
 * An intruder in a process: at SIGRTMIN it tries what someone would who runs code there, and writes
 * the results to standard error: the name of each attempt and its errno, 0 for success. Only in
 * processes that have $INTRUDER, the path of a file to read.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static char victim[512];

static int errno_of(long r)
{
    return r < 0 ? errno : 0;
}

static int try_fork(void)
{
    pid_t pid = vfork();

    if (pid == 0)
        _exit(0);
    return errno_of(pid);
}

static int try_exec(void)
{
    static const char *const args[] = {"x", NULL};

    return errno_of(execv("/nonexistent/program", (char *const *)args));
}

static int try_create(void)
{
    char path[sizeof(victim) + 8];

    snprintf(path, sizeof(path), "%s.new", victim);
    return errno_of(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
}

static int try_read(void)
{
    return errno_of(open(victim, O_RDONLY | O_CLOEXEC));
}

static int try_write(void)
{
    return errno_of(open(victim, O_WRONLY | O_CLOEXEC));
}

static int try_chmod(void)
{
    return errno_of(chmod(victim, 0644));
}

static int try_unlink(void)
{
    return errno_of(unlink(victim));
}

static int try_signal(void)
{
    return errno_of(kill(getppid(), 0));
}

static int try_local_socket(void)
{
    return errno_of(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

static const struct {
    const char *name;
    int (*run)(void);
} attempts[] = {
    {"read", try_read},   {"write", try_write},   {"create", try_create},
    {"chmod", try_chmod}, {"unlink", try_unlink}, {"exec", try_exec},
    {"fork", try_fork},   {"signal", try_signal}, {"local", try_local_socket},
};

static void on_signal(int number)
{
    char name[16] = "", line[512];

    (void)number;
    prctl(PR_GET_NAME, name);
    int n = snprintf(line, sizeof(line), "intruder process=%s", name);
    for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++)
        n += snprintf(line + n, sizeof(line) - (size_t)n, " %s=%d", attempts[i].name,
                      attempts[i].run());
    line[n++] = '.';
    line[n++] = '\n';
    (void)!write(STDERR_FILENO, line, (size_t)n);
}

__attribute__((constructor)) static void intruder_begin(void)
{
    const char *path = getenv("INTRUDER");

    if (!path)
        return;
    snprintf(victim, sizeof(victim), "%s", path);
    signal(SIGRTMIN, on_signal);
}
