/* SPDX-License-Identifier: ISC */
/* WAITING -> READING -> DECIDING -> SENDING -> RESULT -> CLOSING -> ENDED; any -> CLOSING. */
#include "gotthard/enrolment/registrar-internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "gotthard/tls/suite-choice.h"

#define REQUEST_S 30.  /* for the whole request, once the newcomer is there */
#define SEND_S    60.  /* for the answer to leave */
#define RESULT_S  60.  /* for the newcomer to install it */
#define LAST_S    120u /* of the session, behind the expiry of the token */

/* --- states ----------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    double deadline_s; /* 0: until the token expires */
    enum gt_registrar_end expiry;
} states[] = {
    [REGISTRAR_WAITING] = {"waiting", 0, GT_REGISTRAR_EXPIRED},
    [REGISTRAR_READING] = {"reading", REQUEST_S, GT_REGISTRAR_MALFORMED},
    [REGISTRAR_DECIDING] = {"deciding", 0, GT_REGISTRAR_EXPIRED},
    [REGISTRAR_SENDING] = {"sending", SEND_S, GT_REGISTRAR_UNCONFIRMED},
    [REGISTRAR_RESULT] = {"result", RESULT_S, GT_REGISTRAR_UNCONFIRMED},
    [REGISTRAR_CLOSING] = {"closing", 0, GT_REGISTRAR_INTERNAL},
    [REGISTRAR_ENDED] = {"ended", 0, GT_REGISTRAR_INTERNAL},
};

void registrar_enter(struct gt_registrar *registrar, enum registrar_state state)
{
    struct ev_loop *loop = registrar->loop;
    double own_s = states[state].deadline_s, life_s = registrar->ends_at - gt_clock();

    gt_debug("enrolment %s -> %s", states[registrar->state].name, states[state].name);
    registrar->state = state;
    ev_timer_stop(loop, &registrar->deadline);
    if (state >= REGISTRAR_CLOSING) {
        registrar_stop_stream(registrar);
        return;
    }
    ev_now_update(loop);
    ev_timer_set(&registrar->deadline, own_s > 0 ? own_s : GT_MAX(life_s, 0.), 0.);
    ev_timer_start(loop, &registrar->deadline);
}

void registrar_close(struct gt_registrar *registrar, enum gt_registrar_end end, const char *why)
{
    if (registrar->state >= REGISTRAR_CLOSING)
        return;
    registrar->end = end;
    if (why)
        snprintf(registrar->why, sizeof(registrar->why), "%s", why);
    registrar_enter(registrar, REGISTRAR_CLOSING);
    gt_tunnel_close(registrar->tunnel);
}

static void registrar_on_deadline(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct gt_registrar *registrar = timer->data;
    enum registrar_state state = registrar->state;

    registrar_close(registrar, states[state].expiry,
                    state == REGISTRAR_READING ? "the request was not whole within 30 s" : "");
}

/* --- the tunnel ------------------------------------------------------------------------------- */

static void registrar_on_retry(void *userdata, enum gt_end_reason cause, enum gt_code code,
                               const char *why)
{
    struct gt_registrar *registrar = userdata;

    if (cause != GT_END_PEER) /* else the relay no longer waits for the newcomer */
        registrar->events.on_retry(registrar->userdata, why);
}

static void registrar_on_waiting(void *userdata)
{
    struct gt_registrar *registrar = userdata;

    registrar->events.on_waiting(registrar->userdata);
}

static void registrar_on_up(void *userdata, uint16_t port)
{
    struct gt_registrar *registrar = userdata;
    int fds[2];

    if (registrar->state != REGISTRAR_WAITING)
        return;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0) {
        registrar_close(registrar, GT_REGISTRAR_INTERNAL, strerror(errno));
        return;
    }
    if (gt_tunnel_open(registrar->tunnel, gt_endpoint_fds(fds[1]), GT_ENROLMENT_SERVICE) != 0) {
        close(fds[0]);
        registrar_close(registrar, GT_REGISTRAR_INTERNAL, "no stream can be opened");
        return;
    }
    registrar_start_stream(registrar, fds[0]);
    registrar->events.on_met(registrar->userdata);
}

static void registrar_on_notice(void *userdata, enum gt_path_notice notice, const char *text)
{
    gt_debug("enrolment: %s", text);
}

static void registrar_on_peer(void *userdata, bool is_up, enum gt_code reason)
{
    gt_debug("enrolment: the newcomer is %s", is_up ? "back" : "lost");
}

static void registrar_on_relay_connection(void *userdata, enum gt_relay_change change,
                                          const char *why)
{
    gt_debug("enrolment: relay connection: %s", why ? why : "");
}

static void registrar_on_stream_end(void *userdata, const char *service, uint32_t stream,
                                    enum gt_rst code, uint64_t n_up, uint64_t n_down)
{
    gt_debug("enrolment: stream ended code=%u", (unsigned)code);
}

/* The session has ended before the exchange. */
static enum gt_registrar_end end_of(const struct gt_registrar *registrar, enum gt_end_reason cause)
{
    if (registrar->state > REGISTRAR_DECIDING)
        return registrar->is_answer ? GT_REGISTRAR_UNCONFIRMED : GT_REGISTRAR_REJECTED;
    if (cause == GT_END_REFUSED)
        return GT_REGISTRAR_REFUSED;
    bool is_late = cause == GT_END_PEER || cause == GT_END_EXPIRED;
    if (is_late && registrar->state == REGISTRAR_WAITING)
        return GT_REGISTRAR_EXPIRED;
    return cause == GT_END_INTERNAL ? GT_REGISTRAR_INTERNAL : GT_REGISTRAR_BROKEN;
}

static void registrar_on_down(void *userdata, enum gt_end_reason cause, enum gt_code code,
                              const char *why)
{
    struct gt_registrar *registrar = userdata;

    if (registrar->state < REGISTRAR_CLOSING) {
        registrar->end = end_of(registrar, cause);
        if (registrar->end != GT_REGISTRAR_REJECTED)
            snprintf(registrar->why, sizeof(registrar->why), "%s", why);
    }
    registrar_enter(registrar, REGISTRAR_ENDED);
    registrar->events.on_end(registrar->userdata, registrar->end, registrar->why);
}

static int registrar_start_tunnel(struct gt_registrar *registrar,
                                  const struct gt_registrar_settings *settings)
{
    static const struct gt_tunnel_events events = {
        .on_retry = registrar_on_retry,
        .on_waiting = registrar_on_waiting,
        .on_up = registrar_on_up,
        .on_notice = registrar_on_notice,
        .on_peer = registrar_on_peer,
        .on_relay_connection = registrar_on_relay_connection,
        .on_stream_end = registrar_on_stream_end,
        .on_down = registrar_on_down,
    };
    struct gt_token_keys keys;
    int r = gt_token_derive(&registrar->token, &keys);

    if (r != 0)
        return r;
    const struct gt_tunnel_settings tunnel = {
        .role = GT_ROLE_OPERATOR,
        .relays = &registrar->relay,
        .n_relays = 1,
        .proxy = settings->proxy,
        .is_single_port = settings->is_single_port,
        .name = settings->name,
        .client_key = settings->client_key,
        .session_key = keys.session,
        .rid = keys.rid,
        .lifetime_s = settings->left_ms / 1000 + LAST_S,
        .max_streams = 1,
        .ring_size = gt_tunnel_ring_size(0),
        .suite = gt_suite_preferred(),
        .peer_timeout_ms = settings->left_ms,
    };
    r = gt_tunnel_new(registrar->loop, &tunnel, &events, registrar, &registrar->tunnel);
    gt_token_keys_wipe(&keys);
    return r;
}

/* --- creation --------------------------------------------------------------------------------- */

int gt_registrar_new(struct ev_loop *loop, const struct gt_registrar_settings *settings,
                     const struct gt_registrar_events *events, void *userdata,
                     struct gt_registrar **ret)
{
    struct gt_registrar *registrar = calloc(1, sizeof(*registrar));

    if (!registrar)
        return -ENOMEM;
    registrar->loop = loop;
    registrar->events = *events;
    registrar->userdata = userdata;
    registrar->token = *settings->token;
    registrar->relay = *settings->relay;
    registrar_init_stream(registrar);
    ev_init(&registrar->deadline, registrar_on_deadline);
    registrar->ends_at = gt_clock() + settings->left_ms / 1000.;
    registrar->deadline.data = registrar;
    int r = registrar_start_tunnel(registrar, settings);
    if (r != 0) {
        gt_registrar_free(registrar);
        return r;
    }
    registrar_enter(registrar, REGISTRAR_WAITING);
    *ret = registrar;
    return 0;
}

struct gt_registrar *gt_registrar_free(struct gt_registrar *registrar)
{
    if (!registrar)
        return NULL;
    ev_timer_stop(registrar->loop, &registrar->deadline);
    gt_tunnel_free(registrar->tunnel);
    registrar_deinit_stream(registrar);
    gt_wipe(registrar, sizeof(*registrar));
    free(registrar);
    return NULL;
}
