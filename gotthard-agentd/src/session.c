/* SPDX-License-Identifier: ISC */
/*
 * Starting, restoring and closing the worker of a session; see the header.
 */
#include "session.h"

#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/exit-status.h"
#include "gotthard/base/log.h"
#include "session-private.h"
#include "worker-spawn.h"
#include "worker.h"

/* The worker exits by itself at the end of its lifetime. This is for a worker that hangs. */
#define LIFETIME_MARGIN_S 60.

static const char not_applied[] = "its process has not applied the new services";

static const struct {
    const char *name;
    int signal;                   /* sent on entering; 0: none */
    double deadline_s;            /* 0: none; RUNNING: its lifetime and a margin */
    enum session_state on_expiry; /* the state after the deadline */
} states[] = {
    [SESSION_READY] = {"ready", 0, 5., SESSION_CLOSING},
    [SESSION_RUNNING] = {"running", 0, LIFETIME_MARGIN_S, SESSION_CLOSING},
    [SESSION_CHANGING] = {"changing", WORKER_CHANGE, 2., SESSION_WITHDRAWING},
    [SESSION_CLOSING] = {"closing", SIGTERM, 2.4, SESSION_TERMINATING},
    [SESSION_WITHDRAWING] = {"withdrawing", WORKER_WITHDRAW, .8, SESSION_KILLED},
    [SESSION_TERMINATING] = {"terminating", SIGTERM, .8, SESSION_KILLED},
    [SESSION_KILLED] = {"killed", SIGKILL, 0., SESSION_KILLED}, /* the kernel needs no deadline */
};

static void session_signal(const struct session *session, int number)
{
    if (session->pidfd >= 0)
        (void)syscall(SYS_pidfd_send_signal, session->pidfd, number, NULL, 0);
    else
        kill(session->info.pid, number);
}

static double session_remaining_s(const struct session *session)
{
    uint64_t now_ms = gt_clock_ms(), ends_at_ms = session->info.ends_at_ms;

    return ends_at_ms > now_ms ? (double)(ends_at_ms - now_ms) / 1000. : 0.;
}

static void session_enter(struct session *session, enum session_state state)
{
    double seconds = states[state].deadline_s;

    gt_debug("session=%s %s -> %s", session->id, states[session->state].name, states[state].name);
    if (state == SESSION_RUNNING)
        seconds += session_remaining_s(session);
    session->state = state;
    if (states[state].signal)
        session_signal(session, states[state].signal);
    ev_timer_stop(session->loop, &session->deadline);
    ev_timer_set(&session->deadline, seconds, 0.);
    if (seconds > 0.)
        ev_timer_start(session->loop, &session->deadline);
}

/* A worker reports to the listener that started it only, so that its file is the way to ask it. */
static void session_check_change(struct session *session)
{
    if (session_file_is_acknowledged(session->session_file, session->session_file_path))
        session_enter(session, SESSION_RUNNING);
    else
        session_withdraw(session, not_applied);
}

static void session_on_deadline(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct session *session = watcher->data;

    if (session_is_closing(session))
        session_enter(session, states[session->state].on_expiry);
    else if (session->state == SESSION_CHANGING)
        session_check_change(session);
    else
        session_close(session, "lifetime expired");
}

const char *session_state_text(enum session_state state)
{
    return states[state].name;
}

bool session_is_closing(const struct session *session)
{
    return session->state >= SESSION_CLOSING;
}

static void session_end_as(struct session *session, enum session_state state, const char *why)
{
    if (session_is_closing(session))
        return;
    gt_info("session=%s device=%s operator=%s %s reason=\"%s\"", session->id, session->info.device,
            session->info.operator_, states[state].name, why);
    snprintf(session->end_why, sizeof(session->end_why), "%s", why);
    gt_close(&session->parameters);
    session_enter(session, state);
}

void session_close(struct session *session, const char *why)
{
    session_end_as(session, SESSION_CLOSING, why);
}

void session_withdraw(struct session *session, const char *why)
{
    session->is_withdrawn = true;
    session_end_as(session, SESSION_WITHDRAWING, why);
}

/* The numbers of grants return to 1, so the file must not say that the worker has applied this one:
 * 0 is no changed grant's number. */
void session_change(struct session *session, struct targets *services, const char *permit,
                    const char *why)
{
    struct session_info *info = &session->info;

    targets_deinit(&info->services);
    info->services = *services;
    snprintf(info->permit, sizeof(info->permit), "%s", permit);
    info->grant = (uint8_t)(info->grant % UINT8_MAX + 1);
    info->applied = 0;
    if (session_is_closing(session))
        return;
    if (session->state == SESSION_READY || session_rewrite_file(session) != 0) {
        session_withdraw(session, why);
        return;
    }
    gt_info("session=%s device=%s operator=%s changing reason=\"%s\"", session->id, info->device,
            info->operator_, why);
    session_enter(session, SESSION_CHANGING);
}

struct session *session_free(struct session *session)
{
    if (!session)
        return NULL;
    gt_list_unlink(&session->link);
    ev_child_stop(session->loop, &session->child);
    ev_io_stop(session->loop, &session->exited);
    ev_timer_stop(session->loop, &session->deadline);
    gt_close(&session->parameters);
    ev_io_stop(session->loop, &session->reported);
    gt_close(&session->reports);
    event_pipe_close(&session->events);
    audit_feed_free(session->audit);
    gt_close(&session->pidfd);
    gt_close(&session->session_file);
    free(session->session_file_path);
    session_info_deinit(&session->info);
    free(session);
    return NULL;
}

/* --- the worker's reports */

static void session_receive_reports(struct session *session)
{
    struct worker_report report;
    int r = session->reports < 0 ? WORKER_REPORT_E_NONE : 0;

    while (r == 0) {
        r = worker_report_receive(session->reports, &report);
        if (r == 0 && !gt_token_bucket_take(&session->report_rate, 1, gt_clock_ms()))
            r = WORKER_REPORT_E_END;
        if (r == 0) {
            session->is_up = report.presence == WORKER_UP;
            session->was_up |= session->is_up;
            session->has_usage |= report.presence != WORKER_JOINING;
            session->usage = report.usage;
            session->on_report(session->userdata, session, &report);
        }
    }
    if (r == WORKER_REPORT_E_END) {
        session->is_up = true; /* nothing is known any more: it must not be replaced */
        ev_io_stop(session->loop, &session->reported);
        gt_close(&session->reports);
    }
}

static void session_on_reported(struct ev_loop *loop, ev_io *watcher, int revents)
{
    session_receive_reports(watcher->data);
}

static void session_on_event(void *userdata, const struct worker_event *event)
{
    struct session *session = userdata;

    session->on_event(session->userdata, session, event);
}

/* --- the worker's exit */

/* The owner may free @session inside: it must not be used after this call. */
static void session_end(struct session *session, enum session_ending ending)
{
    session_receive_reports(session);
    event_pipe_finish(&session->events);
    session->ending = ending;
    ev_child_stop(session->loop, &session->child);
    ev_io_stop(session->loop, &session->exited);
    ev_timer_stop(session->loop, &session->deadline);
    session->on_end(session->userdata, session);
}

/* A process that is not our child has no exit status. Its session file shows how it ended: it is
 * empty if the worker finished its work. */
static void session_on_pidfd(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct session *session = watcher->data;

    session_end(session, session_file_is_abandoned(session->session_file_path)
                             ? SESSION_ENDED_KILLED
                             : SESSION_ENDED_CLEANLY);
}

/* libev, libcrypto and the loader exit in the middle of their work when they fail: no BYE was
 * sent, as with a signal. */
static enum session_ending ending_of_status(int status)
{
    if (!WIFEXITED(status) || WEXITSTATUS(status) == GT_EXIT_INTERNAL ||
        WEXITSTATUS(status) == GT_EXIT_NOT_STARTED)
        return SESSION_ENDED_KILLED;
    return WEXITSTATUS(status) == GT_EXIT_BYE_UNSENT ? SESSION_ENDED_BYE_UNSENT
                                                     : SESSION_ENDED_CLEANLY;
}

static void session_on_child(struct ev_loop *loop, ev_child *watcher, int revents)
{
    struct session *session = watcher->data;
    int status = watcher->rstatus;
    enum session_ending ending = ending_of_status(status);

    session->exit_status = status;
    if (WIFSIGNALED(status) && WTERMSIG(status) != states[session->state].signal)
        gt_warn("session=%s device=%s operator=%s worker killed signal=%d", session->id,
                session->info.device, session->info.operator_, WTERMSIG(status));
    else if (WIFEXITED(status) && ending == SESSION_ENDED_KILLED)
        gt_warn("session=%s device=%s operator=%s worker failed status=%d", session->id,
                session->info.device, session->info.operator_, WEXITSTATUS(status));
    else
        gt_debug("session=%s pid=%d exited status=%d", session->id, (int)session->info.pid,
                 WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    session_end(session, ending);
}

/* --- beginning */

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
    gt_token_bucket_init(&session->report_rate, SESSION_REPORTS_PER_S, SESSION_REPORTS_BURST,
                         gt_clock_ms());
    session->pidfd = session->parameters = session->reports = session->session_file = -1;
    snprintf(session->id, sizeof(session->id), "-");
    ev_child_init(&session->child, session_on_child, 0, 0);
    ev_io_init(&session->exited, session_on_pidfd, -1, EV_READ);
    ev_timer_init(&session->deadline, session_on_deadline, 0., 0.);
    ev_io_init(&session->reported, session_on_reported, -1, EV_READ);
    event_pipe_init(&session->events, loop, session_on_event, session);
    session->child.data = session->exited.data = session->reported.data = session->deadline.data =
        session;
    return session;
}

static void session_set_rid(struct session *session, const uint8_t *rid)
{
    memcpy(session->info.rid, rid, GT_RID_SIZE);
    gt_text_hex(rid, (sizeof(session->id) - 1) / 2, session->id);
}

/* Returns the worker's end of the pipe of its events, or -1: none is wanted, or possible. */
static int session_open_events(struct session *session)
{
    if (!session->on_event)
        return -1;
    int fd = event_pipe_open(&session->events, session->session_file_path);
    if (fd < 0 && session->session_file_path) /* a file system without FIFOs */
        fd = event_pipe_open(&session->events, NULL);
    if (fd < 0)
        gt_warn_errno(fd, "session=%s operator=%s the audit will lack its connections", session->id,
                      session->info.operator_);
    return GT_MAX(fd, -1);
}

static int session_spawn(struct session *session, const struct session_settings *settings)
{
    const struct lifelines *lifelines = settings->lifelines;
    gt_cleanup(gt_close) int audit = -1;
    char title[2 * GT_NAME_MAX + 64];
    struct worker_process process;

    snprintf(title, sizeof(title), "gotthard-agentd: %s session of %s", session->info.device,
             session->info.operator_);
    int r = settings->audit_folder
                ? audit_feed_new(session->loop, settings->audit_folder, &session->audit, &audit)
                : 0;
    if (r)
        return r;
    gt_cleanup(gt_close) int events = session_open_events(session);
    const struct worker_fds fds = {
        .session_file = session->session_file,
        .lifeline = lifelines_for_worker(lifelines, session->session_file_path != NULL),
        .events = events,
        .audit = audit,
    };
    r = worker_spawn(title, &fds, &process);
    if (r)
        return r;
    session->info.pid = process.pid;
    session->parameters = process.parameters;
    session->reports = process.reports;
    return 0;
}

int session_new(struct ev_loop *loop, const struct session_settings *settings, session_fn on_end,
                void *userdata, struct session **ret)
{
    struct session *session = session_alloc(loop, on_end, userdata);

    if (!session) {
        session_info_deinit(settings->info);
        return -ENOMEM;
    }
    session->info = *settings->info;
    memcpy(session->request_id, settings->request_id, GT_REQ_ID_SIZE);
    snprintf(session->service, sizeof(session->service), "%s", settings->service);
    session->on_event = settings->on_event;
    session_open_file(session, settings->folder);
    int r = session_spawn(session, settings);
    if (r) {
        session_remove_file(session);
        session_free(session);
        return r;
    }
    session->on_report = settings->on_report;
    ev_io_set(&session->reported, session->reports, EV_READ);
    ev_io_start(loop, &session->reported);
    ev_child_set(&session->child, session->info.pid, 0);
    ev_child_start(loop, &session->child);
    session_enter(session, SESSION_READY);
    *ret = session;
    return 0;
}

int session_restore(struct ev_loop *loop, struct session_info *info, int pidfd, const char *path,
                    session_fn on_end, session_event_fn on_event, void *userdata,
                    struct session **ret)
{
    struct session *session = session_alloc(loop, on_end, userdata);
    char *path_copy = strdup(path);

    if (!session || !path_copy) {
        free(path_copy);
        session_free(session);
        session_info_deinit(info);
        close(pidfd);
        return -ENOMEM;
    }
    session->pidfd = pidfd;
    session->info = *info;
    session->is_up = true;
    session->session_file_path = path_copy;
    session_set_rid(session, info->rid);
    session->on_event = on_event;
    if (on_event)
        event_pipe_reopen(&session->events, path);
    ev_io_set(&session->exited, pidfd, EV_READ);
    ev_io_start(loop, &session->exited);
    session_enter(session, info->applied == info->grant ? SESSION_RUNNING : SESSION_CHANGING);
    *ret = session;
    return 0;
}

int session_start(struct session *session, const struct worker_parameters *worker_parameters)
{
    session_set_rid(session, worker_parameters->keys.rid);
    session->info.ends_at_ms = gt_clock_ms() + worker_parameters->lifetime_s * UINT64_C(1000);
    int r = session_write_file(session);
    if (r == 0)
        r = worker_parameters_send(worker_parameters, session->parameters);
    gt_close(&session->parameters);
    if (r)
        session_close(session, "cannot send the worker its parameters");
    else
        session_enter(session, SESSION_RUNNING);
    return r;
}
