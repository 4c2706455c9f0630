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

#include "gotthard/clock.h"
#include "gotthard/dial.h"
#include "gotthard/line.h"
#include "gotthard/log.h"
#include "gotthard/way.h"

#define CONNECT_TIMEOUT_MS 15000
#define HEARTBEAT_MS       15000
#define HEARTBEAT_MIN_MS   500
#define BEATS_UNTIL_DEAD   3
#define DEAD_S             45 /* the kernel's patience with what it sends */
#define PROOF_S            5. /* for a link that is in doubt */
#define OUT_SPARE          64 /* of the queue, for PONG and BYE */

enum link_state {
    LINK_DIALLING,
    LINK_HANDSHAKE,
    LINK_GREETING,    /* HELLO and RENDEZVOUS are on their way, WELCOME is not here */
    LINK_REGISTERING, /* WELCOME came, SESSION did not */
    LINK_UP,
    LINK_CLOSING, /* BYE is queued */
    LINK_DOWN,
};

/* What it means, in each state, that its time is over. The states before REGISTERING share
 * connect_timeout_ms besides. */
static const struct {
    const char *name;
    ev_tstamp limit;
    enum gt_down cause;
    const char *why;
} states[] = {
    [LINK_DIALLING] = {"dialling", 3600., GT_DOWN_UNREACHABLE, "no answer"}, /* dial tells first */
    [LINK_HANDSHAKE] = {"handshake", 10., GT_DOWN_UNREACHABLE, "no answer to the handshake"},
    [LINK_GREETING] = {"greeting", 10., GT_DOWN_UNREACHABLE, "no greeting from the relay"},
    [LINK_REGISTERING] = {"registering", 10., GT_DOWN_RELAY, "the relay did not register us"},
    [LINK_UP] = {"up", 45., GT_DOWN_LOST, "the relay has gone silent"},
    [LINK_CLOSING] = {"closing", 1., GT_DOWN_CLOSED, "closed"},
    [LINK_DOWN] = {"down", 0., GT_DOWN_CLOSED, ""},
};

struct gt_link {
    struct ev_loop *loop;
    enum link_state state;
    struct gt_link_events events;
    void *userdata;

    char identity[GT_IDENTITY_MAX + 1];
    uint8_t psk[GT_KEY_SIZE]; /* wiped after the handshake */
    uint8_t rid[GT_RID_SIZE];

    struct gt_dial *dial;
    struct gt_addr addr; /* that answered */
    int fd;
    struct gt_tls_context *context;

    ev_io io;
    ev_timer deadline, heartbeat;
    ev_tstamp give_up_at; /* connecting, as a whole; by gt_clock() */
    ev_tstamp heartbeat_s;
    uint64_t n_pings;
    uint64_t proof; /* the PING whose answer will dispel a doubt; 0: there is none */

    struct gt_line line;
    char why[160];
};

const char *gt_down_text(enum gt_down cause)
{
    switch (cause) {
    case GT_DOWN_CLOSED: return "closed";
    case GT_DOWN_UNREACHABLE: return "unreachable";
    case GT_DOWN_REFUSED: return "refused";
    case GT_DOWN_RELAY: return "relay";
    case GT_DOWN_LOST: return "lost";
    case GT_DOWN_PEER: return "peer";
    case GT_DOWN_EXPIRED: return "expired";
    case GT_DOWN_INTERNAL: return "internal";
    }
    return "unknown";
}

/* --- states ----------------------------------------------------------------------------------- */

static int link_interest(const struct gt_link *link)
{
    int wants_write = gt_line_wants_write(&link->line) ? EV_WRITE : 0;
    switch (link->state) {
    case LINK_DIALLING:
    case LINK_DOWN: return 0;
    case LINK_HANDSHAKE: return EV_READ | (gt_tls_wants_write(link->line.tls) ? EV_WRITE : 0);
    case LINK_GREETING:
    case LINK_REGISTERING:
    case LINK_UP:
    case LINK_CLOSING: return wants_write | (gt_line_wants_read(&link->line) ? EV_READ : 0);
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
    /* What is inside already wakes nobody. */
    if (interest & EV_READ && link->state >= LINK_GREETING && gt_line_has_pending(&link->line))
        ev_feed_event(link->loop, &link->io, EV_READ);
}

static ev_tstamp link_limit(const struct gt_link *link)
{
    ev_tstamp limit = states[link->state].limit;
    if (link->state == LINK_UP)
        limit = BEATS_UNTIL_DEAD * link->heartbeat_s;
    if (link->state > LINK_DIALLING && link->state < LINK_REGISTERING)
        limit = GT_MIN(limit, link->give_up_at - gt_clock());
    return GT_MAX(limit, 1e-6);
}

static void link_enter(struct gt_link *link, enum link_state state)
{
    gt_debug("link=%.8s %s -> %s", link->identity, states[link->state].name, states[state].name);
    link->state = state;
    if (state == LINK_DOWN) {
        ev_timer_stop(link->loop, &link->deadline);
        ev_timer_stop(link->loop, &link->heartbeat);
    } else {
        link->deadline.repeat = link_limit(link);
        ev_timer_again(link->loop, &link->deadline);
    }
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
    link->dial = gt_dial_cancel(link->dial);
    link_disconnect(link);
    link_enter(link, LINK_DOWN);
    link->events.on_down(link->userdata, cause, code, link->why);
}

/* The connection broke, or was closed, under our feet. */
static void link_lost(struct gt_link *link, const char *why)
{
    enum gt_down cause = link->state == LINK_CLOSING       ? GT_DOWN_CLOSED
                         : link->state >= LINK_REGISTERING ? GT_DOWN_LOST
                                                           : GT_DOWN_UNREACHABLE;
    link_down(link, cause, GT_CODE_NONE, why);
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

int gt_link_open(struct gt_link *link, uint32_t stream, uint32_t attempt)
{
    if (link->state >= LINK_CLOSING)
        return GT_LINK_E_OVER;
    struct gt_control_frame frame = frame_of(link, GT_CONTROL_OPEN);
    frame.open.stream = stream;
    frame.open.attempt = attempt;
    return link_queue(link, &frame, OUT_SPARE);
}

int gt_link_spare(struct gt_link *link, uint32_t stream, uint32_t attempt, bool is_spare)
{
    if (link->state >= LINK_CLOSING)
        return GT_LINK_E_OVER;
    struct gt_control_frame frame = frame_of(link, GT_CONTROL_SPARE);
    frame.spare.stream = stream;
    frame.spare.attempt = attempt;
    frame.spare.is_spare = is_spare;
    return link_queue(link, &frame, OUT_SPARE);
}

int gt_link_stream_end(struct gt_link *link, uint32_t stream, uint32_t attempt, unsigned code,
                       uint64_t n_up, uint64_t n_down)
{
    if (link->state >= LINK_CLOSING)
        return GT_LINK_E_OVER;
    struct gt_control_frame frame = frame_of(link, GT_CONTROL_STREAM_END);
    frame.stream_end.stream = stream;
    frame.stream_end.attempt = attempt;
    frame.stream_end.code = (uint16_t)code;
    frame.stream_end.n_up = n_up;
    frame.stream_end.n_down = n_down;
    return link_queue(link, &frame, OUT_SPARE);
}

/* --- frames in -------------------------------------------------------------------------------- */

static void link_on_welcome(struct gt_link *link, const struct gt_control_frame *frame)
{
    if (frame->welcome.version != GT_CONTROL_VERSION) {
        link_down(link, GT_DOWN_RELAY, GT_CODE_VERSION, gt_code_text(GT_CODE_VERSION));
        return;
    }
    uint32_t ms = frame->welcome.heartbeat_ms;
    ms = ms == 0 ? HEARTBEAT_MS : GT_MIN(GT_MAX(ms, HEARTBEAT_MIN_MS), HEARTBEAT_MS);
    link->heartbeat_s = ms / 1000.;
    link_enter(link, LINK_REGISTERING);
}

/* The next PING, 20 % sooner or later than regular, so that many links do not beat as one. */
static void link_beat_later(struct gt_link *link)
{
    uint16_t random = 0;
    if (gt_random(&random, sizeof random))
        random = 0;
    link->heartbeat.repeat = link->heartbeat_s * (.8 + .4 * random / UINT16_MAX);
    ev_timer_again(link->loop, &link->heartbeat);
}

static void link_on_session(struct gt_link *link, const struct gt_control_frame *frame)
{
    if (link->state == LINK_REGISTERING) {
        link_enter(link, LINK_UP);
        link_beat_later(link);
    }
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

static void link_heard(struct gt_link *link)
{
    link->deadline.repeat = link_limit(link);
    ev_timer_again(link->loop, &link->deadline);
}

/* That anything comes is what counts, unless there is a doubt: what was under way before it says
 * nothing. */
static void link_on_pong(struct gt_link *link, uint64_t ping)
{
    if (!link->proof || ping < link->proof)
        return;
    gt_debug("link=%.8s has proved itself", link->identity);
    link->proof = 0;
    link_heard(link);
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
    case GT_CONTROL_PONG: link_on_pong(link, frame->ping); return;
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

/* --- from a name to a greeting ---------------------------------------------------------------- */

static void link_on_greeting(struct gt_link *link)
{
    gt_wipe(link->psk, sizeof link->psk);
    gt_debug("link=%.8s suite=%s", link->identity, gt_tls_suite(link->line.tls));
    link_enter(link, LINK_GREETING);
    if (gt_line_send(&link->line))
        gt_debug("link=%.8s could not send at once", link->identity); /* the watcher sees to it */
    link_watch(link);
}

static void link_shake(struct gt_link *link)
{
    int r = gt_tls_handshake(link->line.tls);
    if (r == 0) {
        link_on_greeting(link);
    } else if (r == GT_TLS_E_AGAIN) {
        link_watch(link);
    } else if (gt_tls_is_refused(link->line.tls)) {
        char why[128];
        snprintf(why, sizeof why, "the relay refused the handshake: wrong key? (%s)",
                 gt_tls_why(link->line.tls));
        link_down(link, GT_DOWN_REFUSED, GT_CODE_NONE, why);
    } else {
        char why[128];
        snprintf(why, sizeof why, "the handshake came to nothing: %s", gt_tls_why(link->line.tls));
        link_lost(link, why);
    }
}

static void link_on_dialled(void *userdata, int fd, const struct gt_addr *addr, const char *why)
{
    struct gt_link *link = userdata;
    link->dial = NULL; /* it frees itself */
    if (fd < 0) {
        link_lost(link, why);
        return;
    }
    link->fd = fd;
    link->addr = *addr;
    gt_sock_set_timeout(fd, DEAD_S); /* the relay reads its members always */
    if (gt_tls_new_client(link->context, fd, gt_span_text(link->identity), link->psk,
                          &link->line.tls)) {
        link_down(link, GT_DOWN_INTERNAL, GT_CODE_NONE, "out of memory");
        return;
    }
    link_enter(link, LINK_HANDSHAKE);
    link_shake(link);
}

/* --- events ----------------------------------------------------------------------------------- */

static void link_listen(struct gt_link *link)
{
    uint64_t before = link->line.n_received;
    int r = gt_line_receive(&link->line, link_hear, link);
    if (link->state == LINK_UP && link->line.n_received != before && !link->proof)
        link_heard(link);
    if (r == GT_LINE_E_CLOSED)
        link_lost(link, "the relay closed the connection");
    else if (r == GT_LINE_E_BROKEN)
        link_lost(link, gt_tls_why(link->line.tls));
    else if (r == GT_LINE_E_BAD)
        link_violated(link, "the relay sent what is no frame");
}

/* Listens even when sending failed: the relay's last words say more than a broken pipe. */
static void link_exchange(struct gt_link *link, int revents)
{
    int sent = revents & EV_WRITE ? gt_line_send(&link->line) : 0;
    if (link->state == LINK_CLOSING && !gt_line_wants_write(&link->line)) {
        link_down(link, GT_DOWN_CLOSED, GT_CODE_NONE, "closed");
        return;
    }
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
    struct gt_link *link = w->data;
    switch (link->state) {
    case LINK_HANDSHAKE: link_shake(link); return;
    case LINK_GREETING:
    case LINK_REGISTERING:
    case LINK_UP:
    case LINK_CLOSING: link_exchange(link, revents); return;
    case LINK_DIALLING:
    case LINK_DOWN: return;
    }
}

static void link_on_deadline(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct gt_link *link = w->data;
    if (!ev_is_pending(&link->io)) /* else this process slept, not the relay */
        link_down(link, states[link->state].cause, GT_CODE_NONE, states[link->state].why);
}

static void link_ping(struct gt_link *link)
{
    struct gt_control_frame ping = {.type = GT_CONTROL_PING, .ping = ++link->n_pings};
    if (link->state == LINK_UP && link_queue(link, &ping, OUT_SPARE))
        gt_debug("link=%.8s the relay does not read", link->identity);
}

static void link_on_heartbeat(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct gt_link *link = w->data;
    link_beat_later(link);
    link_ping(link);
}

/* --- a network that changes ------------------------------------------------------------------- */

static void link_doubt(struct gt_link *link)
{
    if (link->state != LINK_UP || link->proof)
        return;
    gt_debug("link=%.8s is to prove itself", link->identity);
    link_ping(link);
    link->proof = link->n_pings;
    link->deadline.repeat = GT_MIN(ev_timer_remaining(link->loop, &link->deadline), PROOF_S);
    ev_timer_again(link->loop, &link->deadline);
}

void gt_link_check(struct gt_link *link, bool has_slept)
{
    if (link->dial)
        gt_dial_check(link->dial);
    if (link->fd < 0)
        return;
    enum gt_way way = gt_way_of(link->fd, &link->addr);
    if (way == GT_WAY_GONE)
        link_lost(link, "the network has gone");
    else if (way == GT_WAY_DOUBTFUL || has_slept)
        link_doubt(link);
}

bool gt_link_is_dialling(const struct gt_link *link)
{
    return link->state == LINK_DIALLING;
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
                      const struct gt_link_settings *settings, unsigned timeout_ms)
{
    ev_now_update(loop);
    link->loop = loop;
    link->fd = -1;
    link->heartbeat_s = HEARTBEAT_MS / 1000.;
    link->give_up_at = gt_clock() + timeout_ms / 1000.;
    gt_key_identity(settings->role, settings->name, link->identity);
    memcpy(link->psk, settings->client_key, sizeof link->psk);
    memcpy(link->rid, settings->rid, sizeof link->rid);
    ev_init(&link->io, link_on_io);
    ev_init(&link->deadline, link_on_deadline);
    ev_init(&link->heartbeat, link_on_heartbeat);
    link->io.data = link->deadline.data = link->heartbeat.data = link;
}

int gt_link_new(struct ev_loop *loop, const struct gt_link_settings *settings,
                const struct gt_link_events *events, void *userdata, struct gt_link **ret)
{
    struct gt_link *link = calloc(1, sizeof *link);
    if (!link)
        return -ENOMEM;
    unsigned timeout_ms =
        settings->connect_timeout_ms ? settings->connect_timeout_ms : CONNECT_TIMEOUT_MS;
    link_init(link, loop, settings, timeout_ms);
    link->events = *events;
    link->userdata = userdata;
    int r = gt_tls_context_new(GT_TLS_CLIENT, GT_CONTROL_ALPN, &link->context);
    if (r == 0)
        r = link_greet(link, settings);
    if (r == 0)
        r = gt_dial_new(loop, settings->host, settings->port, timeout_ms, link_on_dialled, link,
                        &link->dial);
    if (r) {
        gt_link_free(link);
        return r < 0 ? r : -EINVAL;
    }
    link_enter(link, LINK_DIALLING);
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
    link->dial = gt_dial_cancel(link->dial);
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
    ev_timer_stop(link->loop, &link->heartbeat);
    gt_dial_cancel(link->dial);
    link_disconnect(link);
    gt_tls_context_free(link->context);
    gt_wipe(link->psk, sizeof link->psk);
    gt_line_deinit(&link->line);
    free(link);
    return NULL;
}
