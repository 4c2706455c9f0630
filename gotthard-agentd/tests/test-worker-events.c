/* SPDX-License-Identifier: ISC */
/*
 * The pipe of a worker's events: what the listener does not read is counted, a FIFO outlives the
 * listener, and bytes that no worker sends end it.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "worker-events.h"

struct env {
    struct ev_loop *loop;
    char folder[64], path[96]; /* of a session file */
    struct event_pipe pipe;
    struct worker_events worker;
    struct worker_event last;
    unsigned n_events;
    uint64_t n_lost;
};

static void on_event(void *userdata, const struct worker_event *event)
{
    struct env *env = userdata;

    env->last = *event;
    env->n_events++;
    env->n_lost += event->n_lost;
}

static int setup(void **state)
{
    struct env *env = calloc(1, sizeof(*env));

    *state = env;
    signal(SIGPIPE, SIG_IGN);
    env->loop = ev_loop_new(0);
    snprintf(env->folder, sizeof(env->folder), "/tmp/gotthard-events-XXXXXX");
    assert_non_null(mkdtemp(env->folder));
    snprintf(env->path, sizeof(env->path), "%s/1.session", env->folder);
    event_pipe_init(&env->pipe, env->loop, on_event, env);
    env->worker.fd = -1;
    return 0;
}

static int teardown(void **state)
{
    struct env *env = *state;

    event_pipe_close(&env->pipe);
    worker_events_deinit(&env->worker);
    event_pipe_unlink(env->path);
    ev_loop_destroy(env->loop);
    int r = rmdir(env->folder);
    free(env);
    return r;
}

static void send_n(struct env *env, unsigned n)
{
    struct worker_event event = {.kind = WORKER_STREAM_ENDED, .service = "ssh", .n_up = 7};

    for (event.stream = 1; event.stream <= n; event.stream++)
        worker_events_send(&env->worker, &event);
}

static void open_pipe(struct env *env, const char *path)
{
    env->worker.fd = event_pipe_open(&env->pipe, path);
    assert_true(env->worker.fd >= 0);
}

static void test_event_is_read_as_it_was_sent(void **state)
{
    struct worker_event sent = {WORKER_STREAM_DIALLED, 1,   2,    3, 4, 5, 6, "ssh",
                                "127.0.0.1:22",        "s", "why"},
                        read = {0};
    uint8_t bytes[WORKER_EVENT_SIZE];

    worker_event_encode(&sent, bytes);
    assert_true(worker_event_decode(bytes, &read));
    assert_memory_equal(&sent, &read, sizeof(sent));
    bytes[WORKER_EVENT_SIZE - 1] = 1;
    assert_false(worker_event_decode(bytes, &read));
    sent.kind = WORKER_SESSION_ENDED + 1;
    worker_event_encode(&sent, bytes);
    assert_false(worker_event_decode(bytes, &read));
    memset(bytes, 255, sizeof(bytes));
    assert_false(worker_event_decode(bytes, &read));
}

static void test_longest_values_fit(void **state)
{
    struct worker_event sent = {.kind = WORKER_SESSION_ENDED}, read = {0};
    uint8_t bytes[WORKER_EVENT_SIZE];

    memset(sent.service, 's', sizeof(sent.service) - 1);
    memset(sent.target, 't', sizeof(sent.target) - 1);
    memset(sent.source, 'u', sizeof(sent.source) - 1);
    memset(sent.why, 'w', sizeof(sent.why) - 1);
    worker_event_encode(&sent, bytes);
    assert_true(worker_event_decode(bytes, &read));
    assert_memory_equal(&sent, &read, sizeof(sent));
}

/* The worker never blocks, and the next event that it can send has the number of the lost ones. */
static void test_flood_is_limited_and_counted(void **state)
{
    struct env *env = *state;
    const unsigned n = 2000;

    open_pipe(env, NULL);
    send_n(env, n);
    ev_run(env->loop, EVRUN_NOWAIT);
    assert_true(env->n_events > 0 && env->n_events <= WORKER_EVENTS_BURST);
    send_n(env, n);
    worker_events_send(&env->worker, &(struct worker_event){.kind = WORKER_SESSION_ENDED});
    event_pipe_finish(&env->pipe);
    assert_int_equal(env->last.kind, WORKER_SESSION_ENDED); /* it is never lost */
    assert_int_equal(env->n_events + env->n_lost, 2 * n + 1);
}

static void test_rate_pauses_the_reading(void **state)
{
    struct env *env = *state;

    open_pipe(env, NULL);
    for (unsigned i = 0; i < WORKER_EVENTS_BURST + 20; i++) {
        send_n(env, 1);
        ev_run(env->loop, EVRUN_NOWAIT);
    }
    assert_true(env->n_events >= WORKER_EVENTS_BURST && env->n_events < WORKER_EVENTS_BURST + 20);
    assert_false(ev_is_active(&env->pipe.readable));
    assert_true(ev_is_active(&env->pipe.pause));
}

static void test_fifo_outlives_the_listener(void **state)
{
    struct env *env = *state;

    open_pipe(env, env->path);
    event_pipe_close(&env->pipe);
    send_n(env, 3); /* no listener: no error, and nothing is lost */
    assert_int_equal(env->worker.n_lost, 0);
    event_pipe_reopen(&env->pipe, env->path);
    ev_run(env->loop, EVRUN_NOWAIT);
    assert_int_equal(env->n_events, 3);
    assert_int_equal(env->last.stream, 3);
    assert_int_equal(env->last.n_up, 7);
}

static void test_pipe_without_a_listener_is_closed(void **state)
{
    struct env *env = *state;

    open_pipe(env, NULL);
    event_pipe_close(&env->pipe);
    send_n(env, 1);
    assert_int_equal(env->worker.fd, -1);
    send_n(env, 1);
}

static void test_other_bytes_end_the_pipe(void **state)
{
    struct env *env = *state;

    open_pipe(env, NULL);
    send_n(env, 1);
    assert_int_equal(write(env->worker.fd, "junk", 4), 4);
    send_n(env, 1);
    ev_run(env->loop, EVRUN_NOWAIT);
    assert_int_equal(env->n_events, 1);
    assert_int_equal(env->pipe.fd, -1);
}

static void test_other_file_in_place_of_the_fifo_is_not_read(void **state)
{
    struct env *env = *state;
    char path[128];

    snprintf(path, sizeof(path), "%s.events", env->path);
    close(open(path, O_WRONLY | O_CREAT, 0600));
    event_pipe_reopen(&env->pipe, env->path);
    assert_int_equal(env->pipe.fd, -1);
    assert_true(event_pipe_open(&env->pipe, env->path) < 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_event_is_read_as_it_was_sent),
        cmocka_unit_test(test_longest_values_fit),
        TEST(test_flood_is_limited_and_counted),
        TEST(test_rate_pauses_the_reading),
        TEST(test_fifo_outlives_the_listener),
        TEST(test_pipe_without_a_listener_is_closed),
        TEST(test_other_bytes_end_the_pipe),
        TEST(test_other_file_in_place_of_the_fifo_is_not_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
