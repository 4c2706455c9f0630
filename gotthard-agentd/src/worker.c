/* SPDX-License-Identifier: ISC */
/*
 * One session's process; see the header. RUNNING -> CLOSING (a polite goodbye, on SIGTERM) -> OVER.
 * A second SIGTERM ends it at once. Ctrl+C at a terminal reaches every process of the foreground;
 * the listener decides what it means, so SIGINT and SIGHUP mean nothing here.
 */
#include "worker.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "gotthard/clock.h"
#include "gotthard/list.h"
#include "gotthard/log.h"
#include "gotthard/tunnel.h"
#include "record.h"
#include "service.h"

enum worker_state {
    WORKER_RUNNING,
    WORKER_CLOSING,
    WORKER_OVER,
};

/* A stream that waits for its target. */
struct dial {
    struct gt_list link;
    struct worker *worker;
    struct gt_conduit *conduit;  /* the tunnel's */
    const struct target *target; /* the hand-over's */
    struct service *service;
};

struct worker {
    struct ev_loop *loop;
    struct handover handover;
    char prefix[GT_NAME_MAX + 64]; /* "session=7f3a9c21 operator=alice" */
    enum worker_state state;
    int exit_code;
    struct gt_tunnel *tunnel;
    struct gt_list dials;
    uint64_t n_streams, n_up, n_down; /* over its life */
    double begun_at;
    struct gt_log_rate failed; /* lines about streams that came to nothing */
    ev_signal on_terminate, on_status;
};

static void worker_enter(struct worker *worker, enum worker_state state)
{
    static const char *const names[] = {"running", "closing", "over"};

    gt_debug("%s %s -> %s", worker->prefix, names[worker->state], names[state]);
    worker->state = state;
    switch (state) {
    case WORKER_RUNNING: break;
    case WORKER_CLOSING: gt_tunnel_close(worker->tunnel); break; /* over within 2 s */
    case WORKER_OVER: ev_break(worker->loop, EVBREAK_ALL); break;
    }
}

/* A stream that came to nothing: an operator's tools can ask for hundreds a second. */
static void worker_log_failed(struct worker *worker, uint32_t stream, const char *service,
                              const char *why)
{
    char text[2 * GT_SERVICE_MAX];
    unsigned n_left_out;

    if (gt_log_is_allowed(&worker->failed, 5, &n_left_out))
        gt_warn("%s stream=%u service=%s not connected: reason=\"%s\" unlogged=%u", worker->prefix,
                stream, gt_text_escape(gt_span_text(service), text, sizeof(text)), why, n_left_out);
}

static struct dial *dial_free(struct dial *dial)
{
    gt_list_unlink(&dial->link);
    service_free(dial->service);
    free(dial);
    return NULL;
}

static void dial_on_done(void *userdata, struct service *service, int fd, enum gt_rst code)
{
    struct dial *dial = userdata;

    dial->service = NULL; /* frees itself */
    if (fd >= 0) {
        gt_conduit_serve(dial->conduit, fd);
    } else {
        worker_log_failed(dial->worker, service_stream(service), dial->target->name,
                          gt_rst_text(code));
        gt_conduit_refuse(dial->conduit, code);
    }
    dial_free(dial);
}

static int worker_dial(struct worker *worker, struct gt_conduit *conduit,
                       const struct target *target)
{
    struct service_settings settings = {
        .target = target,
        .stream = gt_conduit_number(conduit),
        .timeout_ms = worker->handover.dial_timeout_ms,
        .log_prefix = worker->prefix,
    };
    struct dial *dial = calloc(1, sizeof(*dial));
    if (!dial)
        return -ENOMEM;
    gt_list_init(&dial->link);
    dial->worker = worker;
    dial->conduit = conduit;
    dial->target = target;
    int r = service_new(worker->loop, &settings, dial_on_done, dial, &dial->service);
    if (r)
        dial_free(dial);
    else
        gt_list_append(&worker->dials, &dial->link);
    return r;
}

/* Authorises each stream again: the operator's services, and nothing that is not among them. */
static void worker_on_service(void *userdata, struct gt_conduit *conduit, const char *service)
{
    struct worker *worker = userdata;
    const struct target *target = targets_resolve(&worker->handover.services, service);

    worker->n_streams++;
    if (!target) {
        worker_log_failed(worker, gt_conduit_number(conduit), service,
                          "no such service for this operator");
        gt_conduit_refuse(conduit, GT_RST_DENIED);
        return;
    }
    int r = worker_dial(worker, conduit, target);
    if (r) {
        worker_log_failed(worker, gt_conduit_number(conduit), target->name, strerror(-r));
        gt_conduit_refuse(conduit, GT_RST_INTERNAL);
    }
}

/* The conduit is going: a dial for it must not come back to it. */
static void worker_forget_dial(struct worker *worker, uint32_t stream)
{
    gt_list_for_each_safe (at, next, &worker->dials) {
        struct dial *dial = gt_list_entry(at, struct dial, link);
        if (dial->service && service_stream(dial->service) == stream)
            dial_free(dial);
    }
}

static void worker_on_stream_end(void *userdata, const char *service, uint32_t stream,
                                 enum gt_rst code, uint64_t n_up, uint64_t n_down)
{
    struct worker *worker = userdata;
    char text[2 * GT_SERVICE_MAX];

    worker_forget_dial(worker, stream);
    worker->n_up += n_up;
    worker->n_down += n_down;
    gt_log(service && *service ? GT_LOG_INFO : GT_LOG_DEBUG, 0,
           "%s stream=%u service=%s ended: up=%llu down=%llu reason=\"%s\"", worker->prefix, stream,
           gt_text_escape(gt_span_text(service ? service : ""), text, sizeof(text)),
           (unsigned long long)n_up, (unsigned long long)n_down,
           code == GT_RST_NONE ? "well" : gt_rst_text(code));
}

static void worker_on_up(void *userdata, uint16_t port)
{
    struct worker *worker = userdata;

    gt_info("%s up: relay=%s:%u port=%u", worker->prefix, worker->handover.relay.host,
            worker->handover.relay.port, port);
}

static void worker_on_peer(void *userdata, bool is_up, enum gt_code reason)
{
    struct worker *worker = userdata;

    if (is_up)
        gt_debug("%s the operator is there", worker->prefix);
    else
        gt_info("%s the operator went: reason=\"%s\"", worker->prefix, gt_code_text(reason));
}

static void worker_on_link(void *userdata, bool is_up, const char *why)
{
    struct worker *worker = userdata;
    char escaped[256];

    if (is_up)
        gt_info("%s the relay is back, and the operator", worker->prefix);
    else
        gt_info("%s the relay is lost, trying again: reason=\"%s\"", worker->prefix,
                gt_text_escape(gt_span_text(why), escaped, sizeof(escaped)));
}

static int exit_code_of(enum gt_down cause)
{
    switch (cause) {
    case GT_DOWN_CLOSED:
    case GT_DOWN_EXPIRED:
    case GT_DOWN_PEER: return 0;
    case GT_DOWN_UNREACHABLE: return 69;
    case GT_DOWN_REFUSED: return 77;
    case GT_DOWN_RELAY: return 76;
    case GT_DOWN_LOST: return 75;
    case GT_DOWN_INTERNAL: return 70;
    }
    return 70;
}

static void worker_on_down(void *userdata, enum gt_down cause, enum gt_code code, const char *why)
{
    struct worker *worker = userdata;
    char escaped[256];

    gt_info("%s ended: cause=%s streams=%llu up=%llu down=%llu seconds=%.0f reason=\"%s\"",
            worker->prefix, gt_down_text(cause), (unsigned long long)worker->n_streams,
            (unsigned long long)worker->n_up, (unsigned long long)worker->n_down,
            gt_clock() - worker->begun_at,
            gt_text_escape(gt_span_text(why), escaped, sizeof(escaped)));
    worker->exit_code =
        cause == GT_DOWN_CLOSED && code == GT_CODE_LOST ? WORKER_EXIT_UNHEARD : exit_code_of(cause);
    worker_enter(worker, WORKER_OVER);
}

static void worker_on_terminate(struct ev_loop *loop, ev_signal *watcher, int revents)
{
    struct worker *worker = watcher->data;

    if (worker->state == WORKER_CLOSING) /* its goodbye has taken too long */
        worker->exit_code = WORKER_EXIT_UNHEARD;
    worker_enter(worker, worker->state == WORKER_RUNNING ? WORKER_CLOSING : WORKER_OVER);
}

static void worker_on_status(struct ev_loop *loop, ev_signal *watcher, int revents)
{
    struct worker *worker = watcher->data;

    gt_info("%s status: up=%d streams=%u seconds=%.0f", worker->prefix,
            gt_tunnel_is_up(worker->tunnel), gt_tunnel_n_streams(worker->tunnel),
            gt_clock() - worker->begun_at);
}

static int worker_start_tunnel(struct worker *worker)
{
    static const struct gt_tunnel_events events = {
        .on_up = worker_on_up,
        .on_peer = worker_on_peer,
        .on_link = worker_on_link,
        .on_service = worker_on_service,
        .on_stream_end = worker_on_stream_end,
        .on_down = worker_on_down,
    };
    struct handover *handover = &worker->handover;
    struct gt_tunnel_settings settings = {
        .role = GT_ROLE_DEVICE,
        .relay_host = handover->relay.host,
        .relay_port = handover->relay.port,
        .is_single_port = handover->is_single_port,
        .name = handover->device,
        .client_key = handover->client_key,
        .session_key = handover->keys.session,
        .rid = handover->keys.rid,
        .lifetime_s = handover->lifetime_s,
        .max_streams = handover->max_streams,
        .ring_size = handover->ring_size,
        .peer_timeout_ms = handover->peer_timeout_ms,
        .resume_window_ms = handover->resume_window_ms,
    };
    int r = gt_tunnel_new(worker->loop, &settings, &events, worker, &worker->tunnel);
    gt_wipe(&handover->keys.session, sizeof(handover->keys.session)); /* the tunnel has copies */
    gt_wipe(handover->client_key, sizeof(handover->client_key));
    return r;
}

static void worker_watch_signals(struct worker *worker)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    ev_signal_init(&worker->on_terminate, worker_on_terminate, SIGTERM);
    ev_signal_init(&worker->on_status, worker_on_status, SIGUSR1);
    worker->on_terminate.data = worker->on_status.data = worker;
    ev_signal_start(worker->loop, &worker->on_terminate);
    ev_signal_start(worker->loop, &worker->on_status);
}

static void worker_deinit(struct worker *worker)
{
    gt_list_for_each_safe (at, next, &worker->dials)
        dial_free(gt_list_entry(at, struct dial, link));
    gt_tunnel_free(worker->tunnel);
    handover_deinit(&worker->handover);
}

static void worker_run(struct worker *worker)
{
    char id[9];

    gt_log_open("gotthard-agentd", worker->handover.log_level);
    gt_text_hex(worker->handover.keys.rid, 4, id);
    snprintf(worker->prefix, sizeof(worker->prefix), "session=%s operator=%s", id,
             worker->handover.operator_);
    worker->begun_at = gt_clock();
    worker_watch_signals(worker);
    int r = worker_start_tunnel(worker);
    if (r) {
        gt_error_errno(r, "%s ended: reason=\"no tunnel could be made\"", worker->prefix);
        worker->exit_code = 70;
        return;
    }
    ev_run(worker->loop, 0);
}

/* What the listener had open is none of the worker's business, whoever opened it; but for the lock
 * of its record, which it holds for life. */
static void close_inherited(void)
{
    if (syscall(SYS_close_range, RECORD_FD + 1, ~0u, 0) == 0)
        return;
    for (int fd = RECORD_FD + 1; fd < 1024; fd++)
        close(fd);
}

int worker_main(void)
{
    struct worker worker = {.state = WORKER_RUNNING};
    bool has_record = fcntl(RECORD_FD, F_GETFD) >= 0;

    prctl(PR_SET_NAME, "gotthard-worker"); /* not "exe" */
    close_inherited();
    gt_list_init(&worker.dials);
    int r = handover_receive(HANDOVER_FD, &worker.handover);
    close(HANDOVER_FD);
    if (r)
        return r < 0 ? 70 : 0; /* the listener changed its mind, or is gone */
    worker.loop = ev_default_loop(EVFLAG_AUTO);
    if (worker.loop)
        worker_run(&worker);
    else
        worker.exit_code = 70;
    worker_deinit(&worker);
    if (has_record && worker.exit_code != WORKER_EXIT_UNHEARD)
        record_empty(RECORD_FD);
    return worker.exit_code;
}
