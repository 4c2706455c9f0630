/* SPDX-License-Identifier: ISC */
/*
 * MEETING -> ASKING -> REPORTING -> ENDING -> ENDED; HUNG_UP in place of an answer. The stream ends
 * at a pair of sockets in this process, so that the exchange is plain reads and writes.
 */
#include "gotthard/enrolment/newcomer.h"

#include <stdio.h>
#include <sys/socket.h>

#include "gotthard/base/log.h"
#include "gotthard/enrolment/newcomer-internal.h"
#include "gotthard/tls/suite-choice.h"

#define HUNG_UP_S  2. /* from the end of the stream to that of the session, which has the reason */
#define REPORT_S   5. /* for the operator's command to read the result */
#define WAIT_MIN_S 60

/* --- states ----------------------------------------------------------------------------------- */

void newcomer_enter(struct gt_newcomer *newcomer, enum newcomer_state state)
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

void newcomer_set_end(struct gt_newcomer *newcomer, enum gt_newcomer_end end, const char *why)
{
    newcomer->end = end;
    snprintf(newcomer->why, sizeof(newcomer->why), "%s", why);
}

/* Ends the session; on_end follows when the tunnel is down. */
void newcomer_close(struct gt_newcomer *newcomer)
{
    if (newcomer->state >= NEWCOMER_ENDING)
        return;
    newcomer_enter(newcomer, NEWCOMER_ENDING);
    gt_tunnel_close(newcomer->tunnel);
}

void newcomer_finish(struct gt_newcomer *newcomer, enum gt_newcomer_end end, const char *why)
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
    newcomer_start_stream(newcomer, fds[0]);
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

static void newcomer_on_down(void *userdata, enum gt_end_reason cause, enum gt_code code,
                             const char *why)
{
    struct gt_newcomer *newcomer = userdata;
    enum gt_newcomer_end end = newcomer_end_of(cause, code);

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
    newcomer_init_stream(newcomer);
    ev_init(&newcomer->deadline, newcomer_on_deadline);
    newcomer->deadline.data = newcomer;
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

unsigned gt_newcomer_time_left(const struct gt_token *token, int64_t now)
{
    int64_t left = (int64_t)token->expires_at - now;

    return (unsigned)GT_MIN(GT_MAX(left, WAIT_MIN_S), (int64_t)GT_TOKEN_LIFE_MAX) * 1000;
}
