/* SPDX-License-Identifier: ISC */
/*
 * relayd-states.c: every state with every event, the end of a drain, and the deadlines. The relay
 * has no sessions and no sockets here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "gotthard/base/clock.h"
#include "relayd.h"

static struct settings settings = {.drain_ms = 50};
static struct relayd relayd;

/* A relay in @state, without the actions of entering it. */
static void begin(enum relayd_state state)
{
    relayd.loop = ev_default_loop(EVBACKEND_EPOLL | EVFLAG_NOENV);
    ev_now_update(relayd.loop);
    relayd.settings = &settings;
    relayd.registry = (struct registry){0};
    client_host_init(&relayd.clients, relayd.loop);
    ev_timer_stop(relayd.loop, &relayd.deadline);
    relayd_init_states(&relayd);
    relayd.state = state;
}

static void test_relayd_states_follow_their_table(void **state)
{
    enum { RUN = RELAYD_RUNNING, UPG, DRAIN, CLOSE, END };
    static const unsigned expected[RELAYD_N_STATES][RELAYD_N_EVENTS] = {
        /* TERMINATED, REHEARSED, UPGRADE_FAILED, DONE, TIMED_OUT */
        [RELAYD_RUNNING] = {DRAIN, UPG, RUN, RUN, RUN},
        [RELAYD_UPGRADING] = {DRAIN, UPG, RUN, UPG, UPG},
        [RELAYD_DRAINING] = {END, DRAIN, DRAIN, CLOSE, CLOSE},
        [RELAYD_CLOSING] = {END, CLOSE, CLOSE, END, END},
        [RELAYD_ENDED] = {END, END, END, END, END},
    };

    for (unsigned from = 0; from < RELAYD_N_STATES; from++)
        for (unsigned event = 0; event < RELAYD_N_EVENTS; event++) {
            begin((enum relayd_state)from);
            relayd_handle(&relayd, (enum relayd_event)event);
            if (relayd.state != expected[from][event])
                print_message("state %u, event %u\n", from, event);
            assert_int_equal(relayd.state, expected[from][event]);
        }
}

static void test_relayd_states_are_done_without_sessions_and_clients(void **state)
{
    begin(RELAYD_RUNNING);
    relayd_check_done(&relayd);
    assert_int_equal(relayd.state, RELAYD_RUNNING);

    relayd_handle(&relayd, RELAYD_TERMINATED);
    assert_int_equal(relayd.registry.state, REGISTRY_DRAINING);
    relayd.clients.n_clients = 1;
    relayd_check_done(&relayd);
    assert_int_equal(relayd.state, RELAYD_CLOSING);
    assert_int_equal(relayd.registry.state, REGISTRY_CLOSED);
    relayd_check_done(&relayd);
    assert_int_equal(relayd.state, RELAYD_CLOSING);
    relayd.clients.n_clients = 0;
    relayd_check_done(&relayd);
    assert_int_equal(relayd.state, RELAYD_ENDED);
}

/* The drain lasts drain_ms, and sending the last frames a second, if nothing ends them earlier. */
static void test_relayd_states_have_deadlines(void **state)
{
    uint64_t started = gt_clock_ms();

    begin(RELAYD_RUNNING);
    relayd_handle(&relayd, RELAYD_TERMINATED);
    ev_run(relayd.loop, EVRUN_ONCE);
    assert_int_equal(relayd.state, RELAYD_CLOSING);
    assert_true(gt_clock_ms() - started >= settings.drain_ms - 1);
    ev_run(relayd.loop, 0); /* returns because ENDED stops the loop */
    assert_int_equal(relayd.state, RELAYD_ENDED);
    assert_true(gt_clock_ms() - started >= settings.drain_ms + 900);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_relayd_states_follow_their_table),
        cmocka_unit_test(test_relayd_states_are_done_without_sessions_and_clients),
        cmocka_unit_test(test_relayd_states_have_deadlines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
