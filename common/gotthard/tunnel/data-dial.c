/* SPDX-License-Identifier: ISC */
/*
 * Two legs and one timer: first the patience with the session's port, then the deadline of the
 * handshake. Must never send a byte of the stream: the handshake has not yet authenticated the
 * other end.
 */
#include "gotthard/tunnel/data-dial.h"

#include <openssl/crypto.h>
#include <stdio.h>

#include "gotthard/base/log.h"
#include "gotthard/crypto/key.h"
#include "gotthard/tunnel/data-leg.h"

#define HANDSHAKE_S 10.
#define SETTLE_S    0.1 /* from the failure of the session's port to the main port */

enum dial_leg { LEG_SESSION_PORT, LEG_MAIN_PORT, N_LEGS };

struct gt_data_dial {
    struct ev_loop *loop;
    const struct gt_data_dial_events *events;
    void *userdata;
    struct gt_path *path;
    uint16_t segment;
    double timeout_s;

    struct gt_addr relay; /* with the session's port */
    struct gt_join join;
    struct gt_data_leg legs[N_LEGS];
    bool is_received; /* the relay has a JOIN of this side */
    ev_timer timer;

    struct gt_tls_context *context;
    struct gt_stream_psk psk;
    int fd; /* from the handshake on, over the leg at ->port */
    uint16_t port;
    ev_io reader, writer;
    struct gt_tls *tls;
};

static void dial_arm(struct gt_data_dial *dial, ev_tstamp after)
{
    ev_timer_stop(dial->loop, &dial->timer);
    ev_timer_set(&dial->timer, after, 0);
    ev_timer_start(dial->loop, &dial->timer);
}

static void dial_stop(struct gt_data_dial *dial)
{
    ev_io_stop(dial->loop, &dial->reader);
    ev_io_stop(dial->loop, &dial->writer);
    ev_timer_stop(dial->loop, &dial->timer);
    for (size_t i = 0; i < N_LEGS; i++)
        gt_data_leg_stop(&dial->legs[i]);
}

static enum gt_path_stage dial_stage(const struct gt_data_dial *dial)
{
    if (dial->port != 0)
        return GT_PATH_JOINED;
    return dial->is_received ? GT_PATH_RECEIVED : GT_PATH_AT_NO_PORT;
}

/* A tail call only. @why may live inside tls. */
static void dial_fail(struct gt_data_dial *dial, const char *why)
{
    dial_stop(dial);
    gt_path_on_failure(dial->path, dial->port ? dial->port : gt_addr_port(&dial->relay),
                       dial_stage(dial), why);
    dial->events->on_failed(dial->userdata, why);
}

/* --- TLS -------------------------------------------------------------------------------------- */

static bool dial_on_psk(void *userdata, struct gt_span identity,
                        uint8_t ret_psk[static GT_KEY_SIZE])
{
    const struct gt_data_dial *dial = userdata;

    if (identity.n != GT_STREAM_ID_SIZE ||
        CRYPTO_memcmp(identity.data, dial->psk.id, GT_STREAM_ID_SIZE) != 0)
        return false;
    memcpy(ret_psk, dial->psk.psk, GT_KEY_SIZE);
    return true;
}

static void dial_shake_hands(struct gt_data_dial *dial)
{
    int r = gt_tls_handshake(dial->tls);

    if (r == GT_TLS_E_AGAIN) {
        if (gt_tls_wants_write(dial->tls))
            ev_io_start(dial->loop, &dial->writer);
        else
            ev_io_stop(dial->loop, &dial->writer);
        return;
    }
    if (r) {
        dial_fail(dial, gt_tls_why(dial->tls));
        return;
    }
    dial_stop(dial);
    gt_path_on_success(dial->path, dial->port, dial->legs[LEG_SESSION_PORT].port,
                       dial->legs[LEG_SESSION_PORT].why);
    dial->events->on_ready(dial->userdata, gt_steal_fd(&dial->fd), gt_steal(&dial->tls));
}

/* Both sides have joined. The operator sends the first TLS message; the device waits for it. */
static void dial_begin_tls(struct gt_data_dial *dial)
{
    bool is_client = dial->join.role == GT_ROLE_OPERATOR;
    struct gt_span id = gt_span(dial->psk.id, sizeof(dial->psk.id));
    int r = is_client ? gt_tls_new_client(dial->context, dial->fd, id, dial->psk.psk, &dial->tls)
                      : gt_tls_new_server(dial->context, dial->fd, dial_on_psk, dial, &dial->tls);

    if (r) {
        dial_fail(dial, "out of memory");
        return;
    }
    gt_debug("stream=%u attempt=%u data connection handshake", dial->join.stream,
             dial->join.attempt);
    ev_io_set(&dial->reader, dial->fd, EV_READ);
    ev_io_set(&dial->writer, dial->fd, EV_WRITE);
    ev_io_start(dial->loop, &dial->reader);
    dial_arm(dial, HANDSHAKE_S);
    if (is_client)
        dial_shake_hands(dial);
}

/* --- the legs --------------------------------------------------------------------------------- */

static struct gt_data_dial *dial_of_leg(struct gt_data_leg *leg)
{
    return leg->userdata;
}

static void dial_start_leg(struct gt_data_dial *dial, enum dial_leg n)
{
    struct gt_addr relay = dial->relay;

    if (n == LEG_MAIN_PORT)
        gt_addr_set_port(&relay, dial->path->main_port);
    const struct gt_data_leg_to to = {
        .relay = &relay,
        .proxy = dial->path->proxy,
        .host = dial->path->relay ? dial->path->relay->host : "",
        .segment = dial->segment,
        .timeout_s = dial->timeout_s,
    };
    gt_data_leg_start(&dial->legs[n], &to, &dial->join);
}

/* Returns true if the main port is another way that was not tried yet. A port that led to the
 * receipt works. A relay that was restarted does not know the ticket, and would reject it. */
static bool may_use_main_port(const struct gt_data_dial *dial)
{
    uint16_t main_port = dial->path->main_port;

    return dial->legs[LEG_MAIN_PORT].port == 0 && main_port != 0 &&
           main_port != gt_addr_port(&dial->relay) && !dial->is_received &&
           !dial->path->is_relay_lost;
}

/* The session's port has not answered, or has failed. */
static void dial_use_main_port(struct gt_data_dial *dial)
{
    struct gt_data_leg *leg = &dial->legs[LEG_SESSION_PORT];

    if (!leg->why)
        leg->why = "no answer";
    dial_start_leg(dial, LEG_MAIN_PORT);
}

static void dial_on_leg_received(struct gt_data_leg *leg)
{
    struct gt_data_dial *dial = dial_of_leg(leg);

    dial->is_received = true;
    ev_timer_stop(dial->loop, &dial->timer);
    leg->why = NULL; /* slow, and usable */
}

static void dial_on_leg_joined(struct gt_data_leg *leg)
{
    struct gt_data_dial *dial = dial_of_leg(leg);

    dial->fd = gt_steal_fd(&leg->fd);
    dial->port = leg->port;
    dial_stop(dial); /* the other leg */
    dial_begin_tls(dial);
}

/* All ways have failed. */
static void dial_fail_legs(struct gt_data_dial *dial)
{
    const struct gt_data_leg *first = &dial->legs[LEG_SESSION_PORT],
                             *second = &dial->legs[LEG_MAIN_PORT];
    char why[GT_PATH_TEXT];

    if (first->port && second->port)
        snprintf(why, sizeof(why), "relay port %u: %s; port %u: %s", first->port, first->why,
                 second->port, second->why);
    else
        snprintf(why, sizeof(why), "relay port %u: %s", first->port ? first->port : second->port,
                 first->port ? first->why : second->why);
    dial_fail(dial, why);
}

static bool are_legs_idle(const struct gt_data_dial *dial)
{
    return dial->legs[LEG_SESSION_PORT].state == GT_DATA_LEG_IDLE &&
           dial->legs[LEG_MAIN_PORT].state == GT_DATA_LEG_IDLE;
}

/* The end of a relay also ends the control connection, which is noticed within SETTLE_S. An answer
 * of a proxy is only about the port. */
static void dial_on_leg_failed(struct gt_data_leg *leg)
{
    struct gt_data_dial *dial = dial_of_leg(leg);

    if (leg == &dial->legs[LEG_SESSION_PORT] && may_use_main_port(dial))
        dial_arm(dial, leg->is_denied ? 0 : SETTLE_S);
    else if (are_legs_idle(dial))
        dial_fail_legs(dial);
}

/* --- events ----------------------------------------------------------------------------------- */

static void dial_on_io(struct ev_loop *loop, ev_io *watcher, int revents)
{
    dial_shake_hands(watcher->data);
}

static void dial_on_timer(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct gt_data_dial *dial = watcher->data;

    if (dial->fd >= 0)
        dial_fail(dial, "the TLS handshake with the other side took too long");
    else if (may_use_main_port(dial))
        dial_use_main_port(dial);
    else if (are_legs_idle(dial))
        dial_fail_legs(dial);
}

/* --- life ------------------------------------------------------------------------------------- */

static void dial_init(struct gt_data_dial *dial, const struct gt_data_dial_settings *settings)
{
    static const struct gt_data_leg_events events = {
        .on_received = dial_on_leg_received,
        .on_joined = dial_on_leg_joined,
        .on_failed = dial_on_leg_failed,
    };

    dial->loop = settings->loop;
    dial->path = settings->path;
    dial->segment = settings->path->segment;
    dial->timeout_s = settings->timeout_s;
    dial->context = settings->tls;
    dial->fd = -1;
    ev_init(&dial->reader, dial_on_io);
    ev_init(&dial->writer, dial_on_io);
    ev_init(&dial->timer, dial_on_timer);
    dial->reader.data = dial->writer.data = dial->timer.data = dial;
    for (size_t i = 0; i < N_LEGS; i++)
        gt_data_leg_init(&dial->legs[i], settings->loop, &events, dial);
}

static void dial_start(struct gt_data_dial *dial)
{
    if (gt_path_skips_session_port(dial->path)) {
        dial_start_leg(dial, LEG_MAIN_PORT);
        return;
    }
    dial_start_leg(dial, LEG_SESSION_PORT);
    if (may_use_main_port(dial))
        dial_arm(dial, gt_path_patience(dial->path));
}

int gt_data_dial_new(const struct gt_data_dial_settings *settings, const struct gt_addr *relay,
                     const struct gt_ticket *ticket, const struct gt_data_dial_events *events,
                     void *userdata, struct gt_data_dial **ret)
{
    struct gt_data_dial *dial = calloc(1, sizeof(*dial));

    if (!dial)
        return -ENOMEM;
    dial_init(dial, settings);
    dial->events = events;
    dial->userdata = userdata;
    dial->relay = *relay;
    dial->join = (struct gt_join){settings->role, ticket->stream, ticket->attempt, {0}, {0}};
    memcpy(dial->join.id, ticket->id, sizeof(dial->join.id));
    memcpy(dial->join.secret, ticket->secret, sizeof(dial->join.secret));
    int r = gt_key_stream(settings->session_key, ticket->stream, ticket->attempt, &dial->psk);
    if (r) {
        gt_data_dial_free(dial);
        return r;
    }
    dial_start(dial);
    *ret = dial;
    return 0;
}

struct gt_data_dial *gt_data_dial_free(struct gt_data_dial *dial)
{
    if (dial) {
        dial_stop(dial);
        gt_tls_free(dial->tls);
        gt_wipe(&dial->psk, sizeof(dial->psk));
        gt_wipe(&dial->join, sizeof(dial->join));
        gt_close(&dial->fd);
        free(dial);
    }
    return NULL;
}

int gt_data_dial_fd(const struct gt_data_dial *dial)
{
    int fd = dial->fd;

    for (size_t i = 0; i < N_LEGS && fd < 0; i++)
        fd = dial->legs[i].fd;
    return fd;
}
