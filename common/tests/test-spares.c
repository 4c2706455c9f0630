/* SPDX-License-Identifier: ISC */
/*
 * spares.c and its part of streams.c, with the ends of support/tunnel-ends.h. A spare is reported
 * to the relay only until it is bound. Whatever is cut around BIND, the service is requested once
 * and all bytes arrive.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "gotthard/tunnel/liveness.h"
#include "gotthard/tunnel/spares.h"
#include "support/tunnel-ends.h"

static void spares_up(struct fixture *f, unsigned n_spares)
{
    fixture_init(f);
    f->settings[0].n_spares = n_spares;
    fixture_start_both(f);
    assert_true(fake_run(f->loop, are_both_up, f, 5));
    if (n_spares == 0)
        fixture_settle(f);
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

/* Three spares have ended on both sides, without on_stream_end. */
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

static void run_for(void *userdata, double seconds)
{
    struct fixture *f = userdata;
    ev_timer timer;

    ev_timer_init(&timer, tick, seconds, 0);
    ev_timer_start(f->loop, &timer);
    while (ev_is_active(&timer))
        ev_run(f->loop, EVRUN_ONCE);
}

static void test_spare_is_reported_to_the_relay_only(void **state)
{
    static struct fixture f;

    spares_up(&f, 3);
    wait_for_spares(&f);
    assert_int_equal(f.board.n_joins, 6);
    assert_int_equal(f.board.n_spares, 3);
    assert_int_equal(f.n_requested, 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(gt_tunnel_n_streams(f.end[i].tunnel), 0);
    gt_tunnel_close(f.end[0].tunnel);
    assert_true(fake_run(f.loop, are_both_down, &f, 5));
    assert_int_equal(f.end[0].n_ends + f.end[1].n_ends, 0);
    fixture_deinit(&f);
}

/* The first local connection finds it ready. */
static void test_spare_is_requested_with_rendezvous(void **state)
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

static void test_spares_disabled_opens_none(void **state)
{
    static struct fixture f;

    spares_up(&f, 0);
    int fd = open_stream(&f);
    run_for(&f, .3);
    assert_int_equal(f.board.n_opens, 1);
    assert_int_equal(f.n_requested, 1);
    close(fd);
    fixture_deinit(&f);
}

static bool is_service_requested_once(void *userdata)
{
    return ((struct fixture *)userdata)->n_requested == 1;
}

/* The relay issues no more tickets, and no application sends a byte. */
static void test_spare_bind_needs_no_ticket(void **state)
{
    static struct fixture f;

    spares_up(&f, 1);
    wait_for_spares(&f);
    f.board.has_no_tickets = true;
    int fd = open_stream(&f);
    assert_int_equal(gt_tunnel_last_stream(f.end[0].tunnel), 1);
    assert_true(fake_run(f.loop, is_service_requested_once, &f, 2));
    for (int i = 0; i < 2; i++)
        assert_int_equal(gt_tunnel_n_streams(f.end[i].tunnel), 1);
    run_for(&f, .1);
    assert_int_equal(f.board.n_spares, 1); /* its replacement was requested and counted */
    close(fd);
    fixture_deinit(&f);
}

static bool is_operator_up(void *userdata)
{
    return ((struct fixture *)userdata)->end[0].n_up == 1;
}

/* The spare that proved the tunnel must not take the only place of a connection. */
static void test_spare_of_the_proof_is_bound_where_room_is_small(void **state)
{
    for (uint16_t max = 1; max <= 4; max++) {
        static struct fixture f;
        int fds[4];

        fixture_init(&f);
        f.settings[0].n_spares = 0;
        f.settings[0].max_streams = f.settings[1].max_streams = max;
        fixture_start_both(&f);
        assert_true(fake_run(f.loop, is_operator_up, &f, 5));
        for (uint16_t i = 0; i < max; i++)
            fds[i] = open_stream(&f);
        run_for(&f, .1);
        assert_int_equal(f.n_requested, max);
        assert_int_equal(gt_tunnel_n_streams(f.end[1].tunnel), max);
        for (uint16_t i = 0; i < max; i++)
            close(fds[i]);
        fixture_deinit(&f);
    }
}

/* Twenty at once, over two spares and eighteen new streams; afterwards there are eight spares. */
static void test_spares_burst_keeps_streams_apart(void **state)
{
    static struct fixture f;
    static struct flows flows;

    spares_up(&f, 2);
    wait_for_spares(&f);
    flows_begin(&flows, &f, 20, 300000);
    flows_finish(&flows);
    assert_true(fake_run(f.loop, are_eight_ready, &f, 10));
    assert_int_equal(f.n_requested, 20);
    assert_int_equal(f.board.n_opens, 28); /* exactly those that were used or are ready */
    fixture_deinit(&f);
}

/* Three local connections, faster than a spare is ready, increase the number. After an idle time it
 * falls back; the device and the relay are informed of the closed spares. */
static void test_spares_grow_and_shrink_with_demand(void **state)
{
    static struct fixture f;
    int fds[3];

    fixture_init(&f);
    f.settings[0].n_spares = 1;
    f.settings[0].spares_idle_s = 1;
    fixture_start_both(&f);
    wait_for_spares(&f);
    for (size_t i = 0; i < GT_ARRAY_SIZE(fds); i++)
        fds[i] = open_stream(&f);
    assert_true(fake_run(f.loop, are_four_ready, &f, 10));
    assert_int_equal(f.board.n_opens, 7);
    assert_true(fake_run(f.loop, is_one_left, &f, 10));
    run_for(&f, .7);
    assert_int_equal(f.board.n_opens, 7); /* closed spares are not replaced */
    assert_int_equal(gt_tunnel_n_ready(f.end[0].tunnel), 1);
    for (size_t i = 0; i < GT_ARRAY_SIZE(fds); i++)
        close(fds[i]);
    fixture_deinit(&f);
}

/* One connection at a time, each after the next spare is ready: one spare suffices. */
static void test_spares_do_not_grow_on_rare_connections(void **state)
{
    static struct fixture f;

    spares_up(&f, 1);
    for (unsigned i = 1; i <= 3; i++) {
        wait_for_spares(&f);
        close(open_stream(&f));
    }
    wait_for_spares(&f);
    run_for(&f, .1);
    assert_int_equal(f.board.n_opens, 4);
    fixture_deinit(&f);
}

static bool has_ended(void *userdata)
{
    struct fixture *f = userdata;

    return f->end[0].n_ends == 1 && f->end[1].n_ends == 1;
}

static void test_spare_rejected_service_ends_only_that_stream(void **state)
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
    wait_for_spares(&f); /* the service was rejected, not the spare */
    fixture_deinit(&f);
}

static bool are_new_spares_up(void *userdata)
{
    struct fixture *f = userdata;

    return f->board.n_opens > 2 && are_spares_up(f);
}

static void test_spare_lost_is_replaced_silently(void **state)
{
    static struct fixture f;

    spares_up(&f, 2);
    wait_for_spares(&f);
    board_cut_data(&f.board);
    assert_true(fake_run(f.loop, are_new_spares_up, &f, 10));
    assert_int_equal(f.board.n_opens, 4);
    for (int i = 0; i < 2; i++)
        assert_int_equal(f.end[i].n_ends, 0);
    fixture_deinit(&f);
}

static void test_spare_rejected_is_not_requested_again_soon(void **state)
{
    static struct fixture f;

    spares_up(&f, 1);
    f.board.has_no_tickets = true;
    f.board.n_opens = 0;
    board_cut_data(&f.board);
    run_for(&f, 2);
    assert_int_equal(f.board.n_opens, 1);
    f.board.has_no_tickets = false;
    int fd = open_stream(&f); /* as without spares */
    assert_true(fake_run(f.loop, is_service_requested_once, &f, 5));
    assert_int_equal(f.board.n_opens, 2);
    assert_int_equal(f.end[0].n_ends, 0);
    close(fd);
    fixture_deinit(&f);
}

/* A relay or a network that ends each connection soon. */
static void test_spares_short_lived_are_replaced_with_backoff(void **state)
{
    static struct fixture f;

    spares_up(&f, 1);
    for (int i = 0; i < 30; i++) {
        run_for(&f, .1);
        board_cut_data(&f.board);
    }
    assert_in_range(f.board.n_opens, 3, 5); /* after 0.5 s, 1 s, 2 s */
    fixture_deinit(&f);
}

static bool are_three_ready(void *userdata)
{
    return gt_tunnel_n_ready(((struct fixture *)userdata)->end[0].tunnel) == 3;
}

static void test_spares_leave_room_for_connections(void **state)
{
    static struct fixture f;

    fixture_init(&f);
    f.settings[0].n_spares = 8;
    f.settings[0].max_streams = 7;
    fixture_start_both(&f);
    assert_true(fake_run(f.loop, are_both_up, &f, 5));
    assert_true(fake_run(f.loop, are_three_ready, &f, 10));
    run_for(&f, .1);
    assert_int_equal(gt_tunnel_n_ready(f.end[0].tunnel), 3);
    int fds[7];
    for (size_t i = 0; i < GT_ARRAY_SIZE(fds); i++)
        fds[i] = open_stream(&f);
    run_for(&f, .3);
    assert_int_equal(gt_tunnel_n_ready(f.end[0].tunnel), 0);
    assert_int_equal(gt_tunnel_n_streams(f.end[1].tunnel), 7);
    assert_int_equal(f.n_requested, 7);
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

/* The device is not informed of their ends: it keeps sixteen, and still accepts new ones. */
static void test_spares_lost_are_limited_on_the_device(void **state)
{
    static struct fixture f;

    spares_up(&f, 8);
    f.board.drops_stream_ends = true;
    for (int i = 0; i < 3; i++) {
        wait_for_spares(&f);
        board_cut_data(&f.board);
        run_for(&f, .1);
    }
    assert_true(fake_run(f.loop, are_many_opened, &f, 10));
    run_for(&f, .1);
    assert_int_equal(f.board.n_reset, 16);
    assert_int_equal(f.end[1].n_ends, 0);
    fixture_deinit(&f);
}

/* Open sockets without a peer, as a NAT leaves them: the heartbeat would take minutes. */
static void test_spare_dead_path_is_replaced_on_bind(void **state)
{
    static struct fixture f;
    static struct flows flows;

    spares_up(&f, 1);
    wait_for_spares(&f);
    run_for(&f, 3.1); /* its last record is not recent any more */
    for (size_t i = 0; i < DATA_MAX; i++)
        if (f.board.data[i].fd >= 0)
            ev_io_stop(f.loop, &f.board.data[i].io);
    flows = (struct flows){.f = &f, .n_streams = 1, .n = 100000};
    double begun = gt_clock();
    flows_open(&flows);
    assert_int_equal(flows.numbers[0], 1);
    run_for(&f, GT_LIVENESS_DOUBT_S); /* in one wait, which the fake clock skips */
    flows_run(&flows);
    assert_true(gt_clock() - begun < 8);
    flows_finish(&flows);
    assert_int_equal(f.n_requested, 1);
    fixture_deinit(&f);
}

/* --- BIND under cuts -------------------------------------------------------------------------- */

#define CALLS 120

struct call {
    int fd;
    uint32_t number;
    char sent[8], received[8];
    size_t n_received;
};

struct calls {
    struct fixture *f;
    struct call calls[CALLS];
    size_t n_begun, n_ended;
    uint32_t random;
};

/* Its first bytes are sent before it is accepted, or shortly afterwards. */
static void call_begin(struct calls *calls, struct call *call)
{
    int fds[2];

    snprintf(call->sent, sizeof(call->sent), "%07zu", calls->n_begun++);
    bool is_early = calls->random >> 20 & 1;
    assert_int_equal(gt_sock_pair(fds), 0);
    call->fd = fds[0];
    if (is_early)
        assert_int_equal(send(call->fd, call->sent, 7, MSG_NOSIGNAL), 7);
    assert_int_equal(gt_tunnel_open(calls->f->end[0].tunnel, gt_endpoint_fds(fds[1]), "echo"), 0);
    call->number = gt_tunnel_last_stream(calls->f->end[0].tunnel);
    assert_true(call->number < NUMBERS_MAX);
    if (!is_early)
        assert_int_equal(send(call->fd, call->sent, 7, MSG_NOSIGNAL), 7);
    assert_int_equal(shutdown(call->fd, SHUT_WR), 0);
}

static void call_receive(struct calls *calls, struct call *call)
{
    int target = calls->f->target[call->number];

    if (call->fd < 0 || target < 0)
        return;
    ssize_t n = recv(target, call->received + call->n_received,
                     sizeof(call->received) - call->n_received, 0);
    call->n_received += n > 0 ? (size_t)n : 0;
    if (n != 0)
        return;
    assert_int_equal(call->n_received, 7); /* all, before the end of file */
    assert_memory_equal(call->received, call->sent, 7);
    shutdown(target, SHUT_WR);
    char none;
    if (recv(call->fd, &none, 1, 0) == 0) {
        gt_close(&call->fd);
        calls->n_ended++;
    }
}

/* Cuts while a connection is already lost only lengthen the back-off. */
static void calls_cut(struct calls *calls)
{
    const struct end *end = calls->f->end;
    struct switchboard *board = &calls->f->board;

    if (!gt_tunnel_is_up(end[0].tunnel) || !gt_tunnel_is_up(end[1].tunnel))
        return;
    switch (calls->random >> 27) {
    case 0: board_cut_control(board); break;
    case 1: fake_client_close(&board->relay.clients[calls->random >> 8 & 1]); break;
    case 2:
    case 3:
    case 4: board_cut_data(board); break;
    case 5: /* one connection of a pair alone: data in transit to the other one is lost */
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
        call_receive(calls, &calls->calls[i]);
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

/* Whatever is cut around BIND: the service is connected once, and the first bytes are not lost. */
static void test_spare_bind_survives_cuts_at_any_time(void **state)
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
    assert_int_equal(f.n_requested, CALLS);
    assert_int_equal(f.end[0].n_well, CALLS);
    assert_int_equal(f.end[1].n_well, CALLS);
    assert_int_equal(f.end[0].n_down + f.end[1].n_down, 0);
    wait_for_spares(&f);
    fixture_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spare_is_reported_to_the_relay_only),
        cmocka_unit_test(test_spare_is_requested_with_rendezvous),
        cmocka_unit_test(test_spares_disabled_opens_none),
        cmocka_unit_test(test_spare_bind_needs_no_ticket),
        cmocka_unit_test(test_spare_of_the_proof_is_bound_where_room_is_small),
        cmocka_unit_test(test_spares_burst_keeps_streams_apart),
        cmocka_unit_test(test_spares_grow_and_shrink_with_demand),
        cmocka_unit_test(test_spares_do_not_grow_on_rare_connections),
        cmocka_unit_test(test_spare_rejected_service_ends_only_that_stream),
        cmocka_unit_test(test_spare_lost_is_replaced_silently),
        cmocka_unit_test(test_spare_rejected_is_not_requested_again_soon),
        cmocka_unit_test(test_spares_short_lived_are_replaced_with_backoff),
        cmocka_unit_test(test_spares_leave_room_for_connections),
        cmocka_unit_test(test_spares_lost_are_limited_on_the_device),
        cmocka_unit_test(test_spare_dead_path_is_replaced_on_bind),
        cmocka_unit_test(test_spare_bind_survives_cuts_at_any_time),
    };

    gt_log_open("test-spares", getenv("TEST_DEBUG") ? GT_LOG_DEBUG : GT_LOG_INFO);
    cmocka_set_test_filter(getenv("TEST_FILTER"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
