/* SPDX-License-Identifier: ISC */
/*
 * The session's states, one after the other:
 *
 *   NEW -> REQUESTING -> JOINING -> UP <-> AWAY -> CLOSING -> ENDED
 *
 * MQTT is disconnected as soon as the tunnel is up, and does not matter to it. Until then the
 * device reports there why it does not come to the relay. The fleet key is wiped when the session
 * is agreed, because it opens every device. A process that holds one tunnel for hours must not hold
 * it.
 */
#include "session-internal.h"

#include <stdio.h>
#include <string.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/descriptor-limit.h"
#include "gotthard/base/log.h"
#include "gotthard/config/config-proxy.h"
#include "gotthard/tls/suite-choice.h"

/* A stream has its local socket, and while it moves or has moved one or two more. */
#define DESCRIPTORS(max_streams) (2 * (size_t)(max_streams) + 1024)

static const struct settings *session_settings(const struct session *session)
{
    return gt_config_settings(session->settings.config);
}

/* --- states -------------------------------------------------------------------------------- */

static void session_finish_close(struct session *session);

static const struct {
    const char *name;
    double deadline_s; /* 0: none here; the request and the tunnel have their own */
    void (*on_expiry)(struct session *session);
} states[] = {
    [SESSION_NEW] = {"new", 0, NULL},
    [SESSION_REQUESTING] = {"requesting", 0, NULL},
    [SESSION_JOINING] = {"joining", 0, session_fail_by_report},
    [SESSION_UP] = {"up", 0, NULL},
    [SESSION_AWAY] = {"away", 0, NULL},
    [SESSION_CLOSING] = {"closing", 2.5, session_finish_close},
    [SESSION_ENDED] = {"ended", 0, NULL},
};

static void session_enter(struct session *session, enum session_state state)
{
    struct ev_loop *loop = session->settings.loop;

    gt_debug("device=%s state %s -> %s", session->settings.device, states[session->state].name,
             states[state].name);
    session->state = state;
    ev_timer_stop(loop, &session->deadline);
    ev_timer_set(&session->deadline, states[state].deadline_s, 0);
    if (states[state].deadline_s > 0)
        ev_timer_start(loop, &session->deadline);
}

static void session_on_deadline(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct session *session = timer->data;

    states[session->state].on_expiry(session);
}

static void session_end(struct session *session, const struct session_end *end)
{
    if (session->state == SESSION_ENDED)
        return;
    if (session->tunnel && !session->was_up)
        (void)session_withdraw(session);
    session_drop_prepared(session);
    session_enter(session, SESSION_ENDED);
    session->events.on_end(session->userdata, end);
}

void session_fail(struct session *session, const char *reason, const struct failure *failure)
{
    session_end(session, &(struct session_end){
                             .kind = SESSION_END_FAILED, .reason = reason, .failure = failure});
}

static void session_end_closed(struct session *session, bool is_bye_unsent)
{
    if (session_withdraw(session))
        is_bye_unsent = false;
    session_end(session, &(struct session_end){.kind = SESSION_END_CLOSED,
                                               .reason = "interrupted",
                                               .is_bye_unsent = is_bye_unsent});
}

/* The deadline of CLOSING: the tunnel did not report its end in time. */
static void session_finish_close(struct session *session)
{
    session_end_closed(session, false);
}

/* --- the tunnel's events ------------------------------------------------------------------- */

static void tunnel_on_up(void *userdata, uint16_t port)
{
    struct session *session = userdata;

    if (session->state != SESSION_JOINING)
        return;
    session->was_up = true;
    session_enter(session, SESSION_UP);
    session->events.on_up(session->userdata, session->relay.host, port);
    session->request = request_free(session->request);
    identity_deinit(&session->identity);
}

static void tunnel_on_notice(void *userdata, enum gt_path_notice notice, const char *text)
{
    struct session *session = userdata;

    session->events.on_notice(session->userdata, notice, text);
}

/* Moves between UP and AWAY as the tunnel does. */
static void session_follow_tunnel(struct session *session)
{
    bool is_up = gt_tunnel_is_up(session->tunnel);

    if (session->state == SESSION_UP && !is_up)
        session_enter(session, SESSION_AWAY);
    else if (session->state == SESSION_AWAY && is_up)
        session_enter(session, SESSION_UP);
}

static void tunnel_on_peer(void *userdata, bool is_up, enum gt_code reason)
{
    struct session *session = userdata;

    session_follow_tunnel(session);
    session->events.on_peer(session->userdata, is_up, reason);
}

static void tunnel_on_relay_connection(void *userdata, enum gt_relay_change change, const char *why)
{
    struct session *session = userdata;

    session_follow_tunnel(session);
    session->events.on_relay(session->userdata, change, why);
}

static void tunnel_on_connected(void *userdata, uint32_t stream)
{
    struct session *session = userdata;

    if (session->events.on_stream_connected)
        session->events.on_stream_connected(session->userdata, stream);
}

static void tunnel_on_stream_end(void *userdata, const char *service, uint32_t stream,
                                 enum gt_rst code, uint64_t n_up, uint64_t n_down)
{
    struct session *session = userdata;

    session->n_streams--;
    session->n_up += n_up;
    session->n_down += n_down;
    session->events.on_stream_end(session->userdata, service, stream, code, n_up, n_down);
}

static void tunnel_on_down(void *userdata, enum gt_end_reason cause, enum gt_code code,
                           const char *why)
{
    struct session *session = userdata;

    if (session->state == SESSION_CLOSING) {
        session_end_closed(session, code == GT_CODE_LOST);
    } else if (!session_awaits_report(session, cause, why)) {
        struct tunnel_end end = {
            .device = session->settings.device,
            .relay = &session->relay,
            .was_up = session->was_up,
            .report = session->report.seq > 0 ? &session->report : NULL,
            .age_s = gt_clock() - session->joined_at,
            .granted_s = session->granted_s,
            .requested_s = (double)(session_settings(session)->lifetime_ms / 1000),
            .is_offline = session->is_offline,
            .cause = cause,
            .code = code,
            .why = why,
            .has_proxy = session->proxy.kind != GT_PROXY_NONE,
        };
        struct failure failure;

        diagnosis_of_tunnel_end(&end, &failure);
        session_fail(session, cause == GT_END_CLOSED ? "device" : gt_end_reason_text(cause),
                     &failure);
    }
}

static const struct gt_tunnel_events tunnel_events = {
    .on_retry = session_on_retry,
    .on_waiting = session_on_waiting,
    .on_up = tunnel_on_up,
    .on_notice = tunnel_on_notice,
    .on_peer = tunnel_on_peer,
    .on_relay_connection = tunnel_on_relay_connection,
    .on_connected = tunnel_on_connected,
    .on_stream_end = tunnel_on_stream_end,
    .on_down = tunnel_on_down,
};

/* @client_key and @answer must outlive the result. */
static struct gt_tunnel_settings tunnel_settings(const struct session *session,
                                                 const struct gt_answer *answer,
                                                 const uint8_t *client_key)
{
    const struct settings *settings = session_settings(session);

    return (struct gt_tunnel_settings){
        .role = GT_ROLE_OPERATOR,
        .relays = &session->relay,
        .n_relays = 1,
        .proxy = session->proxy.kind == GT_PROXY_NONE ? NULL : &session->proxy,
        .is_single_port = settings->is_single_port,
        .name = settings->client_name,
        .client_key = client_key,
        .session_key = answer->keys.session,
        .rid = answer->keys.rid,
        .lifetime_s = answer->ack.lifetime_s,
        .max_streams = session->max_streams,
        .shared_idle_ms = (unsigned)settings->shared_idle_ms,
        .ring_size = gt_tunnel_ring_size(settings->ring_size),
        .suite = gt_suite_preferred(),
        .peer_timeout_ms = (unsigned)settings->peer_timeout_ms,
        .resume_window_ms = (unsigned)settings->resume_window_ms,
        .vanished_ms = (unsigned)settings->vanished_ms,
        .linger_ms = (unsigned)settings->linger_ms,
    };
}

/* Starts the tunnel with the keys of @answer. */
static int session_join(struct session *session, const struct gt_answer *answer,
                        struct failure *ret_failure)
{
    uint8_t client_key[GT_KEY_SIZE];

    if (session_relay_key(session, client_key, ret_failure) != 0)
        return 1;
    struct gt_tunnel_settings tunnel = tunnel_settings(session, answer, client_key);
    tunnel.prepared = gt_steal(&session->prepared);
    int r =
        gt_tunnel_new(session->settings.loop, &tunnel, &tunnel_events, session, &session->tunnel);
    gt_wipe(client_key, sizeof(client_key));
    if (r != 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "tunnel: %s", strerror(abs(r)));
    return 0;
}

/* --- the request's events ------------------------------------------------------------------ */

static void request_on_broker(void *userdata)
{
    struct session *session = userdata;

    session->events.on_broker_connected(session->userdata);
}

static void request_on_sent(void *userdata, bool is_likely)
{
    if (is_likely)
        session_prepare_relay(userdata);
    else
        session_drop_prepared(userdata);
}

static void request_on_wait(void *userdata, const struct failure *why)
{
    struct session *session = userdata;

    session_drop_prepared(session);
    if (session->events.on_wait)
        session->events.on_wait(session->userdata, why);
}

static void request_on_agreed(void *userdata, const struct gt_answer *answer)
{
    struct session *session = userdata;
    struct failure failure;

    session->max_streams = GT_MAX(answer->ack.max_streams, 1u);
    gt_descriptor_limit_raise(DESCRIPTORS(session->max_streams));
    session->joined_at = gt_clock();
    session->granted_s = answer->ack.lifetime_s;
    session->events.on_agreed(session->userdata, &answer->ack.extensions, &session->identity);
    int r = session_join(session, answer, &failure);
    identity_forget_keys(&session->identity);
    gt_config_forget_secrets(session->settings.config);
    if (r != 0)
        session_fail(session, "internal", &failure);
    else
        session_enter(session, SESSION_JOINING);
}

static void request_on_end(void *userdata, const struct gt_answer *answer,
                           const struct failure *failure)
{
    session_fail(userdata, "refused", failure);
}

/* --- creation, commands and state ---------------------------------------------------------- */

int session_new(const struct session_settings *settings, const struct session_events *events,
                void *userdata, struct session **ret, struct failure *ret_failure)
{
    const struct settings *values = gt_config_settings(settings->config);
    struct session *session = calloc(1, sizeof(*session));

    if (!session)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "out of memory");
    session->settings = *settings;
    session->events = *events;
    session->userdata = userdata;
    ev_init(&session->deadline, session_on_deadline);
    session->deadline.data = session;
    int r = identity_load(settings->config, settings->print, &session->identity, ret_failure);
    if (r == 0 && !settings_relay(values, values->relay, &session->relay))
        r = failure_set(ret_failure, FAILURE_CONFIG,
                        strcmp(values->relay, "main") == 0
                            ? "set {+server.host}"
                            : "add its address to {+relays}, or check {client.relay}",
                        "no address is configured for the relay \"%s\"", values->relay);
    if (r != 0) {
        session_free(session);
        return 1;
    }
    const char *unusable = gt_config_proxy_unusable(&values->server_proxy, session->relay.host);
    if (unusable)
        print_warning(settings->print, GT_CONFIG_PROXY_UNUSABLE, unusable, session->relay.host,
                      "server.proxy");
    (void)gt_config_proxy(&values->server_proxy, values->server_proxy_password, session->relay.host,
                          &session->proxy);
    *ret = session;
    return 0;
}

struct session *session_free(struct session *session)
{
    if (!session)
        return NULL;
    ev_timer_stop(session->settings.loop, &session->deadline);
    request_free(session->request);
    session_drop_prepared(session);
    gt_tunnel_free(session->tunnel);
    identity_deinit(&session->identity);
    gt_wipe(&session->proxy, sizeof(session->proxy));
    free(session);
    return NULL;
}

int session_start(struct session *session, struct failure *ret_failure)
{
    static const struct request_events events = {
        .on_broker = request_on_broker,
        .on_sent = request_on_sent,
        .on_wait = request_on_wait,
        .on_agreed = request_on_agreed,
        .on_report = session_on_report,
        .on_offline = session_on_offline,
        .on_end = request_on_end,
    };
    struct request_settings request = {
        .loop = session->settings.loop,
        .settings = session_settings(session),
        .identity = &session->identity,
        .print = session->settings.print,
        .device = session->settings.device,
        .service = session->settings.service,
        .purpose = session->settings.purpose,
        .wait_s = session->settings.wait_s,
    };

    if (request_new(&request, &events, session, &session->request, ret_failure) != 0)
        return 1;
    session_enter(session, SESSION_REQUESTING);
    return 0;
}

void session_close(struct session *session)
{
    session_enter(session, SESSION_CLOSING);
    gt_tunnel_close(session->tunnel);
}

int session_open_stream(struct session *session, struct gt_endpoint_fds local, const char *service,
                        uint32_t *ret_stream)
{
    int r = gt_tunnel_open(session->tunnel, local, service);

    if (r != 0)
        return r;
    session->n_streams++;
    *ret_stream = gt_tunnel_last_stream(session->tunnel);
    return 0;
}

void session_serve_stream(struct session *session, uint32_t stream, int fd)
{
    gt_tunnel_serve(session->tunnel, stream, fd);
}

void session_reset_stream(struct session *session, uint32_t stream)
{
    if (session->tunnel)
        gt_tunnel_reset_stream(session->tunnel, stream);
}

void session_leave_stream(struct session *session, uint32_t stream)
{
    if (session->tunnel)
        gt_tunnel_leave_stream(session->tunnel, stream);
}

void session_each_stream(const struct session *session, gt_streams_each_fn fn, void *userdata)
{
    if (session && session->tunnel)
        gt_tunnel_each_stream(session->tunnel, fn, userdata);
}

bool session_waits(const struct session *session, struct gt_tunnel_wait *ret)
{
    return session && session->tunnel && gt_tunnel_waits(session->tunnel, ret);
}

enum session_state session_state(const struct session *session)
{
    return session->state;
}

bool session_was_up(const struct session *session)
{
    return session->was_up;
}

bool session_has_room(const struct session *session)
{
    return session->state == SESSION_UP && session->n_streams < session->max_streams;
}

unsigned session_max_streams(const struct session *session)
{
    return session->max_streams;
}

unsigned session_n_streams(const struct session *session)
{
    return session->n_streams;
}

void session_byte_counts(const struct session *session, uint64_t *ret_up, uint64_t *ret_down)
{
    uint64_t n_up = 0, n_down = 0;

    if (session->tunnel)
        gt_tunnel_byte_counts(session->tunnel, &n_up, &n_down);
    *ret_up = session->n_up + n_up;
    *ret_down = session->n_down + n_down;
}

bool session_is_aging(const struct session *session)
{
    return session->granted_s > 0 && gt_clock() - session->joined_at > session->granted_s / 2.;
}

const struct gt_host_port *session_relay(const struct session *session)
{
    return &session->relay;
}
