/* SPDX-License-Identifier: ISC */
/*
 * The process of one session; see the header. RUNNING -> CLOSING (BYE, on SIGTERM, on
 * WORKER_WITHDRAW or at the end of the lifeline) -> ENDED.
 *
 * A second SIGTERM ends it at once if it comes later than a second. Before that it is the same one:
 * a service manager that signals the whole process group, and the listener, each send one. SIGINT
 * of a terminal reaches every process in the foreground, and the listener decides its meaning.
 * SIGINT and SIGHUP are therefore ignored here.
 */
#include "worker.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>

#include "confinement.h"
#include "gotthard/base/clock.h"
#include "gotthard/base/exit-status.h"
#include "gotthard/base/hardening.h"
#include "gotthard/base/log.h"
#include "gotthard/tunnel/tunnel.h"
#include "session-file.h"
#include "worker-events.h"
#include "worker-grant.h"
#include "worker-reports.h"
#include "worker-resolver.h"
#include "worker-spawn.h"
#include "worker-streams.h"
#include "worker-usage.h"

#define REPEATED_S 1. /* SIGTERM within this time of the first one is not a second one */

enum worker_state {
    WORKER_RUNNING,
    WORKER_CLOSING, /* bounded by the tunnel: 2 s */
    WORKER_ENDED,
};

struct worker {
    struct ev_loop *loop;
    struct worker_parameters parameters;
    struct worker_grant grant;
    char log_prefix[GT_NAME_MAX + 64]; /* "session=7f3a9c21 operator=alice" */
    enum worker_state state;
    int exit_code;
    struct gt_tunnel *tunnel;
    struct worker_streams streams;
    struct worker_reports reports;
    struct worker_usage usage;
    struct worker_events events;
    bool has_session_file, has_lifeline;
    double begun_at, closing_since; /* seconds of gt_clock() */
    ev_signal on_terminate, on_withdraw, on_change, on_status;
    ev_io lifeline;
    pid_t resolver;
    ev_child on_resolver_exit;
};

static void worker_enter(struct worker *worker, enum worker_state state)
{
    static const char *const names[] = {
        [WORKER_RUNNING] = "running",
        [WORKER_CLOSING] = "closing",
        [WORKER_ENDED] = "ended",
    };

    gt_debug("%-s %s -> %s", worker->log_prefix, names[worker->state], names[state]);
    worker->state = state;
    switch (state) {
    case WORKER_RUNNING: break;
    case WORKER_CLOSING: worker->closing_since = gt_clock(); break;
    case WORKER_ENDED: ev_break(worker->loop, EVBREAK_ALL); break;
    }
}

/* --- the tunnel */

static void worker_on_service(void *userdata, struct gt_channel *channel, const char *service)
{
    struct worker *worker = userdata;

    worker_streams_open(&worker->streams, channel, service);
}

static void worker_on_stream_end(void *userdata, const char *service, uint32_t stream,
                                 enum gt_rst code, uint64_t n_up, uint64_t n_down)
{
    struct worker *worker = userdata;

    worker_streams_end(&worker->streams, service, stream, code, n_up, n_down);
}

static void worker_on_retry(void *userdata, enum gt_end_reason cause, enum gt_code code,
                            const char *why)
{
    struct worker *worker = userdata;

    gt_warn("%-s relay not reachable relay=%s:%u reason=\"%s\", trying again", worker->log_prefix,
            worker->parameters.relay.address.host, worker->parameters.relay.address.port, why);
    worker_reports_retry(&worker->reports, cause, why);
}

static void worker_on_waiting(void *userdata)
{
    struct worker *worker = userdata;

    worker_reports_waiting(&worker->reports);
}

static void worker_on_up(void *userdata, uint16_t port)
{
    struct worker *worker = userdata;

    gt_info("%-s up relay=%s:%u port=%u", worker->log_prefix, worker->parameters.relay.address.host,
            worker->parameters.relay.address.port, port);
    worker_reports_up(&worker->reports);
}

static void worker_on_notice(void *userdata, enum gt_path_notice notice, const char *text)
{
    struct worker *worker = userdata;

    bool is_missing = notice == GT_PATH_NO_DATA || notice == GT_PATH_NO_PEER_DATA;

    gt_warn("%-s %s reason=\"%s\"", worker->log_prefix,
            is_missing ? "no data connection yet" : "path changed", text);
    if (notice == GT_PATH_NO_DATA)
        worker_reports_retry(&worker->reports, GT_END_UNREACHABLE, text);
}

static void worker_on_peer(void *userdata, bool is_up, enum gt_code reason)
{
    struct worker *worker = userdata;

    worker_reports_peer(&worker->reports, is_up);
    if (is_up)
        gt_debug("%-s operator connected", worker->log_prefix);
    else
        gt_info("%-s operator disconnected reason=\"%s\"", worker->log_prefix,
                gt_code_text(reason));
}

static void worker_on_relay_connection(void *userdata, enum gt_relay_change change, const char *why)
{
    struct worker *worker = userdata;

    worker_reports_relay(&worker->reports, change == GT_RELAY_BACK, why);
    switch (change) {
    case GT_RELAY_BACK:
        gt_info("%-s relay reconnected, operator connected", worker->log_prefix);
        break;
    case GT_RELAY_UPGRADED: gt_info("%-s %s, reconnecting", worker->log_prefix, why); break;
    case GT_RELAY_LOST:
        gt_info("%-s relay connection lost, reconnecting reason=\"%s\"", worker->log_prefix, why);
        break;
    }
}

static int exit_code_of(enum gt_end_reason reason)
{
    switch (reason) {
    case GT_END_CLOSED:
    case GT_END_EXPIRED:
    case GT_END_IDLE:
    case GT_END_PEER: return GT_EXIT_SUCCESS;
    case GT_END_UNREACHABLE: return GT_EXIT_UNAVAILABLE;
    case GT_END_WITHDRAWN: return GT_EXIT_SUCCESS;
    case GT_END_PROXY:
    case GT_END_REFUSED: return GT_EXIT_REFUSED;
    case GT_END_RELAY: return GT_EXIT_PROTOCOL;
    case GT_END_LIMIT:
    case GT_END_LOST: return GT_EXIT_TRY_AGAIN;
    case GT_END_INTERNAL: return GT_EXIT_INTERNAL;
    }
    return GT_EXIT_INTERNAL;
}

static void worker_send_over(struct worker *worker, const char *why)
{
    const struct worker_streams *streams = &worker->streams;
    struct worker_event over = {
        .kind = WORKER_SESSION_ENDED,
        .n_streams = (uint32_t)GT_MIN(streams->n_streams, UINT32_MAX),
        .n_up = streams->n_up,
        .n_down = streams->n_down,
        .seconds = (uint32_t)(gt_clock() - worker->begun_at),
    };

    gt_text_shorten(why, over.why, sizeof(over.why));
    worker_events_send(&worker->events, &over);
}

static void worker_on_down(void *userdata, enum gt_end_reason reason, enum gt_code code,
                           const char *why)
{
    struct worker *worker = userdata;
    const struct worker_streams *streams = &worker->streams;
    bool is_bye_unsent =
        (reason == GT_END_CLOSED || reason == GT_END_WITHDRAWN) && code == GT_CODE_LOST;

    worker_streams_flush_log(&worker->streams);
    gt_info("%-s ended cause=%s streams=%llu up=%llu down=%llu seconds=%.0f reason=\"%s\"",
            worker->log_prefix, gt_end_reason_text(reason), (unsigned long long)streams->n_streams,
            (unsigned long long)streams->n_up, (unsigned long long)streams->n_down,
            gt_clock() - worker->begun_at, why);
    worker_reports_down(&worker->reports, reason, code, why);
    worker_send_over(worker, *why ? why : gt_end_reason_text(reason));
    worker->exit_code = is_bye_unsent ? GT_EXIT_BYE_UNSENT : exit_code_of(reason);
    worker_enter(worker, WORKER_ENDED);
}

static int worker_start_tunnel(struct worker *worker)
{
    static const struct gt_tunnel_events events = {
        .on_retry = worker_on_retry,
        .on_waiting = worker_on_waiting,
        .on_up = worker_on_up,
        .on_notice = worker_on_notice,
        .on_peer = worker_on_peer,
        .on_relay_connection = worker_on_relay_connection,
        .on_service = worker_on_service,
        .on_stream_end = worker_on_stream_end,
        .on_down = worker_on_down,
    };
    struct worker_parameters *parameters = &worker->parameters;
    struct gt_tunnel_settings settings = {
        .role = GT_ROLE_DEVICE,
        .relays = &parameters->relay.address,
        .n_relays = 1,
        .proxy = parameters->proxy.kind == GT_PROXY_NONE ? NULL : &parameters->proxy,
        .is_single_port = parameters->is_single_port,
        .name = parameters->device,
        .client_key = parameters->client_key,
        .session_key = parameters->keys.session,
        .rid = parameters->keys.rid,
        .lifetime_s = parameters->lifetime_s,
        .max_streams = parameters->max_streams,
        .ring_size = parameters->ring_size,
        .suite = parameters->suite,
        .peer_timeout_ms = parameters->peer_timeout_ms,
        .resume_window_ms = parameters->resume_window_ms,
        .vanished_ms = parameters->vanished_ms,
        .linger_ms = parameters->linger_ms,
    };
    int r = gt_tunnel_new(worker->loop, &settings, &events, worker, &worker->tunnel);

    /* the tunnel has copies of the keys */
    gt_wipe(&parameters->keys.session, sizeof(parameters->keys.session));
    gt_wipe(parameters->client_key, sizeof(parameters->client_key));
    return r;
}

/* --- signals */

static void worker_on_terminate(struct ev_loop *loop, ev_signal *watcher, int revents)
{
    struct worker *worker = watcher->data;

    if (worker->state == WORKER_RUNNING) {
        worker_enter(worker, WORKER_CLOSING);
        gt_tunnel_close(worker->tunnel);
    } else if (gt_clock() > worker->closing_since + REPEATED_S) { /* BYE has taken too long */
        worker->exit_code = GT_EXIT_BYE_UNSENT;
        worker_enter(worker, WORKER_ENDED);
    }
}

static void worker_on_withdraw(struct ev_loop *loop, ev_signal *watcher, int revents)
{
    struct worker *worker = watcher->data;

    if (worker->state != WORKER_RUNNING)
        return;
    worker_enter(worker, WORKER_CLOSING);
    gt_tunnel_withdraw(worker->tunnel);
}

static void worker_on_change(struct ev_loop *loop, ev_signal *watcher, int revents)
{
    struct worker *worker = watcher->data;

    if (worker->has_session_file && worker->state == WORKER_RUNNING)
        worker_grant_apply(&worker->grant, &worker->streams);
}

/* No other listener could close this session, or the service was stopped. */
static void worker_on_lifeline(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct worker *worker = watcher->data;

    ev_io_stop(loop, watcher);
    if (worker->state != WORKER_RUNNING)
        return;
    gt_info("%-s closing reason=\"the agent has ended\"", worker->log_prefix);
    worker_enter(worker, WORKER_CLOSING);
    gt_tunnel_close(worker->tunnel);
}

static void worker_on_status(struct ev_loop *loop, ev_signal *watcher, int revents)
{
    struct worker *worker = watcher->data;

    gt_info("%-s status up=%d streams=%u seconds=%.0f", worker->log_prefix,
            gt_tunnel_is_up(worker->tunnel), gt_tunnel_n_streams(worker->tunnel),
            gt_clock() - worker->begun_at);
}

/* It cannot be replaced, because this process may start none. Numeric addresses still work, and so
 * does the relay's name, whose last answer is kept. */
static void worker_on_resolver_exit(struct ev_loop *loop, ev_child *watcher, int revents)
{
    struct worker *worker = watcher->data;

    ev_child_stop(loop, watcher);
    gt_warn("%-s resolver exited status=%d, names of targets can no longer be resolved",
            worker->log_prefix, watcher->rstatus);
}

static void worker_watch_signals(struct worker *worker)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    ev_signal_init(&worker->on_terminate, worker_on_terminate, SIGTERM);
    ev_signal_init(&worker->on_withdraw, worker_on_withdraw, WORKER_WITHDRAW);
    ev_signal_init(&worker->on_change, worker_on_change, WORKER_CHANGE);
    ev_signal_init(&worker->on_status, worker_on_status, SIGUSR1);
    worker->on_terminate.data = worker->on_withdraw.data = worker->on_change.data =
        worker->on_status.data = worker;
    ev_signal_start(worker->loop, &worker->on_terminate);
    ev_signal_start(worker->loop, &worker->on_withdraw);
    ev_signal_start(worker->loop, &worker->on_change);
    ev_signal_start(worker->loop, &worker->on_status);
    ev_io_init(&worker->lifeline, worker_on_lifeline, WORKER_LIFELINE_FD, EV_READ);
    ev_child_init(&worker->on_resolver_exit, worker_on_resolver_exit, worker->resolver, 0);
    worker->lifeline.data = worker->on_resolver_exit.data = worker;
    ev_child_start(worker->loop, &worker->on_resolver_exit);
    if (worker->has_lifeline)
        ev_io_start(worker->loop, &worker->lifeline);
}

/* --- the process */

static void worker_init(struct worker *worker)
{
    const struct worker_parameters *parameters = &worker->parameters;
    char id[9];

    gt_log_open("gotthard-agentd", parameters->log_level);
    gt_text_hex(parameters->keys.rid, 4, id);
    snprintf(worker->log_prefix, sizeof(worker->log_prefix), "session=%s operator=%s", id,
             parameters->operator_);
    worker->begun_at = gt_clock();
    worker_events_init(&worker->events);
    worker_streams_init(&worker->streams, worker->loop, worker->log_prefix, &worker->grant,
                        &worker->events, parameters->dial_timeout_ms);
    if (fcntl(WORKER_AUDIT_FD, F_GETFD) >= 0)
        worker->streams.audit = WORKER_AUDIT_FD;
    worker_reports_init(&worker->reports, worker->loop, WORKER_REPORTS_FD,
                        &parameters->relay.address);
}

static void worker_deinit(struct worker *worker)
{
    worker_usage_stop(&worker->usage);
    worker_streams_deinit(&worker->streams);
    worker_reports_deinit(&worker->reports);
    worker_events_deinit(&worker->events);
    gt_tunnel_free(worker->tunnel);
    worker_parameters_deinit(&worker->parameters);
    worker_grant_deinit(&worker->grant);
}

static void worker_run(struct worker *worker)
{
    worker_init(worker);
    worker_watch_signals(worker);
    int r = worker_grant_init(&worker->grant, &worker->parameters);
    if (r == 0)
        r = worker_start_tunnel(worker);
    if (r) {
        gt_error_errno(r, "%-s ended reason=\"cannot create the tunnel\"", worker->log_prefix);
        worker->exit_code = GT_EXIT_INTERNAL;
    } else {
        worker_usage_start(&worker->usage, worker->loop, worker->tunnel, &worker->streams,
                           &worker->reports);
        if (worker->has_session_file) /* changed before the signal's watcher */
            worker_grant_apply(&worker->grant, &worker->streams);
        ev_run(worker->loop, 0);
    }
    worker_deinit(worker);
}

/* What a worker has before it gets its keys: only its own descriptors (the session file's
 * locks are held as long as the process lives), a resolver, and no more rights. */
static int worker_confine(pid_t *ret_resolver)
{
    gt_hardening_close_from(WORKER_FDS_END);
    gt_log_open("gotthard-agentd", GT_LOG_INFO);
    gt_log_keep_stream();
    int r = worker_resolver_start(ret_resolver);
    if (r == 0)
        r = confinement_enter(CONFINEMENT_WORKER);
    if (r < 0)
        gt_error_errno(r, "cannot confine the process of a session");
    return r;
}

int worker_main(void)
{
    struct worker worker = {
        .state = WORKER_RUNNING,
        .has_session_file = fcntl(SESSION_FILE_FD, F_GETFD) >= 0,
        .has_lifeline = fcntl(WORKER_LIFELINE_FD, F_GETFD) >= 0,
    };

    prctl(PR_SET_NAME, "gotthard-worker"); /* in place of "exe" */
    /* first of all: another listener waits for half a second, and could not close this session */
    int r = worker.has_session_file ? session_file_hold(SESSION_FILE_FD) : 0;
    if (r == 0)
        r = worker_confine(&worker.resolver);
    if (r == 0)
        r = worker_parameters_receive(WORKER_PARAMETERS_FD, &worker.parameters);
    close(WORKER_PARAMETERS_FD);
    if (r < 0)
        return GT_EXIT_INTERNAL;
    if (r > 0)
        return 0; /* the listener cancelled the session, or has exited */
    worker.loop = ev_default_loop(EVFLAG_AUTO);
    if (!worker.loop) {
        worker_parameters_deinit(&worker.parameters);
        return GT_EXIT_INTERNAL;
    }
    worker_run(&worker);
    if (worker.has_session_file && worker.exit_code != GT_EXIT_BYE_UNSENT)
        session_file_clear(SESSION_FILE_FD);
    return worker.exit_code;
}
