/* SPDX-License-Identifier: ISC */
/*
 * session-port.c in a data thread that is not running: the test chooses the order of events.
 */
#include "data/session-port.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "data/data-thread.h"

static struct {
    struct mailbox outbox;
    struct quota quota;
    struct data_thread *data_thread;
    struct session_port *session_port;
    struct gt_addr addr;
} env;

static void on_message(void *userdata, struct message *message)
{
    message_free(message);
}

/* The test runs the data thread's loop. */
static int set_up(void **state)
{
    struct data_thread_settings settings = {
        .outbox = &env.outbox, .quota = &env.quota, .limits = {.join_ms = 5000}};

    quota_init(&env.quota,
               &(struct quota_limits){
                   .n_preauths = 9, .n_handshakes = 9, .n_of_identity = 9, .n_per_source = 9},
               100);
    mailbox_init(&env.outbox, ev_default_loop(0), on_message, NULL);
    assert_int_equal(data_thread_new(&settings, &env.data_thread), 0);
    assert_int_equal(gt_addr_parse("127.0.0.1", 0, &env.addr), 0);
    int fd = gt_sock_listen(&env.addr, 4);
    assert_true(fd >= 0);
    assert_int_equal(gt_sock_local(fd, &env.addr), 0);
    assert_true(quota_acquire_fd(&env.quota));
    env.session_port = session_port_new(7, "12345678", &fd);
    assert_non_null(env.session_port);
    assert_int_equal(data_thread_add_port(env.data_thread, env.session_port), 0);
    mailbox_drain(&env.data_thread->inbox);
    return 0;
}

static int tear_down(void **state)
{
    struct quota_counts counts;

    data_thread_free(env.data_thread);
    mailbox_drain(&env.outbox);
    mailbox_deinit(&env.outbox);
    quota_count(&env.quota, &counts);
    assert_int_equal(counts.n_fds, 0);
    quota_deinit(&env.quota);
    return 0;
}

/* Returns a connection that has sent @join and waits to be accepted. */
static int send_join(const struct gt_join *join)
{
    uint8_t bytes[GT_JOIN_SIZE];
    int fd = gt_sock_connect(&env.addr);

    assert_true(fd >= 0);
    gt_join_encode(join, bytes);
    assert_int_equal(send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL), sizeof(bytes));
    struct pollfd pollfd = {env.session_port->acceptor.fd, POLLIN, 0};
    assert_int_equal(poll(&pollfd, 1, 5000), 1);
    return fd;
}

static const struct gt_ticket ticket = {.stream = 1, .attempt = 1, .id = "an id", .secret = "x"};
static const struct gt_join join = {
    .role = GT_ROLE_OPERATOR, .stream = 1, .attempt = 1, .id = "an id", .secret = "x"};

/* The message with the ticket and a JOIN with it arrive in the same turn. */
static void test_session_port_ticket_in_the_same_turn_is_valid(void **state)
{
    int client = send_join(&join);

    assert_int_equal(
        data_thread_add_ticket(env.data_thread, env.session_port, &ticket, GT_CLOCK_NEVER), 0);
    ev_invoke(env.data_thread->loop, &env.session_port->acceptor.io, EV_READ);
    assert_int_equal(atomic_load(&env.data_thread->counts.n_pairs), 1);
    close(client);
    data_thread_remove_port(env.data_thread, env.session_port);
    mailbox_drain(&env.data_thread->inbox);
    assert_int_equal(atomic_load(&env.data_thread->counts.n_pairs), 0);
    assert_int_equal(atomic_load(&env.data_thread->counts.n_session_ports), 0);
}

/* The message that closes the port is delivered within an accept of its listener. */
static void test_session_port_close_within_an_accept(void **state)
{
    int client = send_join(&join);

    assert_int_equal(
        data_thread_add_ticket(env.data_thread, env.session_port, &ticket, GT_CLOCK_NEVER), 0);
    data_thread_remove_port(env.data_thread, env.session_port);
    ev_invoke(env.data_thread->loop, &env.session_port->acceptor.io, EV_READ);
    assert_int_equal(atomic_load(&env.data_thread->counts.n_pairs), 0);
    assert_int_equal(atomic_load(&env.data_thread->counts.n_session_ports), 0);
    ev_run(env.data_thread->loop, EVRUN_NOWAIT);
    close(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_session_port_ticket_in_the_same_turn_is_valid, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_session_port_close_within_an_accept, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
