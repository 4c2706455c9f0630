/* SPDX-License-Identifier: ISC */
/*
 * What the frames of a stream mean: offsets, acknowledgements, windows, the two ends of the
 * sequence, and how to go on over a new carrier. One end of it is a struct without descriptors or
 * time, so that two of them and a hostile wire fit into a test. Must never give the local socket a
 * byte twice, out of order or not at all and still end well.
 */
#include "gotthard/stream.h"

#include <assert.h>

#define ACK_EVERY   (256 * 1024)
#define READ_MIN    (128 * 1024)         /* room in the tx ring that is worth a read */
#define RATE_MAX    (512. * 1024 * 1024) /* bytes a second: who has that needs no larger ring */
#define STRETCH     2   /* a round trip so much longer than the shortest waits in a queue */
#define ROUND_S     0.1 /* ... but not one of twice this */
#define DUE(type)   (1u << (type))
#define MAX_CONTROL (GT_FRAME_HEADER + GT_CONTROL_MAX)

static_assert(GT_PRODUCE_MIN >= 2 * MAX_CONTROL + 8 * GT_FRAME_HEADER + 64, "all control at once");

const char *gt_rst_text(unsigned code)
{
    static const char *const texts[] = {
        [GT_RST_NONE] = "ended well",
        [GT_RST_LOCAL] = "reset by the local side",
        [GT_RST_REFUSED] = "the target refused the connection",
        [GT_RST_TIMEOUT] = "the target did not answer",
        [GT_RST_UNREACHABLE] = "the target cannot be reached",
        [GT_RST_DENIED] = "no such service for this operator",
        [GT_RST_RESYNC] = "the two ends do not agree on what was sent",
        [GT_RST_PROTOCOL] = "protocol error",
        [GT_RST_EXPIRED] = "too long without a connection",
        [GT_RST_CLOSED] = "the session was closed",
        [GT_RST_INTERNAL] = "internal error",
        [GT_RST_LOST] = "the connection was lost",
    };
    return code < GT_ARRAY_SIZE(texts) ? texts[code] : "unknown reason";
}

void gt_stream_init(struct gt_stream *s, enum gt_role role, uint32_t number, const char *service,
                    size_t ring_size)
{
    *s = (struct gt_stream){.role = role, .number = number, .tx_limit = GT_STREAM_EARLY};
    if (service) {
        assert(strlen(service) <= GT_SERVICE_MAX);
        strcpy(s->service, service);
    }
    gt_ring_init(&s->tx, GT_MIN(ring_size, (size_t)1 << 30)); /* a window is a u32 */
    s->ring_max = s->tx.capacity;
    s->rx_window = GT_MIN(s->ring_max, (size_t)GT_STREAM_WINDOW);
    gt_ring_init(&s->tx, GT_MIN(s->ring_max, (size_t)GT_STREAM_RING));
    gt_ring_init(&s->rx, s->tx.capacity);
    s->rx_limit_said = GT_STREAM_EARLY;
}

/* What a ring of @capacity takes of the memory that is shared. */
static size_t charge_of(size_t capacity)
{
    return capacity > GT_STREAM_RING ? capacity - GT_STREAM_RING : 0;
}

/* False: there is no memory for it, and nothing has changed. */
static bool resize(struct gt_stream *s, struct gt_ring *ring, size_t capacity)
{
    static const struct gt_stream_memory endless = {.max = SIZE_MAX / 2};
    const struct gt_stream_memory *memory = s->memory ? s->memory : &endless;
    size_t before = charge_of(ring->capacity);
    if (charge_of(capacity) > before && memory->n_used - before + charge_of(capacity) > memory->max)
        return false;
    if (gt_ring_resize(ring, capacity) < 0)
        return false;
    if (s->memory)
        s->memory->n_used += charge_of(ring->capacity) - before;
    return true;
}

void gt_stream_deinit(struct gt_stream *s)
{
    if (s->memory)
        s->memory->n_used -= charge_of(s->tx.capacity) + charge_of(s->rx.capacity);
    gt_ring_deinit(&s->tx);
    gt_ring_deinit(&s->rx);
}

/* As far as @capacity is enough for it. Without memory for a smaller one it stays as it is. */
static void shrink(struct gt_stream *s, struct gt_ring *ring, size_t capacity)
{
    gt_ring_release(ring);
    capacity = GT_MAX(capacity, gt_ring_used(ring));
    resize(s, ring, GT_MIN(capacity, ring->capacity));
}

/* What the peer was granted it may still send. */
void gt_stream_trim(struct gt_stream *s)
{
    s->rx_window = GT_MIN(s->rx_window, (size_t)GT_STREAM_WINDOW);
    shrink(s, &s->tx, GT_STREAM_RING);
    shrink(s, &s->rx, GT_MAX((size_t)GT_STREAM_RING, (size_t)(s->rx_limit_said - s->rx.head)));
}

bool gt_stream_is_over(const struct gt_stream *s)
{
    return s->state == GT_STREAM_ENDED || s->state == GT_STREAM_BROKEN;
}

static bool has_carrier(const struct gt_stream *s)
{
    return s->state == GT_STREAM_GREETING || s->state == GT_STREAM_OPEN;
}

static void owe(struct gt_stream *s, enum gt_frame_type type)
{
    if (has_carrier(s))
        s->carrier.due |= DUE(type);
}

/* What we have of the peer's sequence, as rx_off says it. */
static uint64_t received(const struct gt_stream *s)
{
    return s->rx.tail + s->is_eof_delivered;
}

/* How far the peer may send. */
static uint64_t rx_limit(const struct gt_stream *s)
{
    return GT_MAX(s->rx_limit_said, s->rx.head + s->rx_window);
}

/* Was everything said and heard, both ways? */
static bool is_done(const struct gt_stream *s)
{
    return s->is_fin_acked && s->is_eof_delivered && s->rx_said == received(s);
}

/* OPEN becomes ENDED as soon as nothing is left to do, our last words included. */
static void settle(struct gt_stream *s)
{
    if (s->state == GT_STREAM_OPEN && is_done(s) && !s->carrier.due)
        s->state = GT_STREAM_ENDED;
}

void gt_stream_attach(struct gt_stream *s, uint32_t attempt)
{
    assert(attempt > s->attempt);
    s->attempt = attempt;
    if (s->state == GT_STREAM_BROKEN) {
        s->carrier = (struct gt_stream_carrier){.due = DUE(GT_FRAME_RST)};
        return;
    }
    s->state = GT_STREAM_GREETING;
    s->carrier = (struct gt_stream_carrier){
        .due = DUE(GT_FRAME_HELLO),
        .is_replay = s->tx_sent > 0 || s->is_fin_sent,
    };
}

void gt_stream_park(struct gt_stream *s)
{
    s->carrier = (struct gt_stream_carrier){0};
    if (has_carrier(s))
        s->state = is_done(s) ? GT_STREAM_ENDED : GT_STREAM_PARKED;
}

void gt_stream_bind(struct gt_stream *s, const char *service)
{
    assert(!s->service[0] && service[0] && strlen(service) <= GT_SERVICE_MAX);
    strcpy(s->service, service);
    if (!(s->carrier.due & DUE(GT_FRAME_HELLO)))
        owe(s, GT_FRAME_BIND);
}

void gt_stream_reset(struct gt_stream *s, enum gt_rst code)
{
    assert(code != GT_RST_NONE);
    if (gt_stream_is_over(s) || is_done(s))
        return;
    if (has_carrier(s))
        s->carrier.due = (s->carrier.due & DUE(GT_FRAME_HELLO)) | DUE(GT_FRAME_RST);
    s->state = GT_STREAM_BROKEN;
    s->code = code;
}

/* Takes an rx_off and a window from the peer. False: it has what was never sent, or lost what it
 * had. */
static bool take_ack(struct gt_stream *s, const struct gt_frame *frame)
{
    uint64_t acked = s->tx.head + s->is_fin_acked;
    uint64_t sent = s->tx_sent + (s->is_fin_sent && s->tx_sent == s->tx.tail);
    if (frame->offset < acked || frame->offset > sent)
        return false;
    uint64_t data = GT_MIN(frame->offset, s->tx.tail);
    bool was_full = gt_ring_used(&s->tx) >= s->tx.capacity / 2;
    gt_ring_drop(&s->tx, (size_t)(data - s->tx.head));
    s->is_fin_acked = frame->offset > data;
    s->tx_limit = frame->offset + frame->window;
    if (was_full && frame->window >= s->tx.capacity && s->tx.capacity < s->ring_max)
        resize(s, &s->tx, 2 * s->tx.capacity);
    return true;
}

static bool service_is_good(struct gt_span service)
{
    for (size_t i = 0; i < service.n; i++)
        if (service.data[i] <= 0x20 || service.data[i] >= 0x7f)
            return false;
    return service.n <= GT_SERVICE_MAX;
}

/* Device: a service may be named once, by HELLO or by BIND, and never changes after. */
static bool take_service(struct gt_stream *s, struct gt_span service)
{
    if (s->role != GT_ROLE_DEVICE || !service_is_good(service))
        return false;
    if (s->service[0])
        return gt_span_equals(service, gt_span_text(s->service));
    memcpy(s->service, service.data, service.n);
    return true;
}

static enum gt_rst on_hello(struct gt_stream *s, const struct gt_frame *hello)
{
    if (s->state != GT_STREAM_GREETING || hello->version != GT_STREAM_VERSION ||
        hello->stream != s->number || hello->attempt != s->attempt)
        return GT_RST_PROTOCOL;
    if (s->role == GT_ROLE_DEVICE && !take_service(s, hello->service))
        return GT_RST_PROTOCOL;
    if (!take_ack(s, hello))
        return GT_RST_RESYNC;
    if (s->carrier.is_replay)
        s->tx_sent = GT_MIN(hello->offset, s->tx.tail);
    s->state = GT_STREAM_OPEN;
    return GT_RST_NONE;
}

static enum gt_rst on_bind(struct gt_stream *s, const struct gt_frame *bind)
{
    return !s->service[0] && take_service(s, bind->service) ? GT_RST_NONE : GT_RST_PROTOCOL;
}

/* Was the window what held the peer up in this round trip, and not the way, whose queue is full,
 * nor a local socket that falls behind? */
static bool is_window_short(const struct gt_stream *s)
{
    const struct gt_stream_carrier *carrier = &s->carrier;
    double took = s->now - carrier->round_began;
    uint64_t n = s->rx.tail - carrier->round_from;
    return s->rx_window < s->ring_max && n >= s->rx_window / 2 &&
           gt_ring_used(&s->rx) - gt_ring_n_lent(&s->rx) <= s->rx_window / 2 &&
           (s->rx_window < GT_STREAM_RING || (double)n < took * RATE_MAX) &&
           took <= STRETCH * GT_MAX(carrier->round_best, ROUND_S);
}

static void widen(struct gt_stream *s)
{
    size_t window = 2 * s->rx_window;
    if (s->rx.capacity < window && !resize(s, &s->rx, window))
        return;
    s->rx_window = window;
    owe(s, GT_FRAME_ACK);
}

/* An ACK is due for the data; a round trip is measured along with it as long as that matters. */
static void owe_ack_of_data(struct gt_stream *s)
{
    owe(s, GT_FRAME_ACK);
    if (s->rx_window < s->ring_max && !s->carrier.is_pong_awaited)
        gt_stream_ping(s, s->rx.tail);
}

static enum gt_rst on_data(struct gt_stream *s, struct gt_span data, int *ret_r)
{
    if (s->is_fin_received || data.n > s->rx_limit_said - s->rx.tail || !s->service[0])
        return GT_RST_PROTOCOL;
    *ret_r = gt_ring_write(&s->rx, data.data, data.n);
    if (*ret_r < 0)
        return GT_RST_INTERNAL;
    if (s->rx.tail - s->rx_said >= GT_MIN(s->rx_window / 4, (size_t)ACK_EVERY))
        owe_ack_of_data(s);
    return GT_RST_NONE;
}

static enum gt_rst on_fin(struct gt_stream *s, const struct gt_frame *fin)
{
    if (s->carrier.is_fin_received || fin->offset != s->rx.tail || !s->service[0])
        return GT_RST_PROTOCOL;
    s->carrier.is_fin_received = s->is_fin_received = true;
    owe(s, GT_FRAME_ACK);
    return GT_RST_NONE;
}

/* What has said and heard everything has ended well, whatever its carrier brings then. */
static bool ends_well(struct gt_stream *s)
{
    if (!is_done(s))
        return false;
    s->carrier.due = 0;
    s->state = GT_STREAM_ENDED;
    return true;
}

/* The carrier cannot be read on. */
static void break_off(struct gt_stream *s, enum gt_rst code)
{
    if (!ends_well(s))
        gt_stream_reset(s, code);
}

static enum gt_rst on_rst(struct gt_stream *s, const struct gt_frame *rst)
{
    bool is_known = rst->code > GT_RST_NONE && rst->code <= GT_RST_LOST;
    if (ends_well(s))
        return GT_RST_NONE;
    s->carrier.due = 0;
    s->state = GT_STREAM_BROKEN;
    s->code = is_known ? (enum gt_rst)rst->code : GT_RST_INTERNAL;
    s->is_reset_by_peer = true;
    return GT_RST_NONE;
}

static enum gt_rst on_ping(struct gt_stream *s, const struct gt_frame *ping)
{
    s->carrier.pong = ping->value; /* one answer is owed, however many ask before it goes out */
    owe(s, GT_FRAME_PONG);
    owe(s, GT_FRAME_ACK);
    return GT_RST_NONE;
}

static enum gt_rst on_pong(struct gt_stream *s)
{
    struct gt_stream_carrier *carrier = &s->carrier;
    if (!carrier->is_pong_awaited || carrier->due & DUE(GT_FRAME_PING))
        return GT_RST_NONE; /* nobody asked, yet */
    double took = s->now - carrier->round_began;
    if (carrier->round_best == 0 || took < carrier->round_best)
        carrier->round_best = took;
    if (is_window_short(s))
        widen(s);
    carrier->is_pong_awaited = false;
    return GT_RST_NONE;
}

static enum gt_rst on_frame(struct gt_stream *s, const struct gt_frame *frame, int *ret_r)
{
    if (s->state == GT_STREAM_GREETING && frame->type != GT_FRAME_HELLO &&
        frame->type != GT_FRAME_RST)
        return GT_RST_PROTOCOL;
    switch (frame->type) {
    case GT_FRAME_HELLO: return on_hello(s, frame);
    case GT_FRAME_DATA: return on_data(s, frame->data, ret_r);
    case GT_FRAME_ACK: return take_ack(s, frame) ? GT_RST_NONE : GT_RST_PROTOCOL;
    case GT_FRAME_FIN: return on_fin(s, frame);
    case GT_FRAME_RST: return on_rst(s, frame);
    case GT_FRAME_PING: return on_ping(s, frame);
    case GT_FRAME_PONG: return on_pong(s);
    case GT_FRAME_BIND: return on_bind(s, frame);
    }
    return GT_RST_PROTOCOL;
}

/* A stream that chatters is never quiet. */
static void stay_small(struct gt_stream *s)
{
    bool is_busy = s->rx.tail - s->calm_rx + s->tx.tail - s->calm_tx >= GT_STREAM_WINDOW;
    if (!is_busy && s->now - s->calm_since < GT_STREAM_CALM)
        return;
    if (!is_busy)
        gt_stream_trim(s);
    s->calm_since = s->now;
    s->calm_rx = s->rx.tail;
    s->calm_tx = s->tx.tail;
}

int gt_stream_consume(struct gt_stream *s, const uint8_t *data, size_t n)
{
    struct gt_reader in = gt_reader(data, n);
    struct gt_frame frame;
    int failed = 0;

    stay_small(s);
    while (has_carrier(s)) {
        int r = gt_framer_next(&s->carrier.framer, &in, &frame);
        if (r == GT_FRAME_E_MORE)
            break;
        enum gt_rst wrong = r ? GT_RST_PROTOCOL : on_frame(s, &frame, &failed);
        if (wrong)
            break_off(s, wrong);
        settle(s);
    }
    return failed;
}

/* How many bytes may go out now? Before the peer's HELLO only those of a stream's very start. */
static size_t sendable(const struct gt_stream *s)
{
    if (!has_carrier(s) || (s->state == GT_STREAM_GREETING && s->carrier.is_replay))
        return 0;
    uint64_t limit = GT_MIN(s->tx_limit, s->tx.tail);
    return limit > s->tx_sent ? (size_t)(limit - s->tx_sent) : 0;
}

static bool is_fin_sendable(const struct gt_stream *s)
{
    return s->state == GT_STREAM_OPEN && s->is_tx_finished && !s->is_fin_acked &&
           !s->carrier.is_fin_sent && s->tx_sent == s->tx.tail;
}

static size_t read_min(const struct gt_stream *s)
{
    return GT_MIN(s->tx.capacity / 4, (size_t)READ_MIN);
}

/*
 * Is our own ring too full to read on, with all of it sent? A peer with a larger ring than ours may
 * see no reason to acknowledge yet: a PING asks it to.
 */
static bool is_ack_wanted(const struct gt_stream *s)
{
    return s->state == GT_STREAM_OPEN && !s->carrier.is_pong_awaited &&
           gt_ring_free(&s->tx) < read_min(s) && s->tx_sent == s->tx.tail;
}

bool gt_stream_wants_carrier(const struct gt_stream *s)
{
    return s->carrier.due || sendable(s) || is_fin_sendable(s) || is_ack_wanted(s);
}

/* The frame of @type as things stand; what it says counts as said. */
static void produce_control(struct gt_stream *s, struct gt_writer *w, enum gt_frame_type type)
{
    struct gt_frame frame = {
        .type = type,
        .version = GT_STREAM_VERSION,
        .stream = s->number,
        .attempt = s->attempt,
        .offset = type == GT_FRAME_FIN ? s->tx.tail : received(s),
        .window = (uint32_t)(rx_limit(s) - s->rx.tail),
        .service = gt_span_text(s->service),
        .code = (uint16_t)s->code,
        .value = type == GT_FRAME_PING ? s->carrier.ping : s->carrier.pong,
    };
    gt_frame_write(w, &frame);
    s->carrier.due &= ~DUE(type);
    if (type == GT_FRAME_PING)
        s->carrier.round_began = s->now;
    if (type == GT_FRAME_ACK && s->carrier.due & DUE(GT_FRAME_PING))
        s->carrier.round_from = s->rx_said; /* also when all of a window came at once */
    if (type == GT_FRAME_HELLO || type == GT_FRAME_ACK) {
        s->rx_said = received(s);
        s->rx_limit_said = rx_limit(s);
    }
}

/* The header of one DATA frame, and its bytes in place behind it. */
static size_t produce_data(struct gt_stream *s, struct gt_writer *w, size_t cap,
                           struct gt_stream_record *record)
{
    struct iovec runs[2];
    size_t room = cap - w->n;
    size_t n = GT_MIN(sendable(s), (size_t)GT_DATA_MAX);
    if (n == 0 || room <= GT_FRAME_HEADER)
        return 0;
    n = GT_MIN(n, room - GT_FRAME_HEADER);
    gt_frame_write(w, &(struct gt_frame){.type = GT_FRAME_DATA, .data = {NULL, n}});
    int n_runs = gt_ring_view(&s->tx, s->tx_sent, n, runs);
    for (int i = 0; i < n_runs; i++)
        record->parts[record->n_parts++] = gt_span(runs[i].iov_base, runs[i].iov_len);
    s->tx_sent += n;
    return n;
}

size_t gt_stream_compose(struct gt_stream *s, size_t cap, struct gt_stream_record *ret)
{
    static const enum gt_frame_type order[] = {
        GT_FRAME_HELLO, GT_FRAME_RST, GT_FRAME_ACK, GT_FRAME_PONG, GT_FRAME_PING, GT_FRAME_BIND,
    };
    struct gt_writer w = gt_writer(ret->frames, sizeof(ret->frames));

    assert(cap >= GT_PRODUCE_MIN);
    ret->n_parts = 1;
    if (sendable(s) && received(s) != s->rx_said)
        owe(s, GT_FRAME_ACK); /* it rides along for a few bytes */
    if (is_ack_wanted(s))
        gt_stream_ping(s, s->tx_sent);
    for (size_t i = 0; i < GT_ARRAY_SIZE(order); i++)
        if (s->carrier.due & DUE(order[i]))
            produce_control(s, &w, order[i]);
    size_t n_data = produce_data(s, &w, cap, ret);
    size_t n_before = w.n;
    if (is_fin_sendable(s) && cap - w.n - n_data >= MAX_CONTROL) {
        produce_control(s, &w, GT_FRAME_FIN);
        s->is_fin_sent = s->carrier.is_fin_sent = true;
        ret->parts[ret->n_parts++] = gt_span(ret->frames + n_before, w.n - n_before);
    }
    ret->parts[0] = gt_span(ret->frames, n_before);
    settle(s);
    return w.n + n_data;
}

size_t gt_stream_produce(struct gt_stream *s, uint8_t *ret, size_t cap)
{
    struct gt_stream_record record;
    size_t n = gt_stream_compose(s, cap, &record);
    struct gt_writer w = gt_writer(ret, cap);
    for (size_t i = 0; i < record.n_parts; i++)
        gt_write_span(&w, record.parts[i]);
    return n;
}

bool gt_stream_wants_local(const struct gt_stream *s)
{
    return !gt_stream_is_over(s) && !s->is_tx_finished && gt_ring_free(&s->tx) >= read_min(s) &&
           s->tx.tail - s->tx_sent < GT_STREAM_WINDOW;
}

void gt_stream_sent_in(struct gt_stream *s, size_t n)
{
    assert(!s->is_tx_finished);
    gt_ring_fill(&s->tx, n);
}

void gt_stream_finish(struct gt_stream *s)
{
    s->is_tx_finished = true;
}

void gt_stream_taken_out(struct gt_stream *s, size_t n)
{
    gt_ring_drop(&s->rx, n);
    if (!s->is_fin_received && rx_limit(s) - s->rx_limit_said >= s->rx_window / 4)
        owe(s, GT_FRAME_ACK);
}

bool gt_stream_is_eof_due(const struct gt_stream *s)
{
    return s->state != GT_STREAM_BROKEN && s->is_fin_received && !s->is_eof_delivered &&
           gt_ring_used(&s->rx) == 0;
}

void gt_stream_eof_delivered(struct gt_stream *s)
{
    assert(gt_stream_is_eof_due(s));
    s->is_eof_delivered = true;
    owe(s, GT_FRAME_ACK);
}

void gt_stream_ping(struct gt_stream *s, uint64_t value)
{
    s->carrier.ping = value;
    s->carrier.is_pong_awaited = true;
    s->carrier.round_from = s->rx.tail;
    owe(s, GT_FRAME_PING);
}
