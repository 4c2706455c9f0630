/* SPDX-License-Identifier: ISC */
/*
 * Where a stream meets the world: its local socket on one side, its carrier on the other. Every
 * event moves what it can, and then one function (conduit_turn) looks at the stream's state and
 * draws the consequences, so that it does not matter which event brought a change. Must never close
 * a local socket in order unless the stream ended well, and never read from one more than the ring
 * holds. The states are those of the way to the peer; how the stream itself is, is stream.h's.
 */
#include "gotthard/conduit.h"

#include <assert.h>

#include "gotthard/backoff.h"
#include "gotthard/clock.h"
#include "gotthard/log.h"
#include "gotthard/pump.h"

enum conduit_state {
    CONDUIT_WAITING,  /* for a ticket: the first, or another */
    CONDUIT_CARRYING, /* a carrier is dialled, joined, handshaken */
    CONDUIT_GREETING, /* HELLO both ways */
    CONDUIT_UP,
    CONDUIT_LINGERING, /* over: our last words go out, and the peer's goodbye is awaited */
    CONDUIT_DONE,      /* everything is closed; on_end is due */
};

#define FIRST_S GT_TICKET_TTL_S /* to be up for the first time */
#define AGAIN_S 10.             /* until a ticket that did not come is asked for again */

/* Deadlines in seconds; UP and LINGERING are watched by the carrier's own, which always come. All
 * before UP share give_up_at. */
static const struct {
    const char *name;
    ev_tstamp deadline;
} states[] = {
    [CONDUIT_WAITING] = {"waiting", AGAIN_S}, [CONDUIT_CARRYING] = {"carrying", 60},
    [CONDUIT_GREETING] = {"greeting", 10},    [CONDUIT_UP] = {"up", -1},
    [CONDUIT_LINGERING] = {"lingering", 10},  [CONDUIT_DONE] = {"done", 0},
};

struct gt_conduit {
    struct gt_conduit_settings settings;
    const struct gt_conduit_events *events;
    void *userdata;

    enum conduit_state state;
    ev_timer deadline;
    ev_timer again; /* a turn is due that no descriptor brings */

    struct gt_stream stream;
    struct gt_carrier *carrier;
    uint64_t n_moved_at_beat;
    uint32_t attempt;    /* the last one a carrier was dialled for */
    uint32_t asked;      /* the last one a ticket was asked for */
    uint32_t up_attempt; /* the last one that was up; 0: the peer may know nothing of us */
    ev_tstamp give_up_at;
    struct gt_backoff backoff;

    struct gt_local local;
};

/* < 0: never. */
static void conduit_arm(struct gt_conduit *conduit, ev_tstamp after)
{
    struct ev_loop *loop = conduit->settings.loop;
    ev_timer_stop(loop, &conduit->deadline);
    if (after < 0)
        return;
    if (conduit->state < CONDUIT_UP)
        after = GT_MIN(after, conduit->give_up_at - gt_clock());
    ev_timer_set(&conduit->deadline, GT_MAX(after, 0.), 0);
    ev_timer_start(loop, &conduit->deadline);
}

static void conduit_enter(struct gt_conduit *conduit, enum conduit_state state)
{
    gt_debug("stream=%u %s -> %s", conduit->stream.number, states[conduit->state].name,
             states[state].name);
    conduit->state = state;
    conduit_arm(conduit, states[state].deadline);
}

/* Only ever from a later turn of the loop: this is where everything public ends. */
static void conduit_wake(struct gt_conduit *conduit)
{
    ev_timer_start(conduit->settings.loop, &conduit->again);
}

/* --- from one carrier to the next ------------------------------------------------------------- */

/* The peer's first word must come within FIRST_S, later ones within resume_s of a lost carrier. */
static void conduit_begin_to_wait(struct gt_conduit *conduit)
{
    const struct gt_conduit_settings *settings = &conduit->settings;
    ev_tstamp patience =
        conduit->up_attempt && settings->resume_s > 0 ? settings->resume_s : FIRST_S;
    conduit->give_up_at = gt_clock() + patience;
}

/* Is there something that another carrier could bring, or tell? Of a stream that never was up the
 * peer need not be told the end, and one whose peer broke it is known there. */
static bool conduit_is_wanting(const struct gt_conduit *conduit)
{
    bool is_unknown = !conduit->up_attempt || conduit->stream.is_reset_by_peer;
    return !gt_stream_is_over(&conduit->stream) ||
           (conduit->settings.resume_s > 0 && !is_unknown && conduit->state < CONDUIT_DONE);
}

static bool conduit_is_resumable(const struct gt_conduit *conduit)
{
    bool is_tried_out = !conduit->up_attempt && conduit->backoff.n_tries >= GT_CONDUIT_TRIES;
    bool is_spare = conduit->settings.role == GT_ROLE_OPERATOR && gt_conduit_is_spare(conduit);
    return conduit->settings.resume_s > 0 && !is_tried_out && !is_spare &&
           conduit_is_wanting(conduit) && gt_clock() < conduit->give_up_at;
}

/* The device's part in that: to say what it misses. An attempt that never was up has deadlines on
 * both sides. */
static void conduit_tell_lost(struct gt_conduit *conduit)
{
    if (conduit->up_attempt && conduit->up_attempt == conduit->attempt)
        conduit->events->on_lost(conduit, conduit->userdata, conduit->attempt);
}

static void conduit_ask_ticket(struct gt_conduit *conduit)
{
    if (conduit->settings.role != GT_ROLE_OPERATOR) {
        conduit_tell_lost(conduit);
        return;
    }
    conduit->asked = GT_MAX(conduit->asked, conduit->attempt) + 1;
    conduit->events->on_ticket_due(conduit, conduit->userdata, conduit->asked);
}

static void conduit_on_carrier_lost(struct gt_conduit *conduit)
{
    if (conduit->state >= CONDUIT_UP)
        conduit_begin_to_wait(conduit);
    conduit->carrier = gt_carrier_free(conduit->carrier);
    gt_stream_park(&conduit->stream);
    if (conduit_is_resumable(conduit)) {
        conduit_enter(conduit, CONDUIT_WAITING);
        conduit_arm(conduit, gt_backoff_next(&conduit->backoff));
        return;
    }
    conduit->settings.resume_s = 0;
    gt_stream_reset(&conduit->stream, GT_RST_LOST);
}

/* --- a turn ----------------------------------------------------------------------------------- */

/* Is there a service to be connected that nobody was asked for yet? */
static void conduit_ask(struct gt_conduit *conduit)
{
    if (conduit->settings.role != GT_ROLE_DEVICE || conduit->local.state != GT_LOCAL_NONE ||
        !conduit->stream.service[0])
        return;
    conduit->local.state = GT_LOCAL_ASKED;
    conduit->events->on_service(conduit, conduit->userdata, conduit->stream.service);
}

/* The stream is over: the local socket is closed at once, the carrier after our last words. With
 * none, or none yet, the peer that knows of us is told over the next. */
static void conduit_wind_up(struct gt_conduit *conduit)
{
    gt_local_close(&conduit->local);
    if (conduit->state < CONDUIT_GREETING && conduit_is_resumable(conduit))
        return;
    if (conduit->state < CONDUIT_LINGERING)
        conduit_enter(conduit, conduit->carrier ? CONDUIT_LINGERING : CONDUIT_DONE);
    if (conduit->carrier && !gt_stream_wants_carrier(&conduit->stream))
        gt_carrier_close(conduit->carrier);
}

static void conduit_on_greeted(struct gt_conduit *conduit)
{
    conduit->up_attempt = conduit->attempt;
    conduit->backoff = (struct gt_backoff){0};
    conduit_enter(conduit, CONDUIT_UP);
    conduit->events->on_up(conduit, conduit->userdata);
}

/* Consequences of the stream's state. */
static void conduit_react(struct gt_conduit *conduit)
{
    switch (conduit->stream.state) {
    case GT_STREAM_PARKED:
    case GT_STREAM_GREETING: break;
    case GT_STREAM_OPEN:
        if (conduit->state == CONDUIT_GREETING)
            conduit_on_greeted(conduit);
        conduit_ask(conduit);
        break;
    case GT_STREAM_ENDED:
    case GT_STREAM_BROKEN: conduit_wind_up(conduit); break;
    }
}

static void conduit_turn(struct gt_conduit *conduit)
{
    if (!gt_local_is_full(&conduit->local))
        gt_local_write(&conduit->local);
    gt_pump_emit(&conduit->stream, conduit->carrier);
    conduit_react(conduit);
    gt_local_watch(&conduit->local);
}

/* --- events ----------------------------------------------------------------------------------- */

static void conduit_on_local(void *userdata, int revents)
{
    struct gt_conduit *conduit = userdata;
    if (revents & EV_WRITE)
        gt_local_write(&conduit->local);
    if (revents & EV_READ)
        gt_pump_collect(&conduit->stream, &conduit->local, conduit->carrier);
    conduit_turn(conduit);
}

static void conduit_on_ready(void *userdata)
{
    struct gt_conduit *conduit = userdata;
    gt_stream_attach(&conduit->stream, conduit->attempt);
    conduit_enter(conduit, CONDUIT_GREETING);
    conduit_turn(conduit);
}

static void conduit_on_readable(void *userdata)
{
    struct gt_conduit *conduit = userdata;
    gt_pump_absorb(&conduit->stream, conduit->carrier, &conduit->local);
    conduit_turn(conduit);
}

static void conduit_on_writable(void *userdata)
{
    conduit_turn(userdata);
}

/* Only one end finds it quiet, that asks the other. */
static void conduit_on_beat(void *userdata, bool is_quiet)
{
    struct gt_conduit *conduit = userdata;
    uint64_t n_moved = conduit->stream.tx.tail + conduit->stream.rx.tail;
    if (is_quiet || n_moved == conduit->n_moved_at_beat)
        gt_stream_trim(&conduit->stream);
    conduit->n_moved_at_beat = n_moved;
    if (!is_quiet)
        return;
    gt_stream_ping(&conduit->stream, 0);
    conduit_turn(conduit);
    gt_batch_trim();
}

/* After a goodbye nothing is left to be said, and a stream that is not over never will be. */
static void conduit_on_gone(void *userdata, bool is_goodbye, const char *why)
{
    struct gt_conduit *conduit = userdata;
    if (is_goodbye)
        conduit->settings.resume_s = 0;
    conduit_on_carrier_lost(conduit);
    if (conduit->state == CONDUIT_LINGERING)
        conduit_enter(conduit, CONDUIT_DONE);
    conduit_turn(conduit);
}

static void conduit_on_again(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct gt_conduit *conduit = watcher->data;
    ev_timer_stop(loop, watcher);
    conduit_turn(conduit);
}

/* It is time to ask, again, or too late. */
static void conduit_on_waited(struct gt_conduit *conduit)
{
    if (gt_clock() < conduit->give_up_at) {
        conduit_arm(conduit, AGAIN_S);
        conduit_ask_ticket(conduit);
        return;
    }
    conduit->settings.resume_s = 0;
    gt_stream_reset(&conduit->stream, GT_RST_EXPIRED);
}

static void conduit_on_deadline(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct gt_conduit *conduit = watcher->data;
    switch (conduit->state) {
    case CONDUIT_WAITING: conduit_on_waited(conduit); break;
    case CONDUIT_CARRYING:
    case CONDUIT_GREETING: conduit_on_carrier_lost(conduit); break;
    case CONDUIT_UP: break;
    case CONDUIT_LINGERING:
        conduit_on_carrier_lost(conduit);
        if (conduit->state == CONDUIT_LINGERING)
            conduit_enter(conduit, CONDUIT_DONE);
        break;
    case CONDUIT_DONE:
        conduit->events->on_end(conduit, conduit->userdata, conduit->stream.code);
        gt_conduit_free(conduit);
        return;
    }
    conduit_turn(conduit);
}

/* --- from outside ----------------------------------------------------------------------------- */

int gt_conduit_carry(struct gt_conduit *conduit, const struct gt_addr *relay,
                     const struct gt_ticket *ticket)
{
    static const struct gt_carrier_events events = {
        .on_ready = conduit_on_ready,
        .on_readable = conduit_on_readable,
        .on_writable = conduit_on_writable,
        .on_beat = conduit_on_beat,
        .on_gone = conduit_on_gone,
    };
    const struct gt_carrier_settings settings = {
        .loop = conduit->settings.loop,
        .role = conduit->settings.role,
        .session_key = conduit->settings.session_key,
        .tls = conduit->settings.tls,
        .quiet_s = conduit->settings.quiet_s,
        .silent_s = conduit->settings.silent_s,
    };
    if (ticket->stream != conduit->stream.number || ticket->attempt <= conduit->attempt ||
        ticket->attempt < conduit->asked || !conduit_is_wanting(conduit))
        return GT_CONDUIT_E_STALE;
    if (conduit->state >= CONDUIT_UP)
        conduit_begin_to_wait(conduit);
    struct gt_carrier *carrier;
    int r = gt_carrier_new(&settings, relay, ticket, &events, conduit, &carrier);
    if (r)
        return r;
    gt_stream_park(&conduit->stream);
    gt_carrier_free(conduit->carrier);
    conduit->carrier = carrier;
    conduit->attempt = ticket->attempt;
    conduit_enter(conduit, CONDUIT_CARRYING);
    return 0;
}

void gt_conduit_serve(struct gt_conduit *conduit, int fd)
{
    if (gt_stream_is_over(&conduit->stream)) {
        gt_sock_reset(fd);
        return;
    }
    assert(conduit->local.state == GT_LOCAL_ASKED || conduit->local.state == GT_LOCAL_NONE);
    gt_local_open(&conduit->local, fd);
    conduit_wake(conduit);
}

/* A spare that was idle may have lost its way long ago, in a NAT that forgot it: whoever waits for
 * its first bytes must not wait until the heartbeat notices. */
void gt_conduit_bind(struct gt_conduit *conduit, int fd, const char *service)
{
    if (gt_stream_is_over(&conduit->stream)) {
        gt_sock_reset(fd);
        return;
    }
    gt_stream_bind(&conduit->stream, service);
    gt_local_open(&conduit->local, fd);
    if (gt_stream_wants_local(&conduit->stream))
        gt_local_read(&conduit->local);
    if (conduit->state == CONDUIT_UP) {
        gt_carrier_prove(conduit->carrier);
    } else {
        conduit_begin_to_wait(conduit);
    }
    gt_pump_emit(&conduit->stream, conduit->carrier);
    conduit_wake(conduit);
}

void gt_conduit_refuse(struct gt_conduit *conduit, enum gt_rst code)
{
    gt_stream_reset(&conduit->stream, code);
    conduit_wake(conduit);
}

void gt_conduit_resume(struct gt_conduit *conduit)
{
    if (conduit->state != CONDUIT_WAITING)
        return;
    conduit->backoff = (struct gt_backoff){0};
    conduit_arm(conduit, AGAIN_S);
    conduit_ask_ticket(conduit);
}

void gt_conduit_lose(struct gt_conduit *conduit, uint32_t attempt)
{
    if (attempt != conduit->attempt || !gt_conduit_is_carried(conduit))
        return;
    conduit_on_carrier_lost(conduit);
    if (conduit->state == CONDUIT_LINGERING)
        conduit_enter(conduit, CONDUIT_DONE);
    gt_conduit_resume(conduit);
    conduit_wake(conduit);
}

void gt_conduit_check(struct gt_conduit *conduit, bool has_slept)
{
    if (conduit->carrier)
        gt_carrier_check(conduit->carrier, has_slept);
}

void gt_conduit_break(struct gt_conduit *conduit, enum gt_rst code)
{
    conduit->settings.resume_s = 0;
    gt_stream_reset(&conduit->stream, code);
    conduit_wake(conduit);
}

int gt_conduit_new(const struct gt_conduit_settings *settings, uint32_t number, int local_fd,
                   const char *service, const struct gt_conduit_events *events, void *userdata,
                   struct gt_conduit **ret)
{
    struct gt_conduit *conduit = calloc(1, sizeof(*conduit));
    if (!conduit) {
        if (local_fd >= 0)
            gt_sock_reset(local_fd); /* never an end in order that is none */
        return -ENOMEM;
    }
    conduit->settings = *settings;
    conduit->events = events;
    conduit->userdata = userdata;
    gt_stream_init(&conduit->stream, settings->role, number, service, settings->ring_size);
    conduit->stream.memory = settings->memory;
    gt_local_init(&conduit->local, settings->loop, &conduit->stream, conduit_on_local, conduit);
    ev_init(&conduit->deadline, conduit_on_deadline);
    ev_timer_init(&conduit->again, conduit_on_again, 0, 0);
    conduit->deadline.data = conduit->again.data = conduit;
    if (local_fd >= 0)
        gt_local_open(&conduit->local, local_fd);
    conduit_begin_to_wait(conduit);
    conduit_enter(conduit, CONDUIT_WAITING);
    gt_local_watch(&conduit->local); /* what is read before the carrier is up goes out with HELLO */
    *ret = conduit;
    conduit_ask_ticket(conduit);
    return 0;
}

struct gt_conduit *gt_conduit_free(struct gt_conduit *conduit)
{
    if (conduit) {
        struct ev_loop *loop = conduit->settings.loop;
        gt_carrier_free(conduit->carrier);
        gt_local_close(&conduit->local);
        ev_timer_stop(loop, &conduit->deadline);
        ev_timer_stop(loop, &conduit->again);
        gt_stream_deinit(&conduit->stream);
        free(conduit);
    }
    return NULL;
}

uint32_t gt_conduit_number(const struct gt_conduit *conduit)
{
    return conduit->stream.number;
}

uint32_t gt_conduit_attempt(const struct gt_conduit *conduit)
{
    return GT_MAX(conduit->attempt, conduit->asked);
}

const char *gt_conduit_service(const struct gt_conduit *conduit)
{
    return conduit->stream.service;
}

bool gt_conduit_is_spare(const struct gt_conduit *conduit)
{
    return !conduit->stream.service[0];
}

bool gt_conduit_is_bindable(const struct gt_conduit *conduit)
{
    return conduit->settings.role == GT_ROLE_OPERATOR && gt_conduit_is_spare(conduit) &&
           !gt_stream_is_over(&conduit->stream) && conduit->state <= CONDUIT_UP;
}

bool gt_conduit_is_up(const struct gt_conduit *conduit)
{
    return conduit->state == CONDUIT_UP;
}

bool gt_conduit_is_carried(const struct gt_conduit *conduit)
{
    return conduit->state == CONDUIT_UP || conduit->state == CONDUIT_LINGERING;
}

enum gt_rst gt_conduit_code(const struct gt_conduit *conduit)
{
    return conduit->stream.code;
}

void gt_conduit_counts(const struct gt_conduit *conduit, uint64_t *ret_up, uint64_t *ret_down)
{
    bool is_operator = conduit->settings.role == GT_ROLE_OPERATOR;
    uint64_t sent = conduit->stream.tx.tail, received = conduit->stream.rx.head;
    *ret_up = is_operator ? sent : received;
    *ret_down = is_operator ? received : sent;
}
