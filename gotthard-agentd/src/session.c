/* SPDX-License-Identifier: ISC */
/*
 * Starting, keeping and ending the worker of a session; see the header. Between fork and exec
 * nothing of ours runs (posix_spawn): there is an MQTT thread in this process, and what it may have
 * locked must not matter.
 */
#include "session.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>

#include "gotthard/log.h"

extern char **environ;

/* What each state does on entering, and how long it may last. */
static const struct {
    const char *name;
    int signal; /* sent on entering; 0 none */
    double seconds;
} states[] = {
    [SESSION_READY] = {"ready", 0, 5.},
    [SESSION_RUNNING] = {"running", 0, 0.}, /* its lifetime, and a little */
    [SESSION_CLOSING] = {"closing", SIGTERM, 3.},
    [SESSION_INSISTING] = {"insisting", SIGTERM, 2.},
    [SESSION_KILLED] = {"killed", SIGKILL, 0.}, /* the kernel needs no deadline */
};

/* The worker ends by itself when its lifetime is over; this is for one that cannot any more. */
#define LIFETIME_MARGIN_S 60.

static double state_seconds(const struct session *session, enum session_state state)
{
    return state == SESSION_RUNNING ? session->lifetime_s + LIFETIME_MARGIN_S
                                    : states[state].seconds;
}

static void session_enter(struct session *session, enum session_state state)
{
    gt_debug("session=%s %s -> %s", session->id, states[session->state].name, states[state].name);
    session->state = state;
    if (states[state].signal)
        kill(session->pid, states[state].signal);
    ev_timer_stop(session->loop, &session->deadline);
    ev_timer_set(&session->deadline, state_seconds(session, state), 0.);
    if (state != SESSION_KILLED)
        ev_timer_start(session->loop, &session->deadline);
}

static void session_on_deadline(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct session *session = watcher->data;

    switch (session->state) {
    case SESSION_READY:
    case SESSION_RUNNING: session_close(session, "its time is over"); break;
    case SESSION_CLOSING: session_enter(session, SESSION_INSISTING); break;
    case SESSION_INSISTING: session_enter(session, SESSION_KILLED); break;
    case SESSION_KILLED: break;
    }
}

const char *session_state_text(enum session_state state)
{
    return states[state].name;
}

bool session_is_closing(const struct session *session)
{
    return session->state >= SESSION_CLOSING;
}

void session_close(struct session *session, const char *why)
{
    if (session_is_closing(session))
        return;
    gt_info("session=%s device=%s operator=%s closing: reason=\"%s\"", session->id, session->device,
            session->operator_, why);
    gt_close(&session->pipe);
    session_enter(session, SESSION_CLOSING);
}

struct session *session_free(struct session *session)
{
    if (!session)
        return NULL;
    gt_list_unlink(&session->link);
    ev_child_stop(session->loop, &session->child);
    ev_timer_stop(session->loop, &session->deadline);
    gt_close(&session->pipe);
    targets_deinit(&session->services);
    free(session);
    return NULL;
}

static void session_on_exit(struct ev_loop *loop, ev_child *watcher, int revents)
{
    struct session *session = watcher->data;
    int status = watcher->rstatus;

    if (WIFSIGNALED(status) && session->state != SESSION_KILLED)
        gt_warn("session=%s device=%s operator=%s its process was killed: signal=%d", session->id,
                session->device, session->operator_, WTERMSIG(status));
    else
        gt_debug("session=%s pid=%d exited: status=%d", session->id, (int)session->pid,
                 WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    session->on_end(session->userdata, session);
    session_free(session);
}

/* The worker needs no secret of ours, and must not speak to the service manager in our name. */
static bool variable_is_ours(const char *variable)
{
    static const char *const ours[] = {
        "GOTTHARD_", "MACHINE_ID=", "NOTIFY_SOCKET=",        "WATCHDOG_",
        "LISTEN_",   "FDSTORE",     "CREDENTIALS_DIRECTORY="};

    for (size_t i = 0; i < GT_ARRAY_SIZE(ours); i++)
        if (strncmp(variable, ours[i], strlen(ours[i])) == 0)
            return true;
    return false;
}

/* Borrows the strings of environ. */
static char **clean_environment(void)
{
    size_t n = 0, n_kept = 0;

    while (environ && environ[n])
        n++;
    char **kept = calloc(n + 1, sizeof(*kept));
    for (size_t i = 0; kept && i < n; i++)
        if (!variable_is_ours(environ[i]))
            kept[n_kept++] = environ[i];
    return kept;
}

static int spawn_with(posix_spawn_file_actions_t *actions, posix_spawnattr_t *attributes, int fd,
                      char *const *argv, char *const *envp, pid_t *ret_pid)
{
    sigset_t none, all;

    sigemptyset(&none);
    sigfillset(&all);
    int r = posix_spawn_file_actions_adddup2(actions, fd, HANDOVER_FD);
    if (!r)
        r = posix_spawnattr_setsigmask(attributes, &none);
    if (!r)
        r = posix_spawnattr_setsigdefault(attributes, &all);
    if (!r)
        r = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    if (!r)
        r = posix_spawn(ret_pid, "/proc/self/exe", actions, attributes, argv, envp);
    return -r;
}

static int spawn_worker(const char *title, int fd, pid_t *ret_pid)
{
    char *const argv[] = {(char *)title, (char *)"--worker", NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;

    gt_cleanup(gt_free) char **envp = clean_environment();
    if (!envp || posix_spawn_file_actions_init(&actions) != 0)
        return -ENOMEM;
    if (posix_spawnattr_init(&attributes) != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return -ENOMEM;
    }
    int r = spawn_with(&actions, &attributes, fd, argv, envp, ret_pid);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return r;
}

/* What `ps` shows: whose session a process is. */
static int session_spawn(struct session *session)
{
    char title[2 * GT_NAME_MAX + 64];
    int ends[2];

    snprintf(title, sizeof(title), "gotthard-agentd: %s session of %s", session->device,
             session->operator_);
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    session->pipe = ends[1];
    int r = fcntl(ends[1], F_SETFL, O_NONBLOCK) < 0 ? -errno
                                                    : spawn_worker(title, ends[0], &session->pid);
    close(ends[0]);
    return r;
}

static int session_init(struct session *session, const char *device, const char *operator_,
                        const struct gt_pin *pin, const struct targets *services)
{
    snprintf(session->device, sizeof(session->device), "%s", device);
    snprintf(session->operator_, sizeof(session->operator_), "%s", operator_);
    snprintf(session->id, sizeof(session->id), "-");
    if (pin) {
        session->has_pin = true;
        memcpy(session->fingerprint, pin->fingerprint, GT_KEY_SIZE);
    }
    for (size_t i = 0; i < services->n; i++) {
        int r = targets_add(&session->services, &services->all[i]);
        if (r)
            return r;
    }
    return session_spawn(session);
}

int session_new(struct ev_loop *loop, const char *device, const char *operator_,
                const struct gt_pin *pin, const struct targets *services, session_fn on_end,
                void *userdata, struct session **ret)
{
    struct session *session = calloc(1, sizeof(*session));
    if (!session)
        return -ENOMEM;
    gt_list_init(&session->link);
    session->loop = loop;
    session->on_end = on_end;
    session->userdata = userdata;
    session->begun_at = ev_now(loop);
    session->pipe = -1;
    ev_child_init(&session->child, session_on_exit, 0, 0);
    ev_timer_init(&session->deadline, session_on_deadline, 0., 0.);
    session->child.data = session->deadline.data = session;
    int r = session_init(session, device, operator_, pin, services);
    if (r) {
        session_free(session);
        return r;
    }
    ev_child_set(&session->child, session->pid, 0);
    ev_child_start(loop, &session->child);
    session_enter(session, SESSION_READY);
    *ret = session;
    return 0;
}

int session_begin(struct session *session, const struct handover *handover)
{
    memcpy(session->rid, handover->keys.rid, GT_RID_SIZE);
    gt_text_hex(session->rid, (sizeof(session->id) - 1) / 2, session->id);
    session->lifetime_s = handover->lifetime_s;
    int r = handover_send(handover, session->pipe);
    gt_close(&session->pipe);
    if (r)
        session_close(session, "the hand-over failed");
    else
        session_enter(session, SESSION_RUNNING);
    return r;
}
