/* SPDX-License-Identifier: ISC */
/* See the header. The parent reads one byte, or the end of the file when the child has exited. */
#include "background.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "gotthard/base/exit-status.h"
#include "gotthard/base/hardening.h"

enum { READY_FD = STDERR_FILENO + 1 };

static volatile sig_atomic_t child;

static void pass_on(int number)
{
    if (child > 0)
        kill(child, number);
}

/* A signal that is ignored stays ignored. */
static void pass_signals_on(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = pass_on, .sa_flags = SA_RESTART}, before;

    for (size_t i = 0; i < GT_ARRAY_SIZE(numbers); i++)
        if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            sigaction(numbers[i], &action, NULL);
}

static int wait_for_child(int fd, pid_t pid)
{
    char byte;
    ssize_t n;
    int status = 0;

    while ((n = read(fd, &byte, 1)) < 0 && errno == EINTR)
        ;
    close(fd);
    if (n == 1)
        return 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : GT_EXIT_INTERNAL;
}

/* An inherited descriptor may be a lock, or the end of a pipe whose reader waits. The loop has
 * descriptors as well: it is another one afterwards. Returns false with errno. */
static bool drop_inherited(struct ev_loop **loop, int ready)
{
    ev_loop_destroy(*loop);
    if (ready != READY_FD && dup3(ready, READY_FD, O_CLOEXEC) < 0)
        return false;
    gt_hardening_close_from(READY_FD + 1);
    *loop = ev_default_loop(0);
    return *loop;
}

int background_start(struct ev_loop **loop, struct background *ret, int *ret_code)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    pid_t pid = fork();
    if (pid < 0) {
        close(ends[0]);
        close(ends[1]);
        return -errno;
    }
    if (pid == 0) {
        close(ends[0]);
        setsid();
        if (!drop_inherited(loop, ends[1]))
            _exit(GT_EXIT_INTERNAL);
        ret->ready = READY_FD;
        return 0;
    }
    child = pid;
    pass_signals_on();
    close(ends[1]);
    *ret_code = wait_for_child(ends[0], pid);
    return 1;
}

void background_detach(struct background *background)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO && null >= 0; fd++)
        (void)dup2(null, fd);
    gt_close(&null);
    if (background->ready >= 0 && write(background->ready, "", 1) < 0)
        errno = 0; /* the parent was killed */
    gt_close(&background->ready);
}
