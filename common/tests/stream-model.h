/* SPDX-License-Identifier: ISC */
/*
 * The environment of two ends of a stream, for the property test and the fuzzer. Local applications
 * write, read, finish and reset at any time. The stream moves
 * between the shared connection and connections of its own. Data connections cut frames anywhere
 * and lose the bytes in flight. An end that is done is forgotten: on the shared connection, the
 * device's side then answers with RST and DONE. All choices come from one source, so that a run can
 * be repeated. Every step checks that the bytes read are the bytes written (exact), that an
 * application gets the end of the other after its last byte, of the same kind, and that an end that
 * is ENDED delivered everything that was still read. Any other end aborts both.
 */
#pragma once

#include <stdio.h>

#include "gotthard/proto/stream.h"

#define MODEL_WIRE    (128 * 1024)
#define MODEL_SERVICE "ssh"

#define model_check(what, condition)                                                  \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, what, #condition); \
            abort();                                                                  \
        }                                                                             \
    } while (0)

/* A source of numbers below @n (> 0). ->is_exhausted: no more input. */
struct model_source {
    uint32_t (*choose)(struct model_source *source, uint32_t n);
    bool is_exhausted;
};

struct model_wire {
    uint8_t bytes[MODEL_WIRE];
    size_t n, taken;
};

struct model_end {
    struct gt_stream s;
    uint64_t n_written, n_read; /* bytes that its application wrote and read */
    bool has_ended;             /* its application sends no more, and the stream knows */
    enum gt_rst end;            /* ... and how */
    bool is_gone;               /* its application was reset; written bytes may still be unread */
    bool was_over;              /* a stream that ended is not over while it sends END again */
    bool is_forgotten;
};

struct model {
    struct model_source *source;
    struct model_end ends[2];
    struct model_wire wires[2][2]; /* by sender and by parity of the attempt */
    enum gt_stream_kind kinds[2];  /* by parity of the attempt */
    bool is_aborted;
};

static inline uint8_t model_byte(int from, uint64_t offset)
{
    return (uint8_t)((offset * 2654435761u + (unsigned)from * 97) >> 13);
}

/* A device has no application before HELLO named the service. */
static inline bool model_is_bound(const struct model *m, int e)
{
    return m->ends[e].s.service[0];
}

static inline void model_finish(struct model *m, int e)
{
    struct model_end *me = &m->ends[e];

    if (!model_is_bound(m, e) || me->s.is_tx_finished)
        return;
    me->has_ended = true;
    me->end = me->is_gone ? GT_RST_LOCAL : GT_RST_NONE;
    gt_stream_local_end(&me->s, me->end);
}

/* The application is reset. The stream may learn that long before it has read the last bytes. */
static inline void model_reset(struct model *m, int e)
{
    struct model_end *me = &m->ends[e];

    if (!model_is_bound(m, e) || (me->s.is_tx_finished && me->s.is_end_delivered))
        return;
    me->is_gone = true;
    gt_stream_local_stop(&me->s, GT_RST_LOCAL);
}

/* What @e wrote arrived at the other end, with its end, unless the other was reset. */
static inline void model_check_received(const struct model *m, int e)
{
    const struct model_end *me = &m->ends[e], *other = &m->ends[!e];

    if (other->is_gone)
        return;
    model_check("ended by its application", me->has_ended);
    model_check("complete", other->n_read == me->n_written);
    model_check("the same kind of end", other->s.rx_end == me->end);
}

static inline void model_check_end(struct model *m, int e)
{
    struct model_end *me = &m->ends[e], *other = &m->ends[!e];

    if (me->s.state == GT_STREAM_ENDED) {
        model_check_received(m, 0);
        model_check_received(m, 1);
        model_check("ended well",
                    gt_stream_is_well_ended(&me->s) == !(me->is_gone || other->is_gone));
    }
    if (me->s.state == GT_STREAM_RESET)
        model_check("aborted without cause", m->is_aborted);
    model_check("service not requested",
                !model_is_bound(m, 1) ||
                    (model_is_bound(m, 0) && strcmp(m->ends[1].s.service, MODEL_SERVICE) == 0));
    model_check("output without a data connection",
                me->s.state != GT_STREAM_PARKED || !gt_stream_has_output(&me->s));
    me->was_over |= gt_stream_is_over(&me->s);
    model_check("forgotten too early", !me->is_forgotten || other->was_over);
    model_check("DONE before the end", !me->s.is_peer_done || me->was_over);
}

/* The channel forgets a stream that is done. */
static inline void model_forget(struct model *m, int e)
{
    struct model_end *me = &m->ends[e];

    if (gt_stream_is_done(&me->s))
        me->is_forgotten = true;
}

static inline void model_write(struct model *m, int e, size_t n)
{
    struct model_end *me = &m->ends[e];
    struct iovec room[2];
    int n_room;

    if (me->s.is_tx_finished || gt_stream_is_over(&me->s) || !model_is_bound(m, e))
        return;
    model_check("memory", gt_ring_room(&me->s.tx, n, room, &n_room) == 0);
    size_t written = 0;
    for (int i = 0; i < n_room; i++)
        for (size_t k = 0; k < room[i].iov_len; k++, written++)
            ((uint8_t *)room[i].iov_base)[k] = model_byte(e, me->n_written++);
    gt_stream_local_read(&me->s, written);
}

static inline void model_read(struct model *m, int e, size_t n)
{
    struct model_end *me = &m->ends[e];
    struct iovec view[2];
    int n_view = gt_ring_view(&me->s.rx, me->s.rx.head, n, view);
    size_t taken = 0;

    if (me->s.state == GT_STREAM_RESET)
        return;
    for (int i = 0; i < n_view; i++)
        for (size_t k = 0; k < view[i].iov_len; k++, taken++)
            model_check("exact", ((uint8_t *)view[i].iov_base)[k] == model_byte(!e, me->n_read++));
    gt_stream_local_written(&me->s, taken);
}

static inline void model_deliver_end(struct model *m, int e)
{
    struct model_end *me = &m->ends[e];

    if (!gt_stream_is_end_due(&me->s))
        return;
    model_check_received(m, !e);
    gt_stream_end_delivered(&me->s);
}

static inline void model_produce(struct model *m, int e, size_t cap)
{
    struct gt_stream *s = &m->ends[e].s;
    struct model_wire *wire = &m->wires[e][s->attempt & 1];

    if (MODEL_WIRE - wire->n < cap || m->ends[e].is_forgotten)
        return;
    bool is_wanted = gt_stream_has_output(s);
    size_t n = gt_stream_produce(s, wire->bytes + wire->n, cap);
    model_check("has_output agrees with produce", (n > 0) == is_wanted);
    wire->n += n;
}

static inline void model_deliver(struct model *m, int e, size_t n)
{
    struct gt_stream *s = &m->ends[e].s;
    struct model_wire *wire = &m->wires[!e][s->attempt & 1];

    n = GT_MIN(n, wire->n - wire->taken);
    s->now += .01;
    if (s->connection.kind == GT_STREAM_DETACHED || m->ends[e].is_forgotten)
        return;
    model_check("memory", gt_stream_consume(s, wire->bytes + wire->taken, n) == 0);
    wire->taken += n;
    if (wire->taken == wire->n)
        wire->taken = wire->n = 0;
}

/* The answer of a device that has forgotten the stream. */
static inline void model_answer(struct model_wire *wire, enum gt_stream_kind kind)
{
    struct gt_writer w = gt_writer(wire->bytes, MODEL_WIRE);

    if (kind != GT_STREAM_SHARED)
        return;
    gt_frame_write(&w, &(struct gt_frame){.type = GT_FRAME_RST, .code = GT_RST_LOST});
    gt_frame_write(&w, &(struct gt_frame){.type = GT_FRAME_DONE});
    wire->n = w.n;
}

/* Attaches the next attempt, unless the other end has not reached the current one. The first of the
 * two decides what kind it is. */
static inline void model_attach(struct model *m, int e, enum gt_stream_kind kind)
{
    struct model_end *me = &m->ends[e], *other = &m->ends[!e];
    uint32_t attempt = me->s.attempt + 1;
    unsigned parity = attempt & 1;

    if (attempt <= other->s.attempt)
        kind = m->kinds[parity];
    if (me->is_forgotten || (attempt > other->s.attempt + 1 && !other->is_forgotten))
        return;
    m->kinds[parity] = kind;
    m->wires[e][parity].n = m->wires[e][parity].taken = 0;
    if (attempt > other->s.attempt) /* bytes that the other end sends on this attempt will wait */
        m->wires[!e][parity].n = m->wires[!e][parity].taken = 0;
    if (other->is_forgotten && e == 0)
        model_answer(&m->wires[1][parity], kind);
    gt_stream_park(&me->s);
    gt_stream_attach(&me->s, attempt, kind);
}

static inline enum gt_stream_kind model_choose_kind(struct model_source *from)
{
    return from->choose(from, 2) ? GT_STREAM_OWN : GT_STREAM_SHARED;
}

static inline void model_abort(struct model *m, int e)
{
    gt_stream_reset(&m->ends[e].s, GT_RST_CLOSED);
    if (m->ends[e].s.state == GT_STREAM_RESET)
        m->is_aborted = true;
}

static inline void model_step(struct model *m)
{
    struct model_source *from = m->source;
    int e = (int)from->choose(from, 2);
    uint32_t what = from->choose(from, 64);
    size_t n = from->choose(from, 1u << (from->choose(from, 4) * 4 + 3)); /* 8 B to 32 KiB */

    if (what < 12)
        model_write(m, e, n);
    else if (what < 26)
        model_produce(m, e, GT_PRODUCE_MIN + GT_MIN(n, (size_t)15872));
    else if (what < 42)
        model_deliver(m, e, n);
    else if (what < 54)
        model_read(m, e, n);
    else if (what < 58)
        model_deliver_end(m, e);
    else if (what < 59)
        gt_stream_park(&m->ends[e].s);
    else if (what < 61)
        model_attach(m, e, model_choose_kind(from));
    else if (what < 62 && n % 2)
        gt_stream_ping(&m->ends[e].s, n);
    else if (what < 62)
        gt_stream_trim(&m->ends[e].s);
    else if (what < 63 && n == 7)
        model_finish(m, e);
    else if (what < 64 && n == 1 && from->choose(from, 2) == 0)
        model_reset(m, e);
    else if (what < 64 && n == 2 && from->choose(from, 8) == 0)
        model_abort(m, e);
    for (e = 0; e < 2; e++) {
        model_forget(m, e);
        model_check_end(m, e);
    }
}

static inline bool model_is_end_over(const struct model *m, int e)
{
    const struct model_end *me = &m->ends[e];

    return gt_stream_is_over(&me->s) || (me->was_over && m->ends[!e].is_forgotten);
}

static inline bool model_is_over(const struct model *m)
{
    return model_is_end_over(m, 0) && model_is_end_over(m, 1);
}

/* Only the operator attaches again: a device whose operator has forgotten the stream waits for the
 * end of its window. */
static inline bool model_is_done(const struct model *m)
{
    return model_is_over(m) && m->ends[0].is_forgotten;
}

/* Without further cuts both ends must end, and complete unless one was aborted. */
static inline void model_drain(struct model *m, enum gt_stream_kind kind)
{
    bool is_shared = kind == GT_STREAM_SHARED;

    for (int e = 0; e < 2; e++)
        if (m->ends[e].s.attempt < m->ends[!e].s.attempt)
            model_attach(m, e, kind);
    for (int e = 0; e < 2; e++)
        model_attach(m, e, kind);
    for (int round = 0; round < 2000 && !(is_shared ? model_is_done(m) : model_is_over(m)); round++)
        for (int e = 0; e < 2; e++) {
            model_finish(m, e);
            model_produce(m, e, 16384);
            model_deliver(m, !e, MODEL_WIRE);
            model_read(m, !e, SIZE_MAX);
            model_deliver_end(m, !e);
            model_forget(m, e);
            model_check_end(m, e);
        }
    if (is_shared)
        model_check("remembered", model_is_done(m));
    if (!m->is_aborted)
        model_check("both ended", model_is_over(m) && model_is_bound(m, 1));
}

static inline void model_run(struct model_source *source, unsigned n_steps)
{
    struct model *m = calloc(1, sizeof(*m));

    model_check("memory", m);
    m->source = source;
    gt_stream_init(&m->ends[0].s, GT_ROLE_OPERATOR, 7, MODEL_SERVICE,
                   (size_t)GT_RING_MIN << source->choose(source, 10));
    gt_stream_init(&m->ends[1].s, GT_ROLE_DEVICE, 7, NULL,
                   (size_t)GT_RING_MIN << source->choose(source, 10));
    enum gt_stream_kind kind = model_choose_kind(source);
    model_attach(m, 0, kind);
    model_attach(m, 1, kind);
    for (int e = 0; e < 2; e++) /* smaller windows, which can grow in this model */
        m->ends[e].s.window.size >>= source->choose(source, 2) ? 0 : source->choose(source, 5);
    for (int e = 0; e < 2; e++) {
        struct gt_stream *stream = &m->ends[e].s;

        stream->window.size = GT_MAX(stream->window.size, (size_t)GT_RING_MIN);
        gt_ring_init(&stream->rx, stream->window.size); /* and smaller rings */
        gt_ring_init(&stream->tx, GT_RING_MIN);
    }
    for (unsigned i = 0; i < n_steps && !source->is_exhausted && !model_is_over(m); i++)
        model_step(m);
    model_drain(m, model_choose_kind(source));
    gt_stream_deinit(&m->ends[0].s);
    gt_stream_deinit(&m->ends[1].s);
    free(m);
}
