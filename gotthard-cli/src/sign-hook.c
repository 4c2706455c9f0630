/* SPDX-License-Identifier: ISC */
/*
 * RUNNING -> ENDED. The request fits into an empty pipe (64 KiB), so it is written before the
 * command runs. What the command has written is in its pipe when it exits: it is read until it is
 * empty, even if another process holds the pipe open.
 */
#include "sign-hook.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "gotthard/base/hardening.h"

#define DEADLINE_S 60.

extern char **environ;

struct sign_hook {
    struct ev_loop *loop;
    sign_hook_fn on_end; /* keeps */
    void *userdata;      /* keeps */
    pid_t pid;           /* 0: it has exited */
    int output;          /* -1: closed */
    ev_io readable;
    ev_child exited;
    ev_timer deadline;
    size_t n;
    uint8_t bytes[SIGN_HOOK_OUTPUT_MAX];
};

/* --- the environment -------------------------------------------------------------------------- */

static bool is_passed(const char *variable)
{
    return strncmp(variable, "GOTTHARD_", strlen("GOTTHARD_")) != 0 &&
           strncmp(variable, "NAME=", strlen("NAME=")) != 0 &&
           strncmp(variable, "KIND=", strlen("KIND=")) != 0;
}

/* Returns an array that the caller frees, or NULL. @name, @kind: "NAME=...", kept. */
static char **make_environment(char *name, char *kind)
{
    size_t n = 0;

    while (environ[n])
        n++;
    char **made = calloc(n + 3, sizeof(*made));
    if (!made)
        return NULL;
    n = 0;
    for (char **at = environ; *at; at++)
        if (is_passed(*at))
            made[n++] = *at;
    made[n++] = name;
    made[n++] = kind;
    return made;
}

/* --- the end ---------------------------------------------------------------------------------- */

static void hook_stop(struct sign_hook *hook)
{
    ev_io_stop(hook->loop, &hook->readable);
    ev_timer_stop(hook->loop, &hook->deadline);
    ev_child_stop(hook->loop, &hook->exited);
    if (hook->pid > 0) {
        (void)kill(-hook->pid, SIGKILL);
        (void)waitpid(hook->pid, NULL, 0);
        hook->pid = 0;
    }
    gt_close(&hook->output);
}

static void hook_end(struct sign_hook *hook, const char *why)
{
    hook_stop(hook);
    hook->on_end(hook->userdata, why, gt_span(hook->bytes, hook->n));
}

/* Reads once. Returns false if there is no more for now; at its end the pipe is not watched any
 * more. */
static bool hook_read(struct sign_hook *hook)
{
    ssize_t n = read(hook->output, hook->bytes + hook->n, sizeof(hook->bytes) - hook->n);

    if (n > 0)
        hook->n += (size_t)n;
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        ev_io_stop(hook->loop, &hook->readable);
    return n > 0 && hook->n < sizeof(hook->bytes);
}

/* A full buffer is too much as well: no chain of certificates is that long. */
static void hook_on_readable(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct sign_hook *hook = watcher->data;

    (void)hook_read(hook);
    if (hook->n == sizeof(hook->bytes))
        hook_end(hook, "its output is too long");
}

static void hook_on_exit(struct ev_loop *loop, ev_child *watcher, int revents)
{
    struct sign_hook *hook = watcher->data;
    char why[SIGN_HOOK_WHY];
    int status = watcher->rstatus;

    hook->pid = 0;
    while (hook_read(hook))
        ;
    if (hook->n == sizeof(hook->bytes)) {
        hook_end(hook, "its output is too long");
        return;
    }
    if (WIFEXITED(status))
        snprintf(why, sizeof(why), "it ended with status %d", WEXITSTATUS(status));
    else
        snprintf(why, sizeof(why), "it was ended by signal %d", WTERMSIG(status));
    hook_end(hook, status == 0 ? NULL : why);
}

static void hook_on_deadline(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    hook_end(watcher->data, "it did not end within 60 s");
}

/* --- the beginning ---------------------------------------------------------------------------- */

static int spawn_with(const struct sign_hook_settings *settings, char **environment, int input,
                      int output, pid_t *ret)
{
    char *argv[] = {"sh", "-c", (char *)settings->command, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    short flags = 0;

    if (posix_spawn_file_actions_init(&actions) != 0)
        return -ENOMEM;
    if (posix_spawnattr_init(&attributes) != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return -ENOMEM;
    }
    int err = posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
    if (!err)
        err = posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    if (!err)
        err = gt_hardening_spawn_fresh(&attributes);
    if (!err)
        err = posix_spawnattr_getflags(&attributes, &flags);
    if (!err)
        err = posix_spawnattr_setflags(&attributes, (short)(flags | POSIX_SPAWN_SETPGROUP));
    if (!err)
        err = posix_spawn(ret, "/bin/sh", &actions, &attributes, argv, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return -err;
}

static int spawn(const struct sign_hook_settings *settings, int input, int output, pid_t *ret)
{
    gt_cleanup(gt_free) char *name = NULL, *kind = NULL;

    if (asprintf(&name, "NAME=%s", settings->name) < 0)
        return -ENOMEM;
    if (asprintf(&kind, "KIND=%s", settings->kind) < 0)
        return -ENOMEM;
    gt_cleanup(gt_free) char **environment = make_environment(name, kind);
    return environment ? spawn_with(settings, environment, input, output, ret) : -ENOMEM;
}

static int write_request(int fd, const char *request)
{
    size_t n = strlen(request);

    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        return -errno;
    return write(fd, request, n) == (ssize_t)n ? 0 : -EIO;
}

static int hook_start(struct sign_hook *hook, const struct sign_hook_settings *settings)
{
    int input[2], output[2];

    if (pipe2(input, O_CLOEXEC) < 0)
        return -errno;
    gt_cleanup(gt_close) int input_read = input[0], input_write = input[1];
    if (pipe2(output, O_CLOEXEC) < 0)
        return -errno;
    gt_cleanup(gt_close) int output_write = output[1];
    hook->output = output[0];
    int r = write_request(input_write, settings->request);
    if (r == 0 && fcntl(hook->output, F_SETFL, O_NONBLOCK) < 0)
        r = -errno;
    return r == 0 ? spawn(settings, input_read, output_write, &hook->pid) : r;
}

int sign_hook_new(struct ev_loop *loop, const struct sign_hook_settings *settings,
                  sign_hook_fn on_end, void *userdata, struct sign_hook **ret)
{
    struct sign_hook *hook = calloc(1, sizeof(*hook));

    if (!hook)
        return -ENOMEM;
    hook->loop = loop;
    hook->on_end = on_end;
    hook->userdata = userdata;
    hook->output = -1;
    ev_init(&hook->readable, hook_on_readable);
    ev_init(&hook->exited, hook_on_exit);
    ev_timer_init(&hook->deadline, hook_on_deadline, DEADLINE_S, 0.);
    hook->readable.data = hook->exited.data = hook->deadline.data = hook;
    int r = hook_start(hook, settings);
    if (r != 0) {
        sign_hook_free(hook);
        return r;
    }
    ev_io_set(&hook->readable, hook->output, EV_READ);
    ev_child_set(&hook->exited, hook->pid, 0);
    ev_io_start(loop, &hook->readable);
    ev_child_start(loop, &hook->exited);
    ev_timer_start(loop, &hook->deadline);
    *ret = hook;
    return 0;
}

struct sign_hook *sign_hook_free(struct sign_hook *hook)
{
    if (hook)
        hook_stop(hook);
    free(hook);
    return NULL;
}
