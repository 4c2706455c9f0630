/* SPDX-License-Identifier: ISC */
/*
 * MEETING -> ASKING -> REPORTING -> ENDING -> ENDED; HUNG_UP in place of an answer. The stream ends
 * at a pair of sockets in this process, so that the exchange is plain reads and writes. Must never
 * hand over an answer that does not open, and never a second one.
 */
#include "gotthard/enrolment/newcomer.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>

#include "gotthard/base/log.h"
#include "gotthard/tls/suite-choice.h"
#include "gotthard/tunnel/tunnel.h"

#define HUNG_UP_S  2. /* from the end of the stream to that of the session, which has the reason */
#define REPORT_S   5. /* for the operator's command to read the result */
#define WAIT_MIN_S 60

enum newcomer_state {
    NEWCOMER_MEETING,   /* no stream yet; bounded by the deadline */
    NEWCOMER_ASKING,    /* the request is sent, or on its way; likewise */
    NEWCOMER_HUNG_UP,   /* the stream ended without an answer; HUNG_UP_S */
    NEWCOMER_REPORTING, /* the result is on its way; REPORT_S */
    NEWCOMER_ENDING,    /* the tunnel closes; 2 s, by the tunnel */
    NEWCOMER_ENDED,
};

struct gt_newcomer {
    struct ev_loop *loop;
    enum newcomer_state state;
    struct gt_newcomer_events events;
    void *userdata;
    enum gt_token_kind kind;
    struct gt_enrolment_pending pending;
    struct gt_host_port relay;
    struct gt_tunnel *tunnel;
    int fd; /* our end of the stream; -1: none */
    ev_io io;
    ev_timer deadline;
    bool was_registered; /* at the relay */
    char retry_why[GT_ENROLMENT_TEXT_MAX + 1];
    enum gt_newcomer_end end; /* from REPORTING on */
    char why[GT_ENROLMENT_TEXT_MAX + 1];

    uint8_t out[GT_ENROLMENT_HEAD + GT_ENROLMENT_REQUEST_MAX]; /* request, then result */
    size_t n_out, n_sent;
    uint8_t head[GT_ENROLMENT_HEAD];
    size_t n_head;
    enum gt_enrolment_frame type; /* of the frame that is being read */
    uint8_t *body;                /* owned */
    size_t n_body, n_read;
};

/* --- texts ------------------------------------------------------------------------------------ */

static const struct {
    const char *text;
    enum gt_exit_status status;
} ends[] = {
    [GT_NEWCOMER_INSTALLED] = {"enrolled", GT_EXIT_SUCCESS},
    [GT_NEWCOMER_NOT_ACCEPTED] = {"the relay does not accept the token: it has expired, or it is "
                                  "of another fleet",
                                  GT_EXIT_REFUSED},
    [GT_NEWCOMER_UNREACHABLE] = {"the relay cannot be reached", GT_EXIT_UNAVAILABLE},
    [GT_NEWCOMER_IN_USE] =
        {"another machine uses this token at this moment: ask the operator for a new one, "
         "and whether that machine is known",
         GT_EXIT_REFUSED},
    [GT_NEWCOMER_ENDED] = {"the operator's command has ended: the token was used before, or the "
                           "operator stopped it",
                           GT_EXIT_REFUSED},
    [GT_NEWCOMER_REJECTED] = {"the operator rejected the request", GT_EXIT_REFUSED},
    [GT_NEWCOMER_FORGED] =
        {"the answer does not come from the command that made this token, so the token is in "
         "wrong hands. Nothing was installed. Warn the operator, and ask for a new one",
         GT_EXIT_REFUSED},
    [GT_NEWCOMER_NOT_INSTALLED] = {"the answer could not be installed", GT_EXIT_CONFIGURATION},
    [GT_NEWCOMER_EXPIRED] = {"no operator answered before the token expired", GT_EXIT_UNAVAILABLE},
    [GT_NEWCOMER_INTERNAL] = {"internal error", GT_EXIT_INTERNAL},
};

const char *gt_newcomer_end_text(enum gt_newcomer_end end)
{
    return ends[end].text;
}

enum gt_exit_status gt_newcomer_exit_status(enum gt_newcomer_end end)
{
    return ends[end].status;
}

unsigned gt_newcomer_time_left(const struct gt_token *token, int64_t now)
{
    int64_t left = (int64_t)token->expires_at - now;

    return (unsigned)GT_MIN(GT_MAX(left, WAIT_MIN_S), (int64_t)GT_TOKEN_LIFE_MAX) * 1000;
}

/* --- states ----------------------------------------------------------------------------------- */

static void newcomer_enter(struct gt_newcomer *newcomer, enum newcomer_state state)
{
    static const struct {
        const char *name;
        double limit; /* seconds; 0: as before */
        bool is_over; /* the stream and the deadline have no effect any more */
    } states[] = {
        [NEWCOMER_MEETING] = {"meeting", 0, false},
        [NEWCOMER_ASKING] = {"asking", 0, false},
        [NEWCOMER_HUNG_UP] = {"hung up", HUNG_UP_S, false},
        [NEWCOMER_REPORTING] = {"reporting", REPORT_S, false},
        [NEWCOMER_ENDING] = {"ending", 0, true},
        [NEWCOMER_ENDED] = {"ended", 0, true},
    };

    gt_debug("enrolment %s -> %s", states[newcomer->state].name, states[state].name);
    newcomer->state = state;
    if (states[state].limit > 0) {
        newcomer->deadline.repeat = states[state].limit;
        ev_timer_again(newcomer->loop, &newcomer->deadline);
    }
    if (states[state].is_over)
        ev_timer_stop(newcomer->loop, &newcomer->deadline);
    if (states[state].is_over || state == NEWCOMER_HUNG_UP)
        ev_io_stop(newcomer->loop, &newcomer->io);
}

static void newcomer_set_end(struct gt_newcomer *newcomer, enum gt_newcomer_end end,
                             const char *why)
{
    newcomer->end = end;
    snprintf(newcomer->why, sizeof(newcomer->why), "%s", why);
}

/* Ends the session; on_end follows when the tunnel is down. */
static void newcomer_close(struct gt_newcomer *newcomer)
{
    if (newcomer->state >= NEWCOMER_ENDING)
        return;
    newcomer_enter(newcomer, NEWCOMER_ENDING);
    gt_tunnel_close(newcomer->tunnel);
}

static void newcomer_finish(struct gt_newcomer *newcomer, enum gt_newcomer_end end, const char *why)
{
    newcomer_set_end(newcomer, end, why);
    newcomer_close(newcomer);
}

static void newcomer_on_deadline(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct gt_newcomer *newcomer = timer->data;

    if (newcomer->state == NEWCOMER_REPORTING)
        newcomer_close(newcomer); /* installed, or not; the operator does not read it */
    else if (newcomer->state == NEWCOMER_HUNG_UP)
        newcomer_finish(newcomer, GT_NEWCOMER_ENDED, "");
    else if (newcomer->was_registered)
        newcomer_finish(newcomer, GT_NEWCOMER_EXPIRED, "");
    else
        newcomer_finish(newcomer, GT_NEWCOMER_UNREACHABLE, newcomer->retry_why);
}

/* --- the stream: output ----------------------------------------------------------------------- */

static void newcomer_watch(struct gt_newcomer *newcomer)
{
    int events = EV_READ | (newcomer->n_sent < newcomer->n_out ? EV_WRITE : 0);

    if ((newcomer->state != NEWCOMER_ASKING && newcomer->state != NEWCOMER_REPORTING) ||
        events == (newcomer->io.events & ~EV__IOFDSET))
        return;
    ev_io_stop(newcomer->loop, &newcomer->io);
    ev_io_set(&newcomer->io, newcomer->fd, events);
    ev_io_start(newcomer->loop, &newcomer->io);
}

static void newcomer_queue(struct gt_newcomer *newcomer, enum gt_enrolment_frame type, size_t n)
{
    gt_enrolment_write_head(type, n, newcomer->out);
    newcomer->n_out = GT_ENROLMENT_HEAD + n;
    newcomer->n_sent = 0;
}

static void newcomer_on_sent(struct gt_newcomer *newcomer)
{
    if (newcomer->state == NEWCOMER_ASKING)
        newcomer->events.on_requested(newcomer->userdata);
    else
        shutdown(newcomer->fd, SHUT_WR); /* and wait for the operator to end the stream */
}

static void newcomer_write(struct gt_newcomer *newcomer)
{
    ssize_t n = send(newcomer->fd, newcomer->out + newcomer->n_sent,
                     newcomer->n_out - newcomer->n_sent, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (n < 0) /* a broken stream is reported by a read */
        return;
    newcomer->n_sent += (size_t)n;
    if (newcomer->n_sent == newcomer->n_out)
        newcomer_on_sent(newcomer);
}

/* --- the stream: input ------------------------------------------------------------------------ */

static bool newcomer_open(struct gt_newcomer *newcomer, uint8_t *plain, struct gt_bundle *ret,
                          char *ret_why)
{
    size_t n = 0;
    int r = gt_enrolment_answer_open(&newcomer->pending, gt_span(newcomer->body, newcomer->n_body),
                                     plain, &n);

    newcomer->end = r < 0 ? GT_NEWCOMER_INTERNAL : GT_NEWCOMER_FORGED;
    if (r)
        return false;
    newcomer->end = GT_NEWCOMER_NOT_INSTALLED;
    return gt_bundle_decode(gt_span(plain, n), ret, ret_why) == 0 &&
           gt_bundle_check(ret, false, ret_why) == 0;
}

static void newcomer_report(struct gt_newcomer *newcomer)
{
    size_t n = gt_enrolment_write_result(newcomer->end == GT_NEWCOMER_INSTALLED, newcomer->why,
                                         newcomer->out + GT_ENROLMENT_HEAD);

    newcomer_queue(newcomer, GT_ENROLMENT_RESULT, n);
    newcomer_enter(newcomer, NEWCOMER_REPORTING);
}

static void newcomer_on_answer(struct gt_newcomer *newcomer)
{
    size_t n = newcomer->n_body;
    uint8_t *plain = malloc(GT_MAX(n, (size_t)1));
    char why[GT_ENROLMENT_TEXT_MAX + 1] = "";
    struct gt_bundle bundle = {0};

    newcomer_set_end(newcomer, GT_NEWCOMER_INTERNAL, "");
    if (plain && newcomer_open(newcomer, plain, &bundle, why)) {
        bool is_of_kind = bundle.kind == newcomer->kind;

        if (!is_of_kind)
            snprintf(why, sizeof(why), "the bundle is for a new %s",
                     gt_token_kind_text(bundle.kind));
        else if (newcomer->events.on_bundle(newcomer->userdata, &bundle, why))
            newcomer->end = GT_NEWCOMER_INSTALLED;
    }
    if (plain)
        gt_wipe(plain, n);
    free(plain);
    snprintf(newcomer->why, sizeof(newcomer->why), "%s", why);
    if (newcomer->end == GT_NEWCOMER_INSTALLED || newcomer->end == GT_NEWCOMER_NOT_INSTALLED)
        newcomer_report(newcomer);
    else
        newcomer_close(newcomer);
}

static void newcomer_on_frame(struct gt_newcomer *newcomer)
{
    char text[GT_ENROLMENT_TEXT_MAX + 1];

    if (newcomer->type == GT_ENROLMENT_ANSWER) {
        newcomer_on_answer(newcomer);
        return;
    }
    gt_text_escape(gt_span(newcomer->body, newcomer->n_body), text, sizeof(text));
    newcomer_finish(newcomer, GT_NEWCOMER_REJECTED, text);
}

/* A head is complete: makes room for its body. */
static bool newcomer_on_head(struct gt_newcomer *newcomer)
{
    if (gt_enrolment_read_head(newcomer->head, &newcomer->type, &newcomer->n_body) != 0 ||
        (newcomer->type != GT_ENROLMENT_ANSWER && newcomer->type != GT_ENROLMENT_REJECTION)) {
        newcomer_finish(newcomer, GT_NEWCOMER_FORGED, "malformed answer");
        return false;
    }
    newcomer->body = malloc(GT_MAX(newcomer->n_body, (size_t)1));
    if (newcomer->body)
        return true;
    newcomer_finish(newcomer, GT_NEWCOMER_INTERNAL, "out of memory");
    return false;
}

/* Returns where the next bytes go. */
static uint8_t *newcomer_room(struct gt_newcomer *newcomer, size_t *ret_n)
{
    if (!newcomer->body) {
        *ret_n = GT_ENROLMENT_HEAD - newcomer->n_head;
        return newcomer->head + newcomer->n_head;
    }
    *ret_n = newcomer->n_body - newcomer->n_read;
    return newcomer->body + newcomer->n_read;
}

/* @n more bytes were read into the room. */
static void newcomer_advance(struct gt_newcomer *newcomer, size_t n)
{
    if (!newcomer->body) {
        newcomer->n_head += n;
        if (newcomer->n_head < GT_ENROLMENT_HEAD || !newcomer_on_head(newcomer))
            return;
    } else {
        newcomer->n_read += n;
    }
    if (newcomer->n_read == newcomer->n_body)
        newcomer_on_frame(newcomer);
}

/* Without an answer the end of the session has the reason, and comes soon. */
static void newcomer_on_stream_over(struct gt_newcomer *newcomer)
{
    if (newcomer->state == NEWCOMER_REPORTING)
        newcomer_close(newcomer);
    else
        newcomer_enter(newcomer, NEWCOMER_HUNG_UP);
}

/* After the answer only the end of the stream is awaited. */
static void newcomer_read(struct gt_newcomer *newcomer)
{
    uint8_t ignored[64];
    size_t n_room = sizeof(ignored);
    bool is_asking = newcomer->state == NEWCOMER_ASKING;
    uint8_t *room = is_asking ? newcomer_room(newcomer, &n_room) : ignored;
    ssize_t n = recv(newcomer->fd, room, n_room, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0)
        newcomer_on_stream_over(newcomer);
    else if (is_asking)
        newcomer_advance(newcomer, (size_t)n);
}

static void newcomer_on_io(struct ev_loop *loop, ev_io *io, int revents)
{
    struct gt_newcomer *newcomer = io->data;

    if (revents & EV_WRITE)
        newcomer_write(newcomer);
    if (revents & EV_READ)
        newcomer_read(newcomer);
    newcomer_watch(newcomer);
}

/* --- the tunnel ------------------------------------------------------------------------------- */

static void newcomer_on_service(void *userdata, struct gt_channel *channel, const char *service)
{
    struct gt_newcomer *newcomer = userdata;
    int fds[2];

    if (newcomer->state != NEWCOMER_MEETING || strcmp(service, GT_ENROLMENT_SERVICE) != 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0) {
        gt_channel_reject(channel, GT_RST_DENIED);
        return;
    }
    newcomer->fd = fds[0];
    newcomer_enter(newcomer, NEWCOMER_ASKING);
    ev_io_set(&newcomer->io, newcomer->fd, EV_READ | EV_WRITE);
    ev_io_start(newcomer->loop, &newcomer->io);
    gt_channel_serve(channel, fds[1]);
}

static void newcomer_on_retry(void *userdata, enum gt_end_reason cause, enum gt_code code,
                              const char *why)
{
    struct gt_newcomer *newcomer = userdata;

    snprintf(newcomer->retry_why, sizeof(newcomer->retry_why), "%s", why);
    if (cause != GT_END_PEER) /* else the relay no longer waits for the operator's command */
        newcomer->events.on_retry(newcomer->userdata, why);
}

static void newcomer_on_waiting(void *userdata)
{
    struct gt_newcomer *newcomer = userdata;

    newcomer->was_registered = true;
    newcomer->events.on_waiting(newcomer->userdata);
}

static void newcomer_on_up(void *userdata, uint16_t port)
{
    struct gt_newcomer *newcomer = userdata;

    newcomer->was_registered = true; /* both sides at once: without on_waiting */
    gt_debug("enrolment: met the operator's command, port=%u", port);
}

static void newcomer_on_notice(void *userdata, enum gt_path_notice notice, const char *text)
{
    gt_debug("enrolment: %s", text);
}

static void newcomer_on_peer(void *userdata, bool is_up, enum gt_code reason)
{
    gt_debug("enrolment: the operator's command is %s", is_up ? "back" : "lost");
}

static void newcomer_on_relay_connection(void *userdata, enum gt_relay_change change,
                                         const char *why)
{
    gt_debug("enrolment: relay connection: %s", why ? why : "");
}

static void newcomer_on_stream_end(void *userdata, const char *service, uint32_t stream,
                                   enum gt_rst code, uint64_t n_up, uint64_t n_down)
{
    gt_debug("enrolment: stream ended code=%u", (unsigned)code);
}

static enum gt_newcomer_end end_of(enum gt_end_reason cause, enum gt_code code)
{
    if (code == GT_CODE_IN_USE || code == GT_CODE_REPLACED || code == GT_CODE_IDENTITY)
        return GT_NEWCOMER_IN_USE;
    if (code == GT_CODE_REFUSED || code == GT_CODE_OLD_KEY)
        return GT_NEWCOMER_NOT_ACCEPTED;
    switch (cause) {
    case GT_END_REFUSED: return GT_NEWCOMER_NOT_ACCEPTED;
    case GT_END_CLOSED:
    case GT_END_IDLE:
    case GT_END_WITHDRAWN: return GT_NEWCOMER_ENDED;
    case GT_END_PEER:
    case GT_END_EXPIRED: return GT_NEWCOMER_EXPIRED;
    case GT_END_UNREACHABLE:
    case GT_END_PROXY:
    case GT_END_RELAY:
    case GT_END_LIMIT:
    case GT_END_LOST: return GT_NEWCOMER_UNREACHABLE;
    case GT_END_INTERNAL: return GT_NEWCOMER_INTERNAL;
    }
    return GT_NEWCOMER_INTERNAL;
}

static void newcomer_on_down(void *userdata, enum gt_end_reason cause, enum gt_code code,
                             const char *why)
{
    struct gt_newcomer *newcomer = userdata;
    enum gt_newcomer_end end = end_of(cause, code);

    /* From REPORTING on the end is known. */
    if (end == GT_NEWCOMER_NOT_ACCEPTED && newcomer->was_registered) /* it was accepted before */
        end = GT_NEWCOMER_EXPIRED;
    if (newcomer->state < NEWCOMER_REPORTING)
        newcomer_set_end(newcomer, end, end == GT_NEWCOMER_ENDED ? "" : why);
    newcomer_enter(newcomer, NEWCOMER_ENDED);
    newcomer->events.on_end(newcomer->userdata, newcomer->end, newcomer->why);
}

static int newcomer_start_tunnel(struct gt_newcomer *newcomer,
                                 const struct gt_newcomer_settings *settings)
{
    static const struct gt_tunnel_events events = {
        .on_retry = newcomer_on_retry,
        .on_waiting = newcomer_on_waiting,
        .on_up = newcomer_on_up,
        .on_notice = newcomer_on_notice,
        .on_peer = newcomer_on_peer,
        .on_relay_connection = newcomer_on_relay_connection,
        .on_service = newcomer_on_service,
        .on_stream_end = newcomer_on_stream_end,
        .on_down = newcomer_on_down,
    };
    struct gt_token_keys keys;

    int r = gt_token_derive(settings->token, &keys);
    if (r)
        return r;
    const struct gt_tunnel_settings tunnel = {
        .role = GT_ROLE_DEVICE,
        .relays = &newcomer->relay,
        .n_relays = 1,
        .proxy = settings->proxy,
        .is_single_port = settings->is_single_port,
        .name = keys.name,
        .client_key = settings->token->client,
        .session_key = keys.session,
        .rid = keys.rid,
        .max_streams = 1,
        .ring_size = gt_tunnel_ring_size(0),
        .suite = gt_suite_preferred(),
        .peer_timeout_ms = settings->deadline_ms,
    };
    r = gt_tunnel_new(newcomer->loop, &tunnel, &events, newcomer, &newcomer->tunnel);
    gt_token_keys_wipe(&keys);
    return r;
}

/* --- creation --------------------------------------------------------------------------------- */

static int newcomer_init(struct gt_newcomer *newcomer, const struct gt_newcomer_settings *settings)
{
    size_t n = 0;
    int r = gt_enrolment_request_make(settings->token, settings->key, settings->host_keys,
                                      settings->n_host_keys, "gotthard/" GOTTHARD_VERSION,
                                      &newcomer->pending, newcomer->out + GT_ENROLMENT_HEAD, &n);

    if (r)
        return r;
    newcomer_queue(newcomer, GT_ENROLMENT_REQUEST, n);
    newcomer->kind = settings->token->kind;
    snprintf(newcomer->relay.host, sizeof(newcomer->relay.host), "%s", settings->token->relay_host);
    newcomer->relay.port = settings->token->relay_port;
    r = newcomer_start_tunnel(newcomer, settings);
    if (r)
        return r;
    newcomer->deadline.repeat = settings->deadline_ms / 1000.;
    ev_timer_again(newcomer->loop, &newcomer->deadline);
    return 0;
}

int gt_newcomer_new(struct ev_loop *loop, const struct gt_newcomer_settings *settings,
                    const struct gt_newcomer_events *events, void *userdata,
                    struct gt_newcomer **ret)
{
    struct gt_newcomer *newcomer = calloc(1, sizeof(*newcomer));

    if (!newcomer)
        return -ENOMEM;
    newcomer->loop = loop;
    newcomer->events = *events;
    newcomer->userdata = userdata;
    newcomer->fd = -1;
    ev_init(&newcomer->io, newcomer_on_io);
    ev_init(&newcomer->deadline, newcomer_on_deadline);
    newcomer->io.data = newcomer->deadline.data = newcomer;
    int r = newcomer_init(newcomer, settings);
    if (r)
        gt_newcomer_free(newcomer);
    else
        *ret = newcomer;
    return r;
}

struct gt_newcomer *gt_newcomer_free(struct gt_newcomer *newcomer)
{
    if (!newcomer)
        return NULL;
    ev_io_stop(newcomer->loop, &newcomer->io);
    ev_timer_stop(newcomer->loop, &newcomer->deadline);
    gt_tunnel_free(newcomer->tunnel);
    gt_close(&newcomer->fd);
    free(newcomer->body);
    gt_wipe(newcomer, sizeof(*newcomer));
    free(newcomer);
    return NULL;
}
