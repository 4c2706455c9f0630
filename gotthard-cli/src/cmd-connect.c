/* SPDX-License-Identifier: ISC */
/*
 * `connect DEVICE [TARGET]...`: asks the device over MQTT, meets it at the relay, and carries local
 * connections until it is told to stop:
 *
 *   ASKING -> JOINING -> UP <-> AWAY (the device or the relay is) -> CLOSING -> OVER
 *
 * MQTT is let go as soon as the session is agreed: a tunnel does not depend on the broker. The
 * ports are bound first of all and kept, but nothing is accepted before the tunnel is up. What is
 * said about it all is voice.c's.
 */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "commands.h"
#include "gotthard/log.h"
#include "gotthard/tunnel.h"
#include "ports.h"
#include "request.h"
#include "voice.h"

#define DEFAULT_SERVICE "ssh"

enum connect_state {
    CONNECT_ASKING,
    CONNECT_JOINING,
    CONNECT_UP,
    CONNECT_AWAY,
    CONNECT_CLOSING,
    CONNECT_OVER,
};

static const struct {
    const char *name;
    double deadline; /* seconds; 0: it is watched by the request or the tunnel */
} states[] = {
    [CONNECT_ASKING] = {"asking", 0},
    [CONNECT_JOINING] = {"joining", 0},
    [CONNECT_UP] = {"up", 0},
    [CONNECT_AWAY] = {"away", 0},
    [CONNECT_CLOSING] = {"closing", 2.5},
    [CONNECT_OVER] = {"over", 0},
};

struct connect {
    struct context *context;
    const char *device;
    enum connect_state state;
    ev_timer deadline;
    struct command_signals signals;
    struct identity identity;
    struct ports ports;
    struct request *request;  /* ASKING */
    struct gt_tunnel *tunnel; /* from JOINING on */
    struct voice voice;
    char relay_host[GT_HOST_MAX + 1];
    uint16_t relay_port;
    unsigned n_streams, max_streams;
    bool was_up;
    int code;
};

static void connect_enter(struct connect *connect, enum connect_state state)
{
    struct ev_loop *loop = connect->context->loop;
    gt_debug("device=%s %s -> %s", connect->device, states[connect->state].name,
             states[state].name);
    connect->state = state;
    ev_timer_stop(loop, &connect->deadline);
    ev_timer_set(&connect->deadline, states[state].deadline, 0);
    if (states[state].deadline > 0)
        ev_timer_start(loop, &connect->deadline);
    if (state == CONNECT_OVER)
        ev_break(loop, EVBREAK_ALL);
}

static void connect_end(struct connect *connect, const char *reason, int code)
{
    if (connect->state == CONNECT_OVER)
        return;
    connect->code = code;
    if (connect->was_up)
        voice_closed(&connect->voice, reason, code);
    connect_enter(connect, CONNECT_OVER);
}

/* As he wished who pressed Ctrl+C: no failure, if there was a tunnel. */
static void connect_leave(struct connect *connect)
{
    connect_end(connect, "interrupted", connect->was_up ? 0 : EXIT_INTERRUPTED);
}

static void connect_fail(struct connect *connect, const char *reason, const struct failure *failure)
{
    if (connect->state != CONNECT_OVER)
        connect_end(connect, reason, print_failure(&connect->context->print, failure));
}

/* --- local connections --------------------------------------------------------------------- */

static void connect_on_connection(void *userdata, struct port *port, int fd,
                                  const struct gt_addr *peer)
{
    struct connect *connect = userdata;
    const char *service = port->target.service;
    int err = gt_tunnel_open(connect->tunnel, fd, service);
    if (err != 0) {
        voice_stream_refused(&connect->voice, service, err);
        return;
    }
    voice_stream_opened(&connect->voice, service, gt_tunnel_last_stream(connect->tunnel), peer);
    if (++connect->n_streams < connect->max_streams)
        return;
    ports_stop(&connect->ports);
    voice_streams_full(&connect->voice, connect->max_streams);
}

static void tunnel_on_stream_end(void *userdata, const char *service, uint32_t stream,
                                 enum gt_rst code, uint64_t n_up, uint64_t n_down)
{
    struct connect *connect = userdata;
    voice_stream_ended(&connect->voice, service, stream, code, n_up, n_down);
    if (connect->n_streams-- == connect->max_streams && connect->state == CONNECT_UP)
        ports_start(&connect->ports);
}

/* --- the tunnel ---------------------------------------------------------------------------- */

static void tunnel_on_up(void *userdata, uint16_t port)
{
    struct connect *connect = userdata;
    if (connect->state != CONNECT_JOINING)
        return;
    connect->was_up = true;
    connect_enter(connect, CONNECT_UP);
    voice_up(&connect->voice, &connect->ports, connect->relay_host, port);
    ports_start(&connect->ports);
}

/* While the device or the relay is away new connections wait in the kernel's queue. */
static void connect_follow(struct connect *connect)
{
    bool is_up = gt_tunnel_is_up(connect->tunnel);
    if (connect->state == CONNECT_UP && !is_up) {
        connect_enter(connect, CONNECT_AWAY);
        ports_stop(&connect->ports);
    } else if (connect->state == CONNECT_AWAY && is_up) {
        connect_enter(connect, CONNECT_UP);
        if (connect->n_streams < connect->max_streams)
            ports_start(&connect->ports);
    }
}

static void tunnel_on_peer(void *userdata, bool is_up, enum gt_code reason)
{
    struct connect *connect = userdata;
    connect_follow(connect);
    if (is_up)
        voice_peer_back(&connect->voice);
    else
        voice_peer_away(&connect->voice, reason);
}

static void tunnel_on_link(void *userdata, bool is_up, const char *why)
{
    struct connect *connect = userdata;
    connect_follow(connect);
    if (is_up)
        voice_link_back(&connect->voice);
    else
        voice_link_lost(&connect->voice, why);
}

/* What the relay's last word stands for. */
static enum failure_id failure_of_code(enum gt_code code)
{
    if (code == GT_CODE_NO_PORT)
        return FAILURE_RELAY_FULL;
    return code == GT_CODE_SHUTDOWN ? FAILURE_TUNNEL_LOST : FAILURE_RELAY_ERROR;
}

static void describe_down(const struct connect *connect, enum gt_down cause, enum gt_code code,
                          const char *why, struct failure *ret)
{
    const char *device = connect->device, *host = connect->relay_host;
    unsigned port = connect->relay_port;
    switch (cause) {
    case GT_DOWN_CLOSED:
        failure_set(ret, FAILURE_DEVICE_LOST, NULL, "%s closed the session before it was up",
                    device);
        return;
    case GT_DOWN_UNREACHABLE:
        failure_set(ret, FAILURE_RELAY_UNREACHABLE, NULL, "relay %s:%u: %s", host, port, why);
        return;
    case GT_DOWN_REFUSED:
        failure_set(ret, FAILURE_RELAY_REFUSED, NULL, "relay %s:%u: %s", host, port, why);
        return;
    case GT_DOWN_RELAY:
        failure_set(ret, failure_of_code(code), NULL, "relay %s:%u: %s", host, port, why);
        return;
    case GT_DOWN_LOST:
        failure_set(ret, FAILURE_TUNNEL_LOST, NULL, "the connection to the relay is lost: %s", why);
        return;
    case GT_DOWN_PEER:
        failure_set(ret, FAILURE_DEVICE_LOST,
                    connect->was_up ? NULL : "check that the device can reach the relay",
                    connect->was_up ? "%s is lost: %s" : "%s did not come to the relay: %s", device,
                    why);
        return;
    case GT_DOWN_EXPIRED:
        failure_set(ret, FAILURE_TUNNEL_LOST, "connect again, or raise client.lifetime",
                    "the tunnel's lifetime is over");
        return;
    case GT_DOWN_INTERNAL: break;
    }
    failure_set(ret, FAILURE_INTERNAL, NULL, "%s", why);
}

static void tunnel_on_down(void *userdata, enum gt_down cause, enum gt_code code, const char *why)
{
    struct connect *connect = userdata;
    struct failure failure;
    if (connect->state == CONNECT_CLOSING) {
        if (code == GT_CODE_LOST)
            voice_unheard(&connect->voice);
        connect_leave(connect);
    } else if (cause == GT_DOWN_CLOSED && connect->was_up) {
        voice_closed_by_device(&connect->voice);
        connect_end(connect, "device", 0);
    } else {
        describe_down(connect, cause, code, why, &failure);
        connect_fail(connect, gt_down_text(cause), &failure);
    }
}

static int connect_join(struct connect *connect, const struct gt_answer *answer,
                        struct failure *ret_failure)
{
    static const struct gt_tunnel_events events = {
        .on_up = tunnel_on_up,
        .on_peer = tunnel_on_peer,
        .on_link = tunnel_on_link,
        .on_stream_end = tunnel_on_stream_end,
        .on_down = tunnel_on_down,
    };
    const struct settings *settings = connect->context->settings;
    uint8_t client_key[GT_KEY_SIZE];
    if (gt_key_client(&connect->identity.key, GT_ROLE_OPERATOR, settings->client_name,
                      client_key) != 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "cannot derive the relay's key");
    struct gt_tunnel_settings tunnel = {
        .role = GT_ROLE_OPERATOR,
        .relay_host = connect->relay_host,
        .relay_port = connect->relay_port,
        .is_single_port = settings->is_single_port,
        .name = settings->client_name,
        .client_key = client_key,
        .session_key = answer->keys.session,
        .rid = answer->keys.rid,
        .lifetime_s = answer->ack.lifetime_s,
        .max_streams = connect->max_streams,
        .n_spares = (unsigned)settings->n_spares,
        .ring_size = settings->ring_size,
        .peer_timeout_ms = (unsigned)settings->peer_timeout_ms,
        .resume_window_ms = (unsigned)settings->resume_window_ms,
    };
    int err = gt_tunnel_new(connect->context->loop, &tunnel, &events, connect, &connect->tunnel);
    gt_wipe(client_key, sizeof(client_key));
    if (err != 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "tunnel: %s", strerror(abs(err)));
    return 0;
}

/* --- the question -------------------------------------------------------------------------- */

static void request_on_broker(void *userdata)
{
    struct connect *connect = userdata;
    voice_broker(&connect->voice, connect->context->settings->mqtt_endpoint);
}

/* The fleet's key opens every device: a process that holds one tunnel for hours must not hold it.
 */
static void connect_forget_keys(struct connect *connect)
{
    identity_deinit(&connect->identity);
    gt_config_forget_secrets(connect->context->config);
}

static void request_on_answer(void *userdata, const struct gt_answer *answer)
{
    struct connect *connect = userdata;
    struct failure failure;
    voice_answered(&connect->voice, &answer->ack.extensions);
    connect->max_streams = GT_MAX(answer->ack.max_streams, 1u);
    int err = connect_join(connect, answer, &failure);
    connect->request = request_free(connect->request);
    connect_forget_keys(connect);
    if (err != 0)
        connect_fail(connect, "internal", &failure);
    else
        connect_enter(connect, CONNECT_JOINING);
}

static void request_on_failure(void *userdata, const struct failure *failure)
{
    connect_fail(userdata, "refused", failure);
}

/* --- the end ------------------------------------------------------------------------------- */

/* Of CLOSING alone: the tunnel said goodbye, or could not. */
static void connect_on_deadline(struct ev_loop *loop, ev_timer *timer, int revents)
{
    connect_leave(timer->data);
}

static void connect_on_signal(void *userdata, int number)
{
    struct connect *connect = userdata;
    switch (connect->state) {
    case CONNECT_JOINING:
    case CONNECT_UP:
    case CONNECT_AWAY:
        ports_stop(&connect->ports);
        voice_closing(&connect->voice);
        connect_enter(connect, CONNECT_CLOSING);
        gt_tunnel_close(connect->tunnel);
        return;
    case CONNECT_ASKING:
        voice_interrupted(&connect->voice);
        connect_leave(connect);
        return;
    case CONNECT_CLOSING: connect_leave(connect); return;
    case CONNECT_OVER: return;
    }
}

/* --- the beginning ------------------------------------------------------------------------- */

static int parse_targets(struct context *context, struct target *ret, size_t *ret_n)
{
    uint16_t port = (uint16_t)context->settings->client_port;
    const char *why = "";
    size_t n = context->n_words - 1;
    for (size_t i = 0; i < n; i++)
        if (target_parse(context->words[i + 1], port, &ret[i], &why) != 0) {
            char shown[80];
            gt_text_escape(gt_span_text(context->words[i + 1]), shown, sizeof(shown));
            return command_misused(context, "\"%s\": %s", shown, why);
        }
    if (n == 0 && target_parse(DEFAULT_SERVICE, port, &ret[n++], &why) != 0)
        return EXIT_INTERNAL;
    *ret_n = n;
    return 0;
}

static int connect_begin(struct connect *connect, const struct target *targets, size_t n_targets,
                         struct failure *ret_failure)
{
    static const struct request_events events = {
        .on_broker = request_on_broker,
        .on_answer = request_on_answer,
        .on_failure = request_on_failure,
    };
    struct context *context = connect->context;
    const struct settings *settings = context->settings;
    struct ports_settings ports = {
        .loop = context->loop,
        .bind = context->bind,
        .default_port = (uint16_t)settings->client_port,
        .is_default_asked = gt_config_is_set(context->config, "client.port"),
    };
    struct request_settings request = {
        .loop = context->loop,
        .settings = settings,
        .identity = &connect->identity,
        .print = &context->print,
        .device = connect->device,
        .service = targets[0].service,
    };
    if (identity_load(context->config, &context->print, &connect->identity, ret_failure) != 0)
        return 1;
    if (!settings_relay(settings, settings->relay, connect->relay_host, &connect->relay_port))
        return failure_set(ret_failure, FAILURE_CONFIG,
                           "set GOTTHARD_SERVER_HOST, or name the relay under relays",
                           "no address is known for the relay \"%s\"", settings->relay);
    if (ports_open(&ports, targets, n_targets, connect_on_connection, connect, &connect->ports,
                   ret_failure) != 0)
        return 1;
    if (request_new(&request, &events, connect, &connect->request, ret_failure) != 0)
        return 1;
    voice_requesting(&connect->voice, &connect->ports);
    return 0;
}

static void connect_deinit(struct connect *connect)
{
    ev_timer_stop(connect->context->loop, &connect->deadline);
    request_free(connect->request);
    gt_tunnel_free(connect->tunnel);
    ports_close(&connect->ports);
    identity_deinit(&connect->identity);
}

int cmd_connect(struct context *context)
{
    struct target targets[PORTS_MAX];
    size_t n_targets = 0;
    struct failure failure;
    if (!command_takes_device(context, context->words[0]))
        return EXIT_USAGE;
    int code = parse_targets(context, targets, &n_targets);
    if (code != 0)
        return code;
    struct connect connect = {.context = context, .device = context->words[0]};
    voice_init(&connect.voice, &context->print, connect.device, context->bind,
               context->is_print_port);
    ev_init(&connect.deadline, connect_on_deadline);
    connect.deadline.data = &connect;
    command_signals_start(&connect.signals, context->loop, connect_on_signal, &connect);
    if (connect_begin(&connect, targets, n_targets, &failure) != 0)
        connect.code = print_failure(&context->print, &failure);
    else
        ev_run(context->loop, 0);
    command_signals_stop(&connect.signals);
    connect_deinit(&connect);
    return connect.code;
}
