/* SPDX-License-Identifier: ISC */
/*
 * Two forks: the holder's parent becomes init, so that no caller has it as a child. It must be
 * called before a thread or a watcher exists.
 */
#include "holder-spawn.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "gotthard/base/hardening.h"
#include "gotthard/base/log.h"
#include "gotthard/net/sock.h"

enum { CLIENT_FD = STDERR_FILENO + 1, LOG_FD, LISTENER_FD, FIRST_FREE_FD };

/* Gives @fd the number @number. A number that a later one needs is never @fd itself: all were moved
 * beyond FIRST_FREE_FD before. */
static bool place(int fd, int number)
{
    return fd < 0 || dup3(fd, number, O_CLOEXEC) >= 0;
}

static int lift(int fd)
{
    return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FREE_FD);
}

/* Replaces the descriptors of the caller. The log is a socket of datagrams, because log.c writes a
 * whole line to one. Returns false with errno. */
static bool replace_descriptors(int client, int listener, struct holder_sockets *sockets)
{
    int log[2];
    int null = lift(open("/dev/null", O_RDWR | O_CLOEXEC));

    client = lift(client);
    listener = lift(listener);
    if (null < 0 || client < 0 || socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, log) < 0)
        return false;
    log[0] = lift(log[0]);
    log[1] = lift(log[1]);
    if (dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
        dup2(log[1], STDERR_FILENO) < 0 || !place(client, CLIENT_FD) || !place(log[0], LOG_FD) ||
        !place(listener, LISTENER_FD))
        return false;
    sockets->client = CLIENT_FD;
    sockets->log = LOG_FD;
    sockets->listener = listener < 0 ? -1 : LISTENER_FD;
    gt_hardening_close_from(listener < 0 ? LISTENER_FD : FIRST_FREE_FD);
    return true;
}

static void run(const struct holder_settings *settings, int client, int listener,
                const struct local_socket *file)
{
    struct holder_sockets sockets = {.file = *file};

    (void)!chdir("/"); /* no file system is in use */
    if (!replace_descriptors(client, listener, &sockets))
        _exit(GT_EXIT_INTERNAL);
    if (listener >= 0)
        (void)!listen(sockets.listener, GT_SOCK_BACKLOG); /* SO_PEERCRED shows this process */
    gt_log_open("gotthard-cli", gt_log_level());
    holder_run(settings, &sockets);
    _exit(0);
}

static void child(const struct holder_settings *settings, int client, int listener,
                  const struct local_socket *file)
{
    setsid();
    pid_t pid = fork();

    if (pid == 0)
        run(settings, client, listener, file);
    _exit(pid < 0 ? GT_EXIT_INTERNAL : 0);
}

int holder_spawn(const struct holder_settings *settings, int listener,
                 const struct local_socket *file, int *ret_fd)
{
    gt_cleanup(gt_close) int own_listener = listener;
    int pair[2], status = 0;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return -errno;
    gt_cleanup(gt_close) int ours = pair[0], theirs = pair[1];
    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0)
        child(settings, theirs, own_listener, file);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return -EAGAIN;
    *ret_fd = gt_steal_fd(&ours);
    return 0;
}
