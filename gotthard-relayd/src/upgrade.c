/* SPDX-License-Identifier: ISC */
/*
 * The process part of an upgrade. The program is named by the path that this one was started by,
 * and not by /proc/self/exe: that is what was installed then, not what is installed now.
 */
#include "upgrade.h"

#include <fcntl.h>
#include <linux/limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/wait.h>

#include "gotthard/log.h"
#include "gotthard/process.h"
#include "handover.h"

#define REHEARSAL_S  10.0
#define REHEARSAL_FD 3

extern char **environ;

/* --- which program ---------------------------------------------------------------------------- */

static char *path_of_image(void)
{
    static const char deleted[] = " (deleted)";
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

    if (n <= 0)
        return NULL;
    path[n] = 0;
    size_t n_suffix = sizeof(deleted) - 1;
    if ((size_t)n > n_suffix && !strcmp(path + n - n_suffix, deleted))
        path[(size_t)n - n_suffix] = 0;
    return strdup(path);
}

static char *path_from_here(const char *relative)
{
    gt_cleanup(gt_free) char *here = getcwd(NULL, 0);
    char *path = NULL;

    return here && asprintf(&path, "%s/%s", here, relative) >= 0 ? path : NULL;
}

/* As execve(2) was told, unless that was a descriptor. */
static char *path_of_program(void)
{
    const char *path = (const char *)getauxval(AT_EXECFN); /* NOLINT: that is how it is told */

    if (!path || !strncmp(path, "/dev/fd/", 8) || !strncmp(path, "/proc/", 6))
        return path_of_image();
    return *path == '/' ? strdup(path) : path_from_here(path);
}

/* --- arguments -------------------------------------------------------------------------------- */

/* Those of a first start, with "@option=@fd" before them; free() it. */
static char **upgrade_argv(const struct upgrade *upgrade, const char *option, int fd,
                           char *ret_first, size_t cap)
{
    size_t n = 0;

    while (upgrade->argv[n])
        n++;
    char **argv = calloc(n + 3, sizeof(*argv));
    if (!argv)
        return NULL;
    snprintf(ret_first, cap, "%s=%d", option, fd);
    argv[0] = n ? upgrade->argv[0] : upgrade->path;
    argv[1] = ret_first;
    for (size_t i = 1; i < n; i++)
        argv[i + 1] = upgrade->argv[i];
    return argv;
}

/* --- the rehearsal ---------------------------------------------------------------------------- */

/* Back to idle. */
static void upgrade_rest(struct upgrade *upgrade)
{
    ev_timer_stop(upgrade->loop, &upgrade->deadline);
    ev_child_stop(upgrade->loop, &upgrade->child);
    sealed_close(&upgrade->sealed);
    upgrade->state = UPGRADE_IDLE;
}

static void upgrade_refuse(struct upgrade *upgrade, const char *why)
{
    upgrade_rest(upgrade);
    upgrade->on_refused(upgrade->userdata, why);
}

static void upgrade_on_ended(struct ev_loop *loop, ev_child *child, int events)
{
    struct upgrade *upgrade = gt_container_of(child, struct upgrade, child);
    bool is_cancelled = upgrade->state == UPGRADE_CANCELLED;
    int status = child->rstatus;
    char why[64];

    if (is_cancelled) {
        upgrade_rest(upgrade);
    } else if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        upgrade_rest(upgrade);
        upgrade->on_rehearsed(upgrade->userdata);
    } else {
        snprintf(why, sizeof(why), "the installed program %s %d",
                 WIFSIGNALED(status) ? "was ended by signal" : "ended with",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        upgrade_refuse(upgrade, why);
    }
}

/* Its end is reported in the way of all others. */
static void upgrade_on_deadline(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct upgrade *upgrade = gt_container_of(timer, struct upgrade, deadline);

    gt_warn("upgrade: the installed program takes longer than %.0f s", REHEARSAL_S);
    kill(upgrade->child.pid, SIGKILL);
}

/* Between fork and exec nothing of ours runs: there are threads, and what they may have locked must
 * not matter. 0 or a negative errno. */
static int upgrade_spawn(struct upgrade *upgrade, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    char first[32];

    gt_cleanup(gt_free) char **argv =
        upgrade_argv(upgrade, UPGRADE_REHEARSE, REHEARSAL_FD, first, sizeof(first));
    if (!argv || posix_spawn_file_actions_init(&actions) != 0)
        return -ENOMEM;
    if (posix_spawnattr_init(&attributes) != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return -ENOMEM;
    }
    int r = posix_spawn_file_actions_adddup2(&actions, upgrade->sealed.fd, REHEARSAL_FD);
    if (!r)
        r = gt_process_spawn_fresh(&attributes);
    if (!r)
        r = posix_spawn(ret_pid, upgrade->path, &actions, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return -r;
}

void upgrade_rehearse(struct upgrade *upgrade)
{
    pid_t pid;
    int r = sealed_make(upgrade->write, upgrade->userdata, &upgrade->sealed);

    if (!r && (!upgrade->path || stat(upgrade->path, &upgrade->seen) < 0))
        r = upgrade->path ? -errno : -ENOENT;
    if (!r)
        r = upgrade_spawn(upgrade, &pid);
    if (r) {
        upgrade_refuse(upgrade, strerror(-r));
        return;
    }
    upgrade->state = UPGRADE_REHEARSING;
    ev_child_set(&upgrade->child, pid, 0);
    ev_child_start(upgrade->loop, &upgrade->child);
    ev_timer_set(&upgrade->deadline, REHEARSAL_S, 0);
    ev_timer_start(upgrade->loop, &upgrade->deadline);
}

void upgrade_cancel(struct upgrade *upgrade)
{
    if (upgrade->state != UPGRADE_REHEARSING)
        return;
    upgrade->state = UPGRADE_CANCELLED;
    kill(upgrade->child.pid, SIGKILL);
}

/* --- in earnest ------------------------------------------------------------------------------- */

static int upgrade_let_inherit(void *userdata, int fd, unsigned type)
{
    return fcntl(fd, F_SETFD, 0) < 0 ? HANDOVER_E_BAD : 0;
}

static int upgrade_keep_from_heirs(void *userdata, int fd, unsigned type)
{
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    return 0;
}

static bool upgrade_is_same_program(const struct upgrade *upgrade)
{
    struct stat now;

    return !stat(upgrade->path, &now) && now.st_dev == upgrade->seen.st_dev &&
           now.st_ino == upgrade->seen.st_ino && now.st_size == upgrade->seen.st_size &&
           now.st_mtim.tv_sec == upgrade->seen.st_mtim.tv_sec &&
           now.st_mtim.tv_nsec == upgrade->seen.st_mtim.tv_nsec;
}

static const char *upgrade_exec(const struct upgrade *upgrade, const struct sealed *sealed)
{
    struct gt_span state = gt_span(sealed->data, sealed->n);
    char first[32];
    gt_cleanup(gt_free) char **argv =
        upgrade_argv(upgrade, UPGRADE_TAKE_OVER, sealed->fd, first, sizeof(first));
    const char *why = "no memory";

    if (argv && handover_check(state))
        why = "the state contradicts itself";
    else if (argv && handover_each_fd(state, upgrade_let_inherit, NULL))
        why = "a descriptor is gone";
    else if (argv && fcntl(sealed->fd, F_SETFD, 0) == 0) {
        execve(upgrade->path, argv, environ);
        why = strerror(errno);
    }
    int r = handover_each_fd(state, upgrade_keep_from_heirs, NULL);
    return r ? "the state contradicts itself" : why;
}

const char *upgrade_execute(struct upgrade *upgrade)
{
    struct sealed sealed = {.fd = -1};
    const char *why = "the installed program was replaced during its rehearsal";

    if (!upgrade_is_same_program(upgrade))
        return why;
    int r = sealed_make(upgrade->write, upgrade->userdata, &sealed);
    if (r)
        return strerror(-r);
    why = upgrade_exec(upgrade, &sealed);
    sealed_close(&sealed);
    return why;
}

/* --- birth and burial ------------------------------------------------------------------------- */

void upgrade_init(struct upgrade *upgrade, struct ev_loop *loop, char *const *argv)
{
    *upgrade = (struct upgrade){
        .loop = loop, .path = path_of_program(), .argv = argv, .sealed = {.fd = -1}};
    ev_init(&upgrade->child, upgrade_on_ended);
    ev_init(&upgrade->deadline, upgrade_on_deadline);
}

void upgrade_deinit(struct upgrade *upgrade)
{
    if (!upgrade->loop)
        return;
    upgrade_cancel(upgrade);
    upgrade_rest(upgrade);
    free(upgrade->path);
}
