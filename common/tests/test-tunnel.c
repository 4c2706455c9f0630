/* SPDX-License-Identifier: ISC */
/*
 * tunnel.c, and with it its streams and its redialling, in the world of tunnel-world.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>

#include "tunnel-world.h"

static bool is_served(void *userdata)
{
    const struct fixture *f = userdata;
    return f->n_asked == 1;
}

static int open_served_stream(struct fixture *f)
{
    int fd = open_stream(f);
    assert_true(fake_run(f->loop, is_served, f, 5));
    return fd;
}

static void one_stream_carries_and_ends_well(void **state)
{
    static struct fixture f;
    static struct flows flows;
    fixture_up(&f);
    flows_begin(&flows, &f, 1, 8 << 20);
    flows_finish(&flows);
    assert_int_equal(f.board.n_joins, 2);
    fixture_deinit(&f);
}

static void many_streams_do_not_mix(void **state)
{
    static struct fixture f;
    static struct flows flows;
    fixture_up(&f);
    flows = (struct flows){.f = &f, .n_streams = STREAMS_MAX, .n = 300000};
    flows_open(&flows);
    int fds[2];
    assert_int_equal(gt_sock_pair(fds), 0);
    assert_int_equal(gt_tunnel_open(f.end[0].tunnel, fds[1], "echo"), GT_TUNNEL_E_FULL);
    close(fds[0]);
    flows_run(&flows);
    flows_finish(&flows);
    flows.fds[0] = open_stream(&f); /* there is room again */
    gt_close(&flows.fds[0]);
    fixture_deinit(&f);
}

static void streams_may_be_opened_at_once(void **state)
{
    static struct fixture f;
    static struct flows flows;
    fixture_init(&f);
    fixture_start(&f, 0);
    flows = (struct flows){.f = &f, .n_streams = 3, .n = 1000};
    flows_open(&flows);
    for (int i = 0; i < 50 && f.board.n_tickets < 3; i++)
        ev_run(f.loop, EVRUN_ONCE);
    fixture_start(&f, 1); /* the device comes late, and finds its tickets */
    flows_run(&flows);
    flows_finish(&flows);
    fixture_deinit(&f);
}

static void data_may_go_to_the_main_port(void **state)
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

/* --- streams that do not work ----------------------------------------------------------------- */

static bool has_one_ended(void *userdata)
{
    const struct fixture *f = userdata;
    return f->end[0].n_ends == 1;
}

static void a_refusal_is_told_with_its_reason(void **state)
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

static void a_full_device_says_so(void **state)
{
    static struct fixture f;
    fixture_init(&f);
    f.settings[1].max_streams = 1;
    fixture_start_both(&f);
    int first = open_stream(&f), second = open_stream(&f);
    assert_true(fake_run(f.loop, has_one_ended, &f, 5));
    assert_int_equal(f.end[0].last_rst, GT_RST_DENIED);
    assert_int_equal(gt_tunnel_n_streams(f.end[0].tunnel), 1);
    close(first);
    close(second);
    fixture_deinit(&f);
}

static void no_ticket_is_told_by_stream_end(void **state)
{
    static struct fixture f;
    fixture_up(&f);
    f.board.is_ticketless = true;
    int fd = open_stream(&f);
    assert_true(fake_run(f.loop, has_one_ended, &f, 5));
    assert_int_equal(f.end[0].last_rst, GT_RST_DENIED);
    close(fd);
    fixture_deinit(&f);
}

static bool are_both_counted(void *userdata)
{
    const struct fixture *f = userdata;
    return f->end[0].n_ends == 1 && f->end[1].n_ends == 1;
}

static void a_ticket_of_an_ended_stream_makes_nothing(void **state)
{
    static struct fixture f;
    fixture_up(&f);
    f.refusal = GT_RST_REFUSED;
    int fd = open_stream(&f);
    assert_true(fake_run(f.loop, are_both_counted, &f, 5));
    struct gt_control_frame ticket = fake_frame(GT_CONTROL_TICKET);
    ticket.ticket.attempt = 2;
    fake_member_say(fake_relay_member(&f.board.relay, GT_ROLE_DEVICE), &ticket);
    fake_member_say(fake_relay_member(&f.board.relay, GT_ROLE_OPERATOR), &ticket);
    for (int i = 0; i < 20; i++)
        ev_run(f.loop, EVRUN_NOWAIT);
    assert_int_equal(gt_tunnel_n_streams(f.end[1].tunnel), 0);
    assert_int_equal(f.end[0].n_down + f.end[1].n_down, 0);
    close(fd);
    fixture_deinit(&f);
}

/* --- ends ------------------------------------------------------------------------------------- */

static void either_side_may_close(void **state)
{
    static const char *const whys[] = {"closed by the operator", "closed by the device"};
    for (int closer = 0; closer < 2; closer++) {
        static struct fixture f;
        fixture_up(&f);
        int fd = open_served_stream(&f);
        ev_tstamp begun = ev_time();
        gt_tunnel_close(f.end[closer].tunnel);
        assert_int_equal(f.end[closer].n_down, 0);
        assert_true(fake_run(f.loop, are_both_down, &f, 5));
        assert_true(ev_time() - begun < 2);
        expect_end(&f.end[closer], GT_DOWN_CLOSED, GT_CODE_NONE, "closed");
        expect_end(&f.end[1 - closer], GT_DOWN_CLOSED, GT_CODE_BYE, whys[closer]);
        assert_int_equal(f.end[0].n_ends, 1);
        assert_int_equal(f.end[1].n_ends, 1);
        assert_int_equal(f.end[closer].last_rst, GT_RST_CLOSED);
        int fds[2];
        assert_int_equal(gt_sock_pair(fds), 0);
        assert_int_equal(gt_tunnel_open(f.end[0].tunnel, fds[1], "echo"), GT_TUNNEL_E_OVER);
        close(fds[0]);
        close(fd);
        fixture_deinit(&f);
    }
}

static void closing_does_not_wait_for_a_stalled_carrier(void **state)
{
    static struct fixture f;
    fixture_up(&f);
    int fd = open_served_stream(&f);
    f.board.is_frozen = true;
    for (size_t i = 0; i < DATA_MAX; i++)
        if (f.board.data[i].fd >= 0)
            data_watch(&f.board.data[i]);
    ev_tstamp begun = ev_time();
    gt_tunnel_close(f.end[0].tunnel);
    assert_true(fake_run(f.loop, are_both_down, &f, 5));
    assert_true(ev_time() - begun < 4); /* one after the other, each within 2 s */
    assert_int_equal(f.end[0].n_ends, 1);
    assert_int_equal(f.end[0].last_rst, GT_RST_CLOSED);
    assert_int_equal(f.end[1].n_ends, 1);
    close(fd);
    fixture_deinit(&f);
}

static void closing_before_it_is_up(void **state)
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
        expect_end(&f.end[0], GT_DOWN_CLOSED, GT_CODE_NONE, "closed");
        fixture_deinit(&f);
    }
}

static void freed_in_every_state(void **state)
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

static void a_device_that_does_not_come(void **state)
{
    static struct fixture f;
    fixture_init(&f);
    f.settings[0].peer_timeout_ms = 200;
    fixture_start(&f, 0);
    assert_true(fake_run(f.loop, is_operator_down, &f, 5));
    expect_end(&f.end[0], GT_DOWN_PEER, GT_CODE_NONE, "did not come");
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

static void a_peer_that_is_lost_may_come_back(void **state)
{
    static struct fixture f;
    fixture_init(&f);
    f.settings[0].resume_window_ms = 300;
    fixture_start_both(&f);
    assert_true(fake_run(f.loop, are_both_up, &f, 5));
    struct fake_member *operator_ = fake_relay_member(&f.board.relay, GT_ROLE_OPERATOR);
    fake_member_peer(operator_, false, GT_CODE_LOST);
    assert_true(fake_run(f.loop, is_peer_away, &f, 5));
    assert_false(f.end[0].is_peer_up);
    fake_member_peer(operator_, true, GT_CODE_NONE);
    assert_true(fake_run(f.loop, is_peer_back, &f, 5));
    assert_true(f.end[0].is_peer_up && gt_tunnel_is_up(f.end[0].tunnel));
    fake_member_peer(operator_, false, GT_CODE_LOST);
    assert_true(fake_run(f.loop, is_operator_down, &f, 5));
    expect_end(&f.end[0], GT_DOWN_PEER, GT_CODE_LOST, "did not come back");
    fixture_deinit(&f);
}

static void a_new_process_ends_it_at_once(void **state)
{
    static struct fixture f;
    fixture_up(&f);
    int fd = open_served_stream(&f);
    fake_member_peer(fake_relay_member(&f.board.relay, GT_ROLE_OPERATOR), true,
                     GT_CODE_NEW_PROCESS);
    assert_true(fake_run(f.loop, is_operator_down, &f, 5));
    expect_end(&f.end[0], GT_DOWN_PEER, GT_CODE_NEW_PROCESS, "restarted");
    assert_int_equal(f.end[0].last_rst, GT_RST_LOST);
    close(fd);
    fixture_deinit(&f);
}

/* --- what outlives the network ---------------------------------------------------------------- */

static bool is_link_back(void *userdata)
{
    const struct fixture *f = userdata;
    return f->end[0].n_link == 2;
}

static void a_lost_link_is_dialled_again(void **state)
{
    static struct fixture f;
    fixture_up(&f);
    int fd = open_served_stream(&f);
    fake_member_close(fake_relay_member(&f.board.relay, GT_ROLE_OPERATOR));
    ev_tstamp begun = ev_time();
    assert_true(fake_run(f.loop, is_link_back, &f, 5));
    assert_true(ev_time() - begun < 2);
    assert_true(gt_tunnel_is_up(f.end[0].tunnel));
    assert_int_equal(f.board.generation[0], 2);
    assert_int_equal(f.end[0].n_ends + f.end[1].n_ends, 0);
    assert_int_equal(f.board.n_joins, 2); /* its carrier was not touched */
    close(fd);
    fixture_deinit(&f);
}

/* Links, carriers, both, at any moment: not one byte is amiss. */
static void streams_outlive_any_cut(void **state)
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
    ev_timer_init(&wind, storm_blow, .1, .35);
    wind.data = &storm;
    ev_timer_start(f.loop, &wind);
    flows_run(&flows);
    flows_finish(&flows); /* under the last of the storm */
    ev_timer_stop(f.loop, &wind);
    assert_true(storm.n_cuts > 1 && f.board.n_joins > 16);
    assert_int_equal(f.end[0].n_down + f.end[1].n_down, 0);
    fixture_deinit(&f);
}

/* One side's connections end; the other side's stay open, with nothing behind them. */
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

/* A half-open carrier is replaced: whichever side has lost it, the other learns that without
 * waiting for a heartbeat. */
static void a_half_open_carrier_is_replaced(void **state)
{
    for (enum gt_role role = GT_ROLE_OPERATOR; role <= GT_ROLE_DEVICE; role++) {
        static struct fixture f;
        static struct flows flows;
        fixture_up(&f);
        flows_begin(&flows, &f, 4, 100000);
        board_cut_data_of(&f.board, role);
        ev_tstamp begun = ev_time();
        flows.n *= 2;
        flows_go_on(&flows);
        assert_true(ev_time() - begun < 2);
        assert_int_equal(f.board.n_joins, 16); /* two attempts, two sides */
        assert_int_equal(f.end[0].n_link + f.end[1].n_link, 0);
        flows_finish(&flows);
        fixture_deinit(&f);
    }
}

/* The two words that end it are lost: each end learns it all the same, over another carrier. */
static void an_end_is_told_again(void **state)
{
    for (int delay = 0; delay < 24; delay += 3) {
        static struct fixture f;
        static struct flows flows;
        fixture_up(&f);
        flows_begin(&flows, &f, 1, 1000);
        assert_int_equal(shutdown(flows.fds[0], SHUT_WR), 0);
        assert_int_equal(shutdown(f.target[1], SHUT_WR), 0);
        for (int i = 0; i < delay; i++)
            ev_run(f.loop, EVRUN_NOWAIT);
        board_cut_data(&f.board);
        assert_true(fake_run(f.loop, are_all_ended, &flows, 10));
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
static void a_reset_is_told_again(void **state)
{
    for (int who = 0; who < 2; who++) {
        static struct fixture f;
        static struct flows flows;
        fixture_up(&f);
        flows_begin(&flows, &f, 1, 1000);
        int *closer = who ? &f.target[1] : &flows.fds[0];
        assert_int_equal(send(who ? flows.fds[0] : f.target[1], "x", 1, 0), 1);
        assert_true(fake_run(f.loop, is_unread, closer, 5));
        board_cut_data(&f.board);
        gt_close(closer);
        assert_true(fake_run(f.loop, are_all_ended, &flows, 5));
        assert_int_equal(f.end[0].n_well + f.end[1].n_well, 0);
        gt_close(&flows.fds[0]);
        fixture_deinit(&f);
    }
}

/* A device that does not know a stream says so, and nobody waits for the window to pass. */
static void a_forgotten_stream_fails_fast(void **state)
{
    static struct fixture f;
    static struct flows flows;
    fixture_up(&f);
    flows_begin(&flows, &f, 1, 1000);
    f.board.is_ticketless = true; /* answers with a STREAM_END */
    f.board.end_code = GT_CODE_NO_SESSION;
    board_cut_data(&f.board);
    ev_tstamp begun = ev_time();
    assert_true(fake_run(f.loop, has_one_ended, &f, 5));
    assert_true(ev_time() - begun < 2);
    assert_int_equal(f.end[0].last_rst, GT_RST_RESYNC);
    close(flows.fds[0]);
    fixture_deinit(&f);
}

static void board_go_away(struct switchboard *board)
{
    ev_io_stop(board->loop, &board->relay.acceptable);
    gt_close(&board->relay.listener);
    board_cut_data(board);
    board_cut_links(board);
}

static void after_the_window_both_ends_break(void **state)
{
    static struct fixture f;
    fixture_init(&f);
    f.settings[0].resume_window_ms = f.settings[1].resume_window_ms = 700;
    fixture_start_both(&f);
    assert_true(fake_run(f.loop, are_both_up, &f, 5));
    int fd = open_served_stream(&f);
    board_go_away(&f.board);
    ev_tstamp begun = ev_time();
    assert_true(fake_run(f.loop, are_both_down, &f, 5));
    assert_true(ev_time() - begun > .6 && ev_time() - begun < 2);
    for (int i = 0; i < 2; i++) {
        expect_end(&f.end[i], GT_DOWN_LOST, GT_CODE_NONE, "");
        assert_int_equal(f.end[i].n_ends, 1);
        assert_int_equal(f.end[i].n_well, 0);
        assert_int_equal(f.end[i].n_link, 1);
    }
    char byte;
    assert_true(recv(fd, &byte, 1, 0) <= 0);
    close(fd);
    fixture_deinit(&f);
}

static void closing_while_parked_is_quick(void **state)
{
    for (int n_turns = 0; n_turns < 40; n_turns += 10) {
        static struct fixture f;
        fixture_up(&f);
        int fd = open_served_stream(&f);
        board_go_away(&f.board);
        assert_false(fake_run(f.loop, is_link_back, &f, .1 + n_turns * .02));
        ev_tstamp begun = ev_time();
        gt_tunnel_close(f.end[0].tunnel);
        assert_true(fake_run(f.loop, is_operator_down, &f, 5));
        assert_true(ev_time() - begun < 2);
        expect_end(&f.end[0], GT_DOWN_CLOSED, GT_CODE_LOST, "closed");
        close(fd);
        fixture_deinit(&f);
    }
}

static bool is_link_lost(void *userdata)
{
    const struct fixture *f = userdata;
    return f->end[0].n_link == 1;
}

/* In the pause before the next try, and with that try on its way. */
static void a_goodbye_is_said_over_another_link(void **state)
{
    static const double waits[] = {0, .2, .4, .5, .6};
    for (size_t i = 0; i < GT_ARRAY_SIZE(waits); i++) {
        static struct fixture f;
        fixture_up(&f);
        int fd = open_served_stream(&f);
        fake_member_close(fake_relay_member(&f.board.relay, GT_ROLE_OPERATOR));
        if (i % 2)
            board_cut_data(&f.board);
        assert_true(fake_run(f.loop, is_link_lost, &f, 5));
        fake_run(f.loop, is_link_back, &f, waits[i]);
        ev_tstamp begun = ev_time();
        gt_tunnel_close(f.end[0].tunnel);
        assert_true(fake_run(f.loop, are_both_down, &f, 5));
        assert_true(ev_time() - begun < 2);
        expect_end(&f.end[0], GT_DOWN_CLOSED, GT_CODE_NONE, "closed");
        expect_end(&f.end[1], GT_DOWN_CLOSED, GT_CODE_BYE, "closed by the operator");
        assert_int_equal(f.board.generation[0], 2);
        close(fd);
        fixture_deinit(&f);
    }
}

static bool is_next_link_accepted(void *userdata)
{
    const struct fixture *f = userdata;
    return f->board.relay.n_accepted == 3;
}

/* The link is back while the streams still say their last words: the goodbye goes over it. */
static void a_goodbye_is_said_over_a_link_that_comes_meanwhile(void **state)
{
    static struct fixture f;
    fixture_up(&f);
    int fd = open_served_stream(&f);
    fake_member_close(fake_relay_member(&f.board.relay, GT_ROLE_OPERATOR));
    assert_true(fake_run(f.loop, is_link_lost, &f, 5));
    f.board.is_frozen = true; /* which makes the last words take their time */
    for (size_t i = 0; i < DATA_MAX; i++)
        if (f.board.data[i].fd >= 0)
            data_watch(&f.board.data[i]);
    assert_true(fake_run(f.loop, is_next_link_accepted, &f, 5));
    gt_tunnel_close(f.end[0].tunnel);
    assert_true(fake_run(f.loop, are_both_down, &f, 8));
    expect_end(&f.end[0], GT_DOWN_CLOSED, GT_CODE_NONE, "closed");
    expect_end(&f.end[1], GT_DOWN_CLOSED, GT_CODE_BYE, "closed by the operator");
    assert_int_equal(f.board.generation[0], 2);
    close(fd);
    fixture_deinit(&f);
}

static void a_goodbye_that_was_missed_is_told_by_the_relay(void **state)
{
    static const struct {
        enum gt_code code;
        enum gt_down cause;
        const char *why;
    } ends[] = {{GT_CODE_BYE, GT_DOWN_CLOSED, "closed by the device"},
                {GT_CODE_NEW_PROCESS, GT_DOWN_PEER, "restarted"}};
    for (size_t i = 0; i < GT_ARRAY_SIZE(ends); i++) {
        static struct fixture f;
        fixture_up(&f);
        f.board.goodbye = ends[i].code;
        fake_member_close(fake_relay_member(&f.board.relay, GT_ROLE_OPERATOR));
        assert_true(fake_run(f.loop, is_operator_down, &f, 5));
        expect_end(&f.end[0], ends[i].cause, ends[i].code, ends[i].why);
        fixture_deinit(&f);
        fixture_init(&f); /* and before it ever was up */
        f.board.goodbye = ends[i].code;
        fixture_start(&f, 0);
        assert_true(fake_run(f.loop, is_operator_down, &f, 5));
        expect_end(&f.end[0], ends[i].cause, ends[i].code, ends[i].why);
        fixture_deinit(&f);
    }
}

/* What the relay says as it stops is no goodbye of the other side's; being replaced is the end. */
static void a_relay_that_stops_is_waited_for(void **state)
{
    static struct fixture f;
    fixture_up(&f);
    fake_member_code(fake_relay_member(&f.board.relay, GT_ROLE_OPERATOR), GT_CONTROL_BYE,
                     GT_CODE_SHUTDOWN);
    assert_true(fake_run(f.loop, is_link_back, &f, 5));
    fake_member_code(fake_relay_member(&f.board.relay, GT_ROLE_OPERATOR), GT_CONTROL_BYE,
                     GT_CODE_REPLACED);
    assert_true(fake_run(f.loop, is_operator_down, &f, 5));
    expect_end(&f.end[0], GT_DOWN_RELAY, GT_CODE_REPLACED, "");
    fixture_deinit(&f);
}

static void its_lifetime_passes(void **state)
{
    static struct fixture f;
    fixture_init(&f);
    f.settings[0].lifetime_s = 1;
    fixture_start_both(&f);
    int fd = open_stream(&f);
    assert_true(fake_run(f.loop, is_operator_down, &f, 5));
    expect_end(&f.end[0], GT_DOWN_EXPIRED, GT_CODE_EXPIRED, "lifetime");
    assert_int_equal(f.end[0].last_rst, GT_RST_EXPIRED);
    close(fd);
    fixture_deinit(&f);
}

static void why_it_never_came_up_is_told(void **state)
{
    static struct fixture f;
    fixture_init(&f);
    f.board.relay.is_unsure = true;
    fixture_start(&f, 0);
    int fd = open_stream(&f);
    assert_true(fake_run(f.loop, is_operator_down, &f, 5));
    expect_end(&f.end[0], GT_DOWN_REFUSED, GT_CODE_NONE, "wrong key?");
    assert_int_equal(f.end[0].n_ends, 1);
    close(fd);
    fixture_deinit(&f);

    fixture_init(&f);
    ev_io_stop(f.loop, &f.board.relay.acceptable);
    gt_close(&f.board.relay.listener);
    fixture_start(&f, 0);
    assert_true(fake_run(f.loop, is_operator_down, &f, 5));
    expect_end(&f.end[0], GT_DOWN_UNREACHABLE, GT_CODE_NONE, "refused");
    fixture_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_stream_carries_and_ends_well),
        cmocka_unit_test(many_streams_do_not_mix),
        cmocka_unit_test(streams_may_be_opened_at_once),
        cmocka_unit_test(data_may_go_to_the_main_port),
        cmocka_unit_test(a_refusal_is_told_with_its_reason),
        cmocka_unit_test(a_full_device_says_so),
        cmocka_unit_test(no_ticket_is_told_by_stream_end),
        cmocka_unit_test(a_ticket_of_an_ended_stream_makes_nothing),
        cmocka_unit_test(either_side_may_close),
        cmocka_unit_test(closing_does_not_wait_for_a_stalled_carrier),
        cmocka_unit_test(closing_before_it_is_up),
        cmocka_unit_test(freed_in_every_state),
        cmocka_unit_test(a_device_that_does_not_come),
        cmocka_unit_test(a_peer_that_is_lost_may_come_back),
        cmocka_unit_test(a_new_process_ends_it_at_once),
        cmocka_unit_test(a_lost_link_is_dialled_again),
        cmocka_unit_test(streams_outlive_any_cut),
        cmocka_unit_test(a_half_open_carrier_is_replaced),
        cmocka_unit_test(an_end_is_told_again),
        cmocka_unit_test(a_reset_is_told_again),
        cmocka_unit_test(a_forgotten_stream_fails_fast),
        cmocka_unit_test(after_the_window_both_ends_break),
        cmocka_unit_test(closing_while_parked_is_quick),
        cmocka_unit_test(a_goodbye_is_said_over_another_link),
        cmocka_unit_test(a_goodbye_is_said_over_a_link_that_comes_meanwhile),
        cmocka_unit_test(a_goodbye_that_was_missed_is_told_by_the_relay),
        cmocka_unit_test(a_relay_that_stops_is_waited_for),
        cmocka_unit_test(its_lifetime_passes),
        cmocka_unit_test(why_it_never_came_up_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
