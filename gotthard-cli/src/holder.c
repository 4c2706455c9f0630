/* SPDX-License-Identifier: ISC */
/*
 * The session begins with the first request for a stream and is the same for all later ones. A
 * client whose stream cannot be opened yet, because the device or the relay is away, waits.
 */
#include "holder.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "commands.h"
#include "connect-output.h"
#include "diagnosis.h"
#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "holder-server.h"
#include "holder-status.h"
#include "host-keys.h"
#include "session.h"

#define LOG_LINE_MAX 1024

struct holder {
    const struct holder_settings *settings;
    const struct settings *values; /* of ->settings->config */
    struct ev_loop *loop;
    struct command_signals signals;
    struct print print;           /* warnings become notices */
    struct connect_output output; /* the words of losses */
    struct holder_server server;
    struct session *session;          /* NULL before the first request */
    char service[GT_SERVICE_MAX + 1]; /* of that request */
    ev_timer hold;                    /* no client has a stream */
    ev_timer restart; /* the device refused the service of one client, and another one waits */
    ev_io log;        /* lines of this process */
    uint64_t started_ms;
    bool is_stale;   /* another holder takes the place of this one */
    bool is_closing; /* no more clients */
    char host_keys[HOLDER_HOST_KEYS_MAX];
};

/* --- the end ------------------------------------------------------------------------------------
 */

/* Takes no more clients, and leaves the loop when the device is notified. */
static void holder_close(struct holder *holder)
{
    enum session_state state = holder->session ? session_state(holder->session) : SESSION_NEW;

    holder->is_closing = true;
    holder_server_close(&holder->server);
    if (state >= SESSION_JOINING && state < SESSION_CLOSING)
        session_close(holder->session);
    else if (state != SESSION_CLOSING)
        ev_break(holder->loop, EVBREAK_ALL);
}

static void holder_on_idle(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct holder *holder = timer->data;

    if (!holder->is_closing && holder_server_n_open(&holder->server) == 0)
        holder_close(holder);
}

/* Without a client the session is kept for a while, if it is up and may be used again. */
static void holder_check_idle(struct holder *holder)
{
    bool is_kept = holder->session && session_was_up(holder->session) && !holder->is_stale;
    double seconds = is_kept ? (double)holder->values->hold_ms / 1000. : 0.;

    ev_timer_stop(holder->loop, &holder->hold);
    if (holder->is_closing || holder_server_n_open(&holder->server) > 0)
        return;
    ev_now_update(holder->loop);
    ev_timer_set(&holder->hold, GT_MAX(seconds, 0.001), 0);
    ev_timer_start(holder->loop, &holder->hold);
}

static void holder_on_signal(void *userdata, int number)
{
    struct holder *holder = userdata;

    if (holder->is_closing)
        ev_break(holder->loop, EVBREAK_ALL);
    else
        holder_close(holder);
}

/* --- clients ------------------------------------------------------------------------------------
 */

static void end_all(struct holder *holder, const struct failure *failure)
{
    gt_list_for_each_safe (at, next, &holder->server.clients) {
        struct holder_client *client = gt_list_entry(at, struct holder_client, link);

        if (client->state != HOLDER_CLIENT_OPENING)
            continue;
        if (failure)
            holder_server_fail(client, failure);
        else
            holder_server_end(client, GT_EXIT_UNAVAILABLE, "");
    }
}

static void open_stream(struct holder *holder, struct holder_client *client)
{
    struct gt_endpoint_fds fds = client->fds;
    char text[GT_SERVICE_MAX + 96];

    client->fds = gt_endpoint_fds(-1);
    int r = session_open_stream(holder->session, fds, client->service, &client->stream);
    if (r == 0)
        return;
    snprintf(text, sizeof(text), "cannot open a connection to %s: %s", client->service,
             r > 0 ? "too many connections" : strerror(-r));
    holder_server_end(client, GT_EXIT_TRY_AGAIN, text);
}

static void open_waiting(struct holder *holder)
{
    if (!holder->session || session_state(holder->session) != SESSION_UP)
        return;
    gt_list_for_each_safe (at, next, &holder->server.clients) {
        struct holder_client *client = gt_list_entry(at, struct holder_client, link);

        if (client->state == HOLDER_CLIENT_OPENING && client->stream == 0)
            open_stream(holder, client);
    }
    holder_check_idle(holder);
}

/* --- the session's events -----------------------------------------------------------------------
 */

static void session_on_broker_connected(void *userdata)
{
}

static void session_on_agreed(void *userdata, const struct gt_extensions *extensions,
                              const struct identity *identity)
{
    struct holder *holder = userdata;

    host_keys_format(extensions, holder->host_keys, sizeof(holder->host_keys));
    identity_warn_unpinned(identity, holder->settings->device, &holder->print);
}

static void session_on_report(void *userdata, const struct gt_report *report)
{
}

static void session_on_offline(void *userdata)
{
}

static void session_on_relay_retry(void *userdata, const struct gt_host_port *relay,
                                   const char *why)
{
}

static void session_on_up(void *userdata, const char *host, uint16_t port)
{
    open_waiting(userdata);
}

static void session_on_notice(void *userdata, enum gt_path_notice notice, const char *text)
{
    struct holder *holder = userdata;

    connect_output_notice(&holder->output, notice, text);
}

static void session_on_peer(void *userdata, bool is_up, enum gt_code reason)
{
    struct holder *holder = userdata;

    holder->output.session = holder->session;
    connect_output_peer(&holder->output, is_up, reason);
    open_waiting(holder);
}

static void session_on_relay(void *userdata, bool is_up, const char *why)
{
    struct holder *holder = userdata;

    holder->output.session = holder->session;
    connect_output_relay(&holder->output, is_up, why);
    open_waiting(holder);
}

/* A reset of the service is an end of file on standard output: the exit status distinguishes it. */
static void session_on_stream_end(void *userdata, const char *service, uint32_t stream,
                                  enum gt_rst code, uint64_t n_up, uint64_t n_down)
{
    struct holder *holder = userdata;
    struct holder_client *client = holder_server_find(&holder->server, stream);
    char text[GT_SERVICE_MAX + 128];
    struct failure failure;

    if (!client)
        return; /* it is gone */
    snprintf(text, sizeof(text), "connection to %s failed: %s", service, gt_rst_text(code));
    if (code == GT_RST_NONE) {
        holder_server_end(client, 0, "");
    } else if (code == GT_RST_DENIED) {
        diagnosis_of_service(holder->settings->device, service, &failure);
        holder_server_fail(client, &failure);
    } else {
        holder_server_end(client, GT_EXIT_UNAVAILABLE, text);
    }
    holder_check_idle(holder);
}

/* The device refused the request for the service of one client. Another one may have asked for
 * another service meanwhile: there is a new session for it. Returns true in that case. */
static bool is_other_waiting(struct holder *holder, const struct failure *failure)
{
    if (failure->id != FAILURE_NO_SERVICE || session_was_up(holder->session))
        return false;
    gt_list_for_each_safe (at, next, &holder->server.clients) {
        struct holder_client *client = gt_list_entry(at, struct holder_client, link);

        if (client->state == HOLDER_CLIENT_OPENING && strcmp(client->service, holder->service) == 0)
            holder_server_fail(client, failure);
    }
    return holder_server_n_open(&holder->server) > 0;
}

static void session_on_end(void *userdata, const struct session_end *end)
{
    struct holder *holder = userdata;
    const struct failure *failure = end->kind == SESSION_END_FAILED ? end->failure : NULL;

    if (failure && !holder->is_closing && is_other_waiting(holder, failure)) {
        ev_timer_start(holder->loop, &holder->restart);
        return;
    }
    holder_server_close(&holder->server);
    end_all(holder, failure);
    ev_break(holder->loop, EVBREAK_ALL);
}

static const struct session_events session_events = {
    .on_broker_connected = session_on_broker_connected,
    .on_agreed = session_on_agreed,
    .on_report = session_on_report,
    .on_offline = session_on_offline,
    .on_relay_retry = session_on_relay_retry,
    .on_up = session_on_up,
    .on_notice = session_on_notice,
    .on_peer = session_on_peer,
    .on_relay = session_on_relay,
    .on_stream_end = session_on_stream_end,
    .on_end = session_on_end,
};

static void start_session(struct holder *holder, const char *service)
{
    struct session_settings settings = {
        .loop = holder->loop,
        .config = holder->settings->config,
        .print = &holder->print,
        .device = holder->settings->device,
        .service = holder->service,
        .purpose = holder->settings->purpose,
    };
    struct failure failure;

    snprintf(holder->service, sizeof(holder->service), "%s", service);
    if (session_new(&settings, &session_events, holder, &holder->session, &failure) == 0 &&
        session_start(holder->session, &failure) == 0)
        return;
    end_all(holder, &failure);
    holder_close(holder);
}

static void holder_on_restart(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct holder *holder = timer->data;

    connect_output_deinit(&holder->output);
    holder->output.session = NULL;
    holder->session = session_free(holder->session);
    gt_list_for_each_safe (at, next, &holder->server.clients) {
        struct holder_client *client = gt_list_entry(at, struct holder_client, link);

        if (client->state != HOLDER_CLIENT_OPENING)
            continue;
        start_session(holder, client->service);
        return;
    }
    holder_close(holder);
}

/* --- the server's events ------------------------------------------------------------------------
 */

static bool server_is_current(void *userdata, const uint8_t check[static GT_KEY_SIZE])
{
    struct holder *holder = userdata;

    if (gt_is_equal(check, holder->settings->check, GT_KEY_SIZE))
        return true;
    holder->is_stale = true;
    holder_check_idle(holder);
    return false;
}

static void server_on_open(void *userdata, struct holder_client *client)
{
    struct holder *holder = userdata;

    ev_timer_stop(holder->loop, &holder->hold);
    if (!holder->session)
        start_session(holder, client->service);
    else
        open_waiting(holder);
}

static void server_on_gone(void *userdata, struct holder_client *client)
{
    struct holder *holder = userdata;

    if (client->stream > 0)
        session_reset_stream(holder->session, client->stream);
    holder_check_idle(holder);
}

static void server_get_status(void *userdata, struct holder_status *ret)
{
    const struct holder *holder = userdata;

    holder_status_fill(holder->session, holder->settings->device, holder->values->client_name,
                       holder->started_ms, ret);
    ret->kind = HOLDER_KIND_SHARED;
}

static const char *server_host_keys(void *userdata)
{
    return ((const struct holder *)userdata)->host_keys;
}

static const struct holder_server_events server_events = {
    .is_current = server_is_current,
    .on_open = server_on_open,
    .on_gone = server_on_gone,
    .get_status = server_get_status,
    .host_keys = server_host_keys,
};

/* --- output -------------------------------------------------------------------------------------
 */

static void print_on_warning(void *userdata, const char *text)
{
    struct holder *holder = userdata;

    holder_server_notice(&holder->server, HOLDER_NOTICE_WARNING, text);
}

/* Lines of this process, also of the library and of other threads. */
static void log_on_readable(struct ev_loop *loop, ev_io *io, int revents)
{
    struct holder *holder = io->data;
    char line[LOG_LINE_MAX + 1];
    ssize_t n = recv(io->fd, line, LOG_LINE_MAX, MSG_DONTWAIT);

    if (n <= 0)
        return;
    line[n] = 0;
    line[strcspn(line, "\n")] = 0;
    holder_server_notice(&holder->server, HOLDER_NOTICE_LOG, line);
}

/* --- life ---------------------------------------------------------------------------------------
 */

static void holder_init(struct holder *holder, const struct holder_settings *settings)
{
    *holder = (struct holder){
        .settings = settings,
        .values = gt_config_settings(settings->config),
        .loop = ev_loop_new(EVFLAG_AUTO),
        .started_ms = gt_clock_ms(),
        .print = {.style = PRINT_LINES, .is_terse = true, .on_warning = print_on_warning},
    };
    holder->print.userdata = holder;
    connect_output_init(&holder->output, holder->loop, &holder->print, settings->device, NULL,
                        false);
    ev_timer_init(&holder->hold, holder_on_idle, 0, 0);
    ev_timer_init(&holder->restart, holder_on_restart, 0, 0);
    holder->hold.data = holder->restart.data = holder->log.data = holder;
    holder_server_init(&holder->server, holder->loop, &server_events, holder);
}

void holder_run(const struct holder_settings *settings, struct holder_sockets *sockets)
{
    struct holder holder;

    holder_init(&holder, settings);
    command_signals_start(&holder.signals, holder.loop, holder_on_signal, &holder);
    ev_io_init(&holder.log, log_on_readable, sockets->log, EV_READ);
    holder.log.data = &holder;
    ev_io_start(holder.loop, &holder.log);
    if (sockets->listener >= 0)
        holder_server_listen(&holder.server, gt_steal_fd(&sockets->listener), &sockets->file);
    holder_server_add(&holder.server, gt_steal_fd(&sockets->client));
    ev_timer_set(&holder.hold, 2 * HOLDER_CLIENT_S, 0); /* for the first request */
    ev_timer_start(holder.loop, &holder.hold);
    ev_run(holder.loop, 0);
    ev_timer_stop(holder.loop, &holder.hold);
    ev_timer_stop(holder.loop, &holder.restart);
    ev_io_stop(holder.loop, &holder.log);
    gt_close(&sockets->log);
    connect_output_deinit(&holder.output);
    session_free(holder.session);
    holder_server_deinit(&holder.server);
    command_signals_stop(&holder.signals);
    ev_loop_destroy(holder.loop);
}
