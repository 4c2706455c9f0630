/* SPDX-License-Identifier: ISC */
/*
 * The time before both sides are registered: attempts are repeated until peer_timeout, each failure
 * is reported, and failures that would repeat themselves are final.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs these before it */
#include <cmocka.h>

#include <string.h>

#include "gotthard/relay/reconnect.h"
#include "support/tunnel-ends.h"

static const struct gt_host_port nowhere = {"127.0.0.1", 1};

/* The attempts of end @i use these addresses in turn. */
static void set_relays(struct fixture *f, int i, const struct gt_host_port *relays, size_t n)
{
    f->settings[i].relays = relays;
    f->settings[i].n_relays = n;
}

static void stop_listening(struct fixture *f)
{
    ev_io_stop(f->loop, &f->board.relay.acceptable);
    gt_close(&f->board.relay.listener);
}

static void test_first_attempt_that_fails_is_repeated(void **state)
{
    for (int i = 0; i < 2; i++) {
        static struct fixture f;
        struct flows flows;

        fixture_init(&f);
        const struct gt_host_port relays[] = {nowhere, f.board.relay.address};
        set_relays(&f, i, relays, 2);
        fixture_start_both(&f);
        assert_true(fake_run(f.loop, are_both_up, &f, 5));
        assert_int_equal(f.end[i].n_retries, 1);
        assert_int_equal(f.end[i].cause, GT_END_UNREACHABLE);
        assert_non_null(strstr(f.end[i].why, "refused"));
        assert_int_equal(f.end[1 - i].n_retries, 0);
        assert_int_equal(f.end[1 - i].n_waiting, 1);
        flows_begin(&flows, &f, 2, 10000);
        flows_finish(&flows);
        fixture_deinit(&f);
    }
}

static bool has_retried_twice(void *userdata)
{
    const struct fixture *f = userdata;

    return f->end[1].n_retries >= 2;
}

static bool is_device_down(void *userdata)
{
    const struct fixture *f = userdata;

    return f->end[1].n_down > 0;
}

static void test_first_attempts_end_with_the_last_reason(void **state)
{
    static struct fixture f;

    fixture_init(&f);
    set_relays(&f, 1, &nowhere, 1);
    f.settings[1].peer_timeout_ms = 2500;
    fixture_start(&f, 1);
    assert_true(fake_run(f.loop, has_retried_twice, &f, 5));
    assert_int_equal(f.end[1].n_down, 0);
    assert_true(fake_run(f.loop, is_device_down, &f, 5));
    expect_end(&f.end[1], GT_END_UNREACHABLE, GT_CODE_NONE, "refused");
    assert_int_equal(f.end[1].n_up, 0);
    fixture_deinit(&f);
}

/* The second attempt is in progress at the end of the window. */
static void test_first_attempts_end_while_the_relay_is_silent(void **state)
{
    static struct fixture f;
    struct gt_host_port relays[] = {nowhere, {"127.0.0.1", 0}};
    struct gt_addr addr;

    fixture_init(&f);
    assert_int_equal(gt_addr_parse("127.0.0.1", 0, &addr), 0);
    int listener = gt_sock_listen(&addr, 1);
    assert_true(listener >= 0 && gt_sock_local(listener, &addr) == 0);
    relays[1].port = gt_addr_port(&addr);
    set_relays(&f, 0, relays, 2);
    f.settings[0].peer_timeout_ms = 1200;
    fixture_start(&f, 0);
    assert_true(fake_run(f.loop, is_operator_down, &f, 5));
    expect_end(&f.end[0], GT_END_UNREACHABLE, GT_CODE_NONE, "refused");
    gt_close(&listener);
    fixture_deinit(&f);
}

static bool is_waiting(void *userdata)
{
    const struct fixture *f = userdata;

    return f->end[0].n_waiting > 0;
}

static bool has_retried(void *userdata)
{
    const struct fixture *f = userdata;

    return f->end[0].n_retries > 0;
}

static void test_first_side_waits_again_after_a_loss(void **state)
{
    static struct fixture f;

    fixture_init(&f);
    fixture_start(&f, 0);
    assert_true(fake_run(f.loop, is_waiting, &f, 5));
    board_cut_control(&f.board);
    assert_true(fake_run(f.loop, has_retried, &f, 5));
    assert_int_equal(f.end[0].cause, GT_END_LOST);
    fixture_start(&f, 1);
    assert_true(fake_run(f.loop, are_both_up, &f, 5));
    fixture_deinit(&f);
}

static void test_first_side_is_closed_while_it_retries(void **state)
{
    static struct fixture f;

    fixture_init(&f);
    stop_listening(&f);
    fixture_start(&f, 0);
    assert_true(fake_run(f.loop, has_retried, &f, 5));
    gt_tunnel_close(f.end[0].tunnel);
    assert_true(fake_run(f.loop, is_operator_down, &f, 2));
    expect_end(&f.end[0], GT_END_CLOSED, GT_CODE_NONE, "closed");
    fixture_deinit(&f);
}

static void test_first_failures_that_are_final(void **state)
{
    static const struct {
        enum gt_end_reason reason;
        enum gt_code code;
        bool is_worthwhile;
    } cases[] = {
        {GT_END_UNREACHABLE, GT_CODE_NONE, true},  {GT_END_LOST, GT_CODE_NONE, true},
        {GT_END_RELAY, GT_CODE_SHUTDOWN, true},    {GT_END_RELAY, GT_CODE_NONE, true},
        {GT_END_RELAY, GT_CODE_NO_PORT, false},    {GT_END_LIMIT, GT_CODE_LIMIT, false},
        {GT_END_RELAY, GT_CODE_VERSION, false},    {GT_END_RELAY, GT_CODE_PROTOCOL, false},
        {GT_END_REFUSED, GT_CODE_NONE, false},     {GT_END_CLOSED, GT_CODE_BYE, false},
        {GT_END_EXPIRED, GT_CODE_LIFETIME, false}, {GT_END_IDLE, GT_CODE_IDLE, false},
        {GT_END_INTERNAL, GT_CODE_NONE, false},    {GT_END_PEER, GT_CODE_PAIRING, true},
        {GT_END_LIMIT, GT_CODE_SESSIONS, false},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++)
        assert_int_equal(gt_reconnect_is_worthwhile_at_first(cases[i].reason, cases[i].code),
                         cases[i].is_worthwhile);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_attempt_that_fails_is_repeated),
        cmocka_unit_test(test_first_attempts_end_with_the_last_reason),
        cmocka_unit_test(test_first_attempts_end_while_the_relay_is_silent),
        cmocka_unit_test(test_first_side_waits_again_after_a_loss),
        cmocka_unit_test(test_first_side_is_closed_while_it_retries),
        cmocka_unit_test(test_first_failures_that_are_final),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
