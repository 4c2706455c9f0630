/* SPDX-License-Identifier: ISC */
/*
 * The session of a holder: it begins with the first request for a stream and is the same for all
 * later ones. A client whose stream cannot be opened yet, because the device or the relay is away,
 * waits.
 */
#include <stdio.h>
#include <string.h>

#include "diagnosis.h"
#include "holder-internal.h"
#include "host-keys.h"

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

void holder_open_waiting(struct holder *holder)
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
    holder->is_agreed = true;
    holder_server_answer(&holder->server);
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
    holder_open_waiting(userdata);
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
    holder_open_waiting(holder);
}

static void session_on_relay(void *userdata, enum gt_relay_change change, const char *why)
{
    struct holder *holder = userdata;

    holder->output.session = holder->session;
    connect_output_relay(&holder->output, change, why);
    holder_open_waiting(holder);
}

static void session_on_stream_connected(void *userdata, uint32_t stream)
{
    struct holder *holder = userdata;
    struct holder_client *client = holder_server_find(&holder->server, stream);

    if (client)
        holder_server_connected(client);
}

/* A reset of the service is an end of file on standard output: the exit status distinguishes it. */
static void session_on_stream_end(void *userdata, const char *service, uint32_t stream,
                                  enum gt_rst code, uint64_t n_up, uint64_t n_down)
{
    struct holder *holder = userdata;
    struct holder_client *client = holder_server_find(&holder->server, stream);
    char text[GT_SERVICE_MAX + 128];
    struct failure failure;

    if (!client) { /* it is gone */
        holder_check_idle(holder);
        return;
    }
    snprintf(text, sizeof(text), "connection to %s failed: %s", service, gt_rst_text(code));
    if (code == GT_RST_NONE) {
        holder_server_end(client, 0, "");
    } else if (code == GT_RST_DENIED) {
        diagnosis_of_service(holder->settings->device, service, &failure);
        holder_server_fail(client, &failure);
    } else if (diagnosis_of_target(holder->settings->device, service, code, &failure)) {
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
    .on_stream_connected = session_on_stream_connected,
    .on_stream_end = session_on_stream_end,
    .on_end = session_on_end,
};

void holder_start_session(struct holder *holder, const char *service)
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

void holder_on_restart(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct holder *holder = timer->data;

    connect_output_deinit(&holder->output);
    holder->output.session = NULL;
    holder->session = session_free(holder->session);
    gt_list_for_each_safe (at, next, &holder->server.clients) {
        struct holder_client *client = gt_list_entry(at, struct holder_client, link);

        if (client->state != HOLDER_CLIENT_OPENING)
            continue;
        holder_start_session(holder, client->service);
        return;
    }
    holder_close(holder);
}
