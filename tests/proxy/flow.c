/* SPDX-License-Identifier: ISC */
/*
 * The work of one direction. A piece is the result of one read(), with its time of arrival. Its
 * departure is computed from the impairments at the moment when it becomes the first of the queue,
 * so that a change applies at once to everything in flight. The line is serial: a piece occupies it
 * for its length divided by the rate. The clock is a timerfd: libev's own timers round up to the
 * milliseconds of epoll, which would blur a delay.
 *
 * Must never reorder, nor lose a byte that it has read, unless a command requires it.
 */
#include "flow.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#define FLOW_READ_MAX   (64u << 10)
#define FLOW_WRITES_MAX 128 /* of tiny pieces, before other flows are served */

enum flow_kind { FLOW_DATA, FLOW_FIN, FLOW_RST };

struct flow_piece {
    struct flow_piece *next;
    enum flow_kind kind;
    bool is_due;
    double received_at, jitter_fraction;
    size_t n, at;
    uint8_t data[];
};

/* --- the queue --- */

static struct flow_piece *piece_new(enum flow_kind kind, const uint8_t *data, size_t n)
{
    struct flow_piece *piece = malloc(sizeof(*piece) + n);

    if (!piece)
        abort(); /* out of memory in a tool of the tests */
    *piece = (struct flow_piece){.kind = kind,
                                 .received_at = impairments_clock(),
                                 .jitter_fraction = impairments_random_fraction(),
                                 .n = n};
    if (n)
        memcpy(piece->data, data, n);
    return piece;
}

static void flow_append(struct flow *flow, struct flow_piece *piece)
{
    *flow->last = piece;
    flow->last = &piece->next;
    flow->n_queued += piece->n;
}

static void flow_pop(struct flow *flow)
{
    struct flow_piece *piece = flow->first;

    flow->first = piece->next;
    if (!flow->first)
        flow->last = &flow->first;
    flow->n_queued -= piece->n;
    free(piece);
}

static void flow_clear(struct flow *flow)
{
    while (flow->first)
        flow_pop(flow);
}

/* --- when --- */

static double flow_due(const struct flow *flow, const struct flow_piece *piece)
{
    const struct impairments *impairments = &flow->impairments;
    double due = GT_MAX(piece->received_at, flow->opens_at);

    due = GT_MAX(due + impairments->delay + impairments->jitter * piece->jitter_fraction,
                 flow->free_at);
    return impairments->rate > 0 ? due + (double)piece->n / impairments->rate : due;
}

static void flow_arm(struct flow *flow, double due)
{
    time_t whole = (time_t)due;
    struct itimerspec at = {
        .it_value = {.tv_sec = whole, .tv_nsec = (long)((due - (double)whole) * 1e9) + 1}};

    if (at.it_value.tv_nsec > 999999999)
        at.it_value.tv_nsec = 999999999;
    timerfd_settime(flow->timer, TFD_TIMER_ABSTIME, &at, NULL);
    ev_io_start(flow->loop, &flow->alarm);
}

/* Returns true if the first piece may leave. Otherwise the alarm is set to that time. */
static bool flow_is_due(struct flow *flow)
{
    struct flow_piece *piece = flow->first;
    double due;

    if (piece->is_due)
        return true;
    due = flow_due(flow, piece);
    if (due > impairments_clock()) {
        flow_arm(flow, due);
        return false;
    }
    piece->is_due = true;
    flow->free_at = due;
    return true;
}

/* --- out --- */

static bool flow_is_moving(const struct flow *flow)
{
    return !flow->impairments.is_black && !flow->is_forgotten && !flow->is_over;
}

static void flow_end(struct flow *flow, enum flow_event event)
{
    flow_abandon(flow);
    flow->on_event(flow, event);
}

static size_t flow_write_size(const struct flow *flow, size_t n)
{
    size_t drawn;

    if (!flow->impairments.chunk)
        return n;
    drawn = 1 + (size_t)(impairments_random() % flow->impairments.chunk);
    return GT_MIN(n, drawn);
}

enum flow_out { FLOW_OUT_DONE, FLOW_OUT_LATER, FLOW_OUT_BLOCKED, FLOW_OUT_LOST };

static enum flow_out flow_write(struct flow *flow, struct flow_piece *piece, int *n_writes)
{
    while (piece->at < piece->n) {
        size_t n = flow_write_size(flow, piece->n - piece->at);
        ssize_t r = send(flow->sink, piece->data + piece->at, n, MSG_NOSIGNAL);

        if (r < 0)
            return errno == EAGAIN || errno == EINTR ? FLOW_OUT_BLOCKED : FLOW_OUT_LOST;
        piece->at += (size_t)r;
        flow->n_out += (uint64_t)r;
        if (++*n_writes >= FLOW_WRITES_MAX)
            return FLOW_OUT_LATER;
    }
    return FLOW_OUT_DONE;
}

/* As in the kernel, a reset overtakes data that the receiver does not read. */
static bool flow_ends_in_reset(const struct flow *flow)
{
    const struct flow_piece *piece = flow->first;

    while (piece->next)
        piece = piece->next;
    return piece->kind == FLOW_RST;
}

static enum flow_out flow_deliver(struct flow *flow, int *n_writes)
{
    struct flow_piece *piece = flow->first;
    enum flow_out out;

    switch (piece->kind) {
    case FLOW_DATA:
        out = flow_write(flow, piece, n_writes);
        if (out == FLOW_OUT_DONE)
            flow_pop(flow);
        return out;
    case FLOW_FIN:
        shutdown(flow->sink, SHUT_WR);
        flow_pop(flow);
        flow_end(flow, FLOW_DELIVERED);
        return FLOW_OUT_LOST;
    case FLOW_RST: flow_end(flow, FLOW_RESET); return FLOW_OUT_LOST;
    }
    abort();
}

static void flow_write_out(struct flow *flow)
{
    enum flow_out out = FLOW_OUT_DONE;
    int n_writes = 0;

    while (out == FLOW_OUT_DONE && flow->first && flow_is_due(flow))
        out = flow_deliver(flow, &n_writes);
    if (flow->is_over)
        return;
    if (out == FLOW_OUT_LOST || (out == FLOW_OUT_BLOCKED && flow_ends_in_reset(flow)))
        flow_end(flow, out == FLOW_OUT_LOST ? FLOW_SINK_LOST : FLOW_RESET);
    else if (out == FLOW_OUT_BLOCKED || out == FLOW_OUT_LATER)
        ev_io_start(flow->loop, &flow->writable);
    else
        ev_io_stop(flow->loop, &flow->writable);
}

static void flow_watch_source(struct flow *flow)
{
    if (flow_is_moving(flow) && !flow->is_ended && !flow->impairments.is_stopped &&
        flow->n_queued < impairments_room(&flow->impairments))
        ev_io_start(flow->loop, &flow->readable);
    else
        ev_io_stop(flow->loop, &flow->readable);
}

static void flow_move(struct flow *flow)
{
    if (!flow_is_moving(flow)) {
        ev_io_stop(flow->loop, &flow->readable);
        ev_io_stop(flow->loop, &flow->writable);
        ev_io_stop(flow->loop, &flow->alarm);
        return;
    }
    flow_write_out(flow);
    flow_watch_source(flow);
}

/* --- in --- */

static void flow_flip(struct flow *flow, uint8_t *data, size_t n)
{
    struct impairments *impairments = &flow->impairments;

    if (!impairments->is_flipping || impairments->flip_at < flow->n_in ||
        impairments->flip_at - flow->n_in >= n)
        return;
    data[impairments->flip_at - flow->n_in] ^= impairments->flip_mask;
    impairments->is_flipping = false;
    flow->n_flipped++;
}

static void flow_take(struct flow *flow, uint8_t *data, size_t n)
{
    canary_scan(&flow->tail, data, n);
    flow_flip(flow, data, n);
    flow->n_in += n;
    flow->on_data(flow, data, n);
    flow_append(flow, piece_new(FLOW_DATA, data, n));
}

static void flow_on_end_of_file(struct flow *flow)
{
    flow->is_ended = true;
    flow_append(flow, piece_new(FLOW_FIN, NULL, 0));
}

static void flow_discard(struct flow *flow)
{
    static uint8_t data[FLOW_READ_MAX];
    ssize_t r = read(flow->source, data, sizeof(data));

    if (r > 0 || (r < 0 && (errno == EAGAIN || errno == EINTR)))
        return;
    ev_io_stop(flow->loop, &flow->readable);
    flow->on_event(flow, FLOW_DRAINED);
}

/* Returns true if a NAT would have dropped its mapping: later bytes are lost for good. */
static bool flow_has_expired(struct flow *flow)
{
    double now = impairments_clock(), before = *flow->received_at;

    *flow->received_at = now;
    return flow->impairments.idle > 0 && now - before > flow->impairments.idle;
}

static void flow_on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
    static uint8_t data[FLOW_READ_MAX];
    struct flow *flow = watcher->data;
    ssize_t r;

    if (flow->is_draining) {
        flow_discard(flow);
        return;
    }
    r = read(flow->source, data, impairments_read_size(&flow->impairments, sizeof(data)));
    if (r < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (flow_has_expired(flow)) {
        flow->on_event(flow, FLOW_FORGOTTEN);
        return;
    }
    if (r > 0) {
        flow_take(flow, data, (size_t)r);
    } else if (r == 0) {
        flow_on_end_of_file(flow);
    } else {
        flow_break(flow);
        flow->on_event(flow, FLOW_SOURCE_LOST);
    }
    flow_move(flow);
}

static void flow_on_writable(struct ev_loop *loop, ev_io *watcher, int events)
{
    flow_move(watcher->data);
}

static void flow_on_alarm(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct flow *flow = watcher->data;
    uint64_t n;

    if (read(flow->timer, &n, sizeof(n)) > 0)
        ev_io_stop(loop, watcher);
    flow_move(flow);
}

/* --- life --- */

int flow_init(struct flow *flow, struct ev_loop *loop, int source, int sink,
              const struct impairments *impairments, double *received_at)
{
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);

    if (timer < 0)
        return -errno;
    *flow = (struct flow){.loop = loop,
                          .source = source,
                          .sink = sink,
                          .impairments = *impairments,
                          .received_at = received_at,
                          .timer = timer};
    flow->last = &flow->first;
    ev_io_init(&flow->readable, flow_on_readable, source, EV_READ);
    ev_io_init(&flow->writable, flow_on_writable, sink, EV_WRITE);
    ev_io_init(&flow->alarm, flow_on_alarm, timer, EV_READ);
    flow->readable.data = flow->writable.data = flow->alarm.data = flow;
    return 0;
}

void flow_start(struct flow *flow, double opens_at)
{
    flow->opens_at = opens_at;
    flow_move(flow);
}

static void flow_stop(struct flow *flow)
{
    ev_io_stop(flow->loop, &flow->readable);
    ev_io_stop(flow->loop, &flow->writable);
    ev_io_stop(flow->loop, &flow->alarm);
    flow_clear(flow);
}

void flow_deinit(struct flow *flow)
{
    if (!flow->loop)
        return;
    flow_stop(flow);
    gt_close(&flow->timer);
}

void flow_update(struct flow *flow)
{
    if (!flow->is_over && !flow->is_draining)
        flow_move(flow);
}

void flow_forget(struct flow *flow)
{
    flow->is_forgotten = true;
    flow_update(flow);
}

void flow_abandon(struct flow *flow)
{
    flow_stop(flow);
    flow->is_over = true;
}

void flow_break(struct flow *flow)
{
    flow->is_ended = true;
    flow->is_over = false;
    flow_append(flow, piece_new(FLOW_RST, NULL, 0));
    flow_move(flow);
}

void flow_drain(struct flow *flow)
{
    flow_stop(flow);
    flow->is_draining = true;
    ev_io_start(flow->loop, &flow->readable);
}
