/* SPDX-License-Identifier: ISC */
/*
 * Channels with their data connections and endpoints, between the parts of support/channel-ends.h.
 * A stream that ends well is exact; every other end is reported at both ends.
 */
// clang-format off
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <time.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "support/channel-ends.h"

static time_t wall_clock_offset_s;

/* The clock of libev's wall time. A symbol of the program precedes the one of the C library. */
int gettimeofday(struct timeval *restrict ret, void *restrict zone)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    *ret = (struct timeval){now.tv_sec + wall_clock_offset_s, now.tv_nsec / 1000};
    return 0;
}

#if defined(__USE_TIME_BITS64) && __TIMESIZE == 32
/* The name that a libev with 32-bit times calls: seconds and microseconds. */
int gettimeofday32(int32_t ret[static 2], void *zone) __asm__("gettimeofday");

int gettimeofday32(int32_t ret[static 2], void *zone)
{
    struct timeval now;

    gettimeofday(&now, NULL);
    ret[0] = (int32_t)now.tv_sec;
    ret[1] = (int32_t)now.tv_usec;
    return 0;
}
#endif

/* A relay and one stream over it, whose settings a test may still change. */
static void stream_init(struct ends *ends, struct relay *relay)
{
    relay_init(relay);
    ends_init(ends, relay, 1);
}

static void stream_start(struct ends *ends)
{
    ends_open(ends);
    ends_connect(ends);
}

static void stream_begin(struct ends *ends, struct relay *relay)
{
    stream_init(ends, relay);
    stream_start(ends);
}

static void stream_deinit(struct ends *ends)
{
    ends_deinit(ends);
    relay_deinit(ends->relay);
}

/* Leaves the stream on a data connection of its own at both ends, with nothing in flight. */
static void stream_move(struct ends *ends)
{
    size_t n = 300000;

    app_send(&ends->server, n, false);
    run_until(ends_are_on_their_own(ends) && ends->client.n_in == ends->server.to_send);
}

static void set_resume(struct ends *ends, double resume_s)
{
    ends->o_settings.resume_s = ends->d_settings.resume_s = resume_s;
}

static void set_timeouts(struct ends *ends, double heartbeat_s, double timeout_s)
{
    ends->o_settings.heartbeat_s = ends->d_settings.heartbeat_s = heartbeat_s;
    ends->o_settings.timeout_s = ends->d_settings.timeout_s = timeout_s;
}

/* Leaves open sockets that move no bytes. */
static void relay_freeze(struct relay *relay)
{
    for (size_t i = 0; i < relay->n_legs; i++)
        ev_io_stop(loop, &relay->legs[i]->reader);
}

static void assert_alive(const struct ends *ends)
{
    assert_int_equal(ends->o_code, -1);
    assert_int_equal(ends->d_code, -1);
}

static size_t iterations_without_progress(const struct app *app)
{
    size_t before = app->n_out, n = 0;

    for (; n < 2000 && app->n_out == before; n++)
        ev_run(loop, EVRUN_NOWAIT);
    return n;
}

static void on_time(struct ev_loop *l, ev_timer *watcher, int revents)
{
    *(bool *)watcher->data = true;
}

static void run_for(ev_tstamp s)
{
    bool is_time = false;
    ev_timer timer;

    ev_timer_init(&timer, on_time, s, 0);
    timer.data = &is_time;
    ev_timer_start(loop, &timer);
    run_until(is_time);
}

static void transfer(size_t up, size_t down, size_t o_ring, size_t d_ring, bool is_moved)
{
    struct relay relay;
    struct ends ends;

    stream_init(&ends, &relay);
    ends.has_no_tickets = !is_moved;
    ends.o_settings.ring_size = o_ring;
    ends.d_settings.ring_size = d_ring;
    stream_start(&ends);
    app_send(&ends.client, up, true);
    app_send(&ends.server, down, true);
    run_until(ends_are_over(&ends));
    assert_ended_well(&ends);
    assert_true(ends.n_up_o >= 1 && ends.n_up_d >= 1);
    assert_true(is_moved || ends.n_up_o == 1);
    assert_int_equal(ends.side[0].n_shared_up, 1);
    assert_string_equal(ends.service, "ssh");
    stream_deinit(&ends);
}

static void test_channel_transfer_both_ways(void **state)
{
    transfer(32 * MIB, 32 * MIB, MIB, MIB, true);
    transfer(8 * MIB, 8 * MIB, MIB, MIB, false);
}

static void test_channel_transfer_of_nothing(void **state)
{
    transfer(0, 0, MIB, MIB, true);
}

static void test_channel_transfer_one_way(void **state)
{
    for (int is_moved = 0; is_moved < 2; is_moved++) {
        transfer(0, 3 * MIB + 1, MIB, MIB, is_moved);
        transfer(3 * MIB + 1, 0, MIB, MIB, is_moved);
    }
}

static void test_channel_small_and_unequal_rings(void **state)
{
    for (int is_moved = 0; is_moved < 2; is_moved++) {
        transfer(MIB, MIB, 4096, 4 * MIB, is_moved);
        transfer(MIB, MIB, 4 * MIB, 4096, is_moved);
        transfer(MIB, MIB, 4096, 4096, is_moved);
    }
}

/* Calls are cut short at random from now on. */
static void start_short_calls(void)
{
    const char *given = getenv("TEST_SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL);

    print_message("TEST_SEED=%u\n", seed);
    short_io_seed = seed * 2654435761ull + 1;
    short_io_is_on = true;
}

static void test_channel_short_and_interrupted_calls(void **state)
{
    start_short_calls();
    for (int is_moved = 0; is_moved < 2; is_moved++) {
        transfer(2 * MIB, 2 * MIB, MIB, MIB, is_moved);
        transfer(MIB, MIB, 4096, 65536, is_moved);
    }
    short_io_is_on = false;
}

static void test_channel_few_bytes_stay_on_the_shared_connection(void **state)
{
    struct relay relay;
    struct ends ends;

    stream_begin(&ends, &relay);
    app_send(&ends.client, 100000, true);
    app_send(&ends.server, 100000, true);
    run_until(ends_are_over(&ends));
    assert_ended_well(&ends);
    assert_int_equal(ends.n_requested, 0);
    assert_int_equal(ends.n_up_o, 1);
    for (int i = 0; i < 2; i++) /* which is progress for all its streams */
        assert_true(gt_shared_connection_acked_at(ends.side[i].shared) > 0);
    stream_deinit(&ends);
}

/* Everything is written before the ticket arrives, and the service connects long after HELLO. */
static void test_channel_bytes_wait_for_connection_and_service(void **state)
{
    struct relay relay;
    struct ends ends;

    stream_init(&ends, &relay);
    ends.is_target_late = true;
    ends_open(&ends);
    app_send(&ends.client, 100000, true);
    run_until(!ev_is_active(&ends.client.writer));
    ends_connect(&ends);
    run_until(ends.service[0] && ends.n_up_o);
    gt_channel_serve(ends.d, ends.server_fd);
    ends.is_target_late = false;
    run_until(ends.server.is_eof);
    app_send(&ends.server, 200000, true); /* long after the other half was closed */
    run_until(ends_are_over(&ends));
    assert_ended_well(&ends);
    stream_deinit(&ends);
}

static void test_channel_half_close(void **state)
{
    for (int side = 0; side < 2; side++) {
        struct relay relay;
        struct ends ends;

        stream_begin(&ends, &relay);
        struct app *first = side ? &ends.server : &ends.client;
        struct app *last = side ? &ends.client : &ends.server;
        app_send(first, 1234, true);
        run_until(last->is_eof);
        app_send(last, 8 * MIB, true);
        run_until(ends_are_over(&ends));
        assert_ended_well(&ends);
        stream_deinit(&ends);
    }
}

static void test_channel_local_reset(void **state)
{
    for (int side = 0; side < 2; side++) {
        struct relay relay;
        struct ends ends;

        stream_begin(&ends, &relay);
        app_send(&ends.client, 64 * MIB, true);
        app_send(&ends.server, 64 * MIB, true);
        run_until(ends.client.n_in > MIB && ends.server.n_in > MIB);
        struct app *cause = side ? &ends.server : &ends.client;
        struct app *other = side ? &ends.client : &ends.server;
        ev_io_stop(loop, &cause->reader);
        ev_io_stop(loop, &cause->writer);
        gt_sock_reset(gt_steal_fd(&cause->fd));
        assert_broken(&ends, GT_RST_LOCAL, GT_RST_LOCAL);
        run_until(other->is_reset);
        stream_deinit(&ends);
    }
}

static int n_unacknowledged(const struct app *app)
{
    int n;

    assert_int_equal(ioctl(app->fd, SIOCOUTQ, &n), 0);
    return n;
}

static void app_reset(struct app *app)
{
    ev_io_stop(loop, &app->reader);
    ev_io_stop(loop, &app->writer);
    gt_sock_reset(gt_steal_fd(&app->fd));
}

/* All that an application sent before its reset arrives, and then the reset. */
static void reset_after(size_t n, int side, bool is_other_sending, size_t ring_size)
{
    struct relay relay;
    struct ends ends;

    stream_init(&ends, &relay);
    ends.has_no_tickets = n % 2; /* stays on the shared connection */
    ends.o_settings.ring_size = ends.d_settings.ring_size = ring_size;
    stream_start(&ends);
    struct app *cause = side ? &ends.server : &ends.client;
    struct app *other = side ? &ends.client : &ends.server;
    app_send(cause, n, false);
    if (is_other_sending)
        app_send(other, 64 * MIB, false);
    run_until(!ev_is_active(&cause->writer) && ends.service[0]);
    run_until(n_unacknowledged(cause) == 0); /* a reset drops them */
    app_reset(cause);
    assert_broken(&ends, GT_RST_LOCAL, GT_RST_LOCAL);
    run_until(other->is_reset);
    assert_int_equal(other->n_in, n);
    stream_deinit(&ends);
}

static void test_channel_reset_follows_the_last_byte(void **state)
{
    static const size_t sizes[] = {0, 1, 70000, 150000, 150001};

    for (size_t i = 0; i < GT_ARRAY_SIZE(sizes); i++)
        for (int how = 0; how < 8; how++)
            reset_after(sizes[i], how & 1, how & 2, how & 4 ? 4096 : MIB);
}

/* The service connects after the client has sent its command and was reset. */
static void test_channel_reset_before_the_service_is_connected(void **state)
{
    struct relay relay;
    struct ends ends;

    stream_init(&ends, &relay);
    ends.is_target_late = true;
    stream_start(&ends);
    app_send(&ends.client, 3000, false);
    run_until(!ev_is_active(&ends.client.writer) && ends.service[0] && ends.n_up_o);
    app_reset(&ends.client);
    run_for(.2);
    assert_alive(&ends);
    gt_channel_serve(ends.d, ends.server_fd);
    ends.is_target_late = false;
    assert_broken(&ends, GT_RST_LOCAL, GT_RST_LOCAL);
    run_until(ends.server.is_reset);
    assert_int_equal(ends.server.n_in, 3000);
    stream_deinit(&ends);
}

static void test_channel_reset_with_short_calls(void **state)
{
    start_short_calls();
    for (int how = 0; how < 4; how++)
        reset_after(100000, how & 1, how & 2, MIB);
    short_io_is_on = false;
}

/* Nothing looks at an idle stream, but the heartbeat of the shared connection finds its reset. */
static void test_channel_half_closed_idle_stream_costs_nothing(void **state)
{
    for (int side = 0; side < 2; side++) {
        struct relay relay;
        struct ends ends;

        stream_init(&ends, &relay);
        set_timeouts(&ends, 5, 20);
        stream_start(&ends);
        struct app *first = side ? &ends.server : &ends.client;
        struct app *last = side ? &ends.client : &ends.server;
        app_send(first, 1234, true);
        run_until(last->is_eof);
        for (size_t i = 0; i < GT_ARRAY_SIZE(ends.side); i++)
            run_until(!ev_is_active(&ends.side[i].sweep.timer)); /* memory is given back */
        app_reset(first);
        assert_codes(&ends, GT_RST_LOCAL, GT_RST_LOCAL);
        stream_deinit(&ends);
    }
}

/* The application is reset while its stream is full: neither it nor its peer's application reads.
 */
static void test_channel_reset_without_a_reader_is_bounded(void **state)
{
    for (int side = 0; side < 2; side++) {
        struct relay relay;
        struct ends ends;

        stream_init(&ends, &relay);
        set_timeouts(&ends, 0.05, 60);
        ends.o_settings.linger_s = ends.d_settings.linger_s = 0.2;
        stream_start(&ends);
        struct app *cause = side ? &ends.server : &ends.client;
        struct app *other = side ? &ends.client : &ends.server;
        ev_io_stop(loop, &other->reader);
        app_send(cause, 64 * MIB, false);
        while (iterations_without_progress(cause) < 2000)
            ;
        app_reset(cause);
        assert_broken(&ends, GT_RST_LOCAL, GT_RST_LOCAL);
        ev_io_start(loop, &other->reader);
        run_until(other->is_reset); /* after the bytes that its kernel had */
        stream_deinit(&ends);
    }
}

/* The end of file and the reset are still behind bytes in the kernel, and the stream is full. */
static void test_channel_end_of_file_precedes_the_reset_of_a_full_stream(void **state)
{
    struct relay relay;
    struct ends ends;
    int small = 8192, large = 1 << 19;

    stream_init(&ends, &relay);
    set_timeouts(&ends, 0.05, 60);
    ends.o_settings.ring_size = ends.d_settings.ring_size = 65536;
    setsockopt(ends.client_fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    setsockopt(ends.client.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    setsockopt(ends.server_fd, SOL_SOCKET, SO_RCVBUF, &large, sizeof(large));
    stream_start(&ends);
    ev_io_stop(loop, &ends.client.reader);
    ev_io_stop(loop, &ends.server.reader);
    app_send(&ends.client, 1000, false); /* unread: the close is a reset */
    app_send(&ends.server, 300000, true);
    run_until(!ev_is_active(&ends.server.writer) && n_unacknowledged(&ends.server) == 0);
    run_for(.2);
    app_close(&ends.server);
    run_for(.5);
    assert_alive(&ends);
    ev_io_start(loop, &ends.client.reader);
    assert_codes(&ends, GT_RST_LOCAL, GT_RST_LOCAL);
    run_until(ends.client.is_eof);
    assert_int_equal(ends.client.n_in, 300000);
    stream_deinit(&ends);
}

/* A pause that is longer than the limit ends the stream, many short ones do not. */
static void test_channel_linger_ends_only_without_progress(void **state)
{
    struct relay relay;
    struct ends ends;

    stream_init(&ends, &relay);
    ends.o_settings.linger_s = ends.d_settings.linger_s = 3;
    stream_start(&ends);
    ev_io_stop(loop, &ends.client.reader);
    app_send(&ends.server, 3 * MIB, false);
    run_until(!ev_is_active(&ends.server.writer) && n_unacknowledged(&ends.server) == 0);
    app_reset(&ends.server);
    for (int i = 0; i < 8; i++) {
        run_for(.5);
        assert_alive(&ends);
        ev_io_start(loop, &ends.client.reader);
        ev_run(loop, EVRUN_ONCE);
        ev_io_stop(loop, &ends.client.reader);
    }
    ev_io_start(loop, &ends.client.reader);
    run_until(ends.client.is_reset);
    assert_int_equal(ends.client.n_in, 3 * MIB);
    assert_broken(&ends, GT_RST_LOCAL, GT_RST_LOCAL);
    stream_deinit(&ends);
}

static void test_channel_service_rejected(void **state)
{
    struct relay relay;
    struct ends ends;

    stream_init(&ends, &relay);
    ends.refusal = GT_RST_REFUSED;
    stream_start(&ends);
    app_send(&ends.client, 1000, false);
    assert_broken(&ends, GT_RST_REFUSED, GT_RST_REFUSED);
    run_until(ends.client.is_reset);
    stream_deinit(&ends);
}

static void test_channel_abort(void **state)
{
    struct relay relay;
    struct ends ends;

    stream_begin(&ends, &relay);
    app_send(&ends.client, 64 * MIB, true);
    run_until(ends.server.n_in > MIB);
    gt_channel_abort(ends.o, GT_RST_CLOSED);
    assert_non_null(ends.o); /* on_end comes only from a later loop iteration */
    assert_broken(&ends, GT_RST_CLOSED, GT_RST_CLOSED);
    run_until(ends.client.is_reset && ends.server.is_reset);
    stream_deinit(&ends);
}

static void test_channel_relay_lost(void **state)
{
    struct relay relay;
    struct ends ends;

    stream_begin(&ends, &relay);
    app_send(&ends.client, 64 * MIB, true);
    run_until(ends.server.n_in > MIB);
    relay_cut(&relay);
    assert_broken(&ends, GT_RST_LOST, GT_RST_LOST);
    run_until(ends.client.is_reset && ends.server.is_reset);
    stream_deinit(&ends);
}

/* The relay cuts after any number of bytes: no good end before everything was delivered. */
static void test_channel_relay_lost_around_the_end(void **state)
{
    for (unsigned iterations = 0; iterations < 40; iterations++) {
        struct relay relay;
        struct ends ends;

        stream_begin(&ends, &relay);
        app_send(&ends.client, 50000, true);
        app_send(&ends.server, 50000, true);
        run_until(ends.n_up_o && ends.n_up_d);
        for (unsigned i = 0; i < iterations && !ends_are_over(&ends); i++)
            ev_run(loop, EVRUN_ONCE);
        relay_cut(&relay);
        run_until(ends_are_over(&ends));
        if (ends.o_code == GT_RST_NONE || ends.d_code == GT_RST_NONE) {
            run_until(ends.client.n_in == 50000 && ends.server.n_in == 50000);
        } else {
            assert_int_equal(ends.o_code, GT_RST_LOST);
            assert_int_equal(ends.d_code, GT_RST_LOST);
        }
        stream_deinit(&ends);
    }
}

/* The same with a relay that returns: the last acknowledgment and DONE are repeated, whichever
 * was lost. */
static void test_channel_cut_around_the_end_is_resumed(void **state)
{
    for (unsigned iterations = 0; iterations < 40; iterations++) {
        struct relay relay;
        struct ends ends;

        stream_init(&ends, &relay);
        set_resume(&ends, 60);
        stream_start(&ends);
        app_send(&ends.client, 50000, true);
        app_send(&ends.server, 50000, true);
        run_until(ends.n_up_o && ends.n_up_d);
        for (unsigned i = 0; i < iterations && !ends_are_over(&ends); i++)
            ev_run(loop, EVRUN_ONCE);
        relay_cut(&relay);
        run_until(ends_are_over(&ends));
        assert_ended_well(&ends);
        stream_deinit(&ends);
    }
}

static void assert_never_up(struct ends *ends)
{
    app_send(&ends->client, 1000, false);
    run_until(ends->o_code >= 0);
    assert_int_equal(ends->o_code, GT_RST_EXPIRED);
    assert_null(ends->d);
    assert_int_equal(ends->n_up_o + ends->side[0].n_shared_up, 0);
    run_until(ends->client.is_reset);
}

static void test_channel_relay_invalid(void **state)
{
    for (int how = 0; how < 3; how++) {
        struct relay relay;
        struct ends ends;

        stream_init(&ends, &relay);
        relay.is_garbling = how == 0;
        relay.is_refusing = how == 1;
        if (how == 2) { /* connection refused */
            ev_io_stop(loop, &relay.acceptor);
            gt_close(&relay.listener);
        }
        stream_start(&ends);
        assert_never_up(&ends);
        stream_deinit(&ends);
    }
}

static void test_channel_wrong_session_key(void **state)
{
    struct relay relay;
    struct ends ends;

    stream_init(&ends, &relay);
    ends.d_settings.session_key = other_key;
    stream_start(&ends);
    assert_never_up(&ends);
    assert_string_equal(ends.service, "");
    stream_deinit(&ends);
}

static void test_channel_slow_reader_is_bounded(void **state)
{
    struct relay relay;
    struct ends ends, quick;

    stream_begin(&ends, &relay);
    ev_io_stop(loop, &ends.server.reader);
    app_send(&ends.client, 64 * MIB, true);
    while (iterations_without_progress(&ends.client) < 2000)
        ;
    assert_true(ends.client.n_out < 24 * MIB); /* two rings and the kernel's own buffers */
    uint64_t o_up, d_up, down;
    gt_channel_byte_counts(ends.o, &o_up, &down);
    gt_channel_byte_counts(ends.d, &d_up, &down);
    assert_true(o_up - d_up <= 2 * MIB); /* what the two ends hold: a ring each */

    ends_init(&quick, &relay, 2); /* another stream is not affected */
    stream_start(&quick);
    app_send(&quick.client, 4 * MIB, true);
    app_send(&quick.server, 4 * MIB, true);
    run_until(ends_are_over(&quick));
    assert_ended_well(&quick);
    assert_int_equal(ends.o_code, -1);

    ev_io_start(loop, &ends.server.reader);
    app_send(&ends.server, 5, true);
    run_until(ends_are_over(&ends));
    assert_ended_well(&ends);
    ends_deinit(&quick);
    stream_deinit(&ends);
}

/* A local socket that hung up while its stream is blocked must not spin the loop. */
static void test_channel_local_hangup_does_not_spin(void **state)
{
    struct relay relay;
    struct ends ends;

    stream_begin(&ends, &relay);
    ev_io_stop(loop, &ends.server.reader);
    app_send(&ends.client, 64 * MIB, false);
    while (iterations_without_progress(&ends.client) < 2000)
        ;
    app_close(&ends.client); /* all its bytes are still unread */

    unsigned before = ev_iteration(loop);
    run_for(0.2);
    assert_true(ev_iteration(loop) - before < 30);
    stream_deinit(&ends);
}

/* An idle connection is kept and holds no memory; an unresponsive one is lost. */
static void test_channel_heartbeat(void **state)
{
    struct relay relay;
    struct ends ends;

    stream_init(&ends, &relay);
    set_timeouts(&ends, 0.02, 0.1);
    stream_start(&ends);
    app_send(&ends.client, 1000, false);
    run_until(ends.server.n_in == 1000);
    run_for(0.5);
    assert_alive(&ends);
    relay_freeze(&relay);
    assert_broken(&ends, GT_RST_LOST, GT_RST_LOST);
    run_until(ends.client.is_reset && ends.server.is_reset);
    stream_deinit(&ends);
}

/* Any number of connections, whenever they started, is probed in a few loop iterations, by one end
 * each, and none so late that it counts as lost. */
static void test_channel_heartbeats_share_a_grid(void **state)
{
    enum { N = 30, BEATS = 4, ITERATIONS = 20 };
    struct relay relay;
    static struct ends ends[N];
    relay_init(&relay);
    for (uint32_t i = 0; i < N; i++) {
        ends_init(&ends[i], &relay, i + 1);
        set_timeouts(&ends[i], 1, 1.8);
        stream_start(&ends[i]);
        run_until(ends[i].n_up_o && ends[i].n_up_d);
        run_for(0.01);
    }
    unsigned n_iterations = ev_iteration(loop);
    run_for(BEATS * .9); /* each is probed after 0.8 to 1 s */
    print_message("%u iterations\n", ev_iteration(loop) - n_iterations);
    assert_in_range(ev_iteration(loop) - n_iterations, BEATS, BEATS * 2 * ITERATIONS);
    for (uint32_t i = 0; i < N; i++) {
        assert_alive(&ends[i]);
        assert_int_equal(ends[i].n_up_o, 1);
    }
    for (uint32_t i = 0; i < N; i++)
        ends_deinit(&ends[i]);
    relay_deinit(&relay);
}

/* A full socket has room again when a received frame wakes the loop, before it is reported
 * writable: waiting data goes out then, not with the next heartbeat. */
static void sends_when_room_is_found_early(bool is_moved)
{
    struct relay relay;
    struct ends ends;

    stream_init(&ends, &relay);
    ends.has_no_tickets = !is_moved;
    stream_start(&ends);
    run_until(ends.n_up_o && ends.n_up_d);
    if (is_moved)
        stream_move(&ends);
    for (size_t round = 1; round <= 20; round++) {
        double begun = gt_clock();

        short_io_fills_next = true;
        app_send(&ends.client, 55000, false); /* too little for the peer to acknowledge at once */
        run_until(short_io_full_fd >= 0);
        app_send(&ends.client, 5000, false);
        run_for(0.02);
        app_send(&ends.server, 10, false);
        run_until(ends.server.n_in == round * 60000);
        assert_true(gt_clock() - begun < 2);
    }
    stream_deinit(&ends);
}

static void test_channel_sends_when_room_is_found_early(void **state)
{
    sends_when_room_is_found_early(false);
    sends_when_room_is_found_early(true);
}

/* After a suspend each connection is probed. One without an answer is lost in 5 s, not in 45. */
static void test_channel_check_limits_silence(void **state)
{
    struct relay relay;
    struct ends ends;

    stream_begin(&ends, &relay);
    stream_move(&ends);
    gt_channel_check(ends.o, true);
    gt_channel_check(ends.d, true);
    run_for(5.5);
    assert_alive(&ends);
    relay_freeze(&relay);
    gt_channel_check(ends.o, false); /* loopback is never in doubt */
    gt_channel_check(ends.d, true);
    gt_channel_check(ends.d, true);
    run_for(4.5);
    assert_int_equal(ends.d_code, -1);
    run_for(1);
    assert_int_equal(ends.d_code, GT_RST_LOST);
    stream_deinit(&ends);
}

/* F-18: a stream is not read for longer than the timeouts of heartbeat and kernel. Both its ends
 * are alive and send heartbeats, so its data connection is kept. */
static void test_channel_unread_for_long(void **state)
{
    struct relay relay;
    struct ends ends;

    fake_clock_stop(); /* the kernel's timeouts need real time */
    stream_init(&ends, &relay);
    set_timeouts(&ends, 0.2, 1);
    stream_start(&ends);
    run_until(ends.n_up_o && ends.n_up_d);
    ev_io_stop(loop, &ends.server.reader);
    ev_io_stop(loop, &ends.client.reader);
    app_send(&ends.client, 32 * MIB, true);
    app_send(&ends.server, 32 * MIB, true);
    run_for(5);
    assert_true(ends.client.n_out < 32 * MIB && ends.server.n_out < 32 * MIB);
    ev_io_start(loop, &ends.server.reader);
    ev_io_start(loop, &ends.client.reader);
    run_until(ends_are_over(&ends));
    assert_ended_well(&ends);
    assert_int_equal(ends.n_up_o, 2); /* both connections were kept */
    assert_int_equal(ends.side[0].n_shared_up, 1);
    stream_deinit(&ends);
}

/* A device without a clock battery gets the time from the network. No stream is lost by that, and
 * no lost connection is kept. */
static void test_channel_wall_clock_jumps(void **state)
{
    struct relay relay;
    struct ends ends;

    stream_init(&ends, &relay);
    set_timeouts(&ends, 0.05, 0.5);
    stream_start(&ends);
    run_until(ends.n_up_o && ends.n_up_d);
    wall_clock_offset_s = 10 * 365 * 86400;
    run_until(ev_now(loop) > (double)time(NULL) + 86400); /* libev uses it */
    run_for(0.2);
    wall_clock_offset_s *= -1;
    run_until(ev_now(loop) < (double)time(NULL) - 86400);
    run_for(0.2);
    assert_alive(&ends);
    relay_freeze(&relay);
    assert_broken(&ends, GT_RST_LOST, GT_RST_LOST);
    wall_clock_offset_s = 0;
    stream_deinit(&ends);
}

static void test_channel_many_at_once(void **state)
{
    enum { N = 60 };
    struct relay relay;
    static struct ends ends[N];
    relay_init(&relay);
    for (uint32_t i = 0; i < N; i++) {
        ends_init(&ends[i], &relay, i + 1);
        stream_start(&ends[i]);
        app_send(&ends[i].client, 10000 + 1000 * i, true);
        app_send(&ends[i].server, 200000 - 1000 * i, true);
    }
    for (size_t i = 0; i < N; i++) {
        run_until(ends_are_over(&ends[i]));
        assert_ended_well(&ends[i]);
    }
    for (size_t i = 0; i < N; i++)
        ends_deinit(&ends[i]);
    relay_deinit(&relay);
}

/* --- moves ------------------------------------------------------------------------------------ */

enum cut { CUT_SHARED, CUT_OWN, CUT_BOTH, N_CUTS };

static void cut(struct relay *relay, enum cut how)
{
    if (how != CUT_OWN)
        relay_cut_shared(relay);
    if (how != CUT_SHARED)
        relay_cut_own(relay);
}

/* Cuts in the middle of a transfer: all bytes are exact. */
static void test_channel_connections_are_replaced_in_a_transfer(void **state)
{
    struct relay relay;
    struct ends ends;

    stream_init(&ends, &relay);
    set_resume(&ends, 60);
    stream_start(&ends);
    app_send(&ends.client, 24 * MIB, true);
    app_send(&ends.server, 24 * MIB, true);
    for (size_t i = 0; i < 9; i++) {
        run_until(ends.client.n_in > i * 2 * MIB && ends.server.n_in > i * 2 * MIB);
        assert_false(ends_are_over(&ends));
        cut(&relay, i % N_CUTS);
    }
    run_until(ends_are_over(&ends));
    assert_ended_well(&ends);
    assert_true(ends.n_up_o > 3);
    stream_deinit(&ends);
}

/* Any connection is cut at any moment of a move. */
static void test_channel_cut_at_any_moment_of_a_move(void **state)
{
    for (unsigned iterations = 0; iterations < 60; iterations++) {
        struct relay relay;
        struct ends ends;

        stream_init(&ends, &relay);
        set_resume(&ends, 60);
        stream_start(&ends);
        app_send(&ends.client, MIB, true);
        app_send(&ends.server, MIB, true);
        run_until(ends.n_requested);
        for (unsigned i = 0; i < iterations && !ends_are_over(&ends); i++)
            ev_run(loop, EVRUN_ONCE);
        cut(&relay, iterations % N_CUTS);
        run_until(ends_are_over(&ends));
        assert_ended_well(&ends);
        stream_deinit(&ends);
    }
}

/* A reset of either application at any moment of a move: loud at both ends, and nothing is left. */
static void test_channel_reset_at_any_moment_of_a_move(void **state)
{
    for (unsigned iterations = 0; iterations < 60; iterations++) {
        struct relay relay;
        struct ends ends;

        stream_init(&ends, &relay);
        set_resume(&ends, 60);
        stream_start(&ends);
        app_send(&ends.client, 64 * MIB, true);
        app_send(&ends.server, 64 * MIB, true);
        run_until(ends.n_requested);
        for (unsigned i = 0; i < iterations; i++)
            ev_run(loop, EVRUN_ONCE);
        app_reset(iterations % 2 ? &ends.client : &ends.server);
        if (iterations % 3 == 0)
            cut(&relay, iterations / 3 % N_CUTS);
        assert_broken(&ends, GT_RST_LOCAL, GT_RST_LOCAL);
        stream_deinit(&ends);
    }
}

/* The same without a resume window: a move that the reset overtakes is no loss. */
static void test_channel_reset_during_a_move_is_no_loss(void **state)
{
    for (unsigned iterations = 0; iterations < 120; iterations++) {
        struct relay relay;
        struct ends ends;

        stream_begin(&ends, &relay);
        app_send(&ends.client, 64 * MIB, true);
        app_send(&ends.server, 64 * MIB, true);
        run_until(ends.n_requested);
        for (unsigned i = 0; i < iterations / 2; i++)
            ev_run(loop, EVRUN_ONCE);
        app_reset(iterations % 2 ? &ends.client : &ends.server);
        assert_broken(&ends, GT_RST_LOCAL, GT_RST_LOCAL);
        stream_deinit(&ends);
    }
}

static void test_channel_abort_at_any_moment_of_a_move(void **state)
{
    for (unsigned iterations = 0; iterations < 40; iterations++) {
        struct relay relay;
        struct ends ends;

        stream_init(&ends, &relay);
        set_resume(&ends, 60);
        stream_start(&ends);
        app_send(&ends.client, 64 * MIB, true);
        run_until(ends.n_requested);
        for (unsigned i = 0; i < iterations; i++)
            ev_run(loop, EVRUN_ONCE);
        gt_channel_abort(iterations % 2 ? ends.o : ends.d, GT_RST_CLOSED);
        assert_broken(&ends, GT_RST_CLOSED, GT_RST_CLOSED);
        stream_deinit(&ends);
    }
}

/* The stream continues where it is, and a move is tried again after 10 s, 20 s, ... */
static void test_channel_move_that_fails_is_tried_again(void **state)
{
    struct relay relay;
    struct ends ends;

    stream_init(&ends, &relay);
    ends.has_no_tickets = true;
    stream_start(&ends);
    app_send(&ends.server, MIB, false);
    run_until(ends.client.n_in == MIB);
    assert_int_equal(ends.n_requested, 1);
    double begun = gt_clock();
    for (size_t n = MIB + 1; ends.n_requested < 3; n++) {
        app_send(&ends.server, 1, false);
        run_until(ends.client.n_in == n);
        run_for(1);
    }
    assert_true(gt_clock() - begun > 45 && gt_clock() - begun < 60); /* 10 + 10 + 10 + 20 */
    ends.has_no_tickets = false;
    app_send(&ends.server, MIB, true);
    app_send(&ends.client, MIB, true);
    run_until(ends_are_over(&ends));
    assert_ended_well(&ends);
    stream_deinit(&ends);
}

static void test_channel_reported_failure_of_a_move_delays_the_next(void **state)
{
    struct relay relay;
    struct ends ends;

    stream_init(&ends, &relay);
    ends.has_no_tickets = true;
    stream_start(&ends);
    app_send(&ends.server, MIB, false);
    run_until(ends.n_requested);
    gt_channel_drop_connection(ends.o, 9); /* of another attempt */
    run_until(ends.client.n_in == MIB);
    gt_channel_drop_connection(ends.o, gt_channel_attempt(ends.o));
    run_for(5);
    assert_int_equal(ends.n_requested, 1);
    ends.has_no_tickets = false;
    gt_channel_resume(ends.o); /* the relay is back: at once */
    run_until(ends_are_on_their_own(&ends));
    assert_int_equal(ends.n_requested, 2);
    stream_deinit(&ends);
}

/* A request from inside the look at a stream that is idle otherwise. */
static void test_channel_request_for_an_idle_stream_has_a_deadline(void **state)
{
    bool has_requested = false;

    for (int i = 0; i < 5; i++) {
        struct relay relay;
        struct ends ends;

        stream_init(&ends, &relay);
        ends.has_no_tickets = true;
        stream_start(&ends);
        app_send(&ends.server, MIB, false);
        run_until(ends.client.n_in == MIB);
        run_for(18 + i / 2.); /* the next one not before 20 to 21 s */
        app_send(&ends.server, 1, false);
        run_for(4);
        if (ends.n_requested == 2) {
            assert_true(ev_is_active(&ends.side[0].sweep.timer));
            has_requested = true;
        }
        run_until(!ev_is_active(&ends.side[0].sweep.timer));
        stream_deinit(&ends);
    }
    assert_true(has_requested);
}

/* Moves bytes until the operator has requested another data connection, and that one is up. Returns
 * the seconds until the request. */
static double move_again(struct ends *ends)
{
    unsigned before = ends->n_requested;
    double begun = gt_clock();

    while (ends->n_requested == before) {
        app_send(&ends->server, 300000, false);
        run_until(ends->client.n_in == ends->server.to_send);
        run_for(0.1);
    }
    double after = gt_clock() - begun;
    run_until(ends_are_on_their_own(ends));
    return after;
}

static void test_channel_connections_that_break_off_early_are_requested_ever_later(void **state)
{
    struct relay relay;
    struct ends ends;

    stream_init(&ends, &relay);
    set_resume(&ends, 60);
    stream_start(&ends);
    stream_move(&ends);
    for (unsigned i = 0; i < 5; i++) {
        double least = 1u << i;

        relay_cut_own(&relay);
        double after = move_again(&ends);
        assert_true(after >= least - 0.1 && after < 2 * least + 2);
    }
    run_for(11);
    relay_cut_own(&relay);
    assert_true(move_again(&ends) < 10);
    stream_deinit(&ends);
}

/* The operator may be attached already to what failed at the device. */
static void test_channel_failed_dial_of_the_device_is_reported(void **state)
{
    struct relay relay;
    struct ends ends;

    stream_begin(&ends, &relay);
    run_until(ends.n_up_o && ends.n_up_d);
    relay.is_refusing = true;
    app_send(&ends.server, 300000, false);
    run_until(ends.n_lost && ends.client.n_in == 300000);
    assert_int_equal(ends.n_lost, 1);
    assert_false(gt_channel_is_on_its_own(ends.d));
    gt_channel_resume(ends.d); /* the relay is back, and may have missed the report */
    assert_int_equal(ends.n_lost, 2);
    relay.is_refusing = false;
    gt_channel_resume(ends.o);
    run_until(ends_are_on_their_own(&ends));
    gt_channel_resume(ends.d);
    assert_int_equal(ends.n_lost, 2);
    stream_deinit(&ends);
}

static void test_channel_idle_stream_moves_back(void **state)
{
    struct relay relay;
    struct ends ends;

    stream_init(&ends, &relay);
    set_resume(&ends, 60);
    stream_start(&ends);
    stream_move(&ends);
    run_for(50);
    assert_true(ends_are_on_their_own(&ends));
    run_for(60);
    assert_false(gt_channel_is_on_its_own(ends.o) || gt_channel_is_on_its_own(ends.d));
    assert_int_equal(ends.n_up_o, 3);
    assert_non_null(gt_channel_member(ends.o));
    app_send(&ends.client, 5000, true);
    app_send(&ends.server, 5000, true);
    run_until(ends_are_over(&ends));
    assert_ended_well(&ends);
    assert_int_equal(ends.n_up_o, 3);
    stream_deinit(&ends);
}

/* A ticket that was not requested, or is of another stream. */
static void test_channel_stale_ticket_is_ignored(void **state)
{
    struct relay relay;
    struct ends ends;
    struct gt_ticket ticket = {.stream = 1, .attempt = 1, .ttl_s = 30};

    stream_begin(&ends, &relay);
    run_until(ends.n_up_o && ends.n_up_d);
    assert_int_equal(gt_channel_connect(ends.o, &relay.addr, &ticket), GT_CHANNEL_E_STALE);
    assert_int_equal(gt_channel_connect(ends.d, &relay.addr, &ticket), GT_CHANNEL_E_STALE);
    ticket.attempt = 2;
    assert_int_equal(gt_channel_connect(ends.o, &relay.addr, &ticket), GT_CHANNEL_E_STALE);
    ticket.stream = 7;
    assert_int_equal(gt_channel_connect(ends.d, &relay.addr, &ticket), GT_CHANNEL_E_STALE);
    stream_deinit(&ends);
}

static void test_channel_attempt_that_is_not_greater_resets_the_stream(void **state)
{
    struct relay relay;
    struct ends ends;

    stream_begin(&ends, &relay);
    run_until(ends.n_up_o && ends.n_up_d);
    assert_null(gt_channel_begin(ends.d, 1));
    assert_broken(&ends, GT_RST_PROTOCOL, GT_RST_PROTOCOL);
    stream_deinit(&ends);
}

/* A stream is reset when it was attached to nothing for the window, and not before. */
static void test_channel_expires_without_an_attachment(void **state)
{
    struct relay relay;
    struct ends ends;

    stream_init(&ends, &relay);
    set_resume(&ends, 40);
    stream_start(&ends);
    run_until(ends.n_up_o && ends.n_up_d);
    double begun = gt_clock();
    relay_cut(&relay);
    relay.is_refusing = true;
    assert_broken(&ends, GT_RST_EXPIRED, GT_RST_EXPIRED);
    assert_true(gt_clock() - begun > 39 && gt_clock() - begun < 45);
    stream_deinit(&ends);
}

/* A stream that is over may wait long for its peer, and holds no memory meanwhile. */
static void test_channel_reset_stream_holds_no_memory(void **state)
{
    for (int side = 0; side < 2; side++) {
        struct relay relay;
        struct ends ends;

        stream_init(&ends, &relay);
        set_resume(&ends, 60);
        ends.has_no_tickets = true;
        stream_start(&ends);
        ev_io_stop(loop, &ends.client.reader);
        ev_io_stop(loop, &ends.server.reader);
        app_send(&ends.client, 64 * MIB, false);
        app_send(&ends.server, 64 * MIB, false);
        run_for(5);
        relay.is_refusing = true;
        relay_cut(&relay);
        gt_channel_reject(side ? ends.d : ends.o, GT_RST_WITHDRAWN);
        run_for(15);
        assert_alive(&ends);
        assert_false(ev_is_active(&ends.side[side].sweep.timer)); /* nothing to release */
        assert_true(ev_is_active(&ends.side[!side].sweep.timer));
        relay.is_refusing = false;
        assert_broken(&ends, GT_RST_WITHDRAWN, GT_RST_WITHDRAWN);
        stream_deinit(&ends);
    }
}

/* The peer is informed of a reset after the cut. */
static void test_channel_reset_while_attached_to_nothing_is_reported(void **state)
{
    for (int side = 0; side < 2; side++) {
        struct relay relay;
        struct ends ends;

        stream_init(&ends, &relay);
        set_resume(&ends, 40);
        stream_start(&ends);
        run_until(ends.n_up_o && ends.n_up_d);
        relay.is_refusing = true;
        relay_cut(&relay);
        run_until(gt_channel_is_waiting(ends.o) && gt_channel_is_waiting(ends.d));
        gt_channel_reject(side ? ends.d : ends.o, GT_RST_WITHDRAWN);
        run_for(5);
        assert_alive(&ends);
        relay.is_refusing = false;
        assert_broken(&ends, GT_RST_WITHDRAWN, GT_RST_WITHDRAWN);
        stream_deinit(&ends);
    }
}

static void test_channel_free_at_any_time(void **state)
{
    for (unsigned iterations = 0; iterations < 400; iterations += 13) {
        struct relay relay;
        struct ends ends;

        stream_begin(&ends, &relay);
        app_send(&ends.client, MIB, true);
        for (unsigned i = 0; i < iterations; i++)
            ev_run(loop, EVRUN_NOWAIT);
        stream_deinit(&ends);
    }
}

int main(void)
{
    gt_log_open("test-channel", getenv("TEST_DEBUG") ? GT_LOG_DEBUG : GT_LOG_INFO);
#define channel_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        channel_test(test_channel_transfer_both_ways),
        channel_test(test_channel_transfer_of_nothing),
        channel_test(test_channel_transfer_one_way),
        channel_test(test_channel_small_and_unequal_rings),
        channel_test(test_channel_short_and_interrupted_calls),
        channel_test(test_channel_few_bytes_stay_on_the_shared_connection),
        channel_test(test_channel_bytes_wait_for_connection_and_service),
        channel_test(test_channel_half_close),
        channel_test(test_channel_half_closed_idle_stream_costs_nothing),
        channel_test(test_channel_local_reset),
        channel_test(test_channel_reset_follows_the_last_byte),
        channel_test(test_channel_reset_before_the_service_is_connected),
        channel_test(test_channel_reset_with_short_calls),
        channel_test(test_channel_reset_without_a_reader_is_bounded),
        channel_test(test_channel_end_of_file_precedes_the_reset_of_a_full_stream),
        channel_test(test_channel_linger_ends_only_without_progress),
        channel_test(test_channel_service_rejected),
        channel_test(test_channel_abort),
        channel_test(test_channel_relay_lost),
        channel_test(test_channel_relay_lost_around_the_end),
        channel_test(test_channel_cut_around_the_end_is_resumed),
        channel_test(test_channel_relay_invalid),
        channel_test(test_channel_wrong_session_key),
        channel_test(test_channel_slow_reader_is_bounded),
        channel_test(test_channel_local_hangup_does_not_spin),
        channel_test(test_channel_heartbeat),
        channel_test(test_channel_heartbeats_share_a_grid),
        channel_test(test_channel_sends_when_room_is_found_early),
        channel_test(test_channel_check_limits_silence),
        channel_test(test_channel_unread_for_long),
        channel_test(test_channel_wall_clock_jumps),
        channel_test(test_channel_many_at_once),
        channel_test(test_channel_connections_are_replaced_in_a_transfer),
        channel_test(test_channel_cut_at_any_moment_of_a_move),
        channel_test(test_channel_reset_at_any_moment_of_a_move),
        channel_test(test_channel_reset_during_a_move_is_no_loss),
        channel_test(test_channel_abort_at_any_moment_of_a_move),
        channel_test(test_channel_move_that_fails_is_tried_again),
        channel_test(test_channel_reported_failure_of_a_move_delays_the_next),
        channel_test(test_channel_request_for_an_idle_stream_has_a_deadline),
        channel_test(test_channel_connections_that_break_off_early_are_requested_ever_later),
        channel_test(test_channel_failed_dial_of_the_device_is_reported),
        channel_test(test_channel_idle_stream_moves_back),
        channel_test(test_channel_stale_ticket_is_ignored),
        channel_test(test_channel_attempt_that_is_not_greater_resets_the_stream),
        channel_test(test_channel_expires_without_an_attachment),
        channel_test(test_channel_reset_stream_holds_no_memory),
        channel_test(test_channel_reset_while_attached_to_nothing_is_reported),
        channel_test(test_channel_free_at_any_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
