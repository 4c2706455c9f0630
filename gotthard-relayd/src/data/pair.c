/* SPDX-License-Identifier: ISC */
/*
 * The data path of the relay: everything else exists so that this file can be simple. One wake-up
 * moves bytes from a readable socket through a pipe to the other socket, up to a budget, so that a
 * busy pair does not starve the other pairs of its data thread. While bytes wait in a pipe, their
 * source is not read. TCP turns that into back-pressure.
 *
 * This file must never lose bytes before a FIN, turn a reset into a FIN, or inspect payload.
 */
#include "data/pair.h"

#include <netinet/tcp.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "gotthard/net/sock.h"
#include "gotthard/proto/join.h"

#define PAIR_SMALL (16 * 1024) /* bytes; after a smaller read the socket is most likely empty */
/* Unsent bytes in the kernel before the socket is not writable (TCP_NOTSENT_LOWAT in tcp(7)). It
 * bounds the memory that a stalled reader pins. Below one or two MiB the kernel, which checks it
 * for every packet, sends small packets. */
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
    case PAIR_ONE_JOINED: return pair->limits->join_peer_ms;
    case PAIR_SPLICING: return 0; /* limited by the session only */
    case PAIR_HALF_CLOSED: return pair->limits->half_closed_ms;
    case PAIR_CLOSED: return 0;
    }
    return 0;
}

/* Returns a number that grows with each byte received and with each byte sent. A slow reader thus
 * counts as progress. */
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

/* Watches a socket for exactly the events that its two directions can act on. */
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
    side->pipe = pipe_release(side->pair->pool, side->pipe);
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

/* Closes the pair and notifies its owner. */
static void pair_finish(struct pair *pair, bool is_reset, enum gt_code code)
{
    pair_end(pair, is_reset);
    pair->events->on_end(pair->userdata, pair, code);
}

void pair_close(struct pair *pair)
{
    if (pair->state != PAIR_CLOSED)
        pair_end(pair, true);
}

/* Forwards the FIN after the last byte. E_END; E_RESET: the other socket is broken. */
static int side_forward_fin(struct pair_side *side)
{
    side->flow = FLOW_SHUT;
    return shutdown(pair_other(side)->fd, SHUT_WR) < 0 ? PIPE_E_RESET : PIPE_E_END;
}

/* Only this thread writes the total, so that no locked instruction is needed. */
static void side_count(struct pair_side *side, size_t n)
{
    side->n_bytes += n;
    if (side->total)
        atomic_store_explicit(side->total,
                              atomic_load_explicit(side->total, memory_order_relaxed) + n,
                              memory_order_relaxed);
}

/* Fills the pipe if it is empty, then empties it. Sets *@ret_n to the bytes received, if any were
 * read. PIPE_E_AGAIN, _END, _RESET; 0: more bytes may follow. */
static int side_move_once(struct pair_side *side, struct pair_side *to, size_t *ret_n)
{
    int r;

    if (!side->pipe) {
        if (pipe_acquire(side->pair->pool, &side->pipe))
            return PIPE_E_RESET;
        r = pipe_fill(side->pipe, side->fd);
        if (r) {
            side->pipe = pipe_release(side->pair->pool, side->pipe);
            return r;
        }
        side_count(side, side->pipe->n_held);
        *ret_n = side->pipe->n_held;
    }
    r = pipe_empty(side->pipe, to->fd);
    if (!r)
        side->pipe = pipe_release(side->pair->pool, side->pipe);
    return r;
}

/* Moves bytes in this direction, up to the budget. Returns false if a socket is broken. */
static bool side_pump(struct pair_side *side)
{
    struct pair_side *to = pair_other(side);
    size_t n_moved = 0;

    while (side->flow == FLOW_OPEN && n_moved < side->pair->limits->turn_budget) {
        size_t n = SIZE_MAX;
        int r = side_move_once(side, to, &n);

        if (r == PIPE_E_END)
            r = side_forward_fin(side);
        if (r == PIPE_E_RESET)
            return false;
        if (r || n < PAIR_SMALL)
            break;
        n_moved += n == SIZE_MAX ? 0 : n;
    }
    return true;
}

static void pair_update(struct pair *pair)
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

/* pair_update and pair_finish may close the pair and pass it to its owner: call them last. */
static void side_on_ready(struct ev_loop *loop, ev_io *io, int events)
{
    struct pair_side *side = gt_container_of(io, struct pair_side, io);
    struct pair *pair = side->pair;
    bool is_intact = true;

    if (events & EV_ERROR)
        is_intact = false;
    if (is_intact && (events & EV_READ))
        is_intact = side_pump(side);
    if (is_intact && (events & EV_WRITE))
        is_intact = side_pump(pair_other(side));
    if (is_intact)
        pair_update(pair);
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
        return GT_CLOCK_NEVER;
    return (uint64_t)(GT_MAX(ev_timer_remaining(pair->loop, &pair->deadline), 0.) * 1000);
}

void pair_resume(struct pair *pair, uint64_t deadline_ms)
{
    if (deadline_ms != GT_CLOCK_NEVER) {
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
    gt_list_init(&pair->of_session_port);
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
    gt_list_unlink(&pair->of_session_port);
    free(pair);
    return NULL;
}

static void side_set_options(struct pair_side *side)
{
    const char *congestion = side->pair->limits->congestion;
    int lowat = PAIR_NOTSENT_MAX;

    if (setsockopt(side->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof(lowat)) < 0)
        gt_log(GT_LOG_DEBUG, errno, "TCP_NOTSENT_LOWAT");
    if (congestion[0] && setsockopt(side->fd, IPPROTO_TCP, TCP_CONGESTION, congestion,
                                    (socklen_t)strlen(congestion)) < 0)
        gt_log(GT_LOG_DEBUG, errno, "TCP_CONGESTION %s", congestion);
}

/* Sends the receipt of a JOIN, or the reply to it. An empty socket accepts these few bytes unless
 * it is broken. */
static bool side_send(struct pair_side *side, const uint8_t reply[static GT_JOIN_REPLY_SIZE])
{
    return send(side->fd, reply, GT_JOIN_REPLY_SIZE, MSG_NOSIGNAL) == GT_JOIN_REPLY_SIZE;
}

void pair_join(struct pair *pair, unsigned side, int fd, struct quota_charge *charge)
{
    struct pair_side *joined = &pair->sides[side];

    if (joined->fd >= 0)
        side_close(joined, false); /* the side has joined again, by another way */
    joined->fd = fd;
    quota_move(charge, &joined->charge);
    side_set_options(joined);
    if (pair_other(joined)->fd < 0) {
        if (!side_send(joined, gt_join_receipt))
            gt_debug("stream=%u attempt=%u receipt not sent", pair->stream, pair->attempt);
        pair_arm(pair);
        return;
    }
    if (!side_send(&pair->sides[0], gt_join_reply) || !side_send(&pair->sides[1], gt_join_reply)) {
        pair_finish(pair, true, GT_CODE_LOST);
        return;
    }
    pair_enter(pair, PAIR_SPLICING);
    pair->events->on_complete(pair->userdata, pair);
    pair_update(pair);
}
