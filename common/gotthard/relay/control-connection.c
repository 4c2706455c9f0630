/* SPDX-License-Identifier: ISC */
/*
 * One connection to the relay, from the name of the host to the end. HELLO and RENDEZVOUS are
 * queued at once, OPENs behind them, and all of them leave in the flight that completes the
 * handshake: nothing waits for WELCOME, because each round trip delays a new connection.
 *
 * A connection may be prepared while the session is not known yet: RENDEZVOUS follows then.
 *
 * It never dials again once it was connected: a connection that is lost has ended, and its owner
 * decides about another.
 */
#include <stdio.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "gotthard/net/route.h"
#include "gotthard/relay/control-internal.h"

#define CONNECT_TIMEOUT_MS 15000
#define READS_PER_TURN     32 /* 64 KiB */
#define AT_ONCE_S          1e-6
#define PROBE_FRAMES       4 /* of 1 KiB */

/*
 * Everything that depends on the state alone. DIALING has the deadline of the TLS dial, UP the
 * heartbeat's; DIALING and HELLO_SENT share connect_timeout_ms besides.
 */
static const struct {
    const char *name;
    ev_tstamp limit;            /* seconds; 0: no deadline here */
    bool is_watched;            /* the socket, for reading and writing */
    enum gt_end_reason overdue; /* the end reason when the deadline has passed, */
    const char *overdue_why;    /* and its text */
    enum gt_end_reason lost;    /* the end reason when the connection breaks or is closed */
} states[] = {
    [CONTROL_DIALING] = {"dialing", 0., false, GT_END_UNREACHABLE, "", GT_END_UNREACHABLE},
    [CONTROL_HELLO_SENT] = {"hello-sent", 10., true, GT_END_UNREACHABLE,
                            "no WELCOME from the relay", GT_END_UNREACHABLE},
    [CONTROL_PREPARED] = {"prepared", 30., true, GT_END_LOST, "no session", GT_END_LOST},
    [CONTROL_REGISTERING] = {"registering", 10., true, GT_END_RELAY, "no SESSION from the relay",
                             GT_END_LOST},
    [CONTROL_UP] = {"up", 0., true, GT_END_LOST, "the relay does not answer: heartbeat timeout",
                    GT_END_LOST},
    [CONTROL_CLOSING] = {"closing", .5, true, GT_END_CLOSED, "closed", GT_END_CLOSED},
    [CONTROL_SHUTDOWN_SENT] = {"shutdown-sent", .5, true, GT_END_CLOSED, "closed", GT_END_CLOSED},
    [CONTROL_ENDED] = {"ended", 0., false, GT_END_CLOSED, "", GT_END_CLOSED},
};

/* --- states ----------------------------------------------------------------------------------- */

void gt_control_connection_watch(struct gt_control_connection *control)
{
    bool is_watched = states[control->state].is_watched && control->framed.fd >= 0;
    int interest = 0;
    int present = ev_is_active(&control->io) ? control->io.events & (EV_READ | EV_WRITE) : 0;

    if (is_watched && gt_framed_connection_has_room(&control->framed))
        interest |= EV_READ;
    if (is_watched && gt_framed_connection_wants_write(&control->framed))
        interest |= EV_WRITE;
    if (interest != present) {
        ev_io_stop(control->loop, &control->io);
        ev_io_set(&control->io, control->framed.fd, interest);
        if (interest != 0)
            ev_io_start(control->loop, &control->io);
    }
    /* For bytes inside TLS the socket does not become readable. */
    if ((interest & EV_READ) && gt_framed_connection_has_pending(&control->framed))
        ev_feed_event(control->loop, &control->io, EV_READ);
    /* Frames that were queued in this turn leave at its end. */
    if (control->framed.fd >= 0 && gt_framed_connection_has_unsent(&control->framed) &&
        !(interest & EV_WRITE))
        ev_feed_event(control->loop, &control->io, EV_WRITE);
}

static void control_set_deadline(struct gt_control_connection *control, ev_tstamp seconds)
{
    control->deadline.repeat = seconds; /* 0 stops the timer */
    ev_timer_again(control->loop, &control->deadline);
}

void gt_control_connection_enter(struct gt_control_connection *control, enum control_state state)
{
    ev_tstamp limit = states[state].limit;

    gt_debug("control=%s %s -> %s", control->identity, states[control->state].name,
             states[state].name);
    control->state = state;
    if (state == CONTROL_HELLO_SENT)
        limit = GT_MAX(GT_MIN(limit, control->tls_dial.give_up_at - gt_clock()), AT_ONCE_S);
    control_set_deadline(control, limit);
    if (state == CONTROL_UP)
        gt_heartbeat_start(&control->heartbeat);
    else
        gt_heartbeat_stop(&control->heartbeat);
    gt_control_connection_watch(control);
}

static void control_disconnect(struct gt_control_connection *control)
{
    ev_io_stop(control->loop, &control->io);
    gt_framed_connection_disconnect(&control->framed);
}

void gt_control_connection_end(struct gt_control_connection *control, enum gt_end_reason reason,
                               enum gt_code code, const char *why)
{
    if (control->state == CONTROL_ENDED)
        return;
    snprintf(control->why, sizeof(control->why), "%s", why);
    gt_tls_dial_cancel(&control->tls_dial);
    control_disconnect(control);
    gt_control_connection_enter(control, CONTROL_ENDED);
    control->events.on_down(control->userdata, reason, code, control->why);
}

/* The connection broke or was closed. That is expected after BYE. */
static void control_lose(struct gt_control_connection *control, const char *why)
{
    enum gt_end_reason reason = states[control->state].lost;

    gt_control_connection_end(control, reason, GT_CODE_NONE,
                              reason == GT_END_CLOSED ? "closed" : why);
}

void gt_control_connection_fail_protocol(struct gt_control_connection *control, const char *why)
{
    gt_control_connection_end(control, GT_END_RELAY, GT_CODE_PROTOCOL, why);
}

/* --- receiving -------------------------------------------------------------------------------- */

/* Handles all frames in the receive buffer; after BYE they are discarded. Returns 0 or E_BAD. */
static int control_handle_frames(struct gt_control_connection *control)
{
    struct gt_control_frame frame;
    int r = 0;

    while (r == 0 && control->state < CONTROL_ENDED) {
        r = gt_framed_connection_decode(&control->framed, &frame);
        if (r == 0 && control->state < CONTROL_CLOSING)
            gt_control_connection_handle_frame(control, &frame);
    }
    gt_wipe(&frame, sizeof(frame)); /* it may have been a TICKET */
    return r == GT_FRAMED_CONNECTION_E_AGAIN ? 0 : r;
}

/* Returns 0 if there is room for the answers to another read, E_AGAIN if the relay does not read
 * its answers, or E_BROKEN. */
static int control_make_room(struct gt_control_connection *control)
{
    if (gt_framed_connection_has_room(&control->framed))
        return 0;
    int r = gt_framed_connection_flush(&control->framed);
    if (r == 0 && !gt_framed_connection_has_room(&control->framed))
        r = GT_FRAMED_CONNECTION_E_AGAIN;
    return r;
}

/* Reads until the socket is empty, @control has ended, or other watchers need their turn. */
static int control_read(struct gt_control_connection *control)
{
    int r = 0;

    for (unsigned n = 0; r == 0 && n < READS_PER_TURN && control->state < CONTROL_ENDED; n++) {
        r = gt_framed_connection_read(&control->framed);
        if (r == 0)
            control->received_at = gt_clock();
        if (r == 0 && control->state == CONTROL_UP)
            gt_heartbeat_received(&control->heartbeat);
        if (r == 0)
            r = control_handle_frames(control);
        if (r == 0)
            r = control_make_room(control);
    }
    return r;
}

static void control_receive(struct gt_control_connection *control)
{
    int r = control_read(control);

    if (control->state == CONTROL_ENDED)
        return;
    if (r == GT_FRAMED_CONNECTION_E_CLOSED)
        control_lose(control, "the relay closed the connection");
    else if (r == GT_FRAMED_CONNECTION_E_BROKEN)
        control_lose(control, gt_tls_why(control->framed.tls));
    else if (r == GT_FRAMED_CONNECTION_E_BAD)
        gt_control_connection_fail_protocol(control, "the relay sent a malformed frame");
}

/* --- watchers --------------------------------------------------------------------------------- */

/* Sends queued frames; after BYE also close_notify and FIN. Returns 0 or E_BROKEN. */
static int control_flush(struct gt_control_connection *control)
{
    if (control->state < CONTROL_CLOSING)
        return gt_framed_connection_flush(&control->framed);
    int r = gt_framed_connection_finish(&control->framed);
    if (r == 0 && control->state == CONTROL_CLOSING)
        gt_control_connection_enter(control, CONTROL_SHUTDOWN_SENT);
    return r == GT_FRAMED_CONNECTION_E_AGAIN ? 0 : r;
}

/* Reads even if sending has failed: the relay's last frame has more detail than "Broken pipe". */
static void control_on_io(struct ev_loop *loop, ev_io *w, int revents)
{
    struct gt_control_connection *control = w->data;
    bool must_flush = (revents & EV_WRITE) || control->state == CONTROL_CLOSING;
    bool is_broken = must_flush && control_flush(control) != 0;

    if ((revents & EV_READ) || is_broken)
        control_receive(control);
    if (control->state == CONTROL_ENDED)
        return;
    if (is_broken)
        control_lose(control, gt_tls_why(control->framed.tls));
    else
        gt_control_connection_watch(control);
}

/* Ignored if the socket has an event: this process did not run for a while, the relay did. */
static void control_on_overdue(struct gt_control_connection *control)
{
    if (!ev_is_pending(&control->io))
        gt_control_connection_end(control, states[control->state].overdue, GT_CODE_NONE,
                                  states[control->state].overdue_why);
}

static void control_on_deadline(struct ev_loop *loop, ev_timer *w, int revents)
{
    control_on_overdue(w->data);
}

static void control_on_heartbeat_timeout(void *userdata)
{
    control_on_overdue(userdata);
}

static void control_on_heartbeat(void *userdata, uint64_t ping)
{
    struct gt_control_connection *control = userdata;
    struct gt_control_frame frame = {.type = GT_CONTROL_PING, .ping = ping};

    if (gt_control_connection_queue(control, &frame, GT_CONTROL_CONNECTION_RESERVED) != 0)
        gt_debug("control=%s the relay does not read", control->identity);
}

void gt_control_connection_check(struct gt_control_connection *control, bool has_slept)
{
    if (control->state == CONTROL_DIALING)
        gt_tls_dial_check(&control->tls_dial);
    if (control->framed.fd < 0)
        return;
    enum gt_route route = gt_route_check_socket(control->framed.fd, &control->addr);
    if (route == GT_ROUTE_GONE)
        control_lose(control, "the network has gone");
    else if (control->state == CONTROL_UP && (route == GT_ROUTE_CHANGED || has_slept))
        gt_heartbeat_probe(&control->heartbeat);
}

bool gt_control_connection_is_dialing(const struct gt_control_connection *control)
{
    return control->state == CONTROL_DIALING && control->tls_dial.state == GT_TLS_DIAL_CONNECTING;
}

void gt_control_connection_ping(struct gt_control_connection *control)
{
    if (control->state == CONTROL_UP)
        gt_heartbeat_ping(&control->heartbeat);
}

bool gt_control_connection_probe(struct gt_control_connection *control)
{
    bool is_queued = control->state == CONTROL_UP;

    for (unsigned i = 0; is_queued && i < PROBE_FRAMES; i++)
        is_queued = gt_framed_connection_queue_filler(&control->framed,
                                                      GT_CONTROL_CONNECTION_RESERVED) == 0;
    if (is_queued)
        gt_control_connection_ping(control);
    return is_queued;
}

bool gt_control_connection_is_in_flight(const struct gt_control_connection *control)
{
    struct gt_sock_answers answers;

    return control->framed.fd >= 0 &&
           (gt_framed_connection_has_unsent(&control->framed) ||
            (gt_sock_get_answers(control->framed.fd, &answers) == 0 && answers.is_in_flight));
}

double gt_control_connection_received_at(const struct gt_control_connection *control)
{
    return control->received_at;
}

double gt_control_connection_rtt(const struct gt_control_connection *control)
{
    return control->framed.fd < 0 ? 0 : gt_sock_rtt(control->framed.fd);
}

/* --- creation and end ------------------------------------------------------------------------- */

static void control_on_connected(void *userdata, int fd, struct gt_tls *tls,
                                 const struct gt_addr *addr)
{
    struct gt_control_connection *control = userdata;

    gt_framed_connection_attach(&control->framed, fd, tls);
    control->addr = *addr;
    gt_control_connection_enter(control, CONTROL_HELLO_SENT);
    if (gt_framed_connection_flush(&control->framed) != 0) /* the watcher will find it broken */
        gt_debug("control=%s send failed", control->identity);
    gt_control_connection_watch(control);
}

static void control_on_dial_failed(void *userdata, enum gt_end_reason reason, const char *why)
{
    gt_control_connection_end(userdata, reason, GT_CODE_NONE, why);
}

static void control_init(struct gt_control_connection *control, struct ev_loop *loop,
                         const struct gt_control_connection_settings *settings)
{
    static const struct gt_heartbeat_events events = {
        .on_heartbeat = control_on_heartbeat,
        .on_timeout = control_on_heartbeat_timeout,
    };

    ev_now_update(loop);
    control->loop = loop;
    gt_framed_connection_init(&control->framed);
    gt_key_identity(settings->role, settings->name, control->identity);
    gt_heartbeat_init(&control->heartbeat, loop, control->identity, &events, control);
    ev_init(&control->io, control_on_io);
    ev_init(&control->deadline, control_on_deadline);
    control->io.data = control->deadline.data = control;
}

static int control_dial(struct gt_control_connection *control,
                        const struct gt_control_connection_settings *settings)
{
    static const struct gt_tls_dial_events events = {
        .on_connected = control_on_connected,
        .on_failed = control_on_dial_failed,
    };
    const struct gt_tls_dial_settings dial = {
        .to = settings->relay,
        .proxy = settings->proxy,
        .identity = control->identity,
        .psk = settings->client_key,
        .timeout_ms =
            settings->connect_timeout_ms ? settings->connect_timeout_ms : CONNECT_TIMEOUT_MS,
    };

    int r = gt_tls_dial_init(&control->tls_dial, control->loop, &dial, &events, control);
    if (r == 0 && settings->has_large_segments)
        gt_tls_dial_permit_large_segments(&control->tls_dial);
    return r;
}

int gt_control_connection_new(struct ev_loop *loop,
                              const struct gt_control_connection_settings *settings,
                              const struct gt_control_connection_events *events, void *userdata,
                              struct gt_control_connection **ret)
{
    struct gt_control_connection *control = calloc(1, sizeof(*control));

    if (!control)
        return -ENOMEM;
    control_init(control, loop, settings);
    control->events = *events;
    control->userdata = userdata;
    int r = gt_control_connection_queue_hello(control);
    if (r == 0 && settings->rid)
        r = gt_control_connection_queue_rendezvous(control, settings);
    if (r == 0)
        r = control_dial(control, settings);
    if (r != 0) {
        gt_control_connection_free(control);
        return r < 0 ? r : -EINVAL;
    }
    gt_control_connection_enter(control, CONTROL_DIALING);
    *ret = control;
    return 0;
}

int gt_control_connection_register(struct gt_control_connection *control,
                                   const struct gt_control_connection_settings *settings,
                                   const struct gt_control_connection_events *events,
                                   void *userdata)
{
    if (control->state >= CONTROL_CLOSING)
        return GT_CONTROL_CONNECTION_E_OVER;
    int r = gt_control_connection_queue_rendezvous(control, settings);
    if (r != 0)
        return r;
    control->events = *events;
    control->userdata = userdata;
    if (control->state == CONTROL_PREPARED)
        gt_control_connection_enter(control, CONTROL_REGISTERING);
    return 0;
}

void gt_control_connection_bye(struct gt_control_connection *control, enum gt_code code)
{
    struct gt_control_frame bye = gt_control_connection_frame(control, GT_CONTROL_BYE);

    if (control->state >= CONTROL_CLOSING)
        return;
    bye.code = (uint16_t)code;
    bool is_queued =
        control->state >= CONTROL_HELLO_SENT && gt_control_connection_queue(control, &bye, 0) == 0;
    gt_tls_dial_cancel(&control->tls_dial);
    if (!is_queued)
        control_disconnect(control);
    gt_control_connection_enter(control, CONTROL_CLOSING);
    if (!is_queued) /* no relay to send it to; on_down comes from the loop all the same */
        control_set_deadline(control, AT_ONCE_S);
}

bool gt_control_connection_is_over(const struct gt_control_connection *control)
{
    return control->state == CONTROL_ENDED;
}

struct gt_control_connection *gt_control_connection_free(struct gt_control_connection *control)
{
    if (!control)
        return NULL;
    if (control->state >= CONTROL_HELLO_SENT && control->has_session)
        gt_control_connection_bye(control, GT_CODE_BYE);
    if (control->state == CONTROL_CLOSING && control->framed.tls &&
        gt_framed_connection_flush(&control->framed) != 0)
        gt_debug("control=%s BYE unsent", control->identity);
    ev_timer_stop(control->loop, &control->deadline);
    gt_heartbeat_stop(&control->heartbeat);
    control_disconnect(control);
    gt_tls_dial_deinit(&control->tls_dial);
    gt_framed_connection_deinit(&control->framed);
    free(control);
    return NULL;
}
