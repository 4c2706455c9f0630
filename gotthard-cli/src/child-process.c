/* SPDX-License-Identifier: ISC */
/*
 * A child may leave processes that hold its pipes open (the holder of a session does not). What it
 * has written itself is in the pipes when it exits: they are read until they are empty, and closed.
 */
#include "child-process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>

#include "gotthard/base/hardening.h"

extern char **environ;

enum { OUTPUT, ERROR, N_PIPES };

struct pipe_end {
    struct child_process *child;
    ev_io io;
    int fd; /* -1: closed */
    size_t n;
    uint8_t line[CHILD_LINE_MAX]; /* its first part */
};

struct child_process {
    struct ev_loop *loop;
    const struct child_events *events; /* keeps */
    void *userdata;                    /* keeps */
    pid_t pid;                         /* 0: it has exited */
    ev_child exited;
    struct pipe_end pipes[N_PIPES];
};

/* --- lines ------------------------------------------------------------------------------------ */

static void pipe_flush_line(struct pipe_end *end)
{
    struct child_process *child = end->child;
    size_t n = end->n;

    end->n = 0;
    child->events->on_line(child->userdata, end == &child->pipes[ERROR], gt_span(end->line, n));
}

/* Returns the number of bytes before a character of UTF-8 that is not whole at the end of @n. */
static size_t count_whole(const uint8_t *line, size_t n)
{
    size_t at = n;

    while (at > 0 && n - at < 3 && (line[at - 1] & 0xc0) == 0x80)
        at--;
    if (at == 0 || line[at - 1] < 0xc0)
        return n;
    size_t n_wanted = line[at - 1] >= 0xf0 ? 4 : line[at - 1] >= 0xe0 ? 3 : 2;
    return n - at + 1 < n_wanted ? at - 1 : n;
}

/* A line that is too long. The next part begins with the character that is not whole. */
static void pipe_flush_part(struct pipe_end *end)
{
    size_t n = end->n, n_whole = count_whole(end->line, n);

    end->n = n_whole;
    pipe_flush_line(end);
    memmove(end->line, end->line + n_whole, n - n_whole);
    end->n = n - n_whole;
}

static void pipe_take(struct pipe_end *end, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] == '\n') {
            pipe_flush_line(end);
            continue;
        }
        if (end->n == sizeof(end->line))
            pipe_flush_part(end);
        end->line[end->n++] = bytes[i];
    }
}

static void pipe_close(struct pipe_end *end)
{
    ev_io_stop(end->child->loop, &end->io);
    gt_close(&end->fd);
    if (end->n > 0)
        pipe_flush_line(end);
}

/* Returns true if there may be more. */
static bool pipe_read(struct pipe_end *end)
{
    uint8_t bytes[CHILD_LINE_MAX];

    ssize_t n = end->fd < 0 ? -1 : read(end->fd, bytes, sizeof(bytes));
    if (n > 0)
        pipe_take(end, bytes, (size_t)n);
    else if (n == 0 || (end->fd >= 0 && errno != EAGAIN && errno != EINTR))
        pipe_close(end);
    return n > 0;
}

/* One read in a turn of the loop, so that no child holds up the others. */
static void pipe_on_readable(struct ev_loop *loop, ev_io *watcher, int revents)
{
    (void)pipe_read(watcher->data);
}

/* --- beginning and end ------------------------------------------------------------------------ */

static void child_on_exit(struct ev_loop *loop, ev_child *watcher, int revents)
{
    struct child_process *child = watcher->data;
    int status = watcher->rstatus;

    ev_child_stop(loop, watcher);
    child->pid = 0;
    for (size_t i = 0; i < N_PIPES; i++) {
        while (pipe_read(&child->pipes[i]))
            ;
        if (child->pipes[i].fd >= 0)
            pipe_close(&child->pipes[i]);
    }
    child->events->on_end(child->userdata,
                          WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

static int spawn(char *const *argv, int output, int error, pid_t *ret)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    short flags = 0;

    if (posix_spawn_file_actions_init(&actions) != 0)
        return -ENOMEM;
    if (posix_spawnattr_init(&attributes) != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return -ENOMEM;
    }
    int err = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (!err)
        err = posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    if (!err && error >= 0)
        err = posix_spawn_file_actions_adddup2(&actions, error, STDERR_FILENO);
    if (!err)
        err = gt_hardening_spawn_fresh(&attributes);
    if (!err)
        err = posix_spawnattr_getflags(&attributes, &flags);
    if (!err)
        err = posix_spawnattr_setflags(&attributes, (short)(flags | POSIX_SPAWN_SETPGROUP));
    if (!err)
        err = posix_spawn(ret, "/proc/self/exe", &actions, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return -err;
}

/* Returns the write end, or a negative errno. */
static int pipe_open(struct pipe_end *end)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    end->fd = ends[0];
    if (fcntl(end->fd, F_SETFL, O_NONBLOCK) == 0)
        return ends[1];
    int r = -errno;
    close(ends[1]);
    return r;
}

static int child_start(struct child_process *child, const struct child_settings *settings)
{
    gt_cleanup(gt_close) int output = pipe_open(&child->pipes[OUTPUT]);
    gt_cleanup(gt_close) int error = -1;
    int r = output < 0 ? output : 0;

    if (r == 0 && !settings->shares_error)
        r = error = pipe_open(&child->pipes[ERROR]);
    if (r >= 0)
        r = spawn(settings->argv, output, error, &child->pid);
    if (r < 0)
        return r;
    ev_child_set(&child->exited, child->pid, 0);
    ev_child_start(child->loop, &child->exited);
    for (size_t i = 0; i < N_PIPES; i++) {
        struct pipe_end *end = &child->pipes[i];

        if (end->fd < 0)
            continue;
        ev_io_set(&end->io, end->fd, EV_READ);
        ev_io_start(child->loop, &end->io);
    }
    return 0;
}

int child_process_new(struct ev_loop *loop, const struct child_settings *settings,
                      const struct child_events *events, void *userdata, struct child_process **ret)
{
    struct child_process *child = calloc(1, sizeof(*child));

    if (!child)
        return -ENOMEM;
    child->loop = loop;
    child->events = events;
    child->userdata = userdata;
    ev_child_init(&child->exited, child_on_exit, 0, 0);
    child->exited.data = child;
    for (size_t i = 0; i < N_PIPES; i++) {
        struct pipe_end *end = &child->pipes[i];

        end->child = child;
        end->fd = -1;
        ev_io_init(&end->io, pipe_on_readable, -1, EV_READ);
        end->io.data = end;
    }
    int r = child_start(child, settings);
    if (r < 0) {
        child_process_free(child);
        return r;
    }
    *ret = child;
    return 0;
}

void child_process_signal(const struct child_process *child, int number)
{
    if (child->pid > 0)
        (void)kill(-child->pid, number);
}

struct child_process *child_process_free(struct child_process *child)
{
    if (!child)
        return NULL;
    child_process_signal(child, SIGKILL);
    ev_child_stop(child->loop, &child->exited);
    for (size_t i = 0; i < N_PIPES; i++) {
        ev_io_stop(child->loop, &child->pipes[i].io);
        gt_close(&child->pipes[i].fd);
    }
    free(child);
    return NULL;
}
