/* SPDX-License-Identifier: ISC */
/* holder-server.c and holder-wire.c: requests in and out of order, descriptors, deadlines. */
#include "holder-server.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "gotthard/base/log.h"
#include "holder-wire.h"

static struct {
    struct ev_loop *loop;
    struct holder_server server;
    struct holder_client *open; /* the client of the last on_open */
    unsigned n_open, n_gone;
    bool is_unknown; /* the host keys */
    int fd;          /* the client's end */
    struct holder_message message;
    struct gt_endpoint_fds fds;
} f;

static bool is_current(void *userdata, const uint8_t check[static GT_KEY_SIZE])
{
    return check[0] == 1;
}

static void on_open(void *userdata, struct holder_client *client)
{
    f.open = client;
    f.n_open++;
}

static void on_gone(void *userdata, struct holder_client *client)
{
    assert_ptr_equal(client, f.open);
    f.open = NULL;
    f.n_gone++;
}

static void get_status(void *userdata, struct holder_status *ret)
{
    strcpy(ret->device, "oli");
    strcpy(ret->operator_, "alice");
    ret->n_streams = 7;
}

static const char *host_keys(void *userdata)
{
    return f.is_unknown ? NULL : "ssh-ed25519 AAAA\n";
}

static const struct holder_server_events events = {
    .is_current = is_current,
    .on_open = on_open,
    .on_gone = on_gone,
    .get_status = get_status,
    .host_keys = host_keys,
};

static void run_loop(void)
{
    for (int i = 0; i < 4; i++)
        ev_run(f.loop, EVRUN_NOWAIT);
}

static int set_up(void **state)
{
    int pair[2];

    memset(&f, 0, sizeof(f));
    f.loop = ev_loop_new(EVFLAG_AUTO);
    holder_server_init(&f.server, f.loop, &events, NULL);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
                     0);
    holder_server_add(&f.server, pair[0]);
    f.fd = pair[1];
    return 0;
}

static int tear_down(void **state)
{
    gt_close(&f.fd);
    holder_server_deinit(&f.server);
    assert_int_equal(f.server.n_clients, 0);
    ev_loop_destroy(f.loop);
    return 0;
}

static void send_message(struct holder_message message, const struct gt_endpoint_fds *fds)
{
    assert_int_equal(holder_wire_send(f.fd, &message, fds), 0);
    run_loop();
}

static int receive_message(void)
{
    return holder_wire_receive(f.fd, &f.message, &f.fds);
}

static void expect(enum holder_message_type type)
{
    assert_int_equal(receive_message(), 0);
    assert_int_equal(f.message.type, type);
}

static void expect_end(void)
{
    assert_int_equal(receive_message(), HOLDER_WIRE_E_END);
    assert_int_equal(f.server.n_clients, 0);
}

static void say_hello(uint8_t first)
{
    send_message((struct holder_message){.type = HOLDER_HELLO, .check = {first}}, NULL);
}

/* Sends OPEN with the two ends of a pipe, and closes them here. */
static void request_stream(int ret_others[2])
{
    struct holder_message message = {.type = HOLDER_OPEN, .service = "ssh"};
    int in[2], out[2];

    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    const struct gt_endpoint_fds fds = {.in = in[0], .out = out[1]};
    send_message(message, &fds);
    close(in[0]);
    close(out[1]);
    ret_others[0] = in[1];
    ret_others[1] = out[0];
}

static void test_server_takes_descriptors_with_open(void **state)
{
    int others[2];
    char byte;

    say_hello(1);
    expect(HOLDER_READY);
    request_stream(others);
    expect(HOLDER_ACCEPTED);
    assert_int_equal(f.n_open, 1);
    assert_string_equal(f.open->service, "ssh");
    assert_int_equal(write(others[0], "x", 1), 1);
    assert_int_equal(read(f.open->fds.in, &byte, 1), 1);
    assert_int_equal(fcntl(f.open->fds.in, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(holder_server_n_open(&f.server), 1);
    f.open->stream = 5;
    assert_ptr_equal(holder_server_find(&f.server, 5), f.open);
    assert_null(holder_server_find(&f.server, 0));
    holder_server_notice(&f.server, HOLDER_NOTICE_WARNING, "look");
    expect(HOLDER_NOTICE);
    assert_string_equal(f.message.notice.text, "look");
    holder_server_end(f.open, 3, "over");
    expect(HOLDER_END);
    assert_int_equal(f.message.end.status, 3);
    expect_end();
    assert_int_equal(read(others[1], &byte, 1), 0); /* the descriptors were not taken: closed */
    assert_int_equal(f.n_gone, 0);
    close(others[0]);
    close(others[1]);
}

static void test_server_reports_a_client_that_goes(void **state)
{
    int others[2];

    say_hello(1);
    request_stream(others);
    assert_int_equal(f.n_open, 1);
    gt_close(&f.fd);
    run_loop();
    assert_int_equal(f.n_gone, 1);
    assert_int_equal(f.server.n_clients, 0);
    close(others[0]);
    close(others[1]);
}

static void test_server_rejects_other_secrets(void **state)
{
    say_hello(2);
    expect(HOLDER_STALE);
    expect_end();
}

static void test_server_answers_queries(void **state)
{
    send_message((struct holder_message){.type = HOLDER_STATUS_QUERY}, NULL);
    expect(HOLDER_STATUS);
    assert_int_equal(f.message.status.n_streams, 7);
    expect_end();
}

static void test_server_answers_with_host_keys(void **state)
{
    send_message((struct holder_message){.type = HOLDER_HOST_KEYS_QUERY}, NULL);
    expect(HOLDER_HOST_KEYS);
    assert_string_equal(f.message.host_keys, "ssh-ed25519 AAAA\n");
    expect_end();
}

static void test_server_answers_when_the_host_keys_are_known(void **state)
{
    f.is_unknown = true;
    send_message((struct holder_message){.type = HOLDER_HOST_KEYS_QUERY}, NULL);
    assert_int_equal(receive_message(), HOLDER_WIRE_E_AGAIN);
    f.is_unknown = false;
    holder_server_answer(&f.server);
    expect(HOLDER_HOST_KEYS);
    assert_string_equal(f.message.host_keys, "ssh-ed25519 AAAA\n");
    expect_end();
}

static void test_server_closes_a_client_out_of_order(void **state)
{
    int others[2];

    request_stream(others); /* without HELLO */
    expect_end();
    assert_int_equal(f.n_open, 0);
    assert_int_equal(write(others[0], "x", 1), -1); /* the descriptors are closed */
    close(others[0]);
    close(others[1]);
}

static void test_server_closes_a_client_that_opens_twice(void **state)
{
    int others[2], more[2];

    say_hello(1);
    request_stream(others);
    request_stream(more);
    assert_int_equal(f.n_gone, 1);
    assert_int_equal(f.server.n_clients, 0);
    for (int i = 0; i < 2; i++) {
        close(others[i]);
        close(more[i]);
    }
}

static void test_server_closes_a_client_with_other_bytes(void **state)
{
    assert_int_equal(send(f.fd, "hello", 5, 0), 5);
    run_loop();
    expect_end();
}

static void test_server_closes_a_message_that_is_too_long(void **state)
{
    static uint8_t bytes[HOLDER_MESSAGE_MAX + 1] = {HOLDER_VERSION, HOLDER_STATUS_QUERY};

    assert_int_equal(send(f.fd, bytes, sizeof(bytes), 0), sizeof(bytes));
    run_loop();
    expect_end();
}

/* OPEN without descriptors, and descriptors beside another message. */
static void test_server_closes_wrong_descriptors(void **state)
{
    const struct gt_endpoint_fds fds = {.in = f.fd, .out = f.fd};

    say_hello(1);
    expect(HOLDER_READY);
    send_message((struct holder_message){.type = HOLDER_OPEN, .service = "ssh"}, NULL);
    expect_end();
    tear_down(state);
    set_up(state);
    send_message((struct holder_message){.type = HOLDER_STATUS_QUERY}, &fds);
    expect_end();
}

static void test_server_closes_a_silent_client(void **state)
{
    double began = ev_time();

    while (f.server.n_clients > 0 && ev_time() < began + 3 * HOLDER_CLIENT_S)
        ev_run(f.loop, EVRUN_ONCE);
    expect_end();
    assert_true(ev_time() - began >= HOLDER_CLIENT_S - 0.1);
}

static void test_closing_server_sends_new_clients_away(void **state)
{
    int others[2];

    say_hello(1);
    request_stream(others);
    holder_server_close(&f.server);
    assert_int_equal(f.server.n_clients, 1); /* its stream continues */
    holder_server_end(f.open, 0, "");
    tear_down(state);
    set_up(state);
    say_hello(1);
    expect(HOLDER_READY);
    holder_server_close(&f.server);
    expect_end();
    close(others[0]);
    close(others[1]);
}

static bool is_readable(int fd)
{
    char bytes[4096];

    return read(fd, bytes, sizeof(bytes)) > 0;
}

/* In a holder each line of the log becomes a notice again. */
static void test_lost_log_line_is_not_logged(void **state)
{
    int others[2], lines[2], stderr_before = dup(STDERR_FILENO);

    say_hello(1);
    request_stream(others);
    assert_int_equal(pipe2(lines, O_CLOEXEC | O_NONBLOCK), 0);
    assert_true(dup2(lines[1], STDERR_FILENO) >= 0);
    gt_log_open("test", GT_LOG_DEBUG);
    for (int i = 0; i < 2000; i++) /* more than the socket of a stopped client takes */
        holder_server_notice(&f.server, HOLDER_NOTICE_LOG, "a line");
    bool is_line_logged = is_readable(lines[0]);
    holder_server_notice(&f.server, HOLDER_NOTICE_WARNING, "a warning");
    bool is_warning_logged = is_readable(lines[0]);
    gt_log_open("test", GT_LOG_INFO);
    assert_true(dup2(stderr_before, STDERR_FILENO) >= 0);
    close(stderr_before);
    assert_false(is_line_logged);
    assert_true(is_warning_logged);
    holder_server_end(f.open, 0, "");
    for (int i = 0; i < 2; i++) {
        close(others[i]);
        close(lines[i]);
    }
}

static void test_accepted_client_takes_room(void **state)
{
    int others[2];

    assert_int_equal(holder_server_n_taken(&f.server), 0);
    say_hello(1);
    assert_int_equal(holder_server_n_taken(&f.server), 1);
    assert_int_equal(holder_server_n_open(&f.server), 0);
    request_stream(others);
    assert_int_equal(holder_server_n_taken(&f.server), 1);
    assert_int_equal(holder_server_n_open(&f.server), 1);
    holder_server_end(f.open, 0, "");
    assert_int_equal(holder_server_n_taken(&f.server), 0);
    close(others[0]);
    close(others[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_server_takes_descriptors_with_open, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_server_reports_a_client_that_goes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_server_rejects_other_secrets, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_server_answers_queries, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_server_answers_with_host_keys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_server_answers_when_the_host_keys_are_known, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_server_closes_a_client_out_of_order, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_server_closes_a_client_that_opens_twice, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_server_closes_a_client_with_other_bytes, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_server_closes_a_message_that_is_too_long, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_server_closes_wrong_descriptors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_server_closes_a_silent_client, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lost_log_line_is_not_logged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_accepted_client_takes_room, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_closing_server_sends_new_clients_away, set_up,
                                        tear_down),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
