/* SPDX-License-Identifier: ISC */
/*
 * Starting, keeping and ending the worker of a session; see the header.
 */
#include "session.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "gotthard/clock.h"
#include "gotthard/log.h"
#include "launch.h"
#include "worker.h"

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

static void session_signal(const struct session *session, int number)
{
    if (session->pidfd >= 0)
        (void)syscall(SYS_pidfd_send_signal, session->pidfd, number, NULL, 0);
    else
        kill(session->pid, number);
}

static void session_enter(struct session *session, enum session_state state)
{
    gt_debug("session=%s %s -> %s", session->id, states[session->state].name, states[state].name);
    session->state = state;
    if (states[state].signal)
        session_signal(session, states[state].signal);
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
    ev_io_stop(session->loop, &session->ended);
    ev_timer_stop(session->loop, &session->deadline);
    gt_close(&session->pipe);
    gt_close(&session->pidfd);
    gt_close(&session->record);
    free(session->record_at);
    targets_deinit(&session->services);
    free(session);
    return NULL;
}

/* Careful: frees @session. */
static void session_end(struct session *session)
{
    session->on_end(session->userdata, session);
    if (session->record_at)
        unlink(session->record_at);
    session_free(session);
}

/* What is known of a process that is not our child: whether it emptied its record. */
static void session_on_ended(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct session *session = watcher->data;

    if (record_is_left(session->record_at))
        session->ending = SESSION_WAS_KILLED;
    session_end(session);
}

/* A worker that leaves without a word is as good as killed, whatever it calls that. */
static bool exit_is_in_order(int status)
{
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : WORKER_EXIT_INTERNAL;
    return code != WORKER_EXIT_INTERNAL && code != WORKER_EXIT_NOT_BEGUN;
}

static void session_on_exit(struct ev_loop *loop, ev_child *watcher, int revents)
{
    struct session *session = watcher->data;
    int status = watcher->rstatus;

    if (!exit_is_in_order(status))
        session->ending = SESSION_WAS_KILLED;
    else if (WEXITSTATUS(status) == WORKER_EXIT_UNHEARD)
        session->ending = SESSION_UNHEARD;
    if (WIFSIGNALED(status) && WTERMSIG(status) != states[session->state].signal)
        gt_warn("session=%s device=%s operator=%s its process was killed: signal=%d", session->id,
                session->device, session->operator_, WTERMSIG(status));
    else if (WIFEXITED(status) && !exit_is_in_order(status))
        gt_warn("session=%s device=%s operator=%s its process failed: status=%d", session->id,
                session->device, session->operator_, WEXITSTATUS(status));
    else
        gt_debug("session=%s pid=%d exited: status=%d", session->id, (int)session->pid,
                 WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    session_end(session);
}

/* A session without a record is a session all the same. */
static void session_open_record(struct session *session, const char *folder)
{
    char path[RECORD_PATH_MAX];

    int fd = record_create(folder, path);
    if (fd >= 0)
        fd = launch_move_up(fd);
    if (fd < 0) {
        gt_warn_errno(fd, "device=%s a restart will not know this session: %s", session->device,
                      folder);
        return;
    }
    session->record = fd;
    session->record_at = strdup(path);
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
    int fds[2] = {launch_move_up(ends[0]), session->record};
    if (fds[0] < 0)
        return fds[0];
    int r = fcntl(session->pipe, F_SETFL, O_NONBLOCK) < 0
                ? -errno
                : launch_worker(title, fds, &session->pid);
    close(fds[0]);
    return r;
}

static struct session *session_alloc(struct ev_loop *loop, session_fn on_end, void *userdata)
{
    struct session *session = calloc(1, sizeof(*session));
    if (!session)
        return NULL;
    gt_list_init(&session->link);
    session->loop = loop;
    session->on_end = on_end;
    session->userdata = userdata;
    session->begun_at = gt_clock();
    session->pidfd = session->pipe = session->record = -1;
    snprintf(session->id, sizeof(session->id), "-");
    ev_child_init(&session->child, session_on_exit, 0, 0);
    ev_io_init(&session->ended, session_on_ended, -1, EV_READ);
    ev_timer_init(&session->deadline, session_on_deadline, 0., 0.);
    session->child.data = session->ended.data = session->deadline.data = session;
    return session;
}

static int session_name(struct session *session, const char *device, const char *operator_,
                        const struct targets *services)
{
    snprintf(session->device, sizeof(session->device), "%s", device);
    snprintf(session->operator_, sizeof(session->operator_), "%s", operator_);
    for (size_t i = 0; i < services->n; i++) {
        int r = targets_add(&session->services, &services->all[i]);
        if (r)
            return r;
    }
    return 0;
}

static void session_set_rid(struct session *session, const uint8_t *rid)
{
    memcpy(session->rid, rid, GT_RID_SIZE);
    gt_text_hex(rid, (sizeof(session->id) - 1) / 2, session->id);
}

int session_new(struct ev_loop *loop, const struct session_settings *settings, session_fn on_end,
                void *userdata, struct session **ret)
{
    struct session *session = session_alloc(loop, on_end, userdata);
    if (!session)
        return -ENOMEM;
    if (settings->pin) {
        session->has_pin = true;
        memcpy(session->fingerprint, settings->pin->fingerprint, GT_KEY_SIZE);
    }
    int r = session_name(session, settings->device, settings->operator_, settings->services);
    if (r == 0 && settings->folder)
        session_open_record(session, settings->folder);
    if (r == 0)
        r = session_spawn(session);
    if (r) {
        if (session->record_at)
            unlink(session->record_at);
        session_free(session);
        return r;
    }
    ev_child_set(&session->child, session->pid, 0);
    ev_child_start(loop, &session->child);
    session_enter(session, SESSION_READY);
    *ret = session;
    return 0;
}

int session_adopt(struct ev_loop *loop, const struct record *record, int pidfd, const char *path,
                  session_fn on_end, void *userdata, struct session **ret)
{
    uint64_t now_ms = (uint64_t)(gt_clock() * 1e3);
    struct session *session = session_alloc(loop, on_end, userdata);
    if (!session) {
        close(pidfd);
        return -ENOMEM;
    }
    session->pidfd = pidfd;
    session->pid = record->pid;
    session->has_pin = record->has_pin;
    memcpy(session->fingerprint, record->fingerprint, GT_KEY_SIZE);
    session->relay = record->relay;
    session_set_rid(session, record->rid);
    session->lifetime_s =
        record->ends_at_ms > now_ms ? (double)(record->ends_at_ms - now_ms) / 1000. : 0.;
    session->record_at = strdup(path);
    int r = session->record_at
                ? session_name(session, record->device, record->operator_, &record->services)
                : -ENOMEM;
    if (r) {
        session_free(session);
        return r;
    }
    ev_io_set(&session->ended, pidfd, EV_READ);
    ev_io_start(loop, &session->ended);
    session_enter(session, SESSION_RUNNING);
    *ret = session;
    return 0;
}

static void session_write_record(struct session *session)
{
    struct record record = {
        .pid = session->pid,
        .has_pin = session->has_pin,
        .ends_at_ms = (uint64_t)((gt_clock() + session->lifetime_s) * 1e3),
        .services = session->services, /* borrowed, for the length of a call */
        .relay = session->relay,
    };

    if (session->record < 0)
        return;
    memcpy(record.device, session->device, sizeof(record.device));
    memcpy(record.operator_, session->operator_, sizeof(record.operator_));
    memcpy(record.rid, session->rid, sizeof(record.rid));
    memcpy(record.fingerprint, session->fingerprint, sizeof(record.fingerprint));
    int r = record_write(session->record, &record);
    if (r)
        gt_warn_errno(r, "session=%s device=%s a restart will not know this session", session->id,
                      session->device);
    gt_close(&session->record);
}

int session_begin(struct session *session, const struct handover *handover)
{
    session_set_rid(session, handover->keys.rid);
    session->lifetime_s = handover->lifetime_s;
    session->relay = handover->relay;
    session_write_record(session);
    int r = handover_send(handover, session->pipe);
    gt_close(&session->pipe);
    if (r)
        session_close(session, "the hand-over failed");
    else
        session_enter(session, SESSION_RUNNING);
    return r;
}
