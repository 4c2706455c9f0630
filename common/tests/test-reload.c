/* SPDX-License-Identifier: ISC */
/* reload-server.c and reload-client.c: results, reloads that meet, and services that go away. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/exit-status.h"
#include "gotthard/base/reload-client.h"
#include "gotthard/base/reload-server.h"

#define LIMIT_MS 20000

struct service {
    struct ev_loop *loop;
    struct gt_reload_server server;
    unsigned n_begun;
    bool is_slow;    /* finishes later */
    bool is_stopped; /* declines */
};

/* The n-th reload has the result n. */
static void service_finish(struct service *service)
{
    char text[32];

    snprintf(text, sizeof(text), "reload %u", service->n_begun);
    gt_reload_server_finish(&service->server, (int)service->n_begun, text);
}

static void service_on_reload(void *userdata)
{
    struct service *service = userdata;

    if (service->is_stopped) {
        gt_reload_server_finish(&service->server, GT_EXIT_TRY_AGAIN, "it stops");
        return;
    }
    service->n_begun++;
    gt_reload_server_begin(&service->server);
    if (!service->is_slow)
        service_finish(service);
}

static char folder[] = "/tmp/test-reload-XXXXXX";

static int service_open(void **state)
{
    static struct service service;

    service = (struct service){.loop = ev_loop_new(0)};
    setenv("RUNTIME_DIRECTORY", folder, 1);
    gt_reload_server_open(&service.server, service.loop, service_on_reload, &service);
    *state = &service;
    return service.server.fd < 0;
}

static int service_close(void **state)
{
    struct service *service = *state;

    gt_reload_server_close(&service->server);
    ev_loop_destroy(service->loop);
    return 0;
}

struct client {
    pid_t pid;
    int output;
};

static struct client client_start(uint64_t deadline_ms)
{
    struct client client;
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    client.pid = fork();
    if (client.pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        closefrom(STDERR_FILENO + 1); /* as execve(2) does with the service's descriptors */
        _exit(gt_reload_client_run("gotthard-agentd", SIGUSR1, deadline_ms));
    }
    close(ends[1]);
    client.output = ends[0];
    return client;
}

/* Runs the loop of the service, if any, until the client has ended. Returns its exit status. */
static int client_end(struct client *client, struct service *service, const char *expected)
{
    uint64_t end = gt_clock_ms() + LIMIT_MS;
    char output[1024] = "";
    int status;

    while (waitpid(client->pid, &status, WNOHANG) == 0) {
        assert_true(gt_clock_ms() < end);
        if (service)
            ev_run(service->loop, EVRUN_NOWAIT);
        usleep(1000);
    }
    assert_true(read(client->output, output, sizeof(output) - 1) > 0);
    close(client->output);
    assert_non_null(strstr(output, expected));
    return WEXITSTATUS(status);
}

static size_t service_count(const struct service *service, enum gt_reload_client_state state)
{
    size_t n = 0;

    for (size_t i = 0; i < GT_RELOAD_CLIENTS; i++)
        n += service->server.clients[i].state == state;
    return n;
}

static void service_run_until(struct service *service, enum gt_reload_client_state state, size_t n)
{
    uint64_t end = gt_clock_ms() + LIMIT_MS;

    while (service_count(service, state) != n) {
        assert_true(gt_clock_ms() < end);
        ev_run(service->loop, EVRUN_NOWAIT);
        usleep(1000);
    }
}

static void test_client_prints_and_returns_the_result(void **state)
{
    struct service *service = *state;

    for (int i = 1; i < 4; i++) {
        struct client client = client_start(LIMIT_MS);

        assert_int_equal(client_end(&client, service, "gotthard-agentd: reload "), i);
    }
}

static void test_stopping_service_declines(void **state)
{
    struct service *service = *state;
    struct client client = client_start(LIMIT_MS);

    service->is_stopped = true;
    assert_int_equal(client_end(&client, service, "it stops"), GT_EXIT_TRY_AGAIN);
}

static void test_client_of_a_later_change_gets_a_later_reload(void **state)
{
    struct service *service = *state;

    service->is_slow = true;
    struct client first = client_start(LIMIT_MS);
    service_run_until(service, GT_RELOAD_IN_WORK, 1);
    struct client second = client_start(LIMIT_MS), third = client_start(LIMIT_MS);
    service_run_until(service, GT_RELOAD_WAITING, 2);
    service_finish(service);
    assert_int_equal(client_end(&first, service, "reload 1"), 1);
    service_run_until(service, GT_RELOAD_IN_WORK, 2);
    assert_int_equal(service->n_begun, 2);
    service_finish(service);
    assert_int_equal(client_end(&second, service, "reload 2"), 2);
    assert_int_equal(client_end(&third, service, "reload 2"), 2);
}

static void test_client_asks_the_next_process_for_its_state(void **state)
{
    struct service *service = *state;

    service->is_slow = true;
    struct client client = client_start(LIMIT_MS);
    service_run_until(service, GT_RELOAD_IN_WORK, 1);
    gt_reload_server_close(&service->server);
    gt_reload_server_open(&service->server, service->loop, service_on_reload, service);
    gt_reload_server_set_state(&service->server, 7, "the next process");
    assert_int_equal(client_end(&client, service, "the next process"), 7);
    assert_int_equal(service->n_begun, 1);
}

static void test_client_whose_reload_had_not_begun_requests_again(void **state)
{
    struct service *service = *state;

    service->is_slow = true;
    struct client first = client_start(LIMIT_MS);
    service_run_until(service, GT_RELOAD_IN_WORK, 1);
    struct client second = client_start(LIMIT_MS);
    service_run_until(service, GT_RELOAD_WAITING, 1);
    gt_reload_server_close(&service->server);
    service->is_slow = false;
    gt_reload_server_open(&service->server, service->loop, service_on_reload, service);
    assert_int_equal(client_end(&second, service, "reload 2"), 2);
    (void)client_end(&first, service, "");
}

static void test_hanging_service_ends_the_client_at_its_deadline(void **state)
{
    struct client client = client_start(300); /* the loop does not run */

    assert_int_equal(client_end(&client, NULL, "no answer"), GT_EXIT_UNAVAILABLE);
}

static void test_other_requests_are_closed(void **state)
{
    static const char *const requests[] = {"x\n", "reload\nreload\nreload\n", "", "\n"};
    struct service *service = *state;
    struct sockaddr_un addr;

    assert_true(gt_reload_socket_address(&addr));
    for (size_t i = 0; i < GT_ARRAY_SIZE(requests); i++) {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);

        assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
        assert_true(send(fd, requests[i], strlen(requests[i]), 0) >= 0);
        service_run_until(service, GT_RELOAD_READING, 1);
        shutdown(fd, SHUT_WR);
        service_run_until(service, GT_RELOAD_FREE, GT_RELOAD_CLIENTS);
        close(fd);
    }
    assert_int_equal(service->n_begun, 0);
}

static void test_clients_beyond_the_limit_wait(void **state)
{
    struct service *service = *state;
    struct client clients[GT_RELOAD_CLIENTS + 3];

    service->is_slow = true;
    for (size_t i = 0; i < GT_ARRAY_SIZE(clients); i++)
        clients[i] = client_start(LIMIT_MS);
    service_run_until(service, GT_RELOAD_FREE, 0);
    service->is_slow = false;
    service_finish(service);
    for (size_t i = 0; i < GT_ARRAY_SIZE(clients); i++)
        assert_true(client_end(&clients[i], service, "reload ") > 0);
}

static void on_time(struct ev_loop *loop, ev_timer *timer, int revents)
{
    ev_break(loop, EVBREAK_ALL);
}

/* Returns the turns of the loop in 300 ms. */
static unsigned count_turns(struct ev_loop *loop)
{
    ev_timer timer;
    unsigned before = ev_iteration(loop);

    ev_now_update(loop);
    ev_timer_init(&timer, on_time, .3, 0.);
    ev_timer_start(loop, &timer);
    ev_run(loop, 0);
    return ev_iteration(loop) - before;
}

static void test_accepting_pauses_without_descriptors(void **state)
{
    struct service *service = *state;
    struct sockaddr_un addr;
    struct rlimit limit, none;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    assert_true(gt_reload_socket_address(&addr));
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = limit.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    unsigned n = count_turns(service->loop);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_in_range(n, 1, 20);
    service_run_until(service, GT_RELOAD_READING, 1); /* after the pause */
    close(fd);
}

static void test_process_without_a_socket_gets_the_signal(void **state)
{
    char pid[16];
    pid_t child = fork();

    if (child == 0)
        _exit(pause());
    snprintf(pid, sizeof(pid), "%d", (int)child);
    setenv("RUNTIME_DIRECTORY", "/nonexistent", 1);
    setenv("MAINPID", pid, 1);
    struct client client = client_start(LIMIT_MS);
    int status;
    assert_int_equal(client_end(&client, NULL, "sent SIGUSR1"), GT_EXIT_UNAVAILABLE);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1);
    unsetenv("MAINPID");
    unsetenv("RUNTIME_DIRECTORY");
    client = client_start(LIMIT_MS);
    assert_int_equal(client_end(&client, NULL, "no running service found"), GT_EXIT_UNAVAILABLE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, service_open, service_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_client_prints_and_returns_the_result),
        TEST(test_stopping_service_declines),
        TEST(test_client_of_a_later_change_gets_a_later_reload),
        TEST(test_client_asks_the_next_process_for_its_state),
        TEST(test_client_whose_reload_had_not_begun_requests_again),
        TEST(test_hanging_service_ends_the_client_at_its_deadline),
        TEST(test_other_requests_are_closed),
        TEST(test_clients_beyond_the_limit_wait),
        TEST(test_accepting_pauses_without_descriptors),
        cmocka_unit_test(test_process_without_a_socket_gets_the_signal),
    };

    if (!mkdtemp(folder))
        return 1;
    int r = cmocka_run_group_tests(tests, NULL, NULL);
    char path[64];
    snprintf(path, sizeof(path), "%s/reload.sock", folder);
    unlink(path);
    rmdir(folder);
    return r;
}
