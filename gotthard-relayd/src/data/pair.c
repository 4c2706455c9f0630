/* SPDX-License-Identifier: ISC */
/*
 * The way of the bytes: this is what the relay is for, and all else exists so that this file can be
 * simple. One wake-up moves bytes from a readable socket through a pipe to the other one, up to a
 * budget, so that a busy pair does not starve the rest of its plane. While bytes wait in a pipe
 * their source is not read: that is all the back-pressure there is, and TCP does the rest.
 *
 * It must never lose the bytes before a FIN, never turn a reset into a FIN, and never look inside.
 */
#include "pair.h"

#include <netinet/tcp.h>

#include "gotthard/join.h"
#include "gotthard/log.h"
#include "gotthard/sock.h"
#include "now.h"

#define PAIR_SMALL (16 * 1024) /* a filling below this: the socket is most likely empty */
/* Unsent bytes the kernel holds before it says "full". It bounds what a reader that stands still
 * pins; but the kernel counts it for every packet, and cuts them small below a MiB or two. */
#define PAIR_NOTSENT_MAX (2 * 1024 * 1024)

static struct pair_side *pair_other(struct pair_side *side)
{
    return side == &side->pair->sides[0] ? &side->pair->sides[1] : &side->pair->sides[0];
}

static const char *pair_state_text(enum pair_state state)
{
    switch (state) {
    case PAIR_ONE_JOINED: return "one-joined";
    case PAIR_SPLICING: return "splicing";
    case PAIR_HALF_CLOSED: return "half-closed";
    case PAIR_CLOSED: return "closed";
    }
    return "?";
}

static uint64_t pair_deadline_ms(const struct pair *pair)
{
    switch (pair->state) {
    case PAIR_ONE_JOINED: return pair->limits->second_ms;
    case PAIR_SPLICING: return 0; /* as long as its session lives */
    case PAIR_HALF_CLOSED: return pair->limits->half_closed_ms;
    case PAIR_CLOSED: return 0;
    }
    return 0;
}

/* Grows with each byte that comes, and with each that goes: who reads slowly is alive, too. */
static uint64_t pair_n_moved(const struct pair *pair)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < 2; i++) {
        const struct pair_side *side = &pair->sides[i];
        n += 2 * side->n_bytes - (side->pipe ? side->pipe->n_held : 0);
    }
    return n;
}

static void pair_arm(struct pair *pair)
{
    double seconds = (double)pair_deadline_ms(pair) / 1000;

    ev_timer_stop(pair->loop, &pair->deadline);
    if (seconds <= 0)
        return;
    pair->n_moved_at_deadline = pair_n_moved(pair);
    ev_timer_set(&pair->deadline, seconds, 0);
    ev_timer_start(pair->loop, &pair->deadline);
}

static void pair_enter(struct pair *pair, enum pair_state state)
{
    if (pair->state == state)
        return;
    gt_debug("stream=%u attempt=%u %s -> %s", pair->stream, pair->attempt,
             pair_state_text(pair->state), pair_state_text(state));
    pair->state = state;
    pair_arm(pair);
}

/* Watches a socket for what its two flows can do next, and for nothing else. */
static void side_watch(struct pair_side *side)
{
    struct ev_loop *loop = side->pair->loop;
    int events = 0;

    if (side->flow == FLOW_OPEN && !side->pipe)
        events |= EV_READ;
    if (pair_other(side)->pipe)
        events |= EV_WRITE;
    if (ev_is_active(&side->io) && (side->io.events & (EV_READ | EV_WRITE)) == events)
        return;
    ev_io_stop(loop, &side->io);
    ev_io_set(&side->io, side->fd, events);
    if (events)
        ev_io_start(loop, &side->io);
}

static void side_close(struct pair_side *side, bool is_reset)
{
    ev_io_stop(side->pair->loop, &side->io);
    side->pipe = pipe_give(side->pair->pool, side->pipe);
    if (side->fd >= 0 && is_reset)
        gt_sock_reset(gt_steal_fd(&side->fd));
    gt_close(&side->fd);
    quota_release(&side->charge);
}

static void pair_end(struct pair *pair, bool is_reset)
{
    side_close(&pair->sides[0], is_reset);
    side_close(&pair->sides[1], is_reset);
    pair_enter(pair, PAIR_CLOSED);
}

/* Ends it and says so. */
static void pair_finish(struct pair *pair, bool is_reset, enum gt_code code)
{
    pair_end(pair, is_reset);
    pair->events->on_closed(pair->userdata, pair, code);
}

void pair_close(struct pair *pair)
{
    if (pair->state != PAIR_CLOSED)
        pair_end(pair, true);
}

/* The last byte has been poured: pass the FIN on. E_RESET: there is nobody to pass it to. */
static int side_shut(struct pair_side *side)
{
    side->flow = FLOW_SHUT;
    return shutdown(pair_other(side)->fd, SHUT_WR) < 0 ? PIPE_E_RESET : PIPE_E_END;
}

/* Once round: empty what is held, then fill and empty again. PIPE_E_AGAIN, _END, _RESET, or 0: more
 * may come. */
static int side_turn(struct pair_side *side, struct pair_side *to, size_t *ret_n)
{
    int r;

    if (!side->pipe) {
        if (pipe_take(side->pair->pool, &side->pipe))
            return PIPE_E_RESET;
        r = pipe_fill(side->pipe, side->fd);
        if (r) {
            side->pipe = pipe_give(side->pair->pool, side->pipe);
            return r;
        }
        side->n_bytes += side->pipe->n_held;
        *ret_n = side->pipe->n_held;
    }
    r = pipe_pour(side->pipe, to->fd);
    if (!r)
        side->pipe = pipe_give(side->pair->pool, side->pipe);
    return r;
}

/* Moves what can be moved in this direction. False: a socket is broken. */
static bool side_pump(struct pair_side *side)
{
    struct pair_side *to = pair_other(side);
    size_t n_moved = 0;

    while (side->flow == FLOW_OPEN && n_moved < side->pair->limits->budget) {
        size_t n = SIZE_MAX;
        int r = side_turn(side, to, &n);
        if (r == PIPE_E_END)
            r = side_shut(side);
        if (r == PIPE_E_RESET)
            return false;
        if (r || n < PAIR_SMALL)
            break;
        n_moved += n == SIZE_MAX ? 0 : n;
    }
    return true;
}

static void pair_settle(struct pair *pair)
{
    int n_shut = (pair->sides[0].flow == FLOW_SHUT) + (pair->sides[1].flow == FLOW_SHUT);

    if (n_shut == 2) {
        pair_finish(pair, false, GT_CODE_NONE);
        return;
    }
    if (n_shut == 1)
        pair_enter(pair, PAIR_HALF_CLOSED);
    side_watch(&pair->sides[0]);
    side_watch(&pair->sides[1]);
}

/* Careful: the pair is closed and handed to its dock when this says so. */
static void side_on_ready(struct ev_loop *loop, ev_io *io, int events)
{
    struct pair_side *side = gt_container_of(io, struct pair_side, io);
    struct pair *pair = side->pair;
    bool is_whole = true;

    if (events & EV_ERROR)
        is_whole = false;
    if (is_whole && (events & EV_READ))
        is_whole = side_pump(side);
    if (is_whole && (events & EV_WRITE))
        is_whole = side_pump(pair_other(side));
    if (is_whole)
        pair_settle(pair);
    else
        pair_finish(pair, true, GT_CODE_LOST);
}

static void pair_on_deadline(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct pair *pair = gt_container_of(timer, struct pair, deadline);

    if (pair->state == PAIR_HALF_CLOSED && pair_n_moved(pair) != pair->n_moved_at_deadline)
        pair_arm(pair);
    else
        pair_finish(pair, true, GT_CODE_EXPIRED);
}

uint64_t pair_deadline_left_ms(struct pair *pair)
{
    if (!ev_is_active(&pair->deadline))
        return NEVER;
    return (uint64_t)(GT_MAX(ev_timer_remaining(pair->loop, &pair->deadline), 0.) * 1000);
}

void pair_go_on(struct pair *pair, uint64_t deadline_ms)
{
    if (deadline_ms != NEVER) {
        ev_timer_set(&pair->deadline, (double)deadline_ms / 1000, 0);
        ev_timer_start(pair->loop, &pair->deadline);
    }
    if (pair->state == PAIR_ONE_JOINED)
        return;
    side_watch(&pair->sides[0]);
    side_watch(&pair->sides[1]);
}

struct pair *pair_new(struct ev_loop *loop, struct pipe_pool *pool,
                      const struct pair_limits *limits, const struct pair_events *events,
                      void *userdata)
{
    struct pair *pair = calloc(1, sizeof(*pair));

    if (!pair)
        return NULL;
    pair->loop = loop;
    pair->pool = pool;
    pair->limits = limits;
    pair->events = events;
    pair->userdata = userdata;
    gt_list_init(&pair->of_dock);
    ev_init(&pair->deadline, pair_on_deadline);
    for (unsigned i = 0; i < 2; i++) {
        pair->sides[i].pair = pair;
        pair->sides[i].fd = -1;
        ev_init(&pair->sides[i].io, side_on_ready);
    }
    return pair;
}

struct pair *pair_free(struct pair *pair)
{
    if (!pair)
        return NULL;
    pair_close(pair);
    gt_list_unlink(&pair->of_dock);
    free(pair);
    return NULL;
}

static void side_tune(struct pair_side *side)
{
    const char *congestion = side->pair->limits->congestion;
    int lowat = PAIR_NOTSENT_MAX;

    if (setsockopt(side->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof(lowat)) < 0)
        gt_log(GT_LOG_DEBUG, errno, "TCP_NOTSENT_LOWAT");
    if (congestion[0] && setsockopt(side->fd, IPPROTO_TCP, TCP_CONGESTION, congestion,
                                    (socklen_t)strlen(congestion)) < 0)
        gt_log(GT_LOG_DEBUG, errno, "TCP_CONGESTION %s", congestion);
}

/* An empty socket always takes eight bytes; one that does not is broken. */
static bool side_greet(struct pair_side *side)
{
    return send(side->fd, gt_join_reply, GT_JOIN_REPLY_SIZE, MSG_NOSIGNAL) == GT_JOIN_REPLY_SIZE;
}

void pair_join(struct pair *pair, unsigned side, int fd, struct quota_charge *charge)
{
    struct pair_side *joined = &pair->sides[side];

    joined->fd = fd;
    quota_know(charge);
    quota_move(charge, &joined->charge);
    side_tune(joined);
    if (pair_other(joined)->fd < 0) {
        pair_arm(pair);
        return;
    }
    if (!side_greet(&pair->sides[0]) || !side_greet(&pair->sides[1])) {
        pair_finish(pair, true, GT_CODE_LOST);
        return;
    }
    pair_enter(pair, PAIR_SPLICING);
    pair->events->on_complete(pair->userdata, pair);
    pair_settle(pair);
}
