/* SPDX-License-Identifier: ISC */
/*
 * The stream: its quiet life, its ends, everything a peer may do wrong, and the property that
 * matters, over thousands of random lives: exact or loud (stream-model.h).
 */
// clang-format off
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on
#include <time.h>

#include "stream-model.h"

/* Both ends, and the bytes between them. */
struct pair {
    struct gt_stream o, d;
};

static void pair_init(struct pair *p, const char *service)
{
    gt_stream_init(&p->o, GT_ROLE_OPERATOR, 3, service, 64 * 1024);
    gt_stream_init(&p->d, GT_ROLE_DEVICE, 3, NULL, 64 * 1024);
    gt_stream_attach(&p->o, 1);
    gt_stream_attach(&p->d, 1);
}

static void pair_deinit(struct pair *p)
{
    gt_stream_deinit(&p->o);
    gt_stream_deinit(&p->d);
}

/* Carries what @from has to say to @to; how many bytes that was. */
static size_t carry(struct gt_stream *from, struct gt_stream *to)
{
    uint8_t buf[16384];
    size_t total = 0;
    for (size_t n; (n = gt_stream_produce(from, buf, sizeof(buf))) > 0; total += n)
        assert_int_equal(gt_stream_consume(to, buf, n), 0);
    return total;
}

static void carry_all(struct pair *p)
{
    while (carry(&p->o, &p->d) + carry(&p->d, &p->o) > 0)
        ;
}

static void put(struct gt_stream *s, const char *text)
{
    assert_int_equal(gt_ring_write(&s->tx, text, strlen(text)), 0);
}

static void assert_takes(struct gt_stream *s, const char *text)
{
    char got[256] = {0};
    size_t n = gt_ring_copy(&s->rx, s->rx.head, got, sizeof(got) - 1);
    assert_string_equal(got, text);
    gt_stream_taken_out(s, n);
}

static void test_whole_life(void **state)
{
    struct pair p;
    pair_init(&p, "ssh");
    carry_all(&p);
    assert_int_equal(p.o.state, GT_STREAM_OPEN);
    assert_int_equal(p.d.state, GT_STREAM_OPEN);
    assert_string_equal(p.d.service, "ssh");

    put(&p.o, "ping");
    put(&p.d, "pong");
    carry_all(&p);
    assert_takes(&p.d, "ping");
    assert_takes(&p.o, "pong");

    gt_stream_finish(&p.o);
    carry_all(&p);
    assert_true(gt_stream_is_eof_due(&p.d));
    gt_stream_eof_delivered(&p.d);
    put(&p.d, "after the half-close");
    carry_all(&p);
    assert_takes(&p.o, "after the half-close");
    gt_stream_finish(&p.d);
    carry_all(&p);
    assert_int_equal(p.d.state, GT_STREAM_OPEN); /* not heard of yet: the last FIN's fate */
    gt_stream_eof_delivered(&p.o);
    carry_all(&p);
    assert_int_equal(p.o.state, GT_STREAM_ENDED);
    assert_int_equal(p.d.state, GT_STREAM_ENDED);
    pair_deinit(&p);
}

static void test_first_bytes_ride_with_hello(void **state)
{
    struct pair p;
    pair_init(&p, "http");
    put(&p.o, "GET /");
    carry(&p.o, &p.d);
    assert_takes(&p.d, "GET /");
    carry_all(&p);
    assert_int_equal(p.o.tx.head, 5);
    put(&p.o, " HTTP/1.1");
    carry_all(&p);
    assert_takes(&p.d, " HTTP/1.1");
    pair_deinit(&p);
}

static void test_early_bytes_are_bounded(void **state)
{
    struct pair p;
    uint8_t buf[16384];
    pair_init(&p, "http");
    memset(buf, 'x', sizeof(buf));
    assert_int_equal(gt_ring_write(&p.o.tx, buf, sizeof(buf)), 0);
    while (gt_stream_produce(&p.o, buf, sizeof(buf)))
        ;
    assert_int_equal(p.o.tx_sent, GT_STREAM_EARLY);
    pair_deinit(&p);
}

static void test_spare_is_bound(void **state)
{
    struct pair p;
    pair_init(&p, "");
    carry_all(&p);
    assert_string_equal(p.d.service, "");
    gt_stream_bind(&p.o, "web");
    put(&p.o, "at once");
    carry(&p.o, &p.d);
    assert_string_equal(p.d.service, "web");
    assert_takes(&p.d, "at once");
    pair_deinit(&p);
}

static void test_spare_bound_while_away(void **state)
{
    struct pair p;
    pair_init(&p, "");
    carry_all(&p);
    gt_stream_park(&p.o);
    gt_stream_park(&p.d);
    gt_stream_bind(&p.o, "web");
    put(&p.o, "later");
    gt_stream_attach(&p.o, 2);
    gt_stream_attach(&p.d, 2);
    carry_all(&p);
    assert_string_equal(p.d.service, "web");
    assert_takes(&p.d, "later");
    pair_deinit(&p);
}

static void test_resume_sends_again(void **state)
{
    struct pair p;
    uint8_t lost[16384];
    pair_init(&p, "ssh");
    carry_all(&p);
    put(&p.o, "kept ");
    carry_all(&p);
    put(&p.o, "lost in flight");
    assert_true(gt_stream_produce(&p.o, lost, sizeof(lost)) > 0);
    gt_stream_park(&p.o);
    gt_stream_park(&p.d);
    assert_int_equal(gt_stream_produce(&p.o, lost, sizeof(lost)), 0);
    gt_stream_attach(&p.o, 2);
    gt_stream_attach(&p.d, 2);
    carry_all(&p);
    assert_takes(&p.d, "kept lost in flight");
    pair_deinit(&p);
}

/* The device ended and forgot; only its last acknowledgement was lost. */
static void test_last_ack_is_said_again(void **state)
{
    struct pair p;
    uint8_t lost[16384];
    pair_init(&p, "ssh");
    gt_stream_finish(&p.o);
    gt_stream_finish(&p.d);
    carry_all(&p);
    gt_stream_eof_delivered(&p.o);
    carry_all(&p);
    gt_stream_eof_delivered(&p.d);
    assert_true(gt_stream_produce(&p.d, lost, sizeof(lost)) > 0);
    assert_int_equal(p.d.state, GT_STREAM_ENDED);
    gt_stream_park(&p.o);
    gt_stream_park(&p.d);
    assert_int_equal(p.o.state, GT_STREAM_PARKED);
    assert_int_equal(p.d.state, GT_STREAM_ENDED);
    gt_stream_attach(&p.o, 2);
    gt_stream_attach(&p.d, 2);
    carry_all(&p);
    assert_int_equal(p.o.state, GT_STREAM_ENDED);
    assert_int_equal(p.d.state, GT_STREAM_ENDED);
    pair_deinit(&p);
}

/* Heard everything, but never said so: that is not the end yet. */
static void test_parked_before_the_last_ack(void **state)
{
    struct pair p;
    pair_init(&p, "ssh");
    gt_stream_finish(&p.o);
    gt_stream_finish(&p.d);
    carry_all(&p);
    gt_stream_eof_delivered(&p.o);
    carry_all(&p);
    gt_stream_eof_delivered(&p.d); /* its ACK is due, and the carrier goes */
    gt_stream_park(&p.d);
    assert_int_equal(p.d.state, GT_STREAM_PARKED);
    gt_stream_reset(&p.d, GT_RST_EXPIRED);
    assert_int_equal(p.d.state, GT_STREAM_BROKEN);
    pair_deinit(&p);
}

/* Said and heard everything: neither a lost carrier nor a late RST makes that a failure. */
static void test_done_is_done(void **state)
{
    struct pair p;
    uint8_t buf[16384];
    struct gt_writer w = gt_writer(buf, sizeof(buf));
    pair_init(&p, "ssh");
    gt_stream_finish(&p.o);
    gt_stream_finish(&p.d);
    carry_all(&p);
    gt_stream_eof_delivered(&p.o);
    gt_stream_eof_delivered(&p.d);
    carry_all(&p);
    assert_int_equal(p.o.state, GT_STREAM_ENDED);
    gt_stream_attach(&p.o, 2);
    gt_stream_park(&p.o);
    assert_int_equal(p.o.state, GT_STREAM_ENDED);
    gt_stream_attach(&p.o, 3);
    gt_stream_reset(&p.o, GT_RST_LOST);
    gt_frame_write(&w, &(struct gt_frame){.type = GT_FRAME_RST, .code = GT_RST_LOST});
    assert_int_equal(gt_stream_consume(&p.o, buf, w.n), 0);
    assert_int_equal(p.o.state, GT_STREAM_ENDED);
    assert_int_equal(p.o.code, GT_RST_NONE);
    pair_deinit(&p);
}

/* What is no frame ends the reading also of a stream that has said and heard everything. */
static void test_rubbish_after_all(void **state)
{
    static const uint8_t rubbish[] = {0x7f, 0, 0, 0, 'x'};
    struct pair p;
    uint8_t buf[1024];
    pair_init(&p, "ssh");
    gt_stream_finish(&p.o);
    gt_stream_finish(&p.d);
    carry_all(&p);
    gt_stream_eof_delivered(&p.o);
    carry(&p.o, &p.d);
    gt_stream_eof_delivered(&p.d);
    struct gt_writer w = gt_writer(buf, sizeof(buf));
    gt_frame_write(&w, &(struct gt_frame){.type = GT_FRAME_PING});
    gt_frame_write(&w, &(struct gt_frame){.type = GT_FRAME_ACK, .offset = 1});
    gt_write_bytes(&w, rubbish, sizeof(rubbish));
    assert_int_equal(gt_stream_consume(&p.o, buf, w.n), 0); /* its PONG is due yet */
    assert_int_equal(p.o.state, GT_STREAM_ENDED);
    gt_stream_attach(&p.o, 2);
    assert_int_equal(gt_stream_consume(&p.o, rubbish, sizeof(rubbish)), 0);
    assert_int_equal(p.o.state, GT_STREAM_ENDED);
    assert_int_equal(p.o.code, GT_RST_NONE);
    pair_deinit(&p);
}

static void test_acked_fin_stays_acked(void **state)
{
    struct pair p;
    uint8_t buf[64];
    struct gt_writer w = gt_writer(buf, sizeof(buf));
    pair_init(&p, "ssh");
    gt_stream_finish(&p.o);
    carry_all(&p);
    gt_stream_eof_delivered(&p.d);
    carry_all(&p);
    assert_true(p.o.is_fin_acked);
    gt_frame_write(&w, &(struct gt_frame){.type = GT_FRAME_ACK, .offset = 0, .window = 9});
    assert_int_equal(gt_stream_consume(&p.o, buf, w.n), 0);
    assert_int_equal(p.o.code, GT_RST_PROTOCOL);
    pair_deinit(&p);
}

static void test_reset_reaches_the_peer(void **state)
{
    for (int code = GT_RST_LOCAL; code <= GT_RST_LOST; code++) {
        struct pair p;
        pair_init(&p, "ssh");
        carry_all(&p);
        gt_stream_reset(&p.d, (enum gt_rst)code);
        gt_stream_reset(&p.d, GT_RST_INTERNAL); /* the first reason stays */
        carry_all(&p);
        assert_int_equal(p.o.state, GT_STREAM_BROKEN);
        assert_int_equal(p.o.code, code);
        assert_true(p.o.is_reset_by_peer);
        assert_int_equal(p.d.code, code);
        assert_false(p.d.is_reset_by_peer);
        assert_true(strcmp(gt_rst_text((unsigned)code), "unknown reason"));
        pair_deinit(&p);
    }
}

/* A refusal may come before our own HELLO went out: it still says HELLO first. */
static void test_reset_after_hello_only(void **state)
{
    struct pair p;
    uint8_t buf[16384];
    pair_init(&p, "ssh");
    gt_stream_reset(&p.d, GT_RST_DENIED);
    size_t n = gt_stream_produce(&p.d, buf, sizeof(buf));
    assert_int_equal(buf[0], GT_FRAME_HELLO);
    assert_int_equal(gt_stream_consume(&p.o, buf, n), 0);
    assert_int_equal(p.o.code, GT_RST_DENIED);
    pair_deinit(&p);
}

/* With a ring far smaller than the peer's the sender has to ask for acknowledgements. */
static void test_small_ring_meets_large_one(void **state)
{
    struct gt_stream o, d;
    char chunk[512];
    memset(chunk, 'y', sizeof(chunk));
    gt_stream_init(&o, GT_ROLE_OPERATOR, 1, "ssh", GT_RING_MIN);
    gt_stream_init(&d, GT_ROLE_DEVICE, 1, NULL, 1 << 20);
    gt_stream_attach(&o, 1);
    gt_stream_attach(&d, 1);
    for (int i = 0; i < 200; i++) {
        assert_true(gt_stream_wants_local(&o));
        assert_int_equal(gt_ring_write(&o.tx, chunk, sizeof(chunk)), 0);
        while (carry(&o, &d) + carry(&d, &o) > 0)
            ;
    }
    assert_int_equal(gt_ring_used(&d.rx), 200 * sizeof(chunk));
    gt_stream_deinit(&o);
    gt_stream_deinit(&d);
}

static void test_acks_are_frequent_and_windows_open(void **state)
{
    struct pair p;
    uint8_t buf[16384];
    char chunk[4096];
    memset(chunk, 'z', sizeof(chunk));
    pair_init(&p, "ssh");
    carry_all(&p);
    for (int i = 0; i < 16; i++) /* fill the device's window to the last byte */
        assert_int_equal(gt_ring_write(&p.o.tx, chunk, sizeof(chunk)), 0);
    carry_all(&p);
    assert_int_equal(gt_ring_free(&p.d.rx), 0);
    assert_int_equal(gt_ring_used(&p.o.tx), 0);
    put(&p.o, "one more");
    assert_int_equal(gt_stream_produce(&p.o, buf, sizeof(buf)), 0);
    gt_stream_taken_out(&p.d, 100); /* not worth a window */
    assert_false(gt_stream_wants_carrier(&p.d));
    gt_stream_taken_out(&p.d, p.d.rx.capacity / 4);
    assert_true(gt_stream_wants_carrier(&p.d));
    carry_all(&p);
    assert_int_equal(p.o.tx_sent, p.o.tx.tail);
    pair_deinit(&p);
}

/* Trips of all that the window lets through at once, each of @seconds, to an end that reads or not.
 */
static void flood(struct pair *p, int n_trips, double seconds, bool is_read)
{
    static uint8_t chunk[GT_DATA_MAX], record[16384];
    for (int trip = 0; trip < n_trips; trip++) {
        p->d.now += seconds;
        for (size_t n = 1; n > 0;) {
            while (gt_stream_wants_local(&p->o))
                assert_int_equal(gt_ring_write(&p->o.tx, chunk, sizeof(chunk)), 0);
            n = gt_stream_produce(&p->o, record, sizeof(record));
            assert_int_equal(gt_stream_consume(&p->d, record, n), 0);
            if (is_read)
                gt_stream_taken_out(&p->d, gt_ring_used(&p->d.rx));
        }
        carry(&p->d, &p->o);
    }
}

static void flood_init(struct pair *p)
{
    gt_stream_init(&p->o, GT_ROLE_OPERATOR, 1, "ssh", 4 << 20);
    gt_stream_init(&p->d, GT_ROLE_DEVICE, 1, NULL, 4 << 20);
    p->o.now = p->d.now = 1000;
    gt_stream_attach(&p->o, 1);
    gt_stream_attach(&p->d, 1);
    carry_all(p);
}

/* The window grows with a peer that fills it, and not for a local socket that falls behind, nor
 * when more would only wait on the way; and when it is fast already, only as far as that costs no
 * more memory. */
static void test_window_grows_only_when_used(void **state)
{
    static const struct {
        double seconds, later;
        bool is_read;
        size_t window;
    } cases[] = {
        {.07, .07, true, 4 << 20},          {.07, .07, false, GT_STREAM_WINDOW},
        {.07, 1., true, GT_STREAM_WINDOW},  {.3, .5, true, 4 << 20},
        {1e-5, 1e-5, true, GT_STREAM_RING},
    };
    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct pair p;
        flood_init(&p);
        gt_stream_ping(&p.d, 0); /* the shortest round trip */
        carry(&p.d, &p.o);
        p.d.now += cases[i].seconds;
        carry(&p.o, &p.d);
        flood(&p, 10, cases[i].later, cases[i].is_read);
        assert_int_equal(p.d.rx_window, cases[i].window);
        assert_true(p.d.rx_window <= p.d.rx.capacity && p.d.rx.capacity <= p.d.ring_max);
        if (!cases[i].is_read)
            assert_int_equal(gt_ring_used(&p.d.rx), GT_STREAM_WINDOW);
        pair_deinit(&p);
    }
}

/* What was granted stays granted; what is not granted any more is not kept. */
static void test_memory_is_given_back(void **state)
{
    struct pair p;
    flood_init(&p);
    flood(&p, 10, .07, true);
    carry_all(&p);
    gt_stream_trim(&p.d);
    assert_null(p.d.rx.data);
    assert_int_equal(p.d.rx_window, GT_STREAM_WINDOW);
    flood(&p, 1, .07, false);
    assert_int_equal(p.d.state, GT_STREAM_OPEN);
    assert_in_range(gt_ring_used(&p.d.rx), 3 << 20, 4 << 20);
    gt_stream_taken_out(&p.d, gt_ring_used(&p.d.rx));
    carry_all(&p);

    for (int i = 0; i < 40; i++) { /* and then only chatter, a second between two words */
        p.o.now += 1;
        p.d.now += 1;
        put(&p.o, "x");
        carry_all(&p);
        gt_stream_taken_out(&p.d, gt_ring_used(&p.d.rx));
        put(&p.d, "y");
        carry_all(&p);
        gt_stream_taken_out(&p.o, gt_ring_used(&p.o.rx));
    }
    assert_int_equal(p.d.rx.capacity, GT_STREAM_RING);
    assert_int_equal(p.o.tx.capacity, GT_STREAM_RING);
    gt_stream_ping(&p.d, 0); /* a heartbeat's round trip brings nothing */
    carry(&p.d, &p.o);
    p.d.now += .07;
    carry_all(&p);
    assert_int_equal(p.d.rx_window, GT_STREAM_WINDOW);
    pair_deinit(&p);
}

static void test_memory_is_shared(void **state)
{
    struct gt_stream_memory memory = {.max = 4 << 20};
    struct pair p[3];
    for (int i = 0; i < 3; i++) {
        flood_init(&p[i]);
        p[i].d.memory = &memory;
        flood(&p[i], 10, .07, true);
    }
    assert_int_equal(p[0].d.rx_window, 4 << 20);
    assert_int_equal(p[1].d.rx_window, 2 * GT_STREAM_RING); /* what was left */
    assert_int_equal(p[2].d.rx_window, GT_STREAM_RING);
    pair_deinit(&p[0]);
    flood(&p[2], 10, .07, true);
    assert_int_equal(p[2].d.rx_window, 4 << 20);
    pair_deinit(&p[1]);
    pair_deinit(&p[2]);
    assert_int_equal(memory.n_used, 0);
}

static void test_ping_flood_owes_one_answer(void **state)
{
    struct pair p;
    uint8_t flood[12 * 1000], buf[16384];
    struct gt_writer w = gt_writer(flood, sizeof(flood));
    pair_init(&p, "ssh");
    carry_all(&p);
    for (unsigned i = 0; i < 1000; i++)
        gt_frame_write(&w, &(struct gt_frame){.type = GT_FRAME_PING, .value = i});
    assert_int_equal(gt_stream_consume(&p.d, flood, w.n), 0);
    assert_int_equal(gt_stream_produce(&p.d, buf, sizeof(buf)), 16 + 12);
    assert_int_equal(gt_stream_produce(&p.d, buf, sizeof(buf)), 0);
    assert_int_equal(buf[27], 999 & 0xff);
    pair_deinit(&p);
}

/* What a device may be told wrong, after a good HELLO (unless .is_first), and what it says to it.
 */
struct bad {
    const char *name;
    enum gt_rst code; /* GT_RST_NONE: to be borne */
    bool is_first;
    struct gt_frame frames[3];
};

#define HELLO_AS(ver, num, att, off, ...)                                                     \
    {                                                                                         \
        .type = GT_FRAME_HELLO, .version = ver, .stream = num, .attempt = att, .offset = off, \
        .window = 65536, __VA_ARGS__                                                          \
    }
#define HELLO_(...) HELLO_AS(1, 3, 1, 0, __VA_ARGS__)
#define ACK_(off, win)                                     \
    {                                                      \
        .type = GT_FRAME_ACK, .offset = off, .window = win \
    }
#define FIN_(off)                           \
    {                                       \
        .type = GT_FRAME_FIN, .offset = off \
    }
#define DATA_(text)                                                               \
    {                                                                             \
        .type = GT_FRAME_DATA, .data = {(const uint8_t *)text, sizeof(text) - 1 } \
    }
#define SERVICE_(text) .service = {(const uint8_t *)text, sizeof(text) - 1}
#define TEXT_128                                                       \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* The device has sent "hello" (5 bytes), 2 of them acknowledged. */
static const struct bad bads[] = {
    {"ack of all", GT_RST_NONE, false, {ACK_(5, 100)}},
    {"ack beyond what was sent", GT_RST_PROTOCOL, false, {ACK_(6, 100)}},
    {"ack far beyond", GT_RST_PROTOCOL, false, {ACK_(UINT64_MAX, 100)}},
    {"ack of a FIN not sent", GT_RST_PROTOCOL, false, {ACK_(5, 100), ACK_(6, 100)}},
    {"ack backwards", GT_RST_PROTOCOL, false, {ACK_(1, 100)}},
    {"ack repeated", GT_RST_NONE, false, {ACK_(2, 100), ACK_(2, 100)}},
    {"window of 0", GT_RST_NONE, false, {ACK_(5, 0)}},
    {"window of everything", GT_RST_NONE, false, {ACK_(5, UINT32_MAX)}},
    {"FIN at 0", GT_RST_NONE, false, {FIN_(0)}},
    {"FIN too far", GT_RST_PROTOCOL, false, {FIN_(1)}},
    {"FIN too early", GT_RST_PROTOCOL, false, {DATA_("abc"), FIN_(2)}},
    {"data, FIN", GT_RST_NONE, false, {DATA_("abc"), FIN_(3)}},
    {"data after FIN", GT_RST_PROTOCOL, false, {FIN_(0), DATA_("abc")}},
    {"two FINs", GT_RST_PROTOCOL, false, {FIN_(0), FIN_(0)}},
    {"second HELLO", GT_RST_PROTOCOL, false, {HELLO_(SERVICE_("ssh"))}},
    {"BIND of a bound one", GT_RST_PROTOCOL, false, {{.type = GT_FRAME_BIND, SERVICE_("web")}}},
    {"PONG nobody asked for", GT_RST_NONE, false, {{.type = GT_FRAME_PONG, .value = 9}}},
    {"RST", GT_RST_LOCAL, false, {{.type = GT_FRAME_RST, .code = GT_RST_LOCAL}}},
    {"RST without code", GT_RST_INTERNAL, false, {{.type = GT_FRAME_RST, .code = 0}}},
    {"RST of tomorrow", GT_RST_INTERNAL, false, {{.type = GT_FRAME_RST, .code = 999}}},
    {"no data in DATA", GT_RST_PROTOCOL, false, {{.type = GT_FRAME_DATA, .data = {NULL, 0}}}},
    {"DATA first", GT_RST_PROTOCOL, true, {DATA_("abc")}},
    {"ACK first", GT_RST_PROTOCOL, true, {ACK_(0, 100)}},
    {"PING first", GT_RST_PROTOCOL, true, {{.type = GT_FRAME_PING}}},
    {"RST first", GT_RST_CLOSED, true, {{.type = GT_FRAME_RST, .code = GT_RST_CLOSED}}},
    {"good HELLO", GT_RST_NONE, true, {HELLO_(SERVICE_("ssh"))}},
    {"longest service", GT_RST_NONE, true, {HELLO_(SERVICE_(TEXT_128))}},
    {"service too long", GT_RST_PROTOCOL, true, {HELLO_(SERVICE_(TEXT_128 "x"))}},
    {"service with NUL", GT_RST_PROTOCOL, true, {HELLO_(SERVICE_("s\0h"))}},
    {"service with escape", GT_RST_PROTOCOL, true, {HELLO_(SERVICE_("s\x1b[2J"))}},
    {"version 0", GT_RST_PROTOCOL, true, {HELLO_AS(0, 3, 1, 0, SERVICE_("ssh"))}},
    {"version 2", GT_RST_PROTOCOL, true, {HELLO_AS(2, 3, 1, 0, SERVICE_("ssh"))}},
    {"wrong stream", GT_RST_PROTOCOL, true, {HELLO_AS(1, 4, 1, 0, SERVICE_("ssh"))}},
    {"wrong attempt", GT_RST_PROTOCOL, true, {HELLO_AS(1, 3, 2, 0, SERVICE_("ssh"))}},
    {"rx_off beyond", GT_RST_RESYNC, true, {HELLO_AS(1, 3, 1, 1, SERVICE_("ssh"))}},
    {"data for a spare", GT_RST_PROTOCOL, true, {HELLO_(SERVICE_("")), DATA_("abc")}},
    {"FIN for a spare", GT_RST_PROTOCOL, true, {HELLO_(SERVICE_("")), FIN_(0)}},
    {"two BINDs",
     GT_RST_PROTOCOL,
     true,
     {HELLO_(SERVICE_("")),
      {.type = GT_FRAME_BIND, SERVICE_("web")},
      {.type = GT_FRAME_BIND, SERVICE_("web")}}},
};

static void device_with_history(struct gt_stream *d, bool is_fresh)
{
    static const struct gt_frame hello = HELLO_(SERVICE_("ssh")), ack = ACK_(2, 65536);
    uint8_t buf[16384];
    struct gt_writer w = gt_writer(buf, sizeof(buf));

    gt_stream_init(d, GT_ROLE_DEVICE, 3, NULL, 64 * 1024);
    gt_stream_attach(d, 1);
    if (is_fresh)
        return;
    gt_frame_write(&w, &hello);
    assert_int_equal(gt_stream_consume(d, buf, w.n), 0);
    put(d, "hello");
    assert_true(gt_stream_produce(d, buf, sizeof(buf)) > 0);
    w = gt_writer(buf, sizeof(buf));
    gt_frame_write(&w, &ack);
    assert_int_equal(gt_stream_consume(d, buf, w.n), 0);
}

static void test_bad_frames(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(bads); i++) {
        for (size_t piece = 1; piece < 400; piece *= 3) { /* cut anywhere */
            struct gt_stream d;
            uint8_t buf[1024];
            struct gt_writer w = gt_writer(buf, sizeof(buf));
            device_with_history(&d, bads[i].is_first);
            for (size_t k = 0; k < 3 && bads[i].frames[k].type; k++) {
                gt_frame_write(&w, &bads[i].frames[k]);
                if (bads[i].frames[k].data.n)
                    gt_write_span(&w, bads[i].frames[k].data);
            }
            for (size_t at = 0; at < w.n; at += piece)
                assert_int_equal(gt_stream_consume(&d, buf + at, GT_MIN(piece, w.n - at)), 0);
            if (d.code != bads[i].code)
                fail_msg("%s: code %d", bads[i].name, d.code);
            assert_int_equal(d.state == GT_STREAM_BROKEN, bads[i].code != GT_RST_NONE);
            gt_stream_deinit(&d);
        }
    }
}

static void test_unknown_frames_are_skipped(void **state)
{
    uint8_t buf[70000];
    struct pair p;
    pair_init(&p, "ssh");
    carry_all(&p);
    memset(buf, 0xff, sizeof(buf)); /* type ff, flags ff, length 65535, body ff.. */
    assert_int_equal(gt_stream_consume(&p.d, buf, 4 + 65535), 0);
    put(&p.o, "still here");
    carry_all(&p);
    assert_takes(&p.d, "still here");
    pair_deinit(&p);
}

static void test_data_beyond_the_window(void **state)
{
    struct gt_stream d;
    uint8_t buf[GT_FRAME_MAX] = {0};
    device_with_history(&d, false);
    for (size_t sent = 0; sent <= d.rx.capacity && !gt_stream_is_over(&d); sent += GT_DATA_MAX) {
        struct gt_writer w = gt_writer(buf, sizeof(buf));
        gt_frame_write(&w, &(struct gt_frame){.type = GT_FRAME_DATA, .data = {NULL, GT_DATA_MAX}});
        assert_int_equal(gt_stream_consume(&d, buf, sizeof(buf)), 0);
    }
    assert_int_equal(d.code, GT_RST_PROTOCOL);
    gt_stream_deinit(&d);
}

static void test_operator_is_not_bound(void **state)
{
    struct pair p;
    uint8_t buf[64];
    struct gt_writer w = gt_writer(buf, sizeof(buf));
    pair_init(&p, "");
    carry_all(&p);
    gt_frame_write(&w, &(struct gt_frame){.type = GT_FRAME_BIND, SERVICE_("web")});
    assert_int_equal(gt_stream_consume(&p.o, buf, w.n), 0);
    assert_int_equal(p.o.code, GT_RST_PROTOCOL);
    pair_deinit(&p);
}

/* An xorshift: small, and the same everywhere. */
struct random_source {
    struct model_source source;
    uint64_t x;
};

static uint32_t random_choose(struct model_source *source, uint32_t n)
{
    struct random_source *r = (struct random_source *)source;
    r->x ^= r->x << 13;
    r->x ^= r->x >> 7;
    r->x ^= r->x << 17;
    return (uint32_t)((r->x >> 16) % n);
}

static void test_exact_or_loud(void **state)
{
    const char *given = getenv("TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    for (unsigned i = 0; i < 3000; i++) {
        struct random_source source = {{random_choose, false}, (seed + i) * 2654435761u + 1};
        if (i == 0)
            print_message("TEST_SEED=%llu\n", (unsigned long long)seed);
        model_run(&source.source, 50u + random_choose(&source.source, 3000));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_life),
        cmocka_unit_test(test_first_bytes_ride_with_hello),
        cmocka_unit_test(test_early_bytes_are_bounded),
        cmocka_unit_test(test_spare_is_bound),
        cmocka_unit_test(test_spare_bound_while_away),
        cmocka_unit_test(test_resume_sends_again),
        cmocka_unit_test(test_last_ack_is_said_again),
        cmocka_unit_test(test_parked_before_the_last_ack),
        cmocka_unit_test(test_done_is_done),
        cmocka_unit_test(test_rubbish_after_all),
        cmocka_unit_test(test_acked_fin_stays_acked),
        cmocka_unit_test(test_reset_reaches_the_peer),
        cmocka_unit_test(test_reset_after_hello_only),
        cmocka_unit_test(test_small_ring_meets_large_one),
        cmocka_unit_test(test_acks_are_frequent_and_windows_open),
        cmocka_unit_test(test_window_grows_only_when_used),
        cmocka_unit_test(test_memory_is_given_back),
        cmocka_unit_test(test_memory_is_shared),
        cmocka_unit_test(test_ping_flood_owes_one_answer),
        cmocka_unit_test(test_bad_frames),
        cmocka_unit_test(test_unknown_frames_are_skipped),
        cmocka_unit_test(test_data_beyond_the_window),
        cmocka_unit_test(test_operator_is_not_bound),
        cmocka_unit_test(test_exact_or_loud),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
