/* SPDX-License-Identifier: ISC */
/*
 * A session's process, from the listener's side: this test is its own worker (a session runs
 * /proc/self/exe), which says in its exit code and in a file what it was given.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "gotthard/log.h"
#include "session.h"
#include "worker.h"

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
    bool is_right = handover.services.n == 1 && handover.keys.session[0] == 0x5e;
    bool is_unheard = strcmp(handover.operator_, "unheard") == 0;
    bool is_failing = strcmp(handover.operator_, "failing") == 0;
    handover_deinit(&handover);
    if (is_unheard)
        return WORKER_EXIT_UNHEARD;
    if (is_failing)
        return WORKER_EXIT_INTERNAL;
    return is_right ? 0 : 98;
}

/* --- the tests */

static const char *folder; /* of the records; NULL in most tests */

struct world {
    struct ev_loop *loop;
    unsigned n_ended;
    int status, ending;
};

static void on_end(void *userdata, struct session *session)
{
    struct world *world = userdata;

    world->n_ended++;
    world->status = session->child.rstatus;
    world->ending = (int)session->ending;
    ev_break(world->loop, EVBREAK_ALL);
}

static struct session *start(struct world *world, const char *operator_)
{
    static const struct target service = {"ssh", "127.0.0.1", 22};
    struct targets services = {0};
    struct session *session;

    *world = (struct world){.loop = ev_default_loop(0), .status = -1};
    assert_int_equal(targets_add(&services, &service), 0);
    struct session_settings settings = {
        .device = "dev", .operator_ = operator_, .services = &services, .folder = folder};
    assert_int_equal(session_new(world->loop, &settings, on_end, world, &session), 0);
    targets_deinit(&services);
    assert_int_equal(session->state, SESSION_READY);
    return session;
}

static void begin(struct session *session)
{
    struct handover handover = {.lifetime_s = 60,
                                .services = session->services,
                                .relay = {"main", "relay.example.org", 7000}};

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

struct adoption {
    struct world *world;
    struct session *session;
};

static void on_record(void *userdata, const struct record *record, int pidfd, const char *path)
{
    struct adoption *adoption = userdata;

    assert_null(adoption->session);
    assert_int_equal(session_adopt(adoption->world->loop, record, pidfd, path, on_end,
                                   adoption->world, &adoption->session),
                     0);
}

static unsigned n_killed;

static void on_killed(void *userdata, const struct record *record, const char *path)
{
    n_killed++;
    unlink(path);
    assert_int_equal(record->rid[0], 0xab);
    assert_string_equal(record->relay.host, "relay.example.org");
    assert_int_equal(record->relay.port, 7000);
}

static const struct record_events record_events = {on_record, on_killed};

static unsigned count_files(const char *path)
{
    char command[128];
    unsigned n = 99;

    snprintf(command, sizeof(command), "ls %s | wc -l", path);
    FILE *pipe = popen(command, "r");
    assert_int_equal(fscanf(pipe, "%u", &n), 1);
    pclose(pipe);
    return n;
}

static void a_session_is_known_to_the_listener_that_follows(void **state)
{
    char path[] = "/tmp/test-session.XXXXXX";
    struct world world;
    struct adoption adoption = {&world, NULL};

    folder = mkdtemp(path);
    struct session *session = start(&world, "waiting");
    begin(session);
    pid_t pid = session->pid;
    session_free(session); /* as when the listener ends */
    assert_int_equal(count_files(folder), 1);
    assert_int_equal(record_scan(folder, &record_events, &adoption), 1);
    session = adoption.session;
    assert_int_equal(session->pid, pid);
    assert_string_equal(session->operator_, "waiting");
    assert_string_equal(session->id, "ab000000");
    assert_int_equal(session->services.n, 1);
    assert_true(session->lifetime_s > 50. && session->lifetime_s <= 60.);
    assert_int_equal(session->relay.port, 7000);
    session_close(session, "test");
    ev_run(world.loop, 0);
    assert_int_equal(world.n_ended, 1);
    assert_int_equal(world.ending, SESSION_WAS_KILLED); /* this worker knows no polite end */
    assert_int_equal(count_files(folder), 0);
    rmdir(folder);
    folder = NULL;
}

static void a_session_that_is_over_is_forgotten(void **state)
{
    char path[] = "/tmp/test-session.XXXXXX", record_at[RECORD_PATH_MAX];
    struct world world;
    struct adoption adoption = {&world, NULL};

    folder = mkdtemp(path);
    begin(start(&world, "alice")); /* ends by itself: its file goes with it */
    ev_run(world.loop, 0);
    assert_int_equal(count_files(folder), 0);
    int fd = record_create(folder, record_at); /* a listener that died before anything was in it */
    assert_true(fd >= 0);
    assert_int_equal(record_scan(folder, &record_events, &adoption), 0);
    assert_int_equal(count_files(folder), 1);
    close(fd);
    assert_int_equal(record_scan(folder, &record_events, &adoption), 0);
    assert_int_equal(count_files(folder), 0);
    rmdir(folder);
    folder = NULL;
}

/* The listener is gone, and so is the worker: nobody saw it end. */
static void a_session_that_was_killed_is_told_of(void **state)
{
    char path[] = "/tmp/test-session.XXXXXX";
    struct world world;
    struct adoption adoption = {&world, NULL};

    folder = mkdtemp(path);
    for (int is_emptied = 0; is_emptied < 2; is_emptied++) {
        struct session *session = start(&world, "waiting");
        begin(session);
        pid_t pid = session->pid;
        int fd = open(session->record_at, O_RDWR | O_CLOEXEC);
        assert_true(record_is_left(session->record_at));
        if (is_emptied)
            record_empty(fd);
        session_free(session);
        close(fd);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        n_killed = 0;
        assert_int_equal(record_scan(folder, &record_events, &adoption), 0);
        assert_int_equal(n_killed, !is_emptied);
        assert_int_equal(count_files(folder), 0);
    }
    rmdir(folder);
    folder = NULL;
}

static void a_worker_says_that_it_was_not_heard(void **state)
{
    struct world world;

    begin(start(&world, "unheard"));
    ev_run(world.loop, 0);
    assert_int_equal(world.ending, SESSION_UNHEARD);
    begin(start(&world, "alice"));
    ev_run(world.loop, 0);
    assert_int_equal(world.ending, SESSION_SAID_GOODBYE);
}

/* libev ends a process that has no memory where it stands: nobody was told goodbye. */
static void a_worker_that_fails_is_as_good_as_killed(void **state)
{
    struct world world;

    begin(start(&world, "failing"));
    ev_run(world.loop, 0);
    assert_int_equal(world.status, WORKER_EXIT_INTERNAL << 8);
    assert_int_equal(world.ending, SESSION_WAS_KILLED);
}

static void a_session_needs_no_folder(void **state)
{
    struct world world;

    folder = "/nonexistent";
    begin(start(&world, "alice"));
    ev_run(world.loop, 0);
    assert_int_equal(world.status, 0);
    folder = NULL;
}

static void a_record_is_taken_whole_or_not_at_all(void **state)
{
    static uint8_t bytes[HANDOVER_MAX];
    struct record record = {.pid = 4711,
                            .device = "dev",
                            .operator_ = "alice",
                            .relay = {"main", "relay.example.org", 7000}},
                  got;
    size_t n;

    assert_int_equal(record_encode(&record, bytes, &n), 0);
    assert_int_equal(record_decode(gt_span(bytes, n), &got), 0);
    assert_int_equal(got.pid, 4711);
    assert_true(target_equals(&got.relay, &record.relay));
    record_deinit(&got);
    for (size_t cut = 0; cut < n; cut++)
        assert_int_equal(record_decode(gt_span(bytes, cut), &got), RECORD_E_BAD);
    assert_int_equal(record_decode(gt_span(bytes, n + 1), &got), RECORD_E_BAD);
    size_t n_old = n - (2 + strlen("main") + 2 + strlen("relay.example.org") + 2);
    bytes[3] = '1'; /* as 0.1 wrote it */
    assert_int_equal(record_decode(gt_span(bytes, n), &got), RECORD_E_BAD);
    assert_int_equal(record_decode(gt_span(bytes, n_old), &got), 0);
    assert_int_equal(got.relay.port, 0);
    record_deinit(&got);
    bytes[3] = '3';
    assert_int_equal(record_decode(gt_span(bytes, n), &got), RECORD_E_BAD);
    record.pid = 1; /* nobody signals init by a slip of a file */
    assert_int_equal(record_encode(&record, bytes, &n), 0);
    assert_int_equal(record_decode(gt_span(bytes, n), &got), RECORD_E_BAD);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_worker_gets_its_hand_over_and_ends),
        cmocka_unit_test(a_worker_that_gets_nothing_ends),
        cmocka_unit_test(closing_asks_the_worker_to_end),
        cmocka_unit_test(a_worker_that_will_not_end_is_killed),
        cmocka_unit_test(forgetting_a_session_leaves_its_process_alone),
        cmocka_unit_test(a_session_is_known_to_the_listener_that_follows),
        cmocka_unit_test(a_session_that_is_over_is_forgotten),
        cmocka_unit_test(a_session_that_was_killed_is_told_of),
        cmocka_unit_test(a_worker_says_that_it_was_not_heard),
        cmocka_unit_test(a_worker_that_fails_is_as_good_as_killed),
        cmocka_unit_test(a_session_needs_no_folder),
        cmocka_unit_test(a_record_is_taken_whole_or_not_at_all),
    };

    if (argc == 2 && strcmp(argv[1], "--worker") == 0)
        return worker();
    setenv("GOTTHARD_CRYPT_KEY", "secret", 1);
    setenv("NOTIFY_SOCKET", "/nowhere", 1);
    setenv("KEPT", "1", 1);
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
