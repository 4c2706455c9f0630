/* SPDX-License-Identifier: ISC */
/*
 * A link is one relay connection from its name to its end. HELLO and RENDEZVOUS are queued at
 * birth, OPENs behind them as they come, and all of it leaves in the flight that completes the
 * handshake: nothing waits for WELCOME, because a cold connect pays for every round trip.
 *
 * It never dials twice by itself once the handshake is done: a link that is lost is over, and its
 * whole decides what that means.
 */
#include "gotthard/link.h"

#include <stdio.h>
#include <sys/socket.h>

#include "gotthard/call.h"
#include "gotthard/clock.h"
#include "gotthard/line.h"
#include "gotthard/log.h"
#include "gotthard/pulse.h"
#include "gotthard/way.h"

#define CONNECT_TIMEOUT_MS 15000
#define OUT_SPARE          64 /* of the queue, for PONG and BYE */

enum link_state {
    LINK_CALLING,
    LINK_GREETING,    /* HELLO and RENDEZVOUS are on their way, WELCOME is not here */
    LINK_REGISTERING, /* WELCOME came, SESSION did not */
    LINK_UP,
    LINK_CLOSING, /* BYE is queued */
    LINK_PARTING, /* all was sent, and our end of it; the relay's is awaited */
    LINK_DOWN,
};

/* What it means, in each state, that its time is over. CALLING and GREETING share
 * connect_timeout_ms besides. */
static const struct {
    const char *name;
    ev_tstamp limit; /* 0: watched by others */
    enum gt_down cause;
    const char *why;
} states[] = {
    [LINK_CALLING] = {"calling", 0., GT_DOWN_UNREACHABLE, ""}, /* the call */
    [LINK_GREETING] = {"greeting", 10., GT_DOWN_UNREACHABLE, "no greeting from the relay"},
    [LINK_REGISTERING] = {"registering", 10., GT_DOWN_RELAY, "the relay did not register us"},
    [LINK_UP] = {"up", 0., GT_DOWN_LOST, "the relay has gone silent"}, /* the pulse */
    [LINK_CLOSING] = {"closing", .5, GT_DOWN_CLOSED, "closed"},
    [LINK_PARTING] = {"parting", .5, GT_DOWN_CLOSED, "closed"},
    [LINK_DOWN] = {"down", 0., GT_DOWN_CLOSED, ""},
};

struct gt_link {
    struct ev_loop *loop;
    enum link_state state;
    struct gt_link_events events;
    void *userdata;

    char identity[GT_IDENTITY_MAX + 1];
    uint8_t rid[GT_RID_SIZE];

    struct gt_call call;
    struct gt_addr addr; /* that answered */
    int fd;              /* from GREETING on */
    struct gt_line line;
    struct gt_pulse pulse;
    ev_io io;
    ev_timer deadline;
    char why[160];
};

/* --- states ----------------------------------------------------------------------------------- */

static int link_interest(const struct gt_link *link)
{
    int wants_write = gt_line_is_stuck(&link->line) ? EV_WRITE : 0;
    switch (link->state) {
    case LINK_CALLING:
    case LINK_DOWN: return 0;
    case LINK_GREETING:
    case LINK_REGISTERING:
    case LINK_UP:
    case LINK_CLOSING:
    case LINK_PARTING: return wants_write | (gt_line_wants_read(&link->line) ? EV_READ : 0);
    }
    return 0;
}

static void link_watch(struct gt_link *link)
{
    int interest = link->fd < 0 ? 0 : link_interest(link);
    int present = ev_is_active(&link->io) ? link->io.events & (EV_READ | EV_WRITE) : 0;
    if (interest != present) {
        ev_io_stop(link->loop, &link->io);
        ev_io_set(&link->io, link->fd, interest);
        if (interest)
            ev_io_start(link->loop, &link->io);
    }
    /* What is inside already wakes nobody; and what was queued in this turn goes out at its end. */
    if (interest & EV_READ && gt_line_has_pending(&link->line))
        ev_feed_event(link->loop, &link->io, EV_READ);
    if (link->fd >= 0 && gt_line_wants_write(&link->line) && !(interest & EV_WRITE))
        ev_feed_event(link->loop, &link->io, EV_WRITE);
}

static void link_set_deadline(struct gt_link *link)
{
    ev_tstamp limit = states[link->state].limit;
    if (link->state == LINK_GREETING)
        limit = GT_MAX(GT_MIN(limit, link->call.give_up_at - gt_clock()), 1e-6);
    link->deadline.repeat = limit; /* 0: it is stopped */
    ev_timer_again(link->loop, &link->deadline);
}

static void link_enter(struct gt_link *link, enum link_state state)
{
    gt_debug("link=%.8s %s -> %s", link->identity, states[link->state].name, states[state].name);
    link->state = state;
    link_set_deadline(link);
    if (state == LINK_UP)
        gt_pulse_start(&link->pulse);
    else
        gt_pulse_stop(&link->pulse);
    link_watch(link);
}

static void link_disconnect(struct gt_link *link)
{
    ev_io_stop(link->loop, &link->io);
    gt_line_disconnect(&link->line);
    gt_close(&link->fd);
}

/* The last thing any handler does: @link may be freed from the next turn on. */
static void link_down(struct gt_link *link, enum gt_down cause, enum gt_code code, const char *why)
{
    if (link->state == LINK_DOWN)
        return;
    /* @why may live inside tls. */
    snprintf(link->why, sizeof link->why, "%s", why);
    gt_call_cancel(&link->call);
    link_disconnect(link);
    link_enter(link, LINK_DOWN);
    link->events.on_down(link->userdata, cause, code, link->why);
}

/* The connection broke, or was closed, under our feet. */
static void link_lost(struct gt_link *link, const char *why)
{
    enum gt_down cause = link->state >= LINK_CLOSING       ? GT_DOWN_CLOSED
                         : link->state >= LINK_REGISTERING ? GT_DOWN_LOST
                                                           : GT_DOWN_UNREACHABLE;
    link_down(link, cause, GT_CODE_NONE, link->state >= LINK_CLOSING ? "closed" : why);
}

static void link_violated(struct gt_link *link, const char *why)
{
    link_down(link, GT_DOWN_RELAY, GT_CODE_PROTOCOL, why);
}

/* --- frames out ------------------------------------------------------------------------------- */

static int link_queue(struct gt_link *link, const struct gt_control_frame *frame, size_t spare)
{
    if (gt_line_queue(&link->line, frame, spare))
        return GT_LINK_E_FULL;
    link_watch(link);
    return 0;
}

static struct gt_control_frame frame_of(const struct gt_link *link, enum gt_control_type type)
{
    struct gt_control_frame frame = {.type = type};
    memcpy(frame.rid, link->rid, sizeof frame.rid);
    return frame;
}

/* What can be said as soon as there is a link, and for as long as it is not about to go. */
static int link_say(struct gt_link *link, const struct gt_control_frame *frame)
{
    return link->state < LINK_CLOSING ? link_queue(link, frame, OUT_SPARE) : GT_LINK_E_OVER;
}

int gt_link_open(struct gt_link *link, uint32_t stream, uint32_t attempt)
{
    struct gt_control_frame frame = frame_of(link, GT_CONTROL_OPEN);
    frame.open.stream = stream;
    frame.open.attempt = attempt;
    return link_say(link, &frame);
}

int gt_link_spare(struct gt_link *link, uint32_t stream, uint32_t attempt, bool is_spare)
{
    struct gt_control_frame frame = frame_of(link, GT_CONTROL_SPARE);
    frame.spare.stream = stream;
    frame.spare.attempt = attempt;
    frame.spare.is_spare = is_spare;
    return link_say(link, &frame);
}

int gt_link_stream_end(struct gt_link *link, uint32_t stream, uint32_t attempt, unsigned code,
                       uint64_t n_up, uint64_t n_down)
{
    struct gt_control_frame frame = frame_of(link, GT_CONTROL_STREAM_END);
    frame.stream_end.stream = stream;
    frame.stream_end.attempt = attempt;
    frame.stream_end.code = (uint16_t)code;
    frame.stream_end.n_up = n_up;
    frame.stream_end.n_down = n_down;
    return link_say(link, &frame);
}

/* --- frames in -------------------------------------------------------------------------------- */

static void link_on_welcome(struct gt_link *link, const struct gt_control_frame *frame)
{
    if (frame->welcome.version != GT_CONTROL_VERSION) {
        link_down(link, GT_DOWN_RELAY, GT_CODE_VERSION, gt_code_text(GT_CODE_VERSION));
        return;
    }
    gt_pulse_set(&link->pulse, frame->welcome.heartbeat_ms);
    link_enter(link, LINK_REGISTERING);
}

static void link_on_session(struct gt_link *link, const struct gt_control_frame *frame)
{
    if (link->state == LINK_REGISTERING)
        link_enter(link, LINK_UP);
    link->events.on_session(link->userdata, &link->addr, frame->session.port,
                            frame->session.is_peer_up);
}

/* BYE and ERROR: what the relay says last. */
static void link_on_verdict(struct gt_link *link, const struct gt_control_frame *frame)
{
    enum gt_code code = frame->code;
    if (frame->type == GT_CONTROL_ERROR && code == GT_CODE_LIMIT && link->state == LINK_UP) {
        gt_debug("link=%.8s one stream is over the relay's limit", link->identity);
        return; /* that stream waits in vain for its ticket; the others are well */
    }
    enum gt_down cause = code == GT_CODE_BYE       ? GT_DOWN_CLOSED
                         : code == GT_CODE_EXPIRED ? GT_DOWN_EXPIRED
                                                   : GT_DOWN_RELAY;
    link_down(link, cause, code, gt_code_text(code));
}

/* What only a registered client is told. */
static void link_on_news(struct gt_link *link, const struct gt_control_frame *frame)
{
    if (frame->type == GT_CONTROL_PEER)
        link->events.on_peer(link->userdata, frame->peer.is_up, frame->peer.reason);
    else if (frame->type == GT_CONTROL_TICKET)
        link->events.on_ticket(link->userdata, &frame->ticket);
    else
        link->events.on_stream_end(link->userdata, frame->stream_end.stream,
                                   frame->stream_end.attempt, frame->stream_end.code);
}

/* May the relay say this now? */
static bool is_in_order(const struct gt_link *link, const struct gt_control_frame *frame)
{
    bool is_ours = memcmp(frame->rid, link->rid, sizeof link->rid) == 0;
    switch (frame->type) {
    case GT_CONTROL_WELCOME: return link->state == LINK_GREETING;
    case GT_CONTROL_SESSION: return is_ours && link->state >= LINK_REGISTERING;
    case GT_CONTROL_PEER:
    case GT_CONTROL_TICKET:
    case GT_CONTROL_STREAM_END: return is_ours && link->state >= LINK_UP;
    case GT_CONTROL_PING:
    case GT_CONTROL_PONG:
    case GT_CONTROL_RESTARTING:
    case GT_CONTROL_BYE:
    case GT_CONTROL_ERROR: return true;
    case GT_CONTROL_HELLO:
    case GT_CONTROL_RENDEZVOUS:
    case GT_CONTROL_OPEN:
    case GT_CONTROL_SPARE: return false;
    }
    return false;
}

static void link_on_frame(struct gt_link *link, struct gt_control_frame *frame)
{
    if (!is_in_order(link, frame)) {
        link_violated(link, "the relay broke the protocol");
        return;
    }
    switch (frame->type) {
    case GT_CONTROL_WELCOME: link_on_welcome(link, frame); return;
    case GT_CONTROL_SESSION: link_on_session(link, frame); return;
    case GT_CONTROL_PEER:
    case GT_CONTROL_TICKET:
    case GT_CONTROL_STREAM_END: link_on_news(link, frame); return;
    case GT_CONTROL_PING:
        frame->type = GT_CONTROL_PONG;
        if (link_queue(link, frame, 0))
            link_violated(link, "the relay does not read");
        return;
    case GT_CONTROL_PONG: gt_pulse_heard_pong(&link->pulse, frame->ping); return;
    case GT_CONTROL_RESTARTING:
        link->events.on_restarting(link->userdata, frame->restarting.reconnect_in_ms,
                                   frame->restarting.try_for_ms);
        return;
    case GT_CONTROL_BYE:
    case GT_CONTROL_ERROR: link_on_verdict(link, frame); return;
    case GT_CONTROL_HELLO:
    case GT_CONTROL_RENDEZVOUS:
    case GT_CONTROL_OPEN:
    case GT_CONTROL_SPARE: return;
    }
}

static bool link_hear(void *userdata, struct gt_control_frame *frame)
{
    struct gt_link *link = userdata;
    if (link->state < LINK_CLOSING)
        link_on_frame(link, frame);
    return link->state < LINK_DOWN;
}

/* --- the call --------------------------------------------------------------------------------- */

static void link_on_answered(void *userdata, int fd, struct gt_tls *tls, const struct gt_addr *addr)
{
    struct gt_link *link = userdata;
    link->fd = fd;
    link->line.tls = tls;
    link->addr = *addr;
    link_enter(link, LINK_GREETING);
    if (gt_line_send(&link->line))
        gt_debug("link=%.8s could not send at once", link->identity); /* the watcher sees to it */
    link_watch(link);
}

static void link_on_failed(void *userdata, enum gt_down cause, const char *why)
{
    link_down(userdata, cause, GT_CODE_NONE, why);
}

/* --- events ----------------------------------------------------------------------------------- */

static void link_listen(struct gt_link *link)
{
    uint64_t before = link->line.n_received;
    int r = gt_line_receive(&link->line, link_hear, link);
    if (link->state == LINK_UP && link->line.n_received != before)
        gt_pulse_heard(&link->pulse);
    if (r == GT_LINE_E_CLOSED)
        link_lost(link, "the relay closed the connection");
    else if (r == GT_LINE_E_BROKEN)
        link_lost(link, gt_tls_why(link->line.tls));
    else if (r == GT_LINE_E_BAD)
        link_violated(link, "the relay sent what is no frame");
}

/* To close now, with something unread, would be a reset, which overtakes our last words. */
static void link_part(struct gt_link *link)
{
    gt_tls_close(link->line.tls);
    shutdown(link->fd, SHUT_WR);
    link_enter(link, LINK_PARTING);
}

/* Listens even when sending failed: the relay's last words say more than a broken pipe. */
static void link_exchange(struct gt_link *link, int revents)
{
    int sent = revents & EV_WRITE ? gt_line_send(&link->line) : 0;
    if (link->state == LINK_CLOSING && !gt_line_wants_write(&link->line))
        link_part(link);
    if (revents & EV_READ || sent == GT_LINE_E_BROKEN)
        link_listen(link);
    if (link->state == LINK_DOWN)
        return;
    if (sent == GT_LINE_E_BROKEN)
        link_lost(link, gt_tls_why(link->line.tls));
    else
        link_watch(link);
}

static void link_on_io(struct ev_loop *loop, ev_io *w, int revents)
{
    link_exchange(w->data, revents);
}

static void link_on_overdue(struct gt_link *link)
{
    if (!ev_is_pending(&link->io)) /* else this process slept, not the relay */
        link_down(link, states[link->state].cause, GT_CODE_NONE, states[link->state].why);
}

static void link_on_deadline(struct ev_loop *loop, ev_timer *w, int revents)
{
    link_on_overdue(w->data);
}

static void link_on_silent(void *userdata)
{
    link_on_overdue(userdata);
}

static void link_on_beat(void *userdata, uint64_t ping)
{
    struct gt_link *link = userdata;
    struct gt_control_frame frame = {.type = GT_CONTROL_PING, .ping = ping};
    if (link_queue(link, &frame, OUT_SPARE))
        gt_debug("link=%.8s the relay does not read", link->identity);
}

/* --- a network that changes ------------------------------------------------------------------- */

void gt_link_check(struct gt_link *link, bool has_slept)
{
    if (link->state == LINK_CALLING)
        gt_call_check(&link->call);
    if (link->fd < 0)
        return;
    enum gt_way way = gt_way_of(link->fd, &link->addr);
    if (way == GT_WAY_GONE)
        link_lost(link, "the network has gone");
    else if (link->state == LINK_UP && (way == GT_WAY_DOUBTFUL || has_slept))
        gt_pulse_doubt(&link->pulse);
}

bool gt_link_is_dialling(const struct gt_link *link)
{
    return link->state == LINK_CALLING && link->call.state == GT_CALL_DIALLING;
}

/* --- life ------------------------------------------------------------------------------------- */

static int link_greet(struct gt_link *link, const struct gt_link_settings *settings)
{
    struct gt_control_frame hello = {.type = GT_CONTROL_HELLO};
    struct gt_control_frame rendezvous = frame_of(link, GT_CONTROL_RENDEZVOUS);
    hello.hello.version_min = hello.hello.version_max = GT_CONTROL_VERSION;
    snprintf(hello.hello.software, sizeof hello.hello.software, "gotthard/%s", GOTTHARD_VERSION);
    rendezvous.rendezvous.generation = settings->generation;
    rendezvous.rendezvous.port_hint = settings->port_hint;
    rendezvous.rendezvous.ttl_s = settings->ttl_s;
    int r = link_queue(link, &hello, 0);
    return r ? r : link_queue(link, &rendezvous, 0);
}

static void link_init(struct gt_link *link, struct ev_loop *loop,
                      const struct gt_link_settings *settings)
{
    static const struct gt_pulse_events events = {
        .on_beat = link_on_beat,
        .on_silent = link_on_silent,
    };
    ev_now_update(loop);
    link->loop = loop;
    link->fd = -1;
    gt_key_identity(settings->role, settings->name, link->identity);
    memcpy(link->rid, settings->rid, sizeof link->rid);
    gt_pulse_init(&link->pulse, loop, link->identity, &events, link);
    ev_init(&link->io, link_on_io);
    ev_init(&link->deadline, link_on_deadline);
    link->io.data = link->deadline.data = link;
}

static int link_call(struct gt_link *link, const struct gt_link_settings *settings)
{
    static const struct gt_call_events events = {
        .on_answered = link_on_answered,
        .on_failed = link_on_failed,
    };
    unsigned timeout_ms =
        settings->connect_timeout_ms ? settings->connect_timeout_ms : CONNECT_TIMEOUT_MS;
    return gt_call_init(&link->call, link->loop, settings->host, settings->port, link->identity,
                        settings->client_key, timeout_ms, &events, link);
}

int gt_link_new(struct ev_loop *loop, const struct gt_link_settings *settings,
                const struct gt_link_events *events, void *userdata, struct gt_link **ret)
{
    struct gt_link *link = calloc(1, sizeof *link);
    if (!link)
        return -ENOMEM;
    link_init(link, loop, settings);
    link->events = *events;
    link->userdata = userdata;
    int r = link_greet(link, settings);
    if (r == 0)
        r = link_call(link, settings);
    if (r) {
        gt_link_free(link);
        return r < 0 ? r : -EINVAL;
    }
    link_enter(link, LINK_CALLING);
    *ret = link;
    return 0;
}

void gt_link_bye(struct gt_link *link, enum gt_code code)
{
    struct gt_control_frame bye = frame_of(link, GT_CONTROL_BYE);
    if (link->state >= LINK_CLOSING)
        return;
    bye.code = (uint16_t)code;
    bool is_said = link->state >= LINK_GREETING && link_queue(link, &bye, 0) == 0;
    gt_call_cancel(&link->call);
    if (!is_said)
        link_disconnect(link);
    link_enter(link, LINK_CLOSING);
    if (!is_said) { /* nobody to say it to; on_down comes from the loop all the same */
        link->deadline.repeat = 1e-6;
        ev_timer_again(link->loop, &link->deadline);
    }
}

bool gt_link_is_over(const struct gt_link *link)
{
    return link->state == LINK_DOWN;
}

struct gt_link *gt_link_free(struct gt_link *link)
{
    if (!link)
        return NULL;
    if (link->state >= LINK_GREETING && link->state < LINK_CLOSING)
        gt_link_bye(link, GT_CODE_BYE);
    if (link->state == LINK_CLOSING && link->line.tls && gt_line_send(&link->line))
        gt_debug("link=%.8s left without a goodbye", link->identity);
    ev_timer_stop(link->loop, &link->deadline);
    gt_pulse_stop(&link->pulse);
    link_disconnect(link);
    gt_call_deinit(&link->call);
    gt_line_deinit(&link->line);
    free(link);
    return NULL;
}
