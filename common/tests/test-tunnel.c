/* SPDX-License-Identifier: ISC */
/*
 * tunnel.c with its streams, its registration and its reconnects, between the ends of
 * support/tunnel-ends.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

#include "gotthard/base/clock.h"
#include "support/tunnel-ends.h"

static bool is_served(void *userdata)
{
    const struct fixture *f = userdata;

    return f->n_requested == 1;
}

static int open_served_stream(struct fixture *f)
{
    int fd = open_stream(f);

    assert_true(fake_run(f->loop, is_served, f, 5));
    return fd;
}

static void test_tunnel_one_stream_transfers_and_ends(void **state)
{
    static struct fixture f;
    static struct flows flows;

    fixture_up(&f);
    flows_begin(&flows, &f, 1, 8 << 20);
    flows_finish(&flows);
    assert_int_equal(f.board.n_joins, 2);
    fixture_deinit(&f);
}

static void test_tunnel_many_streams_stay_apart(void **state)
{
    static struct fixture f;
    static struct flows flows;

    fixture_up(&f);
    flows = (struct flows){.f = &f, .n_streams = STREAMS_MAX, .n = 300000};
    flows_open(&flows);
    int fds[2];
    assert_int_equal(gt_sock_pair(fds), 0);
    assert_int_equal(gt_tunnel_open(f.end[0].tunnel, gt_endpoint_fds(fds[1]), "echo"),
                     GT_TUNNEL_E_FULL);
    close(fds[0]);
    flows_run(&flows);
    flows_finish(&flows);
    flows.fds[0] = open_stream(&f); /* there is room again */
    gt_close(&flows.fds[0]);
    fixture_deinit(&f);
}

static void test_tunnel_streams_opened_before_the_device_registers(void **state)
{
    static struct fixture f;
    static struct flows flows;

    fixture_init(&f);
    fixture_start(&f, 0);
    flows = (struct flows){.f = &f, .n_streams = 3, .n = 1000};
    flows_open(&flows);
    for (int i = 0; i < 50 && f.board.n_tickets < 1; i++)
        ev_run(f.loop, EVRUN_ONCE);
    fixture_start(&f, 1); /* the device is late, and gets its ticket */
    flows_run(&flows);
    flows_finish(&flows);
    fixture_deinit(&f);
}

static void test_tunnel_single_port(void **state)
{
    static struct fixture f;

    fixture_init(&f);
    f.settings[0].is_single_port = true;
    fixture_start_both(&f);
    assert_true(fake_run(f.loop, are_both_up, &f, 5));
    assert_int_equal(f.end[0].port, f.board.relay.port);
    assert_int_equal(f.end[1].port, f.board.port);
    fixture_deinit(&f);
}

static void test_tunnel_falls_back_to_the_main_port(void **state)
{
    for (int is_closed = 0; is_closed < 2; is_closed++) {
        static struct fixture f;
        static struct flows flows;

        fixture_init(&f);
        f.board.ignores_joins = true;
        if (is_closed)
            shutdown(f.board.listener, SHUT_RD); /* connections are refused */
        double begun = gt_clock();
        fixture_start_both(&f);
        assert_true(fake_run(f.loop, are_both_up, &f, 5));
        assert_true(gt_clock() - begun < (is_closed ? 1 : 2));
        assert_int_equal(f.end[0].port, f.board.relay.port);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(f.end[i].notices, 1u << GT_PATH_MAIN_PORT);
            assert_non_null(strstr(f.end[i].notice, is_closed ? "refused" : "no answer"));
            f.end[i].notices = 0;
        }
        fixture_settle(&f);
        begun = gt_clock();
        flows_begin(&flows, &f, 4, 100000); /* remembered: no patience with the session's port */
        assert_true(gt_clock() - begun < 1);
        assert_int_equal(f.end[0].notices | f.end[1].notices, 0);
        flows_finish(&flows);
        fixture_deinit(&f);
    }
}

static bool has_notice(void *userdata)
{
    return ((const struct fixture *)userdata)->end[0].notices == 1u << GT_PATH_NO_DATA;
}

static void test_tunnel_without_data_connection_ends_with_the_reason(void **state)
{
    static struct fixture f;

    fixture_init(&f);
    f.board.ignores_joins = f.board.ignores_main_joins = true;
    fixture_start_both(&f);
    assert_true(fake_run(f.loop, has_notice, &f, 12));
    assert_int_equal(f.end[0].n_up, 0);
    assert_false(gt_tunnel_is_up(f.end[0].tunnel));
    assert_non_null(strstr(f.end[0].notice, "no answer to JOIN"));
    fixture_deinit(&f);
}

/* --- streams that do not work ----------------------------------------------------------------- */

static bool has_one_ended(void *userdata)
{
    const struct fixture *f = userdata;

    return f->end[0].n_ends == 1;
}

static void test_stream_rejection_has_its_reason(void **state)
{
    static struct fixture f;

    fixture_init(&f);
    f.refusal = GT_RST_DENIED;
    fixture_start_both(&f);
    int fd = open_stream(&f);
    assert_true(fake_run(f.loop, has_one_ended, &f, 5));
    assert_int_equal(f.end[0].last_rst, GT_RST_DENIED);
    assert_int_equal(f.end[0].n_down, 0);
    close(fd);
    fixture_deinit(&f);
}

static void test_stream_rejected_by_a_full_device(void **state)
{
    static struct fixture f;

    fixture_init(&f);
    f.settings[1].max_streams = 1;
    fixture_start_both(&f);
    int first = open_stream(&f), second = open_stream(&f);
    assert_true(fake_run(f.loop, has_one_ended, &f, 5));
    assert_int_equal(f.end[0].last_rst, GT_RST_LIMIT);
    assert_int_equal(gt_tunnel_n_streams(f.end[0].tunnel), 1);
    close(first);
    close(second);
    fixture_deinit(&f);
}

/* The relay has no room for it: the stream stays on the shared connection. */
static void test_stream_without_ticket_is_carried_all_the_same(void **state)
{
    static struct fixture f;
    static struct flows flows;

    fixture_up(&f);
    f.board.has_no_tickets = true;
    flows_begin(&flows, &f, 3, 4 << 20);
    assert_true(f.board.n_opens >= 3);
    assert_int_equal(f.board.n_joins, 0);
    flows_finish(&flows);
    fixture_deinit(&f);
}

/* Streams of few bytes cost no ticket, no data connection and no message to the relay. */
static void test_streams_of_few_bytes_share_one_connection(void **state)
{
    static struct fixture f;
    static struct flows flows;

    fixture_up(&f);
    flows_begin(&flows, &f, STREAMS_MAX, 1000);
    assert_in_range(f.board.load, 1, STREAMS_MAX);
    flows_finish(&flows);
    assert_int_equal(f.board.n_opens + f.board.n_joins + f.board.n_stream_ends, 0);
    fixture_deinit(&f);
}

static bool is_unloaded(void *userdata)
{
    return ((const struct fixture *)userdata)->board.load == 0;
}

static bool has_three_streams(void *userdata)
{
    return ((const struct fixture *)userdata)->board.load == 3;
}

static unsigned n_full; /* this many LOADs find no room in the queue */

int __real_gt_control_connection_set_load(struct gt_control_connection *control, uint32_t n);
int __wrap_gt_control_connection_set_load(struct gt_control_connection *control, uint32_t n);

int __wrap_gt_control_connection_set_load(struct gt_control_connection *control, uint32_t n)
{
    if (n_full == 0)
        return __real_gt_control_connection_set_load(control, n);
    n_full--;
    return GT_CONTROL_CONNECTION_E_FULL;
}

/* The relay did not read for a while. No stream begins or ends meanwhile. */
static void test_load_that_was_not_queued_is_sent_later(void **state)
{
    static struct fixture f;
    static struct flows flows;

    fixture_up(&f);
    n_full = 5; /* the first stream, two more, and two repetitions */
    flows_begin(&flows, &f, 3, 1000);
    assert_int_equal(f.board.load, 0);
    assert_true(fake_run(f.loop, has_three_streams, &f, 10));
    assert_int_equal(n_full, 0);
    n_full = 2;
    flows_finish(&flows);
    assert_true(fake_run(f.loop, is_unloaded, &f, 10));
    assert_int_equal(n_full, 0);
    fixture_deinit(&f);
}

/* The first stream at once, other changes and the end of the last one a second later. */
static void test_tunnel_reports_its_load_to_the_relay(void **state)
{
    static struct fixture f;
    static struct flows flows;

    fixture_up(&f);
    assert_int_equal(f.board.load, 0);
    flows_begin(&flows, &f, 3, 1000);
    assert_int_equal(f.board.load, 1);
    assert_true(fake_run(f.loop, has_three_streams, &f, 5));
    flows_finish(&flows);
    double begun = gt_clock();
    assert_true(fake_run(f.loop, is_unloaded, &f, 5));
    assert_true(gt_clock() - begun > .5 && gt_clock() - begun < 2);
    fixture_deinit(&f);
}

static bool has_no_data_connection(void *userdata)
{
    const struct fixture *f = userdata;

    for (size_t i = 0; i < DATA_MAX; i++)
        if (f->board.data[i].fd >= 0)
            return false;
    return true;
}

static void test_tunnel_closes_an_idle_shared_connection(void **state)
{
    static struct fixture f;
    static struct flows flows;

    fixture_init(&f);
    f.settings[0].shared_idle_ms = 60000;
    fixture_start_both(&f);
    assert_true(fake_run(f.loop, are_both_up, &f, 5));
    for (int i = 1; i <= 2; i++) {
        double begun = gt_clock();
        assert_true(fake_run(f.loop, has_no_data_connection, &f, 70));
        assert_true(gt_clock() - begun > 55);
        assert_false(fake_run(f.loop, is_operator_down, &f, 100)); /* nor is another one opened */
        assert_true(has_no_data_connection(&f));
        begun = gt_clock();
        flows_begin(&flows, &f, 2, 1000);
        assert_true(gt_clock() - begun < 2);
        assert_int_equal(f.board.n_joins, 2 + 2 * i);
        flows_finish(&flows);
        for (int k = 0; k < 2; k++)
            f.end[k] = (struct end){.tunnel = f.end[k].tunnel, .fixture = &f, .n_up = 1};
    }
    assert_int_equal(f.end[0].n_down + f.end[1].n_down, 0);
    fixture_deinit(&f);
}

static bool are_both_counted(void *userdata)
{
    const struct fixture *f = userdata;

    return f->end[0].n_ends == 1 && f->end[1].n_ends == 1;
}

static void test_ticket_of_an_ended_stream_is_ignored(void **state)
{
    static struct fixture f;

    fixture_up(&f);
    f.refusal = GT_RST_REFUSED;
    int fd = open_stream(&f);
    assert_true(fake_run(f.loop, are_both_counted, &f, 5));
    struct gt_control_frame ticket = fake_frame(GT_CONTROL_TICKET);
    ticket.ticket.attempt = 2;
    fake_client_send(fake_relay_client(&f.board.relay, GT_ROLE_DEVICE), &ticket);
    fake_client_send(fake_relay_client(&f.board.relay, GT_ROLE_OPERATOR), &ticket);
    for (int i = 0; i < 20; i++)
        ev_run(f.loop, EVRUN_NOWAIT);
    assert_int_equal(gt_tunnel_n_streams(f.end[1].tunnel), 0);
    assert_int_equal(f.end[0].n_down + f.end[1].n_down, 0);
    close(fd);
    fixture_deinit(&f);
}

/* --- ends ------------------------------------------------------------------------------------- */

static void test_tunnel_close_by_either_side(void **state)
{
    static const char *const whys[] = {"closed by the operator", "closed by the device"};

    for (int closer = 0; closer < 2; closer++) {
        static struct fixture f;

        fixture_up(&f);
        int fd = open_served_stream(&f);
        double begun = gt_clock();
        gt_tunnel_close(f.end[closer].tunnel);
        assert_int_equal(f.end[closer].n_down, 0);
        assert_true(fake_run(f.loop, are_both_down, &f, 5));
        assert_true(gt_clock() - begun < 2);
        expect_end(&f.end[closer], GT_END_CLOSED, GT_CODE_NONE, "closed");
        expect_end(&f.end[1 - closer], GT_END_CLOSED, GT_CODE_BYE, whys[closer]);
        assert_int_equal(f.end[0].n_ends, 1);
        assert_int_equal(f.end[1].n_ends, 1);
        assert_int_equal(f.end[closer].last_rst, GT_RST_CLOSED);
        int fds[2];
        assert_int_equal(gt_sock_pair(fds), 0);
        assert_int_equal(gt_tunnel_open(f.end[0].tunnel, gt_endpoint_fds(fds[1]), "echo"),
                         GT_TUNNEL_E_OVER);
        close(fds[0]);
        close(fd);
        fixture_deinit(&f);
    }
}

static void test_tunnel_withdraw_ends_streams_and_the_other_side(void **state)
{
    static struct fixture f;

    fixture_up(&f);
    int fd = open_served_stream(&f);
    double begun = gt_clock();
    gt_tunnel_withdraw(f.end[1].tunnel);
    assert_int_equal(f.end[1].n_down, 0);
    assert_true(fake_run(f.loop, are_both_down, &f, 5));
    assert_true(gt_clock() - begun < 2);
    expect_end(&f.end[1], GT_END_WITHDRAWN, GT_CODE_NONE, "access was withdrawn");
    assert_int_equal(f.end[1].last_rst, GT_RST_CLOSED);
    expect_end(&f.end[0], GT_END_WITHDRAWN, GT_CODE_WITHDRAWN, "access was withdrawn");
    close(fd);
    fixture_deinit(&f);
}

static void test_tunnel_close_with_a_stalled_connection(void **state)
{
    static struct fixture f;

    fixture_up(&f);
    int fd = open_served_stream(&f);
    f.board.is_frozen = true;
    for (size_t i = 0; i < DATA_MAX; i++)
        if (f.board.data[i].fd >= 0)
            data_watch(&f.board.data[i]);
    double begun = gt_clock();
    gt_tunnel_close(f.end[0].tunnel);
    assert_true(fake_run(f.loop, are_both_down, &f, 5));
    assert_true(gt_clock() - begun < 4); /* one after the other, each within 2 s */
    assert_int_equal(f.end[0].n_ends, 1);
    assert_int_equal(f.end[0].last_rst, GT_RST_CLOSED);
    assert_int_equal(f.end[1].n_ends, 1);
    close(fd);
    fixture_deinit(&f);
}

static void test_tunnel_close_before_it_is_up(void **state)
{
    for (int n_turns = 0; n_turns < 10; n_turns++) {
        static struct fixture f;

        fixture_init(&f);
        fixture_start(&f, 0);
        for (int i = 0; i < n_turns; i++)
            ev_run(f.loop, EVRUN_NOWAIT);
        gt_tunnel_close(f.end[0].tunnel);
        assert_int_equal(f.end[0].n_down, 0);
        assert_true(fake_run(f.loop, is_operator_down, &f, 3));
        expect_end(&f.end[0], GT_END_CLOSED, GT_CODE_NONE, "closed");
        fixture_deinit(&f);
    }
}

static void test_tunnel_free_in_every_state(void **state)
{
    for (int n_turns = 0; n_turns < 60; n_turns += 3) {
        static struct fixture f;

        fixture_init(&f);
        fixture_start_both(&f);
        int fd = open_stream(&f);
        for (int i = 0; i < n_turns; i++)
            ev_run(f.loop, EVRUN_NOWAIT);
        f.end[n_turns % 2].tunnel = gt_tunnel_free(f.end[n_turns % 2].tunnel);
        for (int i = 0; i < 10; i++)
            ev_run(f.loop, EVRUN_NOWAIT);
        close(fd);
        fixture_deinit(&f);
    }
}

static void test_tunnel_device_never_registers(void **state)
{
    static struct fixture f;

    fixture_init(&f);
    f.settings[0].peer_timeout_ms = 200;
    fixture_start(&f, 0);
    assert_true(fake_run(f.loop, is_operator_down, &f, 5));
    expect_end(&f.end[0], GT_END_PEER, GT_CODE_NONE, "did not connect to the relay");
    assert_int_equal(f.end[0].n_up, 0);
    fixture_deinit(&f);
}

static bool is_peer_away(void *userdata)
{
    const struct fixture *f = userdata;

    return f->end[0].n_peer == 1;
}

static bool is_peer_back(void *userdata)
{
    const struct fixture *f = userdata;

    return f->end[0].n_peer == 2;
}

static void test_tunnel_lost_peer_may_return(void **state)
{
    static struct fixture f;

    fixture_init(&f);
    f.settings[0].resume_window_ms = 300;
    fixture_start_both(&f);
    assert_true(fake_run(f.loop, are_both_up, &f, 5));
    struct fake_client *operator_ = fake_relay_client(&f.board.relay, GT_ROLE_OPERATOR);
    fake_client_peer(operator_, false, GT_CODE_LOST);
    assert_true(fake_run(f.loop, is_peer_away, &f, 5));
    assert_false(f.end[0].is_peer_up);
    fake_client_peer(operator_, true, GT_CODE_NONE);
    assert_true(fake_run(f.loop, is_peer_back, &f, 5));
    assert_true(f.end[0].is_peer_up && gt_tunnel_is_up(f.end[0].tunnel));
    fake_client_peer(operator_, false, GT_CODE_LOST);
    assert_false(fake_run(f.loop, is_operator_down, &f, 2)); /* its data connection lives */
    board_cut_data(&f.board);
    assert_true(fake_run(f.loop, is_operator_down, &f, 5));
    expect_end(&f.end[0], GT_END_PEER, GT_CODE_LOST, "did not return");
    fixture_deinit(&f);
}

static void test_tunnel_peer_restart_ends_it_at_once(void **state)
{
    static struct fixture f;

    fixture_up(&f);
    int fd = open_served_stream(&f);
    fake_client_peer(fake_relay_client(&f.board.relay, GT_ROLE_OPERATOR), true,
                     GT_CODE_NEW_PROCESS);
    assert_true(fake_run(f.loop, is_operator_down, &f, 5));
    expect_end(&f.end[0], GT_END_PEER, GT_CODE_NEW_PROCESS, "restarted");
    assert_int_equal(f.end[0].last_rst, GT_RST_LOST);
    close(fd);
    fixture_deinit(&f);
}

/* --- network failures ------------------------------------------------------------------------- */

static bool is_control_back(void *userdata)
{
    const struct fixture *f = userdata;

    return f->end[0].n_control == 2;
}

static void test_tunnel_reconnects_lost_control_connection(void **state)
{
    static struct fixture f;

    fixture_up(&f);
    int fd = open_served_stream(&f);
    fake_client_close(fake_relay_client(&f.board.relay, GT_ROLE_OPERATOR));
    double begun = gt_clock();
    assert_true(fake_run(f.loop, is_control_back, &f, 5));
    assert_true(gt_clock() - begun < 2);
    assert_true(gt_tunnel_is_up(f.end[0].tunnel));
    assert_int_equal(f.board.generation[0], 2);
    assert_int_equal(f.end[0].n_ends + f.end[1].n_ends, 0);
    assert_int_equal(f.board.n_joins, 0); /* the shared connection was not cut */
    close(fd);
    fixture_deinit(&f);
}

/* Control connections, data connections, or both are cut at any time: all bytes are exact. */
static void test_streams_survive_any_cut(void **state)
{
    static struct fixture f;
    static struct flows flows;
    ev_timer wind;
    const char *seed = getenv("GOTTHARD_SEED");
    struct storm storm = {&flows, 0, 12, seed ? (uint32_t)atoi(seed) : (uint32_t)time(NULL)};

    print_message("GOTTHARD_SEED=%u\n", storm.random);
    fixture_up(&f);
    flows = (struct flows){.f = &f, .n_streams = 8, .n = 24 << 20};
    flows_open(&flows);
    ev_timer_init(&wind, storm_on_timer, .1, .35);
    wind.data = &storm;
    ev_timer_start(f.loop, &wind);
    flows_run(&flows);
    flows_finish(&flows); /* while the last cuts still happen */
    ev_timer_stop(f.loop, &wind);
    assert_true(storm.n_cuts > 1 && f.board.n_joins > 16);
    assert_int_equal(f.end[0].n_down + f.end[1].n_down, 0);
    fixture_deinit(&f);
}

/* The connections of one side end; those of the other side stay open without a peer. */
static void board_cut_data_of(struct switchboard *board, enum gt_role role)
{
    for (size_t i = 0; i < DATA_MAX; i++) {
        struct data *data = &board->data[i];

        if (data->fd < 0 || !data->other || data->join.role != role)
            continue;
        ev_io_stop(board->loop, &data->other->io);
        data->other->other = NULL;
        data->other = NULL;
        data_close(data);
    }
}

/* Whichever side has lost its data connections, the other side is informed without waiting for a
 * heartbeat. */
static void test_stream_half_open_connection_is_replaced(void **state)
{
    for (enum gt_role role = GT_ROLE_OPERATOR; role <= GT_ROLE_DEVICE; role++) {
        static struct fixture f;
        static struct flows flows;

        fixture_up(&f);
        flows_begin(&flows, &f, 4, 100000);
        board_cut_data_of(&f.board, role);
        double begun = gt_clock();
        flows.n += 1000;
        flows_continue(&flows);
        assert_true(gt_clock() - begun < 2);
        assert_int_equal(f.board.n_joins, 2); /* one shared connection, two sides */
        flows.n = 2 << 20;
        flows_continue(&flows); /* each over one of its own */
        assert_int_equal(f.board.n_joins, 10);
        board_cut_data_of(&f.board, role);
        begun = gt_clock();
        flows.n += 1000;
        flows_continue(&flows);
        assert_true(gt_clock() - begun < 2);
        assert_int_equal(f.end[0].n_control + f.end[1].n_control, 0);
        flows_finish(&flows);
        fixture_deinit(&f);
    }
}

/* The last frames are lost: both ends receive them over another data connection. */
static void test_stream_end_is_repeated_after_a_cut(void **state)
{
    for (int delay = 0; delay < 24; delay += 3) {
        static struct fixture f;
        static struct flows flows;

        fixture_up(&f);
        flows_begin(&flows, &f, 1, 1000);
        assert_int_equal(shutdown(flows.fds[0], SHUT_WR), 0);
        assert_int_equal(shutdown(f.target[flows.numbers[0]], SHUT_WR), 0);
        for (int i = 0; i < delay; i++)
            ev_run(f.loop, EVRUN_NOWAIT);
        board_cut_data(&f.board);
        assert_true(fake_run(f.loop, are_all_ended, &flows, 20));
        assert_int_equal(f.end[0].n_well + f.end[1].n_well, 2);
        gt_close(&flows.fds[0]);
        fixture_deinit(&f);
    }
}

static bool is_unread(void *userdata)
{
    int n = 0;

    return ioctl(*(int *)userdata, FIONREAD, &n) == 0 && n > 0;
}

/* Closed with something unread, which makes it a reset. */
static void test_stream_reset_is_repeated_after_a_cut(void **state)
{
    for (int side = 0; side < 2; side++) {
        static struct fixture f;
        static struct flows flows;

        fixture_up(&f);
        flows_begin(&flows, &f, 1, 1000);
        int *closer = side ? &f.target[flows.numbers[0]] : &flows.fds[0];
        assert_int_equal(send(side ? flows.fds[0] : f.target[flows.numbers[0]], "x", 1, 0), 1);
        assert_true(fake_run(f.loop, is_unread, closer, 5));
        board_cut_data(&f.board);
        gt_close(closer);
        assert_true(fake_run(f.loop, are_all_ended, &flows, 5));
        assert_int_equal(f.end[0].n_well + f.end[1].n_well, 0);
        gt_close(&flows.fds[0]);
        fixture_deinit(&f);
    }
}

static bool is_device_stream_over(void *userdata)
{
    return ((const struct fixture *)userdata)->end[1].n_ends == 1;
}

/* A device that does not know a stream any more answers its beginning with that: the operator does
 * not wait for its window to end. */
static void test_stream_unknown_to_the_device_fails_fast(void **state)
{
    static struct fixture f;
    static struct flows flows;

    fixture_init(&f);
    f.settings[1].resume_window_ms = 2000;
    fixture_start_both(&f);
    assert_true(fake_run(f.loop, are_both_up, &f, 5));
    flows_begin(&flows, &f, 1, 1000);
    f.board.has_no_tickets = true;
    f.board.end_code = GT_CODE_NO_SESSION;
    board_cut_data(&f.board);
    assert_true(fake_run(f.loop, is_device_stream_over, &f, 5));
    assert_int_equal(f.end[0].n_ends, 0);
    f.board.has_no_tickets = false;
    assert_true(fake_run(f.loop, has_one_ended, &f, 15));
    assert_int_equal(f.end[0].last_rst, GT_RST_LOST);
    close(flows.fds[0]);
    fixture_deinit(&f);
}

static bool is_device_down(void *userdata)
{
    return ((const struct fixture *)userdata)->end[1].n_down == 1;
}

/* Version 0.1 requests a data connection for each stream, and none of stream 0. */
static void test_tunnel_with_an_older_operator_ends_at_once(void **state)
{
    static struct fixture f;
    struct gt_control_frame ticket = fake_frame(GT_CONTROL_TICKET);

    fixture_init(&f);
    ticket.ticket = (struct gt_ticket){.stream = 1, .attempt = 1, .ttl_s = 30};
    f.board.tickets[f.board.n_tickets++] = ticket;
    fixture_start(&f, 1);
    double begun = gt_clock();
    assert_true(fake_run(f.loop, is_device_down, &f, 5));
    assert_true(gt_clock() - begun < 3);
    expect_end(&f.end[1], GT_END_CLOSED, GT_CODE_NONE,
               "the operator's gotthard-cli is older than 0.2: upgrade it");
    fixture_deinit(&f);
}

static void board_stop(struct switchboard *board)
{
    ev_io_stop(board->loop, &board->relay.acceptable);
    gt_close(&board->relay.listener);
    board_cut_data(board);
    board_cut_control(board);
}

static void test_tunnel_ends_after_the_resume_window(void **state)
{
    static struct fixture f;

    fixture_init(&f);
    f.settings[0].resume_window_ms = f.settings[1].resume_window_ms = 700;
    fixture_start_both(&f);
    assert_true(fake_run(f.loop, are_both_up, &f, 5));
    int fd = open_served_stream(&f);
    board_stop(&f.board);
    double begun = gt_clock();
    assert_true(fake_run(f.loop, are_both_down, &f, 5));
    assert_true(gt_clock() - begun > .6 && gt_clock() - begun < 2);
    for (int i = 0; i < 2; i++) {
        expect_end(&f.end[i], GT_END_LOST, GT_CODE_NONE, "");
        assert_int_equal(f.end[i].n_ends, 1);
        assert_int_equal(f.end[i].n_well, 0);
        assert_int_equal(f.end[i].n_control, 1);
    }
    char byte;
    assert_true(recv(fd, &byte, 1, 0) <= 0);
    close(fd);
    fixture_deinit(&f);
}

static bool has_passed(void *userdata)
{
    return gt_clock() >= *(const double *)userdata;
}

/* No data connection came about for the whole window, while the relay was there. */
static void test_stream_after_the_window_requests_the_shared_connection(void **state)
{
    static struct fixture f;

    fixture_init(&f);
    f.settings[0].resume_window_ms = f.settings[1].resume_window_ms = 700;
    fixture_start_both(&f);
    assert_true(fake_run(f.loop, are_both_up, &f, 5));
    fixture_settle(&f);
    f.board.has_no_tickets = true;
    board_cut_data(&f.board);
    double later = gt_clock() + 1.5;
    assert_true(fake_run(f.loop, has_passed, &later, 5));
    f.board.has_no_tickets = false;
    assert_true(gt_tunnel_is_up(f.end[0].tunnel));
    gt_close((int[]){open_served_stream(&f)});
    assert_int_equal(f.board.n_joins, 2);
    fixture_deinit(&f);
}

static void test_tunnel_close_while_streams_are_parked(void **state)
{
    for (int n_turns = 0; n_turns < 40; n_turns += 10) {
        static struct fixture f;

        fixture_up(&f);
        int fd = open_served_stream(&f);
        board_stop(&f.board);
        assert_false(fake_run(f.loop, is_control_back, &f, .1 + n_turns * .02));
        double begun = gt_clock();
        gt_tunnel_close(f.end[0].tunnel);
        assert_true(fake_run(f.loop, is_operator_down, &f, 5));
        assert_true(gt_clock() - begun < 2);
        expect_end(&f.end[0], GT_END_CLOSED, GT_CODE_LOST, "closed");
        close(fd);
        fixture_deinit(&f);
    }
}

static bool is_control_lost(void *userdata)
{
    const struct fixture *f = userdata;

    return f->end[0].n_control == 1;
}

/* Closed in the delay before the next attempt, and during that attempt. */
static void test_tunnel_bye_over_a_new_control_connection(void **state)
{
    static const double waits[] = {0, .2, .4, .5, .6};

    for (size_t i = 0; i < GT_ARRAY_SIZE(waits); i++) {
        static struct fixture f;

        fixture_up(&f);
        int fd = open_served_stream(&f);
        fake_client_close(fake_relay_client(&f.board.relay, GT_ROLE_OPERATOR));
        if (i % 2)
            board_cut_data(&f.board);
        assert_true(fake_run(f.loop, is_control_lost, &f, 5));
        fake_run(f.loop, is_control_back, &f, waits[i]);
        double begun = gt_clock();
        gt_tunnel_close(f.end[0].tunnel);
        assert_true(fake_run(f.loop, are_both_down, &f, 5));
        assert_true(gt_clock() - begun < 2);
        expect_end(&f.end[0], GT_END_CLOSED, GT_CODE_NONE, "closed");
        expect_end(&f.end[1], GT_END_CLOSED, GT_CODE_BYE, "closed by the operator");
        assert_int_equal(f.board.generation[0], 2);
        close(fd);
        fixture_deinit(&f);
    }
}

static bool is_next_control_accepted(void *userdata)
{
    const struct fixture *f = userdata;

    return f->board.relay.n_accepted == 3;
}

/* The control connection returns while the streams still send their last frames: BYE uses it. */
static void test_tunnel_bye_over_a_control_connection_that_returns(void **state)
{
    static struct fixture f;

    fixture_up(&f);
    int fd = open_served_stream(&f);
    fake_client_close(fake_relay_client(&f.board.relay, GT_ROLE_OPERATOR));
    assert_true(fake_run(f.loop, is_control_lost, &f, 5));
    f.board.is_frozen = true; /* which delays the last frames */
    for (size_t i = 0; i < DATA_MAX; i++)
        if (f.board.data[i].fd >= 0)
            data_watch(&f.board.data[i]);
    assert_true(fake_run(f.loop, is_next_control_accepted, &f, 5));
    gt_tunnel_close(f.end[0].tunnel);
    assert_true(fake_run(f.loop, are_both_down, &f, 8));
    expect_end(&f.end[0], GT_END_CLOSED, GT_CODE_NONE, "closed");
    expect_end(&f.end[1], GT_END_CLOSED, GT_CODE_BYE, "closed by the operator");
    assert_int_equal(f.board.generation[0], 2);
    close(fd);
    fixture_deinit(&f);
}

static void test_tunnel_missed_bye_is_repeated_by_the_relay(void **state)
{
    static const struct {
        enum gt_code code;
        enum gt_end_reason cause;
        const char *why;
    } ends[] = {{GT_CODE_BYE, GT_END_CLOSED, "closed by the device"},
                {GT_CODE_NEW_PROCESS, GT_END_PEER, "restarted"},
                {GT_CODE_WITHDRAWN, GT_END_WITHDRAWN, "access was withdrawn"}};
    for (size_t i = 0; i < GT_ARRAY_SIZE(ends); i++) {
        static struct fixture f;

        fixture_up(&f);
        f.board.bye_code = ends[i].code;
        fake_client_close(fake_relay_client(&f.board.relay, GT_ROLE_OPERATOR));
        assert_true(fake_run(f.loop, is_operator_down, &f, 5));
        expect_end(&f.end[0], ends[i].cause, ends[i].code, ends[i].why);
        fixture_deinit(&f);
        fixture_init(&f); /* the same before it was up */
        f.board.bye_code = ends[i].code;
        fixture_start(&f, 0);
        assert_true(fake_run(f.loop, is_operator_down, &f, 5));
        expect_end(&f.end[0], ends[i].cause, ends[i].code, ends[i].why);
        fixture_deinit(&f);
    }
}

/* A stopping relay does not end the tunnel; a registration that was replaced does. */
static void test_tunnel_waits_for_a_stopping_relay(void **state)
{
    static struct fixture f;

    fixture_up(&f);
    fake_client_code(fake_relay_client(&f.board.relay, GT_ROLE_OPERATOR), GT_CONTROL_BYE,
                     GT_CODE_SHUTDOWN);
    assert_true(fake_run(f.loop, is_control_back, &f, 5));
    fake_client_code(fake_relay_client(&f.board.relay, GT_ROLE_OPERATOR), GT_CONTROL_BYE,
                     GT_CODE_REPLACED);
    assert_true(fake_run(f.loop, is_operator_down, &f, 5));
    expect_end(&f.end[0], GT_END_RELAY, GT_CODE_REPLACED, "");
    fixture_deinit(&f);
}

static void test_tunnel_lifetime_expires(void **state)
{
    static struct fixture f;

    fixture_init(&f);
    f.settings[0].lifetime_s = 1;
    fixture_start_both(&f);
    int fd = open_stream(&f);
    assert_true(fake_run(f.loop, is_operator_down, &f, 5));
    expect_end(&f.end[0], GT_END_EXPIRED, GT_CODE_LIFETIME, "lifetime of the session has expired");
    assert_int_equal(f.end[0].last_rst, GT_RST_EXPIRED);
    close(fd);
    fixture_deinit(&f);
}

static void test_tunnel_failure_before_up_has_its_reason(void **state)
{
    static struct fixture f;

    fixture_init(&f);
    f.board.relay.has_wrong_key = true;
    fixture_start(&f, 0);
    int fd = open_stream(&f);
    assert_true(fake_run(f.loop, is_operator_down, &f, 5));
    expect_end(&f.end[0], GT_END_REFUSED, GT_CODE_NONE, "wrong key");
    assert_int_equal(f.end[0].n_ends, 1);
    close(fd);
    fixture_deinit(&f);

    fixture_init(&f);
    ev_io_stop(f.loop, &f.board.relay.acceptable);
    gt_close(&f.board.relay.listener);
    f.settings[0].peer_timeout_ms = 200;
    fixture_start(&f, 0);
    assert_true(fake_run(f.loop, is_operator_down, &f, 5));
    expect_end(&f.end[0], GT_END_UNREACHABLE, GT_CODE_NONE, "refused");
    fixture_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tunnel_one_stream_transfers_and_ends),
        cmocka_unit_test(test_tunnel_many_streams_stay_apart),
        cmocka_unit_test(test_tunnel_streams_opened_before_the_device_registers),
        cmocka_unit_test(test_tunnel_single_port),
        cmocka_unit_test(test_tunnel_falls_back_to_the_main_port),
        cmocka_unit_test(test_tunnel_without_data_connection_ends_with_the_reason),
        cmocka_unit_test(test_stream_rejection_has_its_reason),
        cmocka_unit_test(test_stream_rejected_by_a_full_device),
        cmocka_unit_test(test_stream_without_ticket_is_carried_all_the_same),
        cmocka_unit_test(test_streams_of_few_bytes_share_one_connection),
        cmocka_unit_test(test_tunnel_reports_its_load_to_the_relay),
        cmocka_unit_test(test_load_that_was_not_queued_is_sent_later),
        cmocka_unit_test(test_tunnel_closes_an_idle_shared_connection),
        cmocka_unit_test(test_ticket_of_an_ended_stream_is_ignored),
        cmocka_unit_test(test_tunnel_close_by_either_side),
        cmocka_unit_test(test_tunnel_withdraw_ends_streams_and_the_other_side),
        cmocka_unit_test(test_tunnel_close_with_a_stalled_connection),
        cmocka_unit_test(test_tunnel_close_before_it_is_up),
        cmocka_unit_test(test_tunnel_free_in_every_state),
        cmocka_unit_test(test_tunnel_device_never_registers),
        cmocka_unit_test(test_tunnel_lost_peer_may_return),
        cmocka_unit_test(test_tunnel_peer_restart_ends_it_at_once),
        cmocka_unit_test(test_tunnel_reconnects_lost_control_connection),
        cmocka_unit_test(test_streams_survive_any_cut),
        cmocka_unit_test(test_stream_half_open_connection_is_replaced),
        cmocka_unit_test(test_stream_end_is_repeated_after_a_cut),
        cmocka_unit_test(test_stream_reset_is_repeated_after_a_cut),
        cmocka_unit_test(test_stream_unknown_to_the_device_fails_fast),
        cmocka_unit_test(test_tunnel_with_an_older_operator_ends_at_once),
        cmocka_unit_test(test_tunnel_ends_after_the_resume_window),
        cmocka_unit_test(test_stream_after_the_window_requests_the_shared_connection),
        cmocka_unit_test(test_tunnel_close_while_streams_are_parked),
        cmocka_unit_test(test_tunnel_bye_over_a_new_control_connection),
        cmocka_unit_test(test_tunnel_bye_over_a_control_connection_that_returns),
        cmocka_unit_test(test_tunnel_missed_bye_is_repeated_by_the_relay),
        cmocka_unit_test(test_tunnel_waits_for_a_stopping_relay),
        cmocka_unit_test(test_tunnel_lifetime_expires),
        cmocka_unit_test(test_tunnel_failure_before_up_has_its_reason),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
