/* SPDX-License-Identifier: ISC */
/*
 * spares.c, and what streams.c does for it: local connections that find their way open already, in
 * the world of tunnel-world.h. Nobody but the relay hears of a spare before it is bound; and
 * whatever is cut around that moment, the device is asked once, and the bytes are all there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>

#include "gotthard/clock.h"
#include "gotthard/log.h"
#include "gotthard/spares.h"
#include "tunnel-world.h"

static void spares_up(struct fixture *f, unsigned n_spares)
{
    fixture_init(f);
    f->settings[0].n_spares = n_spares;
    fixture_start_both(f);
    assert_true(fake_run(f->loop, are_both_up, f, 5));
}

static bool are_spares_up(void *userdata)
{
    struct fixture *f = userdata;
    return gt_tunnel_n_ready(f->end[0].tunnel) >= f->settings[0].n_spares;
}

static bool are_four_ready(void *userdata)
{
    return gt_tunnel_n_ready(((struct fixture *)userdata)->end[0].tunnel) == 4;
}

/* Three have ended unheard of by the operator's caller, also at the device. */
static bool is_one_left(void *userdata)
{
    struct fixture *f = userdata;
    return gt_tunnel_n_ready(f->end[0].tunnel) == 1 && f->board.n_stream_ends >= 3;
}

static bool are_eight_ready(void *userdata)
{
    return gt_tunnel_n_ready(((struct fixture *)userdata)->end[0].tunnel) == GT_SPARES_MAX;
}

static void wait_for_spares(struct fixture *f)
{
    assert_true(fake_run(f->loop, are_spares_up, f, 10));
}

static void pass_on(void *userdata, double seconds)
{
    struct fixture *f = userdata;
    ev_timer timer;
    ev_timer_init(&timer, tick, seconds, 0);
    ev_timer_start(f->loop, &timer);
    while (ev_is_active(&timer))
        ev_run(f->loop, EVRUN_ONCE);
}

static void nobody_hears_of_a_spare(void **state)
{
    static struct fixture f;
    spares_up(&f, 3);
    wait_for_spares(&f);
    assert_int_equal(f.board.n_joins, 6);
    assert_int_equal(f.board.n_spares, 3);
    assert_int_equal(f.n_asked, 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(gt_tunnel_n_streams(f.end[i].tunnel), 0);
    gt_tunnel_close(f.end[0].tunnel);
    assert_true(fake_run(f.loop, are_both_down, &f, 5));
    assert_int_equal(f.end[0].n_ends + f.end[1].n_ends, 0);
    fixture_deinit(&f);
}

/* It is asked for with RENDEZVOUS: the first local connection finds it. */
static void it_is_asked_for_at_once(void **state)
{
    static struct fixture f;
    fixture_init(&f);
    f.settings[0].n_spares = 1;
    fixture_start(&f, 0);
    for (int i = 0; i < 50 && f.board.n_tickets < 1; i++)
        ev_run(f.loop, EVRUN_ONCE);
    assert_int_equal(f.board.n_tickets, 1);
    fixture_start(&f, 1);
    wait_for_spares(&f);
    assert_int_equal(f.board.n_opens, 1);
    fixture_deinit(&f);
}

static void none_is_none(void **state)
{
    static struct fixture f;
    spares_up(&f, 0);
    int fd = open_stream(&f);
    pass_on(&f, .3);
    assert_int_equal(f.board.n_opens, 1);
    assert_int_equal(f.n_asked, 1);
    close(fd);
    fixture_deinit(&f);
}

static bool is_asked_once(void *userdata)
{
    return ((struct fixture *)userdata)->n_asked == 1;
}

/* The relay gives no ticket any more: the spare needs none. And nobody has to say a word first. */
static void a_spare_is_bound_without_the_relay(void **state)
{
    static struct fixture f;
    spares_up(&f, 1);
    wait_for_spares(&f);
    f.board.is_ticketless = true;
    int fd = open_stream(&f);
    assert_int_equal(gt_tunnel_last_stream(f.end[0].tunnel), 1);
    assert_true(fake_run(f.loop, is_asked_once, &f, 2));
    for (int i = 0; i < 2; i++)
        assert_int_equal(gt_tunnel_n_streams(f.end[i].tunnel), 1);
    pass_on(&f, .1);
    assert_int_equal(f.board.n_spares, 1); /* another was asked for, and counted, in its place */
    close(fd);
    fixture_deinit(&f);
}

/* Twenty at once, over two spares and eighteen that are none; then there are eight. */
static void a_burst_does_not_mix(void **state)
{
    static struct fixture f;
    static struct flows flows;
    spares_up(&f, 2);
    wait_for_spares(&f);
    flows_begin(&flows, &f, 20, 300000);
    flows_finish(&flows);
    assert_true(fake_run(f.loop, are_eight_ready, &f, 10));
    assert_int_equal(f.n_asked, 20);
    assert_int_equal(f.board.n_opens, 28); /* not one more than were used, or are ready */
    fixture_deinit(&f);
}

/* Three that come faster than a spare does make more of them, until nobody came for a while; the
 * device and the relay hear of the end of the rest. */
static void who_comes_often_finds_more(void **state)
{
    static struct fixture f;
    int fds[3];
    fixture_init(&f);
    f.settings[0].n_spares = 1;
    f.settings[0].spares_calm_s = 1;
    fixture_start_both(&f);
    wait_for_spares(&f);
    for (size_t i = 0; i < GT_ARRAY_SIZE(fds); i++)
        fds[i] = open_stream(&f);
    assert_true(fake_run(f.loop, are_four_ready, &f, 10));
    assert_int_equal(f.board.n_opens, 7);
    assert_true(fake_run(f.loop, is_one_left, &f, 10));
    pass_on(&f, .7);
    assert_int_equal(f.board.n_opens, 7); /* what was let go is not replaced */
    assert_int_equal(gt_tunnel_n_ready(f.end[0].tunnel), 1);
    for (size_t i = 0; i < GT_ARRAY_SIZE(fds); i++)
        close(fds[i]);
    fixture_deinit(&f);
}

/* One at a time, each after the next one's spare has come: that is what one is for. */
static void who_comes_now_and_then_needs_one(void **state)
{
    static struct fixture f;
    spares_up(&f, 1);
    for (unsigned i = 1; i <= 3; i++) {
        wait_for_spares(&f);
        close(open_stream(&f));
    }
    wait_for_spares(&f);
    pass_on(&f, .1);
    assert_int_equal(f.board.n_opens, 4);
    fixture_deinit(&f);
}

static bool has_ended(void *userdata)
{
    struct fixture *f = userdata;
    return f->end[0].n_ends == 1 && f->end[1].n_ends == 1;
}

static void a_refusal_breaks_that_one_alone(void **state)
{
    static struct fixture f;
    static struct flows flows;
    spares_up(&f, 1);
    wait_for_spares(&f);
    flows_begin(&flows, &f, 1, 100000);
    wait_for_spares(&f);
    f.refusal = GT_RST_DENIED;
    int fd = open_stream(&f);
    assert_true(fake_run(f.loop, has_ended, &f, 5));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(f.end[i].last_rst, GT_RST_DENIED);
        assert_int_equal(gt_tunnel_n_streams(f.end[i].tunnel), 1);
    }
    close(fd);
    f.refusal = GT_RST_NONE;
    wait_for_spares(&f); /* it was not the spare that was refused */
    fixture_deinit(&f);
}

static bool are_new_ones_up(void *userdata)
{
    struct fixture *f = userdata;
    return f->board.n_opens > 2 && are_spares_up(f);
}

static void a_lost_one_is_replaced_quietly(void **state)
{
    static struct fixture f;
    spares_up(&f, 2);
    wait_for_spares(&f);
    board_cut_data(&f.board);
    assert_true(fake_run(f.loop, are_new_ones_up, &f, 10));
    assert_int_equal(f.board.n_opens, 4);
    for (int i = 0; i < 2; i++)
        assert_int_equal(f.end[i].n_ends, 0);
    fixture_deinit(&f);
}

static void who_refuses_one_is_left_alone(void **state)
{
    static struct fixture f;
    fixture_init(&f);
    f.settings[0].n_spares = 1;
    f.board.is_ticketless = true;
    fixture_start_both(&f);
    assert_true(fake_run(f.loop, are_both_up, &f, 5));
    pass_on(&f, 1.5);
    assert_int_equal(f.board.n_opens, 1);
    f.board.is_ticketless = false;
    int fd = open_stream(&f); /* as without spares */
    assert_true(fake_run(f.loop, is_asked_once, &f, 5));
    assert_int_equal(f.board.n_opens, 2);
    assert_int_equal(f.end[0].n_ends, 0);
    close(fd);
    fixture_deinit(&f);
}

/* A relay, or a network, that lets each live for a moment only. */
static void a_short_life_makes_no_hurry(void **state)
{
    static struct fixture f;
    spares_up(&f, 1);
    for (int i = 0; i < 30; i++) {
        pass_on(&f, .1);
        board_cut_data(&f.board);
    }
    assert_in_range(f.board.n_opens, 3, 5); /* after 0.5 s, 1 s, 2 s */
    fixture_deinit(&f);
}

static bool are_three_ready(void *userdata)
{
    return gt_tunnel_n_ready(((struct fixture *)userdata)->end[0].tunnel) == 3;
}

static void there_is_room_left(void **state)
{
    static struct fixture f;
    fixture_init(&f);
    f.settings[0].n_spares = 8;
    f.settings[0].max_streams = 7;
    fixture_start_both(&f);
    assert_true(fake_run(f.loop, are_both_up, &f, 5));
    assert_true(fake_run(f.loop, are_three_ready, &f, 10));
    pass_on(&f, .1);
    assert_int_equal(gt_tunnel_n_ready(f.end[0].tunnel), 3);
    int fds[7];
    for (size_t i = 0; i < GT_ARRAY_SIZE(fds); i++)
        fds[i] = open_stream(&f);
    pass_on(&f, .3);
    assert_int_equal(gt_tunnel_n_ready(f.end[0].tunnel), 0);
    assert_int_equal(gt_tunnel_n_streams(f.end[1].tunnel), 7);
    assert_int_equal(f.n_asked, 7);
    for (size_t i = 0; i < GT_ARRAY_SIZE(fds); i++)
        close(fds[i]);
    for (size_t i = 0; i < NUMBERS_MAX; i++)
        gt_close(&f.target[i]);
    assert_true(fake_run(f.loop, are_three_ready, &f, 10));
    fixture_deinit(&f);
}

static bool are_many_opened(void *userdata)
{
    struct fixture *f = userdata;
    return f->board.n_opens == 32 && are_spares_up(f);
}

/* The device never hears that they are gone: it keeps sixteen, and still takes new ones. */
static void the_device_keeps_so_many(void **state)
{
    static struct fixture f;
    spares_up(&f, 8);
    f.board.is_forgetful = true;
    for (int i = 0; i < 3; i++) {
        wait_for_spares(&f);
        board_cut_data(&f.board);
        pass_on(&f, .1);
    }
    assert_true(fake_run(f.loop, are_many_opened, &f, 10));
    pass_on(&f, .1);
    assert_int_equal(f.board.n_broken, 16);
    assert_int_equal(f.end[1].n_ends, 0);
    fixture_deinit(&f);
}

/* Open sockets and nothing behind them, as a NAT leaves them: the heartbeat would take minutes. */
static void a_spare_that_leads_nowhere_is_noticed(void **state)
{
    static struct fixture f;
    static struct flows flows;
    spares_up(&f, 1);
    wait_for_spares(&f);
    pass_on(&f, 3.1); /* it was heard of lately no more */
    for (size_t i = 0; i < DATA_MAX; i++)
        if (f.board.data[i].fd >= 0)
            ev_io_stop(f.loop, &f.board.data[i].io);
    flows = (struct flows){.f = &f, .n_streams = 1, .n = 100000};
    double begun = gt_clock();
    flows_open(&flows);
    assert_int_equal(flows.numbers[0], 1);
    flows_run(&flows);
    assert_true(gt_clock() - begun < 8);
    flows_finish(&flows);
    assert_int_equal(f.n_asked, 1);
    fixture_deinit(&f);
}

/* --- bound in a storm ------------------------------------------------------------------------- */

#define CALLS 120

struct call {
    int fd;
    uint32_t number;
    char said[8], heard[8];
    size_t n_heard;
};

struct calls {
    struct fixture *f;
    struct call calls[CALLS];
    size_t n_begun, n_ended;
    uint32_t random;
};

/* Its first bytes are there before it is accepted, or a while after. */
static void call_begin(struct calls *calls, struct call *call)
{
    int fds[2];
    snprintf(call->said, sizeof call->said, "%07zu", calls->n_begun++);
    bool is_early = calls->random >> 20 & 1;
    assert_int_equal(gt_sock_pair(fds), 0);
    call->fd = fds[0];
    if (is_early)
        assert_int_equal(send(call->fd, call->said, 7, MSG_NOSIGNAL), 7);
    assert_int_equal(gt_tunnel_open(calls->f->end[0].tunnel, fds[1], "echo"), 0);
    call->number = gt_tunnel_last_stream(calls->f->end[0].tunnel);
    assert_true(call->number < NUMBERS_MAX);
    if (!is_early)
        assert_int_equal(send(call->fd, call->said, 7, MSG_NOSIGNAL), 7);
    assert_int_equal(shutdown(call->fd, SHUT_WR), 0);
}

static void call_hear(struct calls *calls, struct call *call)
{
    int target = calls->f->target[call->number];
    if (call->fd < 0 || target < 0)
        return;
    ssize_t n = recv(target, call->heard + call->n_heard, sizeof call->heard - call->n_heard, 0);
    call->n_heard += n > 0 ? (size_t)n : 0;
    if (n != 0)
        return;
    assert_int_equal(call->n_heard, 7); /* to the last of them, before the end */
    assert_memory_equal(call->heard, call->said, 7);
    shutdown(target, SHUT_WR);
    char none;
    if (recv(call->fd, &none, 1, 0) == 0) {
        gt_close(&call->fd);
        calls->n_ended++;
    }
}

/* Links that are cut while others are away make everybody's patience grow, and nothing happens. */
static void calls_cut(struct calls *calls)
{
    const struct end *end = calls->f->end;
    struct switchboard *board = &calls->f->board;
    if (!gt_tunnel_is_up(end[0].tunnel) || !gt_tunnel_is_up(end[1].tunnel))
        return;
    switch (calls->random >> 27) {
    case 0: board_cut_links(board); break;
    case 1: fake_member_close(&board->relay.members[calls->random >> 8 & 1]); break;
    case 2:
    case 3:
    case 4: board_cut_data(board); break;
    case 5: /* one of the two of a pair alone: what was on its way to the other is lost */
        data_close(&board->data[calls->random >> 8 & 7]);
        break;
    default: break;
    }
}

static void calls_on_tick(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct calls *calls = w->data;
    calls->random = calls->random * 1664525u + 1013904223u;
    size_t n_open = calls->n_begun - calls->n_ended;
    if (calls->n_begun < CALLS && n_open < 6 && gt_tunnel_is_up(calls->f->end[0].tunnel) &&
        calls->random >> 30 == 0)
        call_begin(calls, &calls->calls[calls->n_begun]);
    for (size_t i = 0; i < calls->n_begun; i++)
        call_hear(calls, &calls->calls[i]);
    calls->random = calls->random * 1664525u + 1013904223u;
    if (calls->n_begun < CALLS && (calls->random & 15) == 0)
        calls_cut(calls);
}

static bool are_calls_ended(void *userdata)
{
    const struct calls *calls = userdata;
    return calls->n_ended == CALLS && calls->f->end[0].n_ends == CALLS &&
           calls->f->end[1].n_ends >= CALLS;
}

/* Whatever is cut around the moment of BIND: dialled once, and its first bytes are not lost. */
static void bound_in_a_storm(void **state)
{
    static struct fixture f;
    static struct calls calls;
    ev_timer timer;
    const char *seed = getenv("GOTTHARD_SEED");
    calls = (struct calls){.f = &f, .random = seed ? (uint32_t)atoi(seed) : (uint32_t)time(NULL)};
    print_message("GOTTHARD_SEED=%u\n", calls.random);
    spares_up(&f, 3);
    ev_timer_init(&timer, calls_on_tick, 0, .002);
    timer.data = &calls;
    ev_timer_start(f.loop, &timer);
    if (!fake_run(f.loop, are_calls_ended, &calls, 100))
        fail_msg("begun %zu, ended %zu, at the operator %u, at the device %u", calls.n_begun,
                 calls.n_ended, f.end[0].n_ends, f.end[1].n_ends);
    ev_timer_stop(f.loop, &timer);
    assert_int_equal(f.n_asked, CALLS);
    assert_int_equal(f.end[0].n_well, CALLS);
    assert_int_equal(f.end[1].n_well, CALLS);
    assert_int_equal(f.end[0].n_down + f.end[1].n_down, 0);
    wait_for_spares(&f);
    fixture_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_hears_of_a_spare),
        cmocka_unit_test(it_is_asked_for_at_once),
        cmocka_unit_test(none_is_none),
        cmocka_unit_test(a_spare_is_bound_without_the_relay),
        cmocka_unit_test(a_burst_does_not_mix),
        cmocka_unit_test(who_comes_often_finds_more),
        cmocka_unit_test(who_comes_now_and_then_needs_one),
        cmocka_unit_test(a_refusal_breaks_that_one_alone),
        cmocka_unit_test(a_lost_one_is_replaced_quietly),
        cmocka_unit_test(who_refuses_one_is_left_alone),
        cmocka_unit_test(a_short_life_makes_no_hurry),
        cmocka_unit_test(there_is_room_left),
        cmocka_unit_test(the_device_keeps_so_many),
        cmocka_unit_test(a_spare_that_leads_nowhere_is_noticed),
        cmocka_unit_test(bound_in_a_storm),
    };
    gt_log_open("test-spares", getenv("TEST_DEBUG") ? GT_LOG_DEBUG : GT_LOG_INFO);
    cmocka_set_test_filter(getenv("TEST_FILTER"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
