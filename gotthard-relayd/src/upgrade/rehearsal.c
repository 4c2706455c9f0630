/* SPDX-License-Identifier: ISC */
/*
 * The processes of an upgrade. The program is found by the path with which this one was started.
 * /proc/self/exe would be the file that was installed then, not the one that is installed now.
 */
#include "upgrade/rehearsal.h"

#include <fcntl.h>
#include <linux/limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/wait.h>

#include "gotthard/base/exit-status.h"
#include "gotthard/base/hardening.h"
#include "gotthard/base/log.h"
#include "upgrade/snapshot-format.h"

#define REHEARSAL_S  10.0
#define REHEARSAL_FD 3
#define REASON_FD    4
#define REASON_MAX   512 /* bytes, less than PIPE_BUF */

extern char **environ;

/* --- the path of the program ------------------------------------------------------------------ */

static char *path_of_image(void)
{
    static const char deleted[] = " (deleted)";
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

    if (n <= 0)
        return NULL;
    path[n] = 0;
    size_t n_suffix = sizeof(deleted) - 1;
    if ((size_t)n > n_suffix && strcmp(path + n - n_suffix, deleted) == 0)
        path[(size_t)n - n_suffix] = 0;
    return strdup(path);
}

static char *path_from_directory(const char *relative)
{
    gt_cleanup(gt_free) char *directory = getcwd(NULL, 0);
    char *path = NULL;

    return directory && asprintf(&path, "%s/%s", directory, relative) >= 0 ? path : NULL;
}

/* Returns the path that was passed to execve(2), or that of the image if it was a descriptor. */
static char *path_of_program(void)
{
    const char *path = (const char *)getauxval(AT_EXECFN); /* NOLINT: getauxval(3) returns it so */

    if (!path || strncmp(path, "/dev/fd/", 8) == 0 || strncmp(path, "/proc/", 6) == 0)
        return path_of_image();
    return *path == '/' ? strdup(path) : path_from_directory(path);
}

/* --- arguments -------------------------------------------------------------------------------- */

/* Returns the arguments of the first start with "@option=@fd" before them, for free(). The strings
 * are borrowed; @ret_first holds the new one. NULL: out of memory. */
static char **rehearsal_argv(const struct rehearsal *rehearsal, const char *option, int fd,
                             char *ret_first, size_t cap)
{
    size_t n = 0;

    while (rehearsal->argv[n])
        n++;
    char **argv = calloc(n + 3, sizeof(*argv));
    if (!argv)
        return NULL;
    snprintf(ret_first, cap, "%s=%d", option, fd);
    argv[0] = n ? rehearsal->argv[0] : rehearsal->path;
    argv[1] = ret_first;
    for (size_t i = 1; i < n; i++)
        argv[i + 1] = rehearsal->argv[i];
    return argv;
}

/* --- the rehearsal ---------------------------------------------------------------------------- */

static void rehearsal_reset(struct rehearsal *rehearsal)
{
    ev_timer_stop(rehearsal->loop, &rehearsal->deadline);
    ev_child_stop(rehearsal->loop, &rehearsal->child);
    memfd_close(&rehearsal->memfd);
    gt_close(&rehearsal->reason);
    rehearsal->state = REHEARSAL_IDLE;
}

static void rehearsal_reject(struct rehearsal *rehearsal, int status, const char *reason)
{
    rehearsal_reset(rehearsal);
    rehearsal->on_rejected(rehearsal->userdata, status, reason);
}

/* @status: of waitpid(2). */
static void rehearsal_describe(const struct rehearsal *rehearsal, int status, char *ret, size_t cap)
{
    ssize_t n = read(rehearsal->reason, ret, cap - 1);

    if (n > 0)
        ret[n] = 0;
    else
        snprintf(ret, cap, "the installed program %s %d",
                 WIFSIGNALED(status) ? "was killed by signal" : "exited with status",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

static void rehearsal_on_exit(struct ev_loop *loop, ev_child *child, int events)
{
    struct rehearsal *rehearsal = gt_container_of(child, struct rehearsal, child);
    bool is_cancelled = rehearsal->state == REHEARSAL_CANCELLED;
    int status = child->rstatus;
    char reason[REASON_MAX];

    if (is_cancelled) {
        rehearsal_reset(rehearsal);
    } else if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        rehearsal_reset(rehearsal);
        rehearsal->on_rehearsed(rehearsal->userdata);
    } else {
        rehearsal_describe(rehearsal, status, reason, sizeof(reason));
        rehearsal_reject(rehearsal, WIFEXITED(status) ? WEXITSTATUS(status) : GT_EXIT_INTERNAL,
                         reason);
    }
}

/* rehearsal_on_exit reports the result, as for any other exit. */
static void rehearsal_on_deadline(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct rehearsal *rehearsal = gt_container_of(timer, struct rehearsal, deadline);

    gt_warn("upgrade: rehearsal not finished after %.0f s, killing it", REHEARSAL_S);
    kill(rehearsal->child.pid, SIGKILL);
}

/* @reason: the child's end of the pipe. It was created after the state's descriptor, so it is a
 * greater number than REHEARSAL_FD, and neither replaces the other. */
static int add_descriptors(const struct rehearsal *rehearsal, int reason,
                           posix_spawn_file_actions_t *actions)
{
    int r = posix_spawn_file_actions_adddup2(actions, rehearsal->memfd.fd, REHEARSAL_FD);

    return r ? r : posix_spawn_file_actions_adddup2(actions, reason, REASON_FD);
}

/* Uses posix_spawn(3), because between fork and exec a threaded program must not run code that
 * takes locks. Returns 0 or a negative errno. */
static int rehearsal_spawn(struct rehearsal *rehearsal, int reason, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    char first[32];

    gt_cleanup(gt_free) char **argv =
        rehearsal_argv(rehearsal, UPGRADE_REHEARSE, REHEARSAL_FD, first, sizeof(first));
    if (!argv || posix_spawn_file_actions_init(&actions) != 0)
        return -ENOMEM;
    if (posix_spawnattr_init(&attributes) != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return -ENOMEM;
    }
    int r = add_descriptors(rehearsal, reason, &actions);
    if (!r)
        r = gt_hardening_spawn_fresh(&attributes);
    if (!r)
        r = posix_spawn(ret_pid, rehearsal->path, &actions, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return -r;
}

static int rehearsal_spawn_with_pipe(struct rehearsal *rehearsal, pid_t *ret_pid)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    rehearsal->reason = ends[0];
    int r = rehearsal_spawn(rehearsal, ends[1], ret_pid);
    close(ends[1]);
    return r;
}

void rehearsal_send_reason(const char *reason)
{
    struct stat status;

    if (fstat(REASON_FD, &status) < 0 || !S_ISFIFO(status.st_mode))
        return;
    if (write(REASON_FD, reason, GT_MIN(strlen(reason), REASON_MAX - 1)) < 0)
        gt_debug("the reason was not sent");
}

void rehearsal_start(struct rehearsal *rehearsal)
{
    pid_t pid;
    int r = memfd_new(rehearsal->write, rehearsal->userdata, &rehearsal->memfd);

    if (!r && (!rehearsal->path || stat(rehearsal->path, &rehearsal->rehearsed) < 0))
        r = rehearsal->path ? -errno : -ENOENT;
    if (!r)
        r = rehearsal_spawn_with_pipe(rehearsal, &pid);
    if (r) {
        rehearsal_reject(rehearsal, GT_EXIT_INTERNAL, strerror(-r));
        return;
    }
    rehearsal->state = REHEARSAL_REHEARSING;
    ev_child_set(&rehearsal->child, pid, 0);
    ev_child_start(rehearsal->loop, &rehearsal->child);
    ev_timer_set(&rehearsal->deadline, REHEARSAL_S, 0);
    ev_timer_start(rehearsal->loop, &rehearsal->deadline);
}

void rehearsal_cancel(struct rehearsal *rehearsal)
{
    if (rehearsal->state != REHEARSAL_REHEARSING)
        return;
    rehearsal->state = REHEARSAL_CANCELLED;
    kill(rehearsal->child.pid, SIGKILL);
}

/* --- execution -------------------------------------------------------------------------------- */

static int fd_make_inheritable(void *userdata, int fd, unsigned type)
{
    return fcntl(fd, F_SETFD, 0) < 0 ? SNAPSHOT_FORMAT_E_BAD : 0;
}

static int fd_set_cloexec(void *userdata, int fd, unsigned type)
{
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    return 0;
}

static bool rehearsal_is_same_program(const struct rehearsal *rehearsal)
{
    struct stat now;

    return !stat(rehearsal->path, &now) && now.st_dev == rehearsal->rehearsed.st_dev &&
           now.st_ino == rehearsal->rehearsed.st_ino &&
           now.st_size == rehearsal->rehearsed.st_size &&
           now.st_mtim.tv_sec == rehearsal->rehearsed.st_mtim.tv_sec &&
           now.st_mtim.tv_nsec == rehearsal->rehearsed.st_mtim.tv_nsec;
}

static const char *rehearsal_exec(const struct rehearsal *rehearsal, const struct memfd *memfd)
{
    struct gt_span state = gt_span(memfd->data, memfd->n);
    char first[32];
    gt_cleanup(gt_free) char **argv =
        rehearsal_argv(rehearsal, UPGRADE_TAKE_OVER, memfd->fd, first, sizeof(first));
    const char *reason = "out of memory";

    if (argv && snapshot_format_check(state))
        reason = "the state is inconsistent";
    else if (argv && snapshot_format_each_fd(state, fd_make_inheritable, NULL))
        reason = "a descriptor is closed";
    else if (argv && fcntl(memfd->fd, F_SETFD, 0) == 0) {
        execve(rehearsal->path, argv, environ);
        reason = strerror(errno);
    }
    int r = snapshot_format_each_fd(state, fd_set_cloexec, NULL);
    return r ? "the state is inconsistent" : reason;
}

const char *rehearsal_execute(struct rehearsal *rehearsal)
{
    struct memfd memfd = {.fd = -1};

    if (!rehearsal_is_same_program(rehearsal))
        return "the installed program was replaced during its rehearsal";
    int r = memfd_new(rehearsal->write, rehearsal->userdata, &memfd);
    if (r)
        return strerror(-r);
    const char *reason = rehearsal_exec(rehearsal, &memfd);
    memfd_close(&memfd);
    return reason;
}

/* --- creation and end ------------------------------------------------------------------------- */

void rehearsal_init(struct rehearsal *rehearsal, struct ev_loop *loop, char *const *argv)
{
    *rehearsal = (struct rehearsal){
        .loop = loop, .path = path_of_program(), .argv = argv, .memfd = {.fd = -1}, .reason = -1};
    ev_init(&rehearsal->child, rehearsal_on_exit);
    ev_init(&rehearsal->deadline, rehearsal_on_deadline);
}

void rehearsal_deinit(struct rehearsal *rehearsal)
{
    if (!rehearsal->loop)
        return;
    rehearsal_cancel(rehearsal);
    rehearsal_reset(rehearsal);
    free(rehearsal->path);
}
