/* SPDX-License-Identifier: ISC */
/*
 * stream.c: regular use, all kinds of ends, every invalid input, and thousands of random runs,
 * which must deliver exactly or reset both ends (stream-model.h).
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
#include "stream-pair.h"

static void test_stream_ends_after_both_half_closes(void **state)
{
    struct pair p;

    pair_init(&p, "ssh");
    transfer_all(&p);
    assert_int_equal(p.o.state, GT_STREAM_OPEN);
    assert_int_equal(p.d.state, GT_STREAM_OPEN);
    assert_string_equal(p.d.service, "ssh");

    local_write(&p.o, "ping");
    local_write(&p.d, "pong");
    transfer_all(&p);
    assert_local_read(&p.d, "ping");
    assert_local_read(&p.o, "pong");

    gt_stream_local_end(&p.o, GT_RST_NONE);
    transfer_all(&p);
    assert_true(gt_stream_is_end_due(&p.d));
    gt_stream_end_delivered(&p.d);
    local_write(&p.d, "after the half-close");
    transfer_all(&p);
    assert_local_read(&p.o, "after the half-close");
    gt_stream_local_end(&p.d, GT_RST_NONE);
    transfer_all(&p);
    assert_int_equal(p.d.state, GT_STREAM_OPEN); /* its FIN is not acknowledged yet */
    gt_stream_end_delivered(&p.o);
    transfer_all(&p);
    assert_int_equal(p.o.state, GT_STREAM_ENDED);
    assert_int_equal(p.d.state, GT_STREAM_ENDED);
    pair_deinit(&p);
}

static void test_first_bytes_follow_hello_at_once(void **state)
{
    struct pair p;

    pair_init(&p, "http");
    local_write(&p.o, "GET /");
    transfer(&p.o, &p.d);
    assert_local_read(&p.d, "GET /");
    transfer_all(&p);
    assert_int_equal(p.o.tx.head, 5);
    local_write(&p.o, " HTTP/1.1");
    transfer_all(&p);
    assert_local_read(&p.d, " HTTP/1.1");
    pair_deinit(&p);
}

static void test_bytes_before_hello_are_bounded(void **state)
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

static void test_resume_sends_lost_bytes_again(void **state)
{
    struct pair p;
    uint8_t lost[16384];

    pair_init(&p, "ssh");
    transfer_all(&p);
    local_write(&p.o, "kept ");
    transfer_all(&p);
    local_write(&p.o, "lost in flight");
    assert_true(gt_stream_produce(&p.o, lost, sizeof(lost)) > 0);
    gt_stream_park(&p.o);
    gt_stream_park(&p.d);
    assert_int_equal(gt_stream_produce(&p.o, lost, sizeof(lost)), 0);
    gt_stream_attach(&p.o, 2, GT_STREAM_OWN);
    gt_stream_attach(&p.d, 2, GT_STREAM_OWN);
    transfer_all(&p);
    assert_local_read(&p.d, "kept lost in flight");
    pair_deinit(&p);
}

/* The device has ended, and its last acknowledgement was lost. */
static void test_lost_last_ack_is_sent_again(void **state)
{
    struct pair p;
    uint8_t lost[16384];

    pair_init(&p, "ssh");
    gt_stream_local_end(&p.o, GT_RST_NONE);
    gt_stream_local_end(&p.d, GT_RST_NONE);
    transfer_all(&p);
    gt_stream_end_delivered(&p.o);
    transfer_all(&p);
    gt_stream_end_delivered(&p.d);
    assert_true(gt_stream_produce(&p.d, lost, sizeof(lost)) > 0);
    assert_int_equal(p.d.state, GT_STREAM_ENDED);
    gt_stream_park(&p.o);
    gt_stream_park(&p.d);
    assert_int_equal(p.o.state, GT_STREAM_PARKED);
    assert_int_equal(p.d.state, GT_STREAM_ENDED);
    gt_stream_attach(&p.o, 2, GT_STREAM_OWN);
    gt_stream_attach(&p.d, 2, GT_STREAM_OWN);
    transfer_all(&p);
    assert_int_equal(p.o.state, GT_STREAM_ENDED);
    assert_int_equal(p.d.state, GT_STREAM_ENDED);
    pair_deinit(&p);
}

/* An end that received everything and has not acknowledged it is not ENDED. */
static void test_stream_parked_before_its_last_ack_is_not_ended(void **state)
{
    struct pair p;

    pair_init(&p, "ssh");
    gt_stream_local_end(&p.o, GT_RST_NONE);
    gt_stream_local_end(&p.d, GT_RST_NONE);
    transfer_all(&p);
    gt_stream_end_delivered(&p.o);
    transfer_all(&p);
    gt_stream_end_delivered(&p.d); /* its ACK is scheduled when the data connection is lost */
    gt_stream_park(&p.d);
    assert_int_equal(p.d.state, GT_STREAM_PARKED);
    gt_stream_reset(&p.d, GT_RST_EXPIRED);
    assert_int_equal(p.d.state, GT_STREAM_RESET);
    pair_deinit(&p);
}

/* After completion, neither a lost data connection nor a late RST is a failure. */
static void test_complete_stream_stays_ended(void **state)
{
    struct pair p;
    uint8_t buf[16384];
    struct gt_writer w = gt_writer(buf, sizeof(buf));

    pair_init(&p, "ssh");
    gt_stream_local_end(&p.o, GT_RST_NONE);
    gt_stream_local_end(&p.d, GT_RST_NONE);
    transfer_all(&p);
    gt_stream_end_delivered(&p.o);
    gt_stream_end_delivered(&p.d);
    transfer_all(&p);
    assert_int_equal(p.o.state, GT_STREAM_ENDED);
    gt_stream_attach(&p.o, 2, GT_STREAM_OWN);
    gt_stream_park(&p.o);
    assert_int_equal(p.o.state, GT_STREAM_ENDED);
    gt_stream_attach(&p.o, 3, GT_STREAM_OWN);
    gt_stream_reset(&p.o, GT_RST_LOST);
    gt_frame_write(&w, &(struct gt_frame){.type = GT_FRAME_RST, .code = GT_RST_LOST});
    assert_int_equal(gt_stream_consume(&p.o, buf, w.n), 0);
    assert_int_equal(p.o.state, GT_STREAM_ENDED);
    assert_int_equal(p.o.code, GT_RST_NONE);
    pair_deinit(&p);
}

/* Malformed input also stops the processing of a complete stream, which ends well. */
static void test_malformed_input_after_completion_ends_well(void **state)
{
    static const uint8_t malformed[] = {0x7f, 0, 0, 0, 'x'};
    struct pair p;
    uint8_t buf[1024];

    pair_init(&p, "ssh");
    gt_stream_local_end(&p.o, GT_RST_NONE);
    gt_stream_local_end(&p.d, GT_RST_NONE);
    transfer_all(&p);
    gt_stream_end_delivered(&p.o);
    transfer(&p.o, &p.d);
    gt_stream_end_delivered(&p.d);
    struct gt_writer w = gt_writer(buf, sizeof(buf));
    gt_frame_write(&w, &(struct gt_frame){.type = GT_FRAME_PING});
    gt_frame_write(&w, &(struct gt_frame){.type = GT_FRAME_ACK, .offset = 1});
    gt_write_bytes(&w, malformed, sizeof(malformed));
    assert_int_equal(gt_stream_consume(&p.o, buf, w.n), 0); /* its PONG is still scheduled */
    assert_int_equal(p.o.state, GT_STREAM_ENDED);
    gt_stream_attach(&p.o, 2, GT_STREAM_OWN);
    assert_int_equal(gt_stream_consume(&p.o, malformed, sizeof(malformed)), 0);
    assert_int_equal(p.o.state, GT_STREAM_ENDED);
    assert_int_equal(p.o.code, GT_RST_NONE);
    pair_deinit(&p);
}

static void test_acknowledged_fin_is_never_withdrawn(void **state)
{
    struct pair p;
    uint8_t buf[64];
    struct gt_writer w = gt_writer(buf, sizeof(buf));

    pair_init(&p, "ssh");
    gt_stream_local_end(&p.o, GT_RST_NONE);
    transfer_all(&p);
    gt_stream_end_delivered(&p.d);
    transfer_all(&p);
    assert_true(p.o.is_end_acked);
    gt_frame_write(&w, &(struct gt_frame){.type = GT_FRAME_ACK, .offset = 0, .window = 9});
    assert_int_equal(gt_stream_consume(&p.o, buf, w.n), 0);
    assert_int_equal(p.o.code, GT_RST_PROTOCOL);
    pair_deinit(&p);
}

static void test_reset_reaches_the_peer_with_its_code(void **state)
{
    for (int code = GT_RST_LOCAL; code <= GT_RST_LAST; code++) {
        struct pair p;

        pair_init(&p, "ssh");
        transfer_all(&p);
        gt_stream_reset(&p.d, (enum gt_rst)code);
        gt_stream_reset(&p.d, GT_RST_INTERNAL); /* the first reason is kept */
        transfer_all(&p);
        assert_int_equal(p.o.state, GT_STREAM_RESET);
        assert_int_equal(p.o.code, code);
        assert_true(p.o.is_reset_by_peer);
        assert_int_equal(p.d.code, code);
        assert_false(p.d.is_reset_by_peer);
        assert_true(strcmp(gt_rst_text((unsigned)code), "unknown reason"));
        pair_deinit(&p);
    }
}

/* A reset before our HELLO was sent still sends HELLO first. */
static void test_reset_sends_hello_first(void **state)
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

/* A sender whose ring is much smaller than the peer's has to request acknowledgements. */
static void test_sender_with_a_small_ring_requests_acks(void **state)
{
    struct gt_stream o, d;
    char chunk[512];

    memset(chunk, 'y', sizeof(chunk));
    gt_stream_init(&o, GT_ROLE_OPERATOR, 1, "ssh", GT_RING_MIN);
    gt_stream_init(&d, GT_ROLE_DEVICE, 1, NULL, 1 << 20);
    gt_stream_attach(&o, 1, GT_STREAM_OWN);
    gt_stream_attach(&d, 1, GT_STREAM_OWN);
    for (int i = 0; i < 200; i++) {
        assert_true(gt_stream_has_tx_room(&o));
        assert_int_equal(gt_ring_write(&o.tx, chunk, sizeof(chunk)), 0);
        while (transfer(&o, &d) + transfer(&d, &o) > 0)
            ;
    }
    assert_int_equal(gt_ring_used(&d.rx), 200 * sizeof(chunk));
    gt_stream_deinit(&o);
    gt_stream_deinit(&d);
}

static void test_window_reopens_after_a_quarter_is_read(void **state)
{
    struct pair p;
    uint8_t buf[16384];
    char chunk[4096];

    memset(chunk, 'z', sizeof(chunk));
    pair_init(&p, "ssh");
    transfer_all(&p);
    for (int i = 0; i < 16; i++) /* fill the device's window to the last byte */
        assert_int_equal(gt_ring_write(&p.o.tx, chunk, sizeof(chunk)), 0);
    transfer_all(&p);
    assert_int_equal(gt_ring_free(&p.d.rx), 0);
    assert_int_equal(gt_ring_used(&p.o.tx), 0);
    local_write(&p.o, "one more");
    assert_int_equal(gt_stream_produce(&p.o, buf, sizeof(buf)), 0);
    gt_stream_local_written(&p.d, 100); /* too little for a window update */
    assert_false(gt_stream_has_output(&p.d));
    gt_stream_local_written(&p.d, p.d.rx.capacity / 4);
    assert_true(gt_stream_has_output(&p.d));
    transfer_all(&p);
    assert_int_equal(p.o.tx_sent, p.o.tx.tail);
    pair_deinit(&p);
}

/* Sends all that the window permits, once per round trip of @seconds. @is_read: the device's local
 * socket reads it. */
static void flood(struct pair *p, int n_rounds, double seconds, bool is_read)
{
    static uint8_t chunk[GT_DATA_MAX], record[16384];

    for (int round = 0; round < n_rounds; round++) {
        p->d.now += seconds;
        for (size_t n = 1; n > 0;) {
            while (gt_stream_has_tx_room(&p->o))
                assert_int_equal(gt_ring_write(&p->o.tx, chunk, sizeof(chunk)), 0);
            n = gt_stream_produce(&p->o, record, sizeof(record));
            assert_int_equal(gt_stream_consume(&p->d, record, n), 0);
            if (is_read)
                gt_stream_local_written(&p->d, gt_ring_used(&p->d.rx));
        }
        transfer(&p->d, &p->o);
    }
}

static void flood_init_max(struct pair *p, size_t ring_max)
{
    gt_stream_init(&p->o, GT_ROLE_OPERATOR, 1, "ssh", ring_max);
    gt_stream_init(&p->d, GT_ROLE_DEVICE, 1, NULL, ring_max);
    p->o.now = p->d.now = 1000;
    gt_stream_attach(&p->o, 1, GT_STREAM_OWN);
    gt_stream_attach(&p->d, 1, GT_STREAM_OWN);
    transfer_all(p);
}

static void flood_init(struct pair *p)
{
    flood_init_max(p, 4 << 20);
}

/* The window grows for a peer that fills it. It does not grow for a slow local socket or a
 * saturated path. At a high rate it grows only within the initial memory. */
static void test_window_grows_only_if_it_limits_the_peer(void **state)
{
    static const struct {
        double seconds, took;
        bool is_read;
        size_t window;
    } cases[] = {
        {.07, .07, true, 4 << 20},          {.07, .07, false, GT_WINDOW_INITIAL},
        {.07, 1., true, GT_WINDOW_INITIAL}, {.3, .5, true, 4 << 20},
        {1e-5, 1e-5, true, GT_WINDOW_RING},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct pair p;

        flood_init(&p);
        gt_stream_ping(&p.d, 0); /* the shortest round trip */
        transfer(&p.d, &p.o);
        p.d.now += cases[i].seconds;
        transfer(&p.o, &p.d);
        flood(&p, 10, cases[i].took, cases[i].is_read);
        assert_int_equal(p.d.window.size, cases[i].window);
        assert_true(p.d.window.size <= p.d.rx.capacity && p.d.rx.capacity <= p.d.window.max);
        if (!cases[i].is_read)
            assert_int_equal(gt_ring_used(&p.d.rx), GT_WINDOW_INITIAL);
        pair_deinit(&p);
    }
}

/* A grant is never withdrawn. Memory beyond the grant is released. */
static void test_idle_stream_releases_memory(void **state)
{
    struct pair p;

    flood_init(&p);
    flood(&p, 10, .07, true);
    transfer_all(&p);
    gt_stream_trim(&p.d);
    assert_null(p.d.rx.data);
    assert_int_equal(p.d.window.size, GT_WINDOW_INITIAL);
    flood(&p, 1, .07, false);
    assert_int_equal(p.d.state, GT_STREAM_OPEN);
    assert_in_range(gt_ring_used(&p.d.rx), 3 << 20, 4 << 20);
    gt_stream_local_written(&p.d, gt_ring_used(&p.d.rx));
    transfer_all(&p);

    for (int i = 0; i < 40; i++) { /* little traffic: one byte each per second */
        p.o.now += 1;
        p.d.now += 1;
        local_write(&p.o, "x");
        transfer_all(&p);
        gt_stream_local_written(&p.d, gt_ring_used(&p.d.rx));
        local_write(&p.d, "y");
        transfer_all(&p);
        gt_stream_local_written(&p.o, gt_ring_used(&p.o.rx));
    }
    assert_int_equal(p.d.rx.capacity, GT_WINDOW_RING);
    assert_int_equal(p.o.tx.capacity, GT_WINDOW_RING);
    gt_stream_ping(&p.d, 0); /* the round trip of a heartbeat does not grow the window */
    transfer(&p.d, &p.o);
    p.d.now += .07;
    transfer_all(&p);
    assert_int_equal(p.d.window.size, GT_WINDOW_INITIAL);
    pair_deinit(&p);
}

static void test_rings_share_limited_memory(void **state)
{
    struct gt_window_memory memory = {.max = 4 << 20};
    struct pair p[3];

    for (int i = 0; i < 3; i++) {
        flood_init(&p[i]);
        p[i].d.memory = &memory;
        flood(&p[i], 10, .07, true);
    }
    assert_int_equal(p[0].d.window.size, 4 << 20);
    assert_int_equal(p[1].d.window.size, 2 * GT_WINDOW_RING); /* the remaining memory */
    assert_int_equal(p[2].d.window.size, GT_WINDOW_RING);
    pair_deinit(&p[0]);
    flood(&p[2], 10, .07, true);
    assert_int_equal(p[2].d.window.size, 4 << 20);
    pair_deinit(&p[1]);
    pair_deinit(&p[2]);
    assert_int_equal(memory.n_used, 0);
}

/* Two streams have 16 MiB. All others have as much as without them. */
static void test_large_rings_leave_the_others_theirs(void **state)
{
    struct gt_window_memory memory;
    struct pair p[20];

    gt_window_memory_init(&memory, 16 << 20);
    for (int i = 0; i < 20; i++) {
        flood_init_max(&p[i], 16 << 20);
        p[i].d.memory = &memory;
        flood(&p[i], 12, .07, true);
        assert_int_equal(p[i].d.window.size, i < 2 ? 16 << 20 : 4 << 20);
        assert_int_equal(p[i].d.rx.capacity, p[i].d.window.size);
    }
    pair_deinit(&p[0]); /* the next one gets its place */
    flood(&p[7], 12, .07, true);
    assert_int_equal(p[7].d.window.size, 16 << 20);
    for (int i = 1; i < 20; i++)
        pair_deinit(&p[i]);
    assert_int_equal(memory.n_used, 0);
    assert_int_equal(memory.n_large, 0);
}

/* The send ring of a large window grows in the same memory. */
static void test_large_send_ring_is_charged(void **state)
{
    struct gt_window_memory memory;
    struct pair p[3];

    gt_window_memory_init(&memory, 16 << 20);
    for (int i = 0; i < 3; i++) {
        flood_init_max(&p[i], 16 << 20);
        p[i].o.memory = &memory;
        flood(&p[i], 12, .07, true);
        assert_int_equal(p[i].o.tx.capacity, i < 2 ? 16 << 20 : 4 << 20);
    }
    for (int i = 0; i < 3; i++)
        pair_deinit(&p[i]);
    assert_int_equal(memory.n_used, 0);
    assert_int_equal(memory.n_large, 0);
}

static void test_many_pings_get_one_pong(void **state)
{
    struct pair p;
    uint8_t flood[12 * 1000], buf[16384];
    struct gt_writer w = gt_writer(flood, sizeof(flood));

    pair_init(&p, "ssh");
    transfer_all(&p);
    for (unsigned i = 0; i < 1000; i++)
        gt_frame_write(&w, &(struct gt_frame){.type = GT_FRAME_PING, .value = i});
    assert_int_equal(gt_stream_consume(&p.d, flood, w.n), 0);
    assert_int_equal(gt_stream_produce(&p.d, buf, sizeof(buf)), 18 + 12);
    assert_int_equal(gt_stream_produce(&p.d, buf, sizeof(buf)), 0);
    assert_int_equal(buf[29], 999 & 0xff);
    pair_deinit(&p);
}

/* Input of a device after a valid HELLO (unless .is_first), and the code of the reset. */
struct invalid_input {
    const char *name;
    enum gt_rst code; /* GT_RST_NONE: accepted */
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
        .type = GT_FRAME_END, .offset = off \
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
static const struct invalid_input invalid_inputs[] = {
    {"ack of all", GT_RST_NONE, false, {ACK_(5, 100)}},
    {"ack beyond the sent bytes", GT_RST_PROTOCOL, false, {ACK_(6, 100)}},
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
    {"CONNECTED to a device", GT_RST_PROTOCOL, false, {{.type = GT_FRAME_CONNECTED}}},
    {"DONE", GT_RST_PROTOCOL, false, {{.type = GT_FRAME_DONE}}},
    {"PONG without a PING", GT_RST_NONE, false, {{.type = GT_FRAME_PONG, .value = 9}}},
    {"RST", GT_RST_LOCAL, false, {{.type = GT_FRAME_RST, .code = GT_RST_LOCAL}}},
    {"RST without code", GT_RST_INTERNAL, false, {{.type = GT_FRAME_RST, .code = 0}}},
    {"RST with an unknown code", GT_RST_INTERNAL, false, {{.type = GT_FRAME_RST, .code = 999}}},
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
    {"no service", GT_RST_PROTOCOL, true, {HELLO_(SERVICE_(""))}},
    {"another service", GT_RST_PROTOCOL, false, {HELLO_AS(1, 3, 2, 0, SERVICE_("web"))}},
};

static void device_with_history(struct gt_stream *d, bool is_fresh)
{
    static const struct gt_frame hello = HELLO_(SERVICE_("ssh")), ack = ACK_(2, 65536);
    uint8_t buf[16384];
    struct gt_writer w = gt_writer(buf, sizeof(buf));

    gt_stream_init(d, GT_ROLE_DEVICE, 3, NULL, 64 * 1024);
    gt_stream_attach(d, 1, GT_STREAM_OWN);
    if (is_fresh)
        return;
    gt_frame_write(&w, &hello);
    assert_int_equal(gt_stream_consume(d, buf, w.n), 0);
    local_write(d, "hello");
    assert_true(gt_stream_produce(d, buf, sizeof(buf)) > 0);
    w = gt_writer(buf, sizeof(buf));
    gt_frame_write(&w, &ack);
    assert_int_equal(gt_stream_consume(d, buf, w.n), 0);
}

static void test_invalid_frames_reset_the_stream(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(invalid_inputs); i++) {
        for (size_t piece = 1; piece < 400; piece *= 3) { /* size of the pieces */
            struct gt_stream d;
            uint8_t buf[1024];
            struct gt_writer w = gt_writer(buf, sizeof(buf));
            device_with_history(&d, invalid_inputs[i].is_first);
            for (size_t k = 0; k < 3 && invalid_inputs[i].frames[k].type; k++) {
                gt_frame_write(&w, &invalid_inputs[i].frames[k]);
                if (invalid_inputs[i].frames[k].data.n)
                    gt_write_span(&w, invalid_inputs[i].frames[k].data);
            }
            for (size_t at = 0; at < w.n; at += piece)
                assert_int_equal(gt_stream_consume(&d, buf + at, GT_MIN(piece, w.n - at)), 0);
            if (d.code != invalid_inputs[i].code)
                fail_msg("%s: code %d", invalid_inputs[i].name, d.code);
            assert_int_equal(d.state == GT_STREAM_RESET, invalid_inputs[i].code != GT_RST_NONE);
            gt_stream_deinit(&d);
        }
    }
}

static void test_connected_reaches_the_operator(void **state)
{
    struct pair p;

    pair_init(&p, "ssh");
    transfer_all(&p);
    assert_false(p.o.is_target_connected);
    gt_stream_target_connected(&p.d);
    transfer_all(&p);
    assert_true(p.o.is_target_connected);
    assert_int_equal(p.o.state, GT_STREAM_OPEN);
    pair_deinit(&p);
}

/* It may be lost with its data connection. */
static void test_connected_is_repeated_on_the_next_data_connection(void **state)
{
    uint8_t buf[2 * GT_FRAME_MAX];
    struct pair p;

    pair_init(&p, "ssh");
    transfer_all(&p);
    gt_stream_target_connected(&p.d);
    assert_true(gt_stream_produce(&p.d, buf, sizeof(buf)) > 0);
    gt_stream_park(&p.o);
    gt_stream_park(&p.d);
    gt_stream_attach(&p.o, p.o.attempt + 1, GT_STREAM_OWN);
    gt_stream_attach(&p.d, p.d.attempt + 1, GT_STREAM_OWN);
    transfer_all(&p);
    assert_true(p.o.is_target_connected);
    pair_deinit(&p);
}

static void test_connected_with_a_code_resets_the_stream(void **state)
{
    uint8_t buf[64];
    struct gt_writer w = gt_writer(buf, sizeof(buf));
    struct pair p;

    pair_init(&p, "ssh");
    transfer_all(&p);
    gt_frame_write(&w, &(struct gt_frame){.type = GT_FRAME_CONNECTED, .code = 1});
    assert_int_equal(gt_stream_consume(&p.o, buf, w.n), 0);
    assert_int_equal(p.o.code, GT_RST_PROTOCOL);
    pair_deinit(&p);
}

static void test_unknown_optional_frames_are_skipped(void **state)
{
    uint8_t buf[70000];
    struct pair p;

    pair_init(&p, "ssh");
    transfer_all(&p);
    memset(buf, 0xff, sizeof(buf)); /* type ff, flags ff, length 65535, body ff.. */
    assert_int_equal(gt_stream_consume(&p.d, buf, 4 + 65535), 0);
    local_write(&p.o, "still here");
    transfer_all(&p);
    assert_local_read(&p.d, "still here");
    pair_deinit(&p);
}

static void test_data_beyond_the_window_resets_the_stream(void **state)
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

/* xorshift: the same numbers on every machine. */
struct random_source {
    struct model_source source;
    uint64_t x;
};

static uint32_t random_choose(struct model_source *source, uint32_t n)
{
    struct random_source *r = gt_container_of(source, struct random_source, source);

    r->x ^= r->x << 13;
    r->x ^= r->x >> 7;
    r->x ^= r->x << 17;
    return (uint32_t)((r->x >> 16) % n);
}

static void test_random_runs_are_exact_or_reset(void **state)
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
        cmocka_unit_test(test_stream_ends_after_both_half_closes),
        cmocka_unit_test(test_first_bytes_follow_hello_at_once),
        cmocka_unit_test(test_bytes_before_hello_are_bounded),
        cmocka_unit_test(test_resume_sends_lost_bytes_again),
        cmocka_unit_test(test_lost_last_ack_is_sent_again),
        cmocka_unit_test(test_stream_parked_before_its_last_ack_is_not_ended),
        cmocka_unit_test(test_complete_stream_stays_ended),
        cmocka_unit_test(test_malformed_input_after_completion_ends_well),
        cmocka_unit_test(test_acknowledged_fin_is_never_withdrawn),
        cmocka_unit_test(test_reset_reaches_the_peer_with_its_code),
        cmocka_unit_test(test_reset_sends_hello_first),
        cmocka_unit_test(test_sender_with_a_small_ring_requests_acks),
        cmocka_unit_test(test_window_reopens_after_a_quarter_is_read),
        cmocka_unit_test(test_window_grows_only_if_it_limits_the_peer),
        cmocka_unit_test(test_idle_stream_releases_memory),
        cmocka_unit_test(test_rings_share_limited_memory),
        cmocka_unit_test(test_large_rings_leave_the_others_theirs),
        cmocka_unit_test(test_large_send_ring_is_charged),
        cmocka_unit_test(test_many_pings_get_one_pong),
        cmocka_unit_test(test_invalid_frames_reset_the_stream),
        cmocka_unit_test(test_connected_reaches_the_operator),
        cmocka_unit_test(test_connected_is_repeated_on_the_next_data_connection),
        cmocka_unit_test(test_connected_with_a_code_resets_the_stream),
        cmocka_unit_test(test_unknown_optional_frames_are_skipped),
        cmocka_unit_test(test_data_beyond_the_window_resets_the_stream),
        cmocka_unit_test(test_random_runs_are_exact_or_reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
