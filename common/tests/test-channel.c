/* SPDX-License-Identifier: ISC */
/*
 * Conduits, and with them carriers and local sockets, in the world of conduit-world.h: what ends
 * well is exact, and all else is loud at both ends.
 */
// clang-format off
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <sys/time.h>

#include "conduit-world.h"

static time_t wall_clock_offset_s;

/* What libev asks for the time of day: a symbol of the program comes before the C library's. */
int gettimeofday(struct timeval *restrict ret, void *restrict zone)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    *ret = (struct timeval){now.tv_sec + wall_clock_offset_s, now.tv_nsec / 1000};
    return 0;
}

/* A relay and one stream over it, of which a test may still change what it likes. */
static void stream_init(struct ends *ends, struct relay *relay)
{
    relay_init(relay);
    ends_init(ends, relay, 1);
}

static void stream_start(struct ends *ends)
{
    ends_open(ends, false);
    carry_both(ends, 1);
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

static void set_patience(struct ends *ends, double quiet_s, double silent_s)
{
    ends->o_settings.quiet_s = ends->d_settings.quiet_s = quiet_s;
    ends->o_settings.silent_s = ends->d_settings.silent_s = silent_s;
}

/* Open sockets, and nothing behind them. */
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

static void transfer(size_t up, size_t down, size_t o_ring, size_t d_ring)
{
    struct relay relay;
    struct ends ends;
    stream_init(&ends, &relay);
    ends.o_settings.ring_size = o_ring;
    ends.d_settings.ring_size = d_ring;
    stream_start(&ends);
    app_send(&ends.client, up, true);
    app_send(&ends.server, down, true);
    run_until(ends_are_over(&ends));
    assert_ended_well(&ends);
    assert_int_equal(ends.n_up_o, 1);
    assert_int_equal(ends.n_up_d, 1);
    assert_string_equal(ends.asked, "ssh");
    stream_deinit(&ends);
}

static void test_32_mib_each_way(void **state)
{
    transfer(32 * MIB, 32 * MIB, MIB, MIB);
}

static void test_nothing_at_all(void **state)
{
    transfer(0, 0, MIB, MIB);
}

static void test_one_way_only(void **state)
{
    transfer(0, 3 * MIB + 1, MIB, MIB);
    transfer(3 * MIB + 1, 0, MIB, MIB);
}

static void test_small_and_unequal_rings(void **state)
{
    transfer(MIB, MIB, 4096, 4 * MIB);
    transfer(MIB, MIB, 4 * MIB, 4096);
    transfer(MIB, MIB, 4096, 4096);
}

static void test_bad_weather(void **state)
{
    shim_x ^= (uint64_t)time(NULL);
    print_message("shim seed %llu\n", (unsigned long long)shim_x);
    shim_is_on = true;
    transfer(2 * MIB, 2 * MIB, MIB, MIB);
    transfer(MIB, MIB, 4096, 65536);
    shim_is_on = false;
}

/* All of it written before a ticket came, and the target connected long after HELLO. */
static void test_bytes_wait_for_carrier_and_target(void **state)
{
    struct relay relay;
    struct ends ends;
    stream_init(&ends, &relay);
    ends.is_target_late = true;
    ends_open(&ends, false);
    app_send(&ends.client, 100000, true);
    run_until(!ev_is_active(&ends.client.writer));
    carry_both(&ends, 1);
    run_until(ends.asked[0] && ends.n_up_o);
    gt_conduit_serve(ends.d, ends.server_fd);
    ends.is_target_late = false;
    run_until(ends.server.is_eof);
    app_send(&ends.server, 200000, true); /* long after the other half was closed */
    run_until(ends_are_over(&ends));
    assert_ended_well(&ends);
    stream_deinit(&ends);
}

static void test_half_close_either_way(void **state)
{
    for (int who = 0; who < 2; who++) {
        struct relay relay;
        struct ends ends;
        stream_begin(&ends, &relay);
        struct app *first = who ? &ends.server : &ends.client;
        struct app *last = who ? &ends.client : &ends.server;
        app_send(first, 1234, true);
        run_until(last->is_eof);
        app_send(last, 8 * MIB, true);
        run_until(ends_are_over(&ends));
        assert_ended_well(&ends);
        stream_deinit(&ends);
    }
}

static void test_reset_in_the_middle(void **state)
{
    for (int who = 0; who < 2; who++) {
        struct relay relay;
        struct ends ends;
        stream_begin(&ends, &relay);
        app_send(&ends.client, 64 * MIB, true);
        app_send(&ends.server, 64 * MIB, true);
        run_until(ends.client.n_in > MIB && ends.server.n_in > MIB);
        struct app *cause = who ? &ends.server : &ends.client;
        struct app *other = who ? &ends.client : &ends.server;
        ev_io_stop(loop, &cause->reader);
        ev_io_stop(loop, &cause->writer);
        gt_sock_reset(gt_steal_fd(&cause->fd));
        assert_broken(&ends, GT_RST_LOCAL, GT_RST_LOCAL);
        run_until(other->is_reset);
        stream_deinit(&ends);
    }
}

static void test_target_refused(void **state)
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

static void test_broken_from_outside(void **state)
{
    struct relay relay;
    struct ends ends;
    stream_begin(&ends, &relay);
    app_send(&ends.client, 64 * MIB, true);
    run_until(ends.server.n_in > MIB);
    gt_conduit_break(ends.o, GT_RST_CLOSED);
    assert_non_null(ends.o); /* on_end only ever comes from a later turn */
    assert_broken(&ends, GT_RST_CLOSED, GT_RST_CLOSED);
    run_until(ends.client.is_reset && ends.server.is_reset);
    stream_deinit(&ends);
}

static void test_relay_dies(void **state)
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

/* The relay cuts at any number of bytes: never a good end before all was through. */
static void test_relay_dies_around_the_end(void **state)
{
    for (unsigned turns = 0; turns < 40; turns++) {
        struct relay relay;
        struct ends ends;
        stream_begin(&ends, &relay);
        app_send(&ends.client, 50000, true);
        app_send(&ends.server, 50000, true);
        run_until(ends.n_up_o && ends.n_up_d);
        for (unsigned i = 0; i < turns && !ends_are_over(&ends); i++)
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

static void test_relay_that_is_none(void **state)
{
    for (int how = 0; how < 3; how++) {
        struct relay relay;
        struct ends ends;
        stream_init(&ends, &relay);
        relay.is_garbling = how == 0;
        relay.is_refusing = how == 1;
        ends_open(&ends, false);
        if (how == 2) { /* nobody listens there */
            ev_io_stop(loop, &relay.acceptor);
            gt_close(&relay.listener);
        }
        carry_both(&ends, 1);
        app_send(&ends.client, 1000, false);
        assert_broken(&ends, GT_RST_LOST, GT_RST_LOST);
        assert_int_equal(ends.n_up_o + ends.n_up_d, 0);
        run_until(ends.client.is_reset);
        stream_deinit(&ends);
    }
}

static void test_other_keys(void **state)
{
    struct relay relay;
    struct ends ends;
    stream_init(&ends, &relay);
    ends.d_settings.session_key = other_key;
    stream_start(&ends);
    app_send(&ends.client, 1000, false);
    assert_broken(&ends, GT_RST_LOST, GT_RST_LOST);
    assert_int_equal(ends.n_up_o + ends.n_up_d, 0);
    assert_string_equal(ends.asked, "");
    stream_deinit(&ends);
}

static size_t turns_without_progress(const struct app *app)
{
    size_t before = app->n_out, n = 0;
    for (; n < 2000 && app->n_out == before; n++)
        ev_run(loop, EVRUN_NOWAIT);
    return n;
}

static void test_slow_reader_is_bounded(void **state)
{
    struct relay relay;
    struct ends ends, quick;
    stream_begin(&ends, &relay);
    ev_io_stop(loop, &ends.server.reader);
    app_send(&ends.client, 64 * MIB, true);
    while (turns_without_progress(&ends.client) < 2000)
        ;
    assert_true(ends.client.n_out < 24 * MIB); /* two rings and the kernel's own buffers */
    uint64_t o_up, d_up, down;
    gt_conduit_counts(ends.o, &o_up, &down);
    gt_conduit_counts(ends.d, &d_up, &down);
    assert_true(o_up - d_up <= 2 * MIB); /* what the two ends hold: a ring each */

    ends_init(&quick, &relay, 2); /* a neighbour does not notice */
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

/* A local side that hung up while its stream cannot move must not spin the loop. */
static void test_hung_up_is_quiet(void **state)
{
    struct relay relay;
    struct ends ends;
    stream_begin(&ends, &relay);
    ev_io_stop(loop, &ends.server.reader);
    app_send(&ends.client, 64 * MIB, false);
    while (turns_without_progress(&ends.client) < 2000)
        ;
    app_close(&ends.client); /* everything it wrote is still to be read */

    unsigned before = ev_iteration(loop);
    run_for(0.2);
    assert_true(ev_iteration(loop) - before < 30);
    stream_deinit(&ends);
}

/* Idle is no reason to be lost, nor to hold memory; a black hole is. */
static void test_heartbeat(void **state)
{
    struct relay relay;
    struct ends ends;
    stream_init(&ends, &relay);
    set_patience(&ends, 0.02, 0.1);
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

/* However many, and whenever they began: they are asked in a few turns of the loop, by one of their
 * ends, and none so late that it counts as lost. */
static void test_hearts_beat_together(void **state)
{
    enum { N = 30, BEATS = 4, TURNS = 20 };
    struct relay relay;
    static struct ends ends[N];
    relay_init(&relay);
    for (uint32_t i = 0; i < N; i++) {
        ends_init(&ends[i], &relay, i + 1);
        set_patience(&ends[i], 1, 1.8);
        stream_start(&ends[i]);
        run_until(ends[i].n_up_o && ends[i].n_up_d);
        run_for(0.01);
    }
    unsigned n_turns = ev_iteration(loop);
    run_for(BEATS * .9); /* each is asked after 0.8 to 1 s */
    print_message("%u turns\n", ev_iteration(loop) - n_turns);
    assert_in_range(ev_iteration(loop) - n_turns, BEATS, BEATS * 2 * TURNS);
    for (uint32_t i = 0; i < N; i++) {
        assert_alive(&ends[i]);
        assert_int_equal(ends[i].n_up_o, 1);
    }
    for (uint32_t i = 0; i < N; i++)
        ends_deinit(&ends[i]);
    relay_deinit(&relay);
}

static void test_the_grid(void **state)
{
    assert_true(gt_clock_grid(0, 5) == 0);
    assert_true(gt_clock_grid(4.999, 5) == 0);
    assert_true(gt_clock_grid(5, 5) == 5);
    for (double at = 1e6; at < 1e6 + 60; at += .37)
        assert_true(gt_clock_grid(at, 5) <= at && at - gt_clock_grid(at, 5) < 5);
}

/* A socket was full, and is not when a frame wakes us, before it could say so: what waits goes out
 * then, and not with the next heartbeat. */
static void test_room_found_by_the_way(void **state)
{
    struct relay relay;
    struct ends ends;
    stream_begin(&ends, &relay);
    run_until(ends.n_up_o && ends.n_up_d);
    for (size_t round = 1; round <= 20; round++) {
        ev_tstamp begun = ev_time();
        shim_is_to_be_full = true;
        app_send(&ends.client, 55000, false); /* too little for the peer to acknowledge at once */
        run_until(shim_full >= 0);
        app_send(&ends.client, 5000, false);
        run_for(0.02);
        app_send(&ends.server, 10, false);
        run_until(ends.server.n_in == round * 60000);
        assert_true(ev_time() - begun < 2);
    }
    stream_deinit(&ends);
}

/* After a sleep each is asked for a sign of life; who gives none is lost in 5 s, not in 45. */
static void test_doubt(void **state)
{
    struct relay relay;
    struct ends ends;
    stream_begin(&ends, &relay);
    run_until(ends.n_up_o && ends.n_up_d);
    gt_conduit_check(ends.o, true);
    gt_conduit_check(ends.d, true);
    run_for(5.5);
    assert_alive(&ends);
    relay_freeze(&relay);
    gt_conduit_check(ends.o, false); /* loopback is never in doubt */
    gt_conduit_check(ends.d, true);
    gt_conduit_check(ends.d, true);
    run_for(4.5);
    assert_int_equal(ends.d_code, -1);
    run_for(1);
    assert_int_equal(ends.d_code, GT_RST_LOST);
    stream_deinit(&ends);
}

/* F-18: for longer than heartbeats and kernel have patience with the silent, a stream is not read.
 * Both its ends live, and say so; its carrier is left alone. */
static void test_unread_for_long(void **state)
{
    struct relay relay;
    struct ends ends;
    stream_init(&ends, &relay);
    set_patience(&ends, 0.2, 1);
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
    assert_int_equal(ends.n_up_o, 1);
    stream_deinit(&ends);
}

/* A device without a battery hears what year it is: no stream is lost by that, and none lives on
 * that is dead. */
static void test_wall_clock_jumps(void **state)
{
    struct relay relay;
    struct ends ends;
    stream_init(&ends, &relay);
    set_patience(&ends, 0.05, 0.5);
    stream_start(&ends);
    run_until(ends.n_up_o && ends.n_up_d);
    wall_clock_offset_s = 10 * 365 * 86400;
    run_until(ev_now(loop) > (double)time(NULL) + 86400); /* it is believed */
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

static void test_many_at_once(void **state)
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

static void test_spare_is_bound(void **state)
{
    struct relay relay;
    struct ends ends;
    stream_init(&ends, &relay);
    ends_open(&ends, true);
    carry_both(&ends, 1);
    run_until(ends.n_up_o && ends.n_up_d);
    assert_string_equal(ends.asked, "");
    gt_conduit_bind(ends.o, ends.client_fd, "web");
    app_send(&ends.client, 70000, true);
    app_send(&ends.server, 70000, true);
    run_until(ends_are_over(&ends));
    assert_ended_well(&ends);
    assert_string_equal(ends.asked, "web");
    stream_deinit(&ends);
}

/* What the next issue's redial will do: another carrier in the middle, and not a byte amiss. */
static void test_newer_attempts_carry_on(void **state)
{
    struct relay relay;
    struct ends ends;
    stream_begin(&ends, &relay);
    struct gt_ticket stale = ticket_of(&ends, 1), other = ticket_of(&ends, 9);
    other.stream = 7;
    assert_int_equal(gt_conduit_carry(ends.o, &relay.addr, &stale), GT_CONDUIT_E_STALE);
    assert_int_equal(gt_conduit_carry(ends.o, &relay.addr, &other), GT_CONDUIT_E_STALE);
    app_send(&ends.client, 24 * MIB, true);
    app_send(&ends.server, 24 * MIB, true);
    for (uint32_t attempt = 2; attempt < 8; attempt++) {
        run_until(ends.client.n_in > attempt * 2 * MIB && ends.server.n_in > attempt * 2 * MIB);
        assert_false(ends_are_over(&ends));
        carry_both(&ends, attempt);
        assert_int_equal(gt_conduit_attempt(ends.o), attempt);
    }
    run_until(ends_are_over(&ends));
    assert_ended_well(&ends);
    assert_int_equal(ends.n_up_o, 7);
    stream_deinit(&ends);
}

static void test_freed_at_any_time(void **state)
{
    for (unsigned turns = 0; turns < 400; turns += 13) {
        struct relay relay;
        struct ends ends;
        stream_begin(&ends, &relay);
        app_send(&ends.client, MIB, true);
        for (unsigned i = 0; i < turns; i++)
            ev_run(loop, EVRUN_NOWAIT);
        stream_deinit(&ends);
    }
}

int main(void)
{
    gt_log_open("test-conduit", getenv("TEST_DEBUG") ? GT_LOG_DEBUG : GT_LOG_INFO);
#define conduit_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        conduit_test(test_32_mib_each_way),
        conduit_test(test_nothing_at_all),
        conduit_test(test_one_way_only),
        conduit_test(test_small_and_unequal_rings),
        conduit_test(test_bad_weather),
        conduit_test(test_bytes_wait_for_carrier_and_target),
        conduit_test(test_half_close_either_way),
        conduit_test(test_reset_in_the_middle),
        conduit_test(test_target_refused),
        conduit_test(test_broken_from_outside),
        conduit_test(test_relay_dies),
        conduit_test(test_relay_dies_around_the_end),
        conduit_test(test_relay_that_is_none),
        conduit_test(test_other_keys),
        conduit_test(test_slow_reader_is_bounded),
        conduit_test(test_hung_up_is_quiet),
        conduit_test(test_heartbeat),
        conduit_test(test_the_grid),
        conduit_test(test_hearts_beat_together),
        conduit_test(test_room_found_by_the_way),
        conduit_test(test_doubt),
        conduit_test(test_unread_for_long),
        conduit_test(test_wall_clock_jumps),
        conduit_test(test_many_at_once),
        conduit_test(test_spare_is_bound),
        conduit_test(test_newer_attempts_carry_on),
        conduit_test(test_freed_at_any_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
