/* SPDX-License-Identifier: ISC */
/*
 * WAITING -> READING -> DECIDING -> SENDING -> RESULT -> CLOSING -> ENDED. The stream ends at a
 * pair of sockets in this process. Must never answer twice, nor a request that was not checked.
 */
#include "gotthard/enrolment/registrar.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "gotthard/tls/suite-choice.h"
#include "gotthard/tunnel/tunnel.h"

#define REQUEST_S 30.  /* for the whole request, once the newcomer is there */
#define SEND_S    60.  /* for the answer to leave */
#define RESULT_S  60.  /* for the newcomer to install it */
#define LAST_S    120u /* of the session, behind the expiry of the token */

enum registrar_state {
    REGISTRAR_WAITING,  /* at the relay; bounded by the token's life */
    REGISTRAR_READING,  /* the request; REQUEST_S */
    REGISTRAR_DECIDING, /* the caller's turn; the token's life */
    REGISTRAR_SENDING,  /* answer or rejection; SEND_S */
    REGISTRAR_RESULT,   /* RESULT_S */
    REGISTRAR_CLOSING,  /* the tunnel closes; 2 s, by the tunnel */
    REGISTRAR_ENDED,
};

struct gt_registrar {
    struct ev_loop *loop;
    enum registrar_state state;
    struct gt_registrar_events events;
    void *userdata;
    struct gt_token token; /* secret */
    struct gt_host_port relay;
    struct gt_tunnel *tunnel;
    struct gt_enrolment_request request; /* borrows ->in */
    int fd;                              /* our end of the stream; -1: none */
    ev_io io;
    ev_timer deadline;
    double ends_at;            /* the token's life, in seconds of gt_clock() */
    enum gt_registrar_end end; /* from CLOSING on */
    char why[GT_ENROLMENT_TEXT_MAX + 1];
    bool is_answer; /* the frame that is sent is an answer */

    uint8_t head[GT_ENROLMENT_HEAD];
    size_t n_head;
    size_t n_body, n_read;
    uint8_t in[GT_ENROLMENT_REQUEST_MAX]; /* the request; it stays */
    uint8_t result[1 + GT_ENROLMENT_TEXT_MAX];
    uint8_t *out; /* owned; a frame */
    size_t n_out, n_sent;
};

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

static void registrar_enter(struct gt_registrar *registrar, enum registrar_state state)
{
    struct ev_loop *loop = registrar->loop;
    double own_s = states[state].deadline_s, life_s = registrar->ends_at - gt_clock();

    gt_debug("enrolment %s -> %s", states[registrar->state].name, states[state].name);
    registrar->state = state;
    ev_timer_stop(loop, &registrar->deadline);
    if (state >= REGISTRAR_CLOSING) {
        ev_io_stop(loop, &registrar->io);
        return;
    }
    ev_now_update(loop);
    ev_timer_set(&registrar->deadline, own_s > 0 ? own_s : GT_MAX(life_s, 0.), 0.);
    ev_timer_start(loop, &registrar->deadline);
}

/* Ends the session; on_end follows when the tunnel is down. @why: NULL keeps the present one. */
static void registrar_close(struct gt_registrar *registrar, enum gt_registrar_end end,
                            const char *why)
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

/* --- output ----------------------------------------------------------------------------------- */

static void registrar_watch(struct gt_registrar *registrar)
{
    bool is_sending = registrar->state == REGISTRAR_SENDING;
    int events = EV_READ | (is_sending ? EV_WRITE : 0);

    if (registrar->state >= REGISTRAR_CLOSING || registrar->fd < 0)
        return;
    ev_io_stop(registrar->loop, &registrar->io);
    ev_io_set(&registrar->io, registrar->fd, events);
    ev_io_start(registrar->loop, &registrar->io);
}

static int registrar_send(struct gt_registrar *registrar, enum gt_enrolment_frame type, size_t n)
{
    registrar->out = malloc(GT_ENROLMENT_HEAD + n);
    if (!registrar->out)
        return -ENOMEM;
    gt_enrolment_write_head(type, n, registrar->out);
    registrar->n_out = GT_ENROLMENT_HEAD + n;
    registrar->is_answer = type == GT_ENROLMENT_ANSWER;
    return 0;
}

static void registrar_write(struct gt_registrar *registrar)
{
    ssize_t n = send(registrar->fd, registrar->out + registrar->n_sent,
                     registrar->n_out - registrar->n_sent, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (n < 0) /* a broken stream is reported by a read */
        return;
    registrar->n_sent += (size_t)n;
    if (registrar->n_sent < registrar->n_out)
        return;
    registrar->n_head = registrar->n_read = 0;
    registrar_enter(registrar, REGISTRAR_RESULT);
    if (!registrar->is_answer)
        shutdown(registrar->fd, SHUT_WR); /* the newcomer ends the stream */
}

int gt_registrar_answer(struct gt_registrar *registrar, uint8_t private_key[static GT_KEY_SIZE],
                        struct gt_span bundle)
{
    if (registrar->state != REGISTRAR_DECIDING)
        return 0;
    int r = registrar_send(registrar, GT_ENROLMENT_ANSWER, bundle.n + GT_SEAL_OVERHEAD);
    if (r == 0)
        r = gt_enrolment_answer_make(&registrar->token, private_key, &registrar->request, bundle,
                                     registrar->out + GT_ENROLMENT_HEAD);
    gt_wipe(private_key, GT_KEY_SIZE);
    if (r != 0) {
        free(gt_steal(&registrar->out));
        return r;
    }
    registrar_enter(registrar, REGISTRAR_SENDING);
    registrar_watch(registrar);
    return 0;
}

void gt_registrar_reject(struct gt_registrar *registrar, const char *why)
{
    size_t n = GT_MIN(strlen(why), (size_t)GT_ENROLMENT_TEXT_MAX);

    if (registrar->state != REGISTRAR_DECIDING)
        return;
    snprintf(registrar->why, sizeof(registrar->why), "%s", why);
    if (registrar_send(registrar, GT_ENROLMENT_REJECTION, n) != 0) {
        registrar_close(registrar, GT_REGISTRAR_REJECTED, NULL);
        return;
    }
    memcpy(registrar->out + GT_ENROLMENT_HEAD, why, n);
    registrar_enter(registrar, REGISTRAR_SENDING);
    registrar_watch(registrar);
}

/* --- input ------------------------------------------------------------------------------------ */

static void registrar_on_request(struct gt_registrar *registrar)
{
    char why[GT_ENROLMENT_WHY] = "";
    int r = gt_enrolment_request_open(&registrar->token, gt_span(registrar->in, registrar->n_body),
                                      &registrar->request, why);

    if (r != 0) {
        registrar_close(registrar, r < 0 ? GT_REGISTRAR_INTERNAL : GT_REGISTRAR_MALFORMED,
                        r < 0 ? strerror(-r) : why);
        return;
    }
    registrar_enter(registrar, REGISTRAR_DECIDING);
    registrar->events.on_request(registrar->userdata, &registrar->request);
}

static void registrar_on_result(struct gt_registrar *registrar)
{
    char text[GT_ENROLMENT_TEXT_MAX + 1] = "";
    bool is_installed = false;
    int r = gt_enrolment_read_result(gt_span(registrar->result, registrar->n_body), &is_installed,
                                     text);

    registrar_close(registrar,
                    r != 0         ? GT_REGISTRAR_UNCONFIRMED
                    : is_installed ? GT_REGISTRAR_INSTALLED
                                   : GT_REGISTRAR_NOT_INSTALLED,
                    text);
}

/* Returns where the next bytes of a body go, for the only frame that this state expects. */
static uint8_t *registrar_room(struct gt_registrar *registrar, size_t *ret_n)
{
    if (registrar->n_head < GT_ENROLMENT_HEAD) {
        *ret_n = GT_ENROLMENT_HEAD - registrar->n_head;
        return registrar->head + registrar->n_head;
    }
    *ret_n = registrar->n_body - registrar->n_read;
    return (registrar->state == REGISTRAR_READING ? registrar->in : registrar->result) +
           registrar->n_read;
}

static bool registrar_on_head(struct gt_registrar *registrar)
{
    bool is_reading = registrar->state == REGISTRAR_READING;
    enum gt_enrolment_frame type = GT_ENROLMENT_ANSWER;

    if (gt_enrolment_read_head(registrar->head, &type, &registrar->n_body) == 0 &&
        type == (is_reading ? GT_ENROLMENT_REQUEST : GT_ENROLMENT_RESULT))
        return true;
    registrar_close(registrar, is_reading ? GT_REGISTRAR_MALFORMED : GT_REGISTRAR_UNCONFIRMED,
                    "a message of another kind");
    return false;
}

static void registrar_advance(struct gt_registrar *registrar, size_t n)
{
    if (registrar->n_head < GT_ENROLMENT_HEAD) {
        registrar->n_head += n;
        if (registrar->n_head < GT_ENROLMENT_HEAD || !registrar_on_head(registrar))
            return;
    } else {
        registrar->n_read += n;
    }
    if (registrar->n_read < registrar->n_body)
        return;
    if (registrar->state == REGISTRAR_READING)
        registrar_on_request(registrar);
    else
        registrar_on_result(registrar);
}

/* The stream is over before its last frame. */
static void registrar_on_stream_over(struct gt_registrar *registrar)
{
    bool is_decided = registrar->state > REGISTRAR_DECIDING;

    if (is_decided && !registrar->is_answer)
        registrar_close(registrar, GT_REGISTRAR_REJECTED, NULL);
    else if (is_decided)
        registrar_close(registrar, GT_REGISTRAR_UNCONFIRMED, "the newcomer broke off");
    else
        registrar_close(registrar, GT_REGISTRAR_BROKEN, "the newcomer broke off");
}

/* A request is read once: any byte behind it ends the session. */
static void registrar_read(struct gt_registrar *registrar)
{
    bool is_expecting = registrar->state == REGISTRAR_READING ||
                        (registrar->state == REGISTRAR_RESULT && registrar->is_answer);
    uint8_t extra[1];
    size_t n_room = sizeof(extra);
    uint8_t *room = is_expecting ? registrar_room(registrar, &n_room) : extra;
    ssize_t n = recv(registrar->fd, room, n_room, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0)
        registrar_on_stream_over(registrar);
    else if (is_expecting)
        registrar_advance(registrar, (size_t)n);
    else
        registrar_close(registrar, GT_REGISTRAR_MALFORMED, "a second request");
}

static void registrar_on_io(struct ev_loop *loop, ev_io *io, int revents)
{
    struct gt_registrar *registrar = io->data;

    if (revents & EV_READ)
        registrar_read(registrar);
    if ((revents & EV_WRITE) && registrar->state == REGISTRAR_SENDING)
        registrar_write(registrar);
    registrar_watch(registrar);
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
    registrar->fd = fds[0];
    if (gt_tunnel_open(registrar->tunnel, gt_endpoint_fds(fds[1]), GT_ENROLMENT_SERVICE) != 0) {
        registrar_close(registrar, GT_REGISTRAR_INTERNAL, "no stream can be opened");
        return;
    }
    registrar_enter(registrar, REGISTRAR_READING);
    registrar_watch(registrar);
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
    registrar->fd = -1;
    ev_init(&registrar->io, registrar_on_io);
    ev_init(&registrar->deadline, registrar_on_deadline);
    registrar->ends_at = gt_clock() + settings->left_ms / 1000.;
    registrar->io.data = registrar->deadline.data = registrar;
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
    ev_io_stop(registrar->loop, &registrar->io);
    ev_timer_stop(registrar->loop, &registrar->deadline);
    gt_tunnel_free(registrar->tunnel);
    gt_close(&registrar->fd);
    free(registrar->out);
    gt_wipe(registrar, sizeof(*registrar));
    free(registrar);
    return NULL;
}
