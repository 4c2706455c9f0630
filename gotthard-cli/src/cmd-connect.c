/* SPDX-License-Identifier: ISC */
/*
 * `connect DEVICE [FORWARD]...`: local ports or Unix sockets whose connections a session
 * (session.h) carries to the device until the operator interrupts it. The ports are bound first and
 * kept, but nothing is accepted before the tunnel is up. While the device or the relay is lost, new
 * connections wait in the kernel's queue. All output is in connect-output.c.
 */
#include <signal.h>
#include <string.h>
#include <time.h>

#include "background.h"
#include "commands.h"
#include "connect-output.h"
#include "connect-status.h"
#include "connect-streams.h"
#include "connect-totals.h"
#include "device-memory.h"
#include "forward-arguments.h"
#include "gotthard/base/clock.h"
#include "session.h"
#include "socks-clients.h"

/* As the service of a request: all that the device permits beyond its services. */
#define PERMITTED_TARGETS "permit"

struct connect {
    struct context *context;
    struct command_signals signals;
    struct forwards forwards;
    struct session *session;
    struct connect_output output;
    struct connect_streams streams;
    struct connect_status status;
    struct socks_clients socks_clients;
    struct connect_totals totals;
    ev_signal on_totals;
    struct background background;
    double wait_s; /* --wait; 0: not */
    bool is_over;  /* the loop is left with ->code */
    int code;      /* exit status */
};

static void connect_leave(struct connect *connect, const char *reason, int code)
{
    if (connect->is_over)
        return;
    connect->is_over = true;
    connect->code = code;
    connect_streams_flush(&connect->streams);
    connect_totals_close(&connect->totals, connect->session);
    if (session_was_up(connect->session) || code == GT_EXIT_INTERRUPTED)
        connect_output_closed(&connect->output, reason, code); /* otherwise there was a failure */
    ev_break(connect->context->loop, EVBREAK_ALL);
}

/* An interrupt after the tunnel was up is a normal end. */
static void connect_leave_interrupted(struct connect *connect)
{
    connect_leave(connect, "interrupted",
                  session_was_up(connect->session) ? 0 : GT_EXIT_INTERRUPTED);
}

/* --- local connections --------------------------------------------------------------------- */

static void connect_update_forwards(struct connect *connect)
{
    forwards_pause_udp(&connect->forwards, session_state(connect->session) != SESSION_UP);
    if (session_has_room(connect->session))
        forwards_start(&connect->forwards);
    else
        forwards_stop(&connect->forwards);
    if (socks_clients_is_full(&connect->socks_clients))
        forwards_stop_socks(&connect->forwards);
}

/* @local: as session_open_stream() has it. */
static int connect_open_stream(struct connect *connect, struct gt_endpoint_fds local,
                               const char *service, const struct local_peer *peer,
                               uint32_t *ret_stream)
{
    int r = session_open_stream(connect->session, local, service, ret_stream);

    if (r != 0) {
        connect_streams_refused(&connect->streams, service, r);
        return r;
    }
    connect_streams_opened(&connect->streams, service, *ret_stream, peer);
    if (session_has_room(connect->session))
        return 0;
    forwards_stop(&connect->forwards);
    connect_streams_full(&connect->streams, session_max_streams(connect->session));
    return 0;
}

static void connect_on_connection(void *userdata, const struct forward *forward, int fd,
                                  const struct local_peer *peer)
{
    struct connect *connect = userdata;
    uint32_t stream;

    if (!forward->spec.is_socks) {
        (void)connect_open_stream(connect, gt_endpoint_fds_accepted(fd), forward->spec.service,
                                  peer, &stream);
        return;
    }
    socks_clients_add(&connect->socks_clients, fd, peer);
    if (socks_clients_is_full(&connect->socks_clients))
        forwards_stop_socks(&connect->forwards);
}

/* UDP has half of the streams at most, so that its senders do not keep out connections. */
static int connect_on_udp(void *userdata, const struct forward *forward, int fd,
                          const struct local_peer *peer)
{
    struct connect *connect = userdata;
    unsigned max = GT_MAX(session_max_streams(connect->session) / 2, 1u);
    uint32_t stream;

    if (!session_has_room(connect->session) || connect->streams.n_udp >= max)
        return GT_TUNNEL_E_FULL;
    int r = connect_open_stream(connect, gt_endpoint_fds(fd), forward->spec.service, peer, &stream);
    return r > 0 ? -ENOBUFS : r; /* E_FULL would leave @fd to the caller */
}

static int socks_on_open(void *userdata, const char *target, const struct local_peer *peer,
                         uint32_t *ret_stream)
{
    struct connect *connect = userdata;

    if (session_n_streams(connect->session) >= session_max_streams(connect->session))
        return GT_TUNNEL_E_FULL;
    return connect_open_stream(connect, gt_endpoint_fds(-1), target, peer, ret_stream);
}

static void socks_on_serve(void *userdata, uint32_t stream, int fd)
{
    struct connect *connect = userdata;

    session_serve_stream(connect->session, stream, fd);
}

static void socks_on_cancel(void *userdata, uint32_t stream)
{
    struct connect *connect = userdata;

    session_reset_stream(connect->session, stream);
}

static void socks_on_room(void *userdata)
{
    connect_update_forwards(userdata);
}

static const struct socks_clients_events socks_events = {
    .open = socks_on_open,
    .serve = socks_on_serve,
    .cancel = socks_on_cancel,
    .on_room = socks_on_room,
};

static void connect_on_refused(void *userdata, const struct forward *forward,
                               const struct local_peer *peer, enum local_refusal why)
{
    struct connect *connect = userdata;

    connect_streams_turned_away(&connect->streams, forward->spec.service, peer, why);
}

/* --- the session's events ------------------------------------------------------------------ */

static void session_on_broker_connected(void *userdata)
{
    struct connect *connect = userdata;

    connect_output_broker(&connect->output, connect->context->settings->mqtt_endpoint);
}

static void session_on_wait(void *userdata, const struct failure *why)
{
    struct connect *connect = userdata;

    connect_output_device_wait(&connect->output, why);
}

static void session_on_agreed(void *userdata, const struct gt_extensions *extensions,
                              const struct identity *identity)
{
    struct connect *connect = userdata;

    connect_output_answered(&connect->output, extensions, identity);
    connect_streams_answered(&connect->streams, extensions);
    device_memory_note_answer(connect->context->settings, identity, connect->context->arguments[0],
                              extensions, (uint64_t)time(NULL));
}

static void session_on_report(void *userdata, const struct gt_report *report)
{
    struct connect *connect = userdata;

    connect_output_report(&connect->output, report);
}

static void session_on_offline(void *userdata)
{
    struct connect *connect = userdata;

    connect_output_offline(&connect->output);
}

static void session_on_relay_retry(void *userdata, const struct gt_host_port *relay,
                                   const char *why)
{
    struct connect *connect = userdata;

    connect_output_relay_retry(&connect->output, relay, why);
}

static void session_on_up(void *userdata, const char *host, uint16_t port)
{
    struct connect *connect = userdata;

    connect_totals_up(&connect->totals);
    connect_output_up(&connect->output, &connect->forwards, host, port,
                      connect->context->is_background);
    connect_update_forwards(connect);
    if (connect->context->is_background)
        background_detach(&connect->background);
}

static void session_on_notice(void *userdata, enum gt_path_notice notice, const char *text)
{
    struct connect *connect = userdata;

    connect_output_notice(&connect->output, notice, text);
}

static void session_on_peer(void *userdata, bool is_up, enum gt_code reason)
{
    struct connect *connect = userdata;

    if (!is_up)
        connect_totals_lost(&connect->totals);
    connect_update_forwards(connect);
    connect_output_peer(&connect->output, is_up, reason);
}

static void session_on_relay(void *userdata, enum gt_relay_change change, const char *why)
{
    struct connect *connect = userdata;

    if (change == GT_RELAY_LOST)
        connect_totals_lost(&connect->totals);
    connect_update_forwards(connect);
    connect_output_relay(&connect->output, change, why);
}

static void session_on_stream_connected(void *userdata, uint32_t stream)
{
    struct connect *connect = userdata;

    socks_clients_connected(&connect->socks_clients, stream);
}

static void session_on_stream_end(void *userdata, const char *service, uint32_t stream,
                                  enum gt_rst code, uint64_t n_up, uint64_t n_down)
{
    struct connect *connect = userdata;

    socks_clients_ended(&connect->socks_clients, stream, code);
    connect_streams_ended(&connect->streams, service, stream, code, n_up, n_down);
    connect_totals_ended(&connect->totals, service, n_up, n_down);
    socks_clients_retry(&connect->socks_clients);
    connect_update_forwards(connect);
}

static void session_on_end(void *userdata, const struct session_end *end)
{
    struct connect *connect = userdata;

    if (connect->is_over)
        return;
    switch (end->kind) {
    case SESSION_END_CLOSED:
        if (end->is_bye_unsent)
            connect_output_bye_unsent(&connect->output);
        connect_leave_interrupted(connect);
        return;
    case SESSION_END_FAILED:
        connect_leave(connect, end->reason, print_failure(&connect->context->print, end->failure));
        return;
    }
}

/* The first signal closes the session; another one does not wait for it. */
static void connect_on_signal(void *userdata, int number)
{
    struct connect *connect = userdata;

    switch (session_state(connect->session)) {
    case SESSION_NEW:
    case SESSION_REQUESTING: connect_leave_interrupted(connect); return;
    case SESSION_JOINING:
    case SESSION_UP:
    case SESSION_AWAY:
        connect_output_closing(&connect->output);
        session_close(connect->session);
        connect_update_forwards(connect);
        return;
    case SESSION_CLOSING: connect_leave_interrupted(connect); return;
    case SESSION_ENDED: return;
    }
}

static void connect_on_totals(struct ev_loop *loop, ev_signal *watcher, int revents)
{
    struct connect *connect = watcher->data;

    connect_totals_report(&connect->totals, connect->session);
}

/* --- start and end ------------------------------------------------------------------------- */

static const struct session_events events = {
    .on_broker_connected = session_on_broker_connected,
    .on_wait = session_on_wait,
    .on_agreed = session_on_agreed,
    .on_report = session_on_report,
    .on_offline = session_on_offline,
    .on_relay_retry = session_on_relay_retry,
    .on_up = session_on_up,
    .on_notice = session_on_notice,
    .on_peer = session_on_peer,
    .on_relay = session_on_relay,
    .on_stream_connected = session_on_stream_connected,
    .on_stream_end = session_on_stream_end,
    .on_end = session_on_end,
};

static const struct forwards_events forwards_events = {
    .on_connection = connect_on_connection,
    .on_udp = connect_on_udp,
    .on_refused = connect_on_refused,
};

static int connect_start(struct connect *connect, const char *device,
                         const struct forward_spec *specs, size_t n_specs,
                         struct failure *ret_failure)
{
    struct context *context = connect->context;
    struct session_settings session = {
        .loop = context->loop,
        .config = context->config,
        .print = &context->print,
        .device = device,
        .service = specs[0].is_socks ? PERMITTED_TARGETS : specs[0].service,
        .purpose = context->purpose,
        .wait_s = connect->wait_s,
    };
    struct forwards_settings forwards = {
        .loop = context->loop,
        .bind = context->bind,
        .default_port = (uint16_t)context->settings->client_port,
        .is_default_required = gt_config_is_set(context->config, "client.port"),
        .is_shared = context->settings->is_shared,
        .vanished_s = (double)context->settings->vanished_ms / 1000.,
    };

    if (session_new(&session, &events, connect, &connect->session, ret_failure) != 0 ||
        forwards_open(&forwards, specs, n_specs, &forwards_events, connect, &connect->forwards,
                      ret_failure) != 0 ||
        session_start(connect->session, ret_failure) != 0)
        return 1;
    connect_status_start(&connect->status, context->loop, connect->session, &connect->forwards,
                         device, context->settings->client_name);
    connect_output_requesting(&connect->output, connect->session, &connect->forwards);
    return 0;
}

#define WAIT_FOREVER_S (100. * 365 * 24 * 3600)

static int connect_parse_wait(struct context *context, double *ret)
{
    uint64_t ms = 0;
    char shown[64];

    if (!context->wait)
        return 0;
    if (*context->wait && (gt_text_duration(context->wait, &ms) != 0 || ms == 0))
        return command_misused(context, "--wait=%s: must be a time, as 90s, 10min or 2h",
                               gt_text_shorten(context->wait, shown, sizeof(shown)));
    *ret = *context->wait ? (double)ms / 1000. : WAIT_FOREVER_S;
    return 0;
}

/* Returns true in the process that holds the tunnel. */
static bool connect_go_to_background(struct connect *connect, int *ret_code)
{
    struct context *context = connect->context;
    struct failure failure;

    if (!context->is_background)
        return true;
    int r = background_start(&context->loop, &connect->background, ret_code);
    if (r < 0) {
        failure_set(&failure, FAILURE_INTERNAL, NULL, "cannot start a process: %s", strerror(-r));
        *ret_code = print_failure(&context->print, &failure);
    }
    return r == 0;
}

int cmd_connect(struct context *context)
{
    struct connect connect = {.context = context};
    const char *device = context->arguments[0];
    struct forward_spec specs[FORWARDS_MAX];
    size_t n_specs = 0;
    struct failure failure;

    if (!command_cut_device(context, 0) || !command_check_purpose(context))
        return GT_EXIT_USAGE;
    int code = forward_arguments_parse(context, specs, &n_specs);
    if (code == 0)
        code = connect_parse_wait(context, &connect.wait_s);
    if (code != 0 || !connect_go_to_background(&connect, &code))
        return code;
    connect_output_init(&connect.output, context->loop, &context->print, device, context->bind,
                        context->is_print_port);
    if (connect.wait_s > 0)
        connect.output.wait_until = gt_clock() + connect.wait_s;
    connect_streams_init(&connect.streams, context->loop, &context->print, device);
    socks_clients_init(&connect.socks_clients, context->loop, &socks_events, &connect);
    connect_totals_init(&connect.totals, &context->print, device);
    command_signals_start(&connect.signals, context->loop, connect_on_signal, &connect);
    ev_signal_init(&connect.on_totals, connect_on_totals, SIGUSR1);
    connect.on_totals.data = &connect;
    ev_signal_start(context->loop, &connect.on_totals);
    if (connect_start(&connect, device, specs, n_specs, &failure) != 0)
        connect.code = print_failure(&context->print, &failure);
    else
        ev_run(context->loop, 0);
    command_signals_stop(&connect.signals);
    connect_status_stop(&connect.status);
    ev_signal_stop(context->loop, &connect.on_totals);
    connect_output_deinit(&connect.output);
    socks_clients_deinit(&connect.socks_clients);
    session_free(connect.session);
    connect_streams_deinit(&connect.streams);
    forwards_close(&connect.forwards);
    return connect.code;
}
