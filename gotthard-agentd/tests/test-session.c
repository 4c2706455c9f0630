/* SPDX-License-Identifier: ISC */
/*
 * A session's process, from the listener's side: this test is its own worker (a session runs
 * /proc/self/exe), which says in its exit code and in a file what it was given.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "gotthard/log.h"
#include "session.h"

/* --- the worker: a caricature, told what to do by the operator's name */

static void ignore_signal(int number)
{
}

static int worker(void)
{
    struct handover handover;
    struct sigaction action = {.sa_handler = ignore_signal};

    if (getenv("GOTTHARD_CRYPT_KEY") || getenv("NOTIFY_SOCKET") || !getenv("KEPT"))
        return 99;
    if (handover_receive(HANDOVER_FD, &handover) != 0)
        return 3;
    if (strcmp(handover.operator_, "stubborn") == 0) {
        sigaction(SIGTERM, &action, NULL);
        for (;;)
            pause();
    }
    if (strcmp(handover.operator_, "waiting") == 0)
        pause();
    return handover.services.n == 1 && handover.keys.session[0] == 0x5e ? 0 : 98;
}

/* --- the tests */

struct world {
    struct ev_loop *loop;
    unsigned n_ended;
    int status;
};

static void on_end(void *userdata, struct session *session)
{
    struct world *world = userdata;

    world->n_ended++;
    world->status = session->child.rstatus;
    ev_break(world->loop, EVBREAK_ALL);
}

static struct session *start(struct world *world, const char *operator_)
{
    static const struct target service = {"ssh", "127.0.0.1", 22};
    struct targets services = {0};
    struct session *session;

    *world = (struct world){.loop = ev_default_loop(0), .status = -1};
    assert_int_equal(targets_add(&services, &service), 0);
    assert_int_equal(
        session_new(world->loop, "dev", operator_, NULL, &services, on_end, world, &session), 0);
    targets_deinit(&services);
    assert_int_equal(session->state, SESSION_READY);
    return session;
}

static void begin(struct session *session)
{
    struct handover handover = {.lifetime_s = 60, .services = session->services};

    snprintf(handover.operator_, sizeof(handover.operator_), "%s", session->operator_);
    handover.keys.session[0] = 0x5e;
    handover.keys.rid[0] = 0xab;
    assert_int_equal(session_begin(session, &handover), 0);
    assert_string_equal(session->id, "ab000000");
    assert_int_equal(session->state, SESSION_RUNNING);
}

static void a_worker_gets_its_hand_over_and_ends(void **state)
{
    struct world world;

    begin(start(&world, "alice"));
    ev_run(world.loop, 0);
    assert_int_equal(world.n_ended, 1);
    assert_int_equal(world.status, 0);
}

static void a_worker_that_gets_nothing_ends(void **state)
{
    struct world world;
    struct session *session = start(&world, "alice");

    gt_close(&session->pipe);
    ev_run(world.loop, 0);
    assert_int_equal(world.status, 3 << 8);
}

static void closing_asks_the_worker_to_end(void **state)
{
    struct world world;
    struct session *session = start(&world, "waiting");

    begin(session);
    session_close(session, "test");
    assert_true(session_is_closing(session));
    session_close(session, "twice is once");
    assert_int_equal(session->state, SESSION_CLOSING);
    ev_run(world.loop, 0);
    assert_int_equal(world.status, SIGTERM);
}

static void a_worker_that_will_not_end_is_killed(void **state)
{
    struct world world;
    struct session *session = start(&world, "stubborn");

    begin(session);
    session_close(session, "test");
    ev_feed_event(world.loop, &session->deadline, EV_TIMER); /* no need to wait for it */
    ev_run(world.loop, EVRUN_NOWAIT);
    if (!world.n_ended) { /* unless the signal came before it was caught */
        assert_int_equal(session->state, SESSION_INSISTING);
        ev_feed_event(world.loop, &session->deadline, EV_TIMER);
        ev_run(world.loop, 0);
        assert_true(world.status == SIGKILL || world.status == SIGTERM);
    }
    assert_int_equal(world.n_ended, 1);
}

static void forgetting_a_session_leaves_its_process_alone(void **state)
{
    struct world world;
    struct session *session = start(&world, "waiting");
    pid_t pid = session->pid;

    begin(session);
    session_free(session);
    assert_int_equal(kill(pid, 0), 0);
    kill(pid, SIGKILL);
    assert_int_equal(world.n_ended, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_worker_gets_its_hand_over_and_ends),
        cmocka_unit_test(a_worker_that_gets_nothing_ends),
        cmocka_unit_test(closing_asks_the_worker_to_end),
        cmocka_unit_test(a_worker_that_will_not_end_is_killed),
        cmocka_unit_test(forgetting_a_session_leaves_its_process_alone),
    };

    if (argc == 2 && strcmp(argv[1], "--worker") == 0)
        return worker();
    setenv("GOTTHARD_CRYPT_KEY", "secret", 1);
    setenv("NOTIFY_SOCKET", "/nowhere", 1);
    setenv("KEPT", "1", 1);
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
