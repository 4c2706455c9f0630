/* SPDX-License-Identifier: ISC */
/*
 * data-thread.c with a running thread, over TCP on loopback: everything from an accept to a pair
 * and its end, and the requests of the control thread in between.
 */
#include "data/data-thread.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "data/session-port.h"

#define TEST_LIMIT_MS 20000 /* of one wait */

static struct {
    struct ev_loop *loop; /* of the control thread: the test's */
    struct mailbox outbox;
    struct quota quota;
    struct data_thread *data_thread;
    struct session_port *session_port;
    struct gt_addr addr;        /* of the port */
    struct message messages[8]; /* received from the data thread */
    unsigned n_messages;
} env;

static void on_message(void *userdata, struct message *message)
{
    if (env.n_messages < GT_ARRAY_SIZE(env.messages))
        env.messages[env.n_messages++] = *message;
    message_free(message);
}

static void add_port(void)
{
    assert_int_equal(gt_addr_parse("127.0.0.1", 0, &env.addr), 0);
    int fd = gt_sock_listen(&env.addr, 16);
    assert_true(fd >= 0);
    assert_int_equal(gt_sock_local(fd, &env.addr), 0);
    assert_true(quota_acquire_fd(&env.quota));
    env.session_port = session_port_new(7, "12345678", &fd);
    assert_non_null(env.session_port);
    assert_int_equal(data_thread_add_port(env.data_thread, env.session_port), 0);
}

static int set_up(void **state)
{
    struct data_thread_settings settings = {
        .outbox = &env.outbox,
        .quota = &env.quota,
        .pipe_kind = PIPE_SPLICED,
        .pipe_size = 65536,
        .n_pipes_max = 4,
        .limits = {
            .join_ms = 60000,
            .pair = {.join_peer_ms = 60000, .half_closed_ms = 60000, .turn_budget = 1 << 20}}};

    memset(&env, 0, sizeof(env));
    env.loop = ev_loop_new(EVFLAG_AUTO);
    quota_init(&env.quota,
               &(struct quota_limits){
                   .n_preauths = 20, .n_handshakes = 20, .n_of_identity = 20, .n_per_source = 20},
               100);
    mailbox_init(&env.outbox, env.loop, on_message, NULL);
    assert_int_equal(data_thread_new(&settings, &env.data_thread), 0);
    assert_int_equal(data_thread_start(env.data_thread), 0);
    add_port();
    return 0;
}

static int tear_down(void **state)
{
    struct quota_counts counts;

    env.data_thread = data_thread_free(env.data_thread);
    mailbox_drain(&env.outbox);
    mailbox_deinit(&env.outbox);
    quota_count(&env.quota, &counts);
    assert_int_equal(counts.n_fds, 0);
    quota_deinit(&env.quota);
    ev_loop_destroy(env.loop);
    return 0;
}

static const struct gt_ticket ticket = {.stream = 3, .attempt = 2, .id = "an id", .secret = "x"};

static struct gt_join join_of(enum gt_role role)
{
    struct gt_join join = {.role = role, .stream = ticket.stream, .attempt = ticket.attempt};

    memcpy(join.id, ticket.id, sizeof(join.id));
    memcpy(join.secret, ticket.secret, sizeof(join.secret));
    return join;
}

static void add_ticket(uint64_t expires_at)
{
    assert_int_equal(data_thread_add_ticket(env.data_thread, env.session_port, &ticket, expires_at),
                     0);
}

static void send_join(int fd, const struct gt_join *join)
{
    uint8_t bytes[GT_JOIN_SIZE];

    gt_join_encode(join, bytes);
    assert_int_equal(send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL), sizeof(bytes));
}

static int connect_port(void)
{
    int fd = gt_sock_connect(&env.addr);
    struct pollfd pollfd = {fd, POLLOUT, 0};

    assert_true(fd >= 0);
    assert_int_equal(poll(&pollfd, 1, 5000), 1);
    return fd;
}

/* Begins a JOIN, because the kernel keeps a silent connection to itself. */
static int connect_and_start(void)
{
    int fd = connect_port();

    assert_int_equal(send(fd, "G", 1, MSG_NOSIGNAL), 1);
    return fd;
}

static int connect_and_join(enum gt_role role)
{
    struct gt_join join = join_of(role);
    int fd = connect_port();

    send_join(fd, &join);
    return fd;
}

/* Returns the number of bytes, 0 at the end, -1 after a reset. */
static ssize_t receive(int fd, void *buffer, size_t n)
{
    struct pollfd pollfd = {fd, POLLIN, 0};

    assert_int_equal(poll(&pollfd, 1, TEST_LIMIT_MS), 1);
    return recv(fd, buffer, n, 0);
}

static void assert_is_closed_without_a_byte(int fd)
{
    uint8_t byte;

    assert_true(receive(fd, &byte, 1) <= 0);
    close(fd);
}

static const struct message *await_message(unsigned i)
{
    uint64_t deadline = gt_clock_ms() + TEST_LIMIT_MS;

    while (env.n_messages <= i) {
        ev_run(env.loop, EVRUN_NOWAIT);
        poll(NULL, 0, 1);
        assert_true(gt_clock_ms() < deadline);
    }
    return &env.messages[i];
}

static void assert_message(unsigned i, enum message_kind kind, enum gt_code code)
{
    const struct message *message = await_message(i);

    assert_int_equal(message->kind, kind);
    assert_int_equal(message->serial, 7);
    assert_int_equal(message->stream, ticket.stream);
    assert_int_equal(message->attempt, ticket.attempt);
    assert_int_equal(message->code, code);
}

/* Receives the reply, after a receipt if this side joined first. */
static void receive_reply(int fd)
{
    uint8_t reply[GT_JOIN_REPLY_SIZE];

    do
        assert_int_equal(receive(fd, reply, sizeof(reply)), sizeof(reply));
    while (memcmp(reply, gt_join_receipt, sizeof(reply)) == 0);
    assert_memory_equal(reply, gt_join_reply, sizeof(reply));
}

static void make_pair(int ret[2])
{
    add_ticket(GT_CLOCK_NEVER);
    ret[0] = connect_and_join(GT_ROLE_OPERATOR);
    ret[1] = connect_and_join(GT_ROLE_DEVICE);
    assert_message(0, MESSAGE_PAIRED, GT_CODE_NONE);
    receive_reply(ret[0]);
    receive_reply(ret[1]);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void test_data_thread_transfers_between_two_joins(void **state)
{
    uint8_t buffer[16];
    int fds[2];

    make_pair(fds);
    assert_int_equal(send(fds[0], "hello", 5, 0), 5);
    assert_int_equal(receive(fds[1], buffer, sizeof(buffer)), 5);
    assert_int_equal(send(fds[1], "hi", 2, 0), 2);
    assert_int_equal(receive(fds[0], buffer, sizeof(buffer)), 2);
    close(fds[0]);
    assert_int_equal(receive(fds[1], buffer, sizeof(buffer)), 0);
    close(fds[1]);
    assert_message(1, MESSAGE_ENDED, GT_CODE_NONE);
    assert_int_equal(atomic_load(&env.session_port->n_bytes[0]), 5);
    assert_int_equal(atomic_load(&env.session_port->n_bytes[1]), 2);
    assert_int_equal(atomic_load(&env.data_thread->counts.n_bytes), 7);
}

static void test_data_thread_join_with_a_wrong_secret_gets_no_byte(void **state)
{
    struct gt_join join = join_of(GT_ROLE_DEVICE);
    int fd = connect_port();

    add_ticket(GT_CLOCK_NEVER);
    join.secret[31] ^= 1;
    send_join(fd, &join);
    assert_is_closed_without_a_byte(fd);
    assert_int_equal(env.n_messages, 0);
}

static void test_data_thread_slow_connection_is_closed_after_changed_limit(void **state)
{
    struct data_thread_limits limits = {.join_ms = 30};
    uint64_t began = gt_clock_ms();

    assert_int_equal(data_thread_change_limits(env.data_thread, &limits), 0);
    data_thread_request_pause(env.data_thread); /* the message is delivered before the accept */
    data_thread_await_pause(env.data_thread);
    data_thread_resume(env.data_thread);
    assert_is_closed_without_a_byte(connect_and_start());
    assert_in_range(gt_clock_ms() - began, 20, 10000);
}

static void test_data_thread_cancelled_ticket_gets_no_byte(void **state)
{
    add_ticket(GT_CLOCK_NEVER);
    assert_int_equal(
        data_thread_cancel_ticket(env.data_thread, env.session_port, ticket.stream, ticket.attempt),
        0);
    assert_message(0, MESSAGE_ENDED, GT_CODE_REPLACED);
    assert_is_closed_without_a_byte(connect_and_join(GT_ROLE_DEVICE));
}

static void test_data_thread_ticket_expires(void **state)
{
    add_ticket(gt_clock_ms() + 30);
    assert_message(0, MESSAGE_ENDED, GT_CODE_EXPIRED);
    assert_int_equal(atomic_load(&env.data_thread->counts.n_tickets), 0);
}

static void test_data_thread_pause_holds_bytes_until_resume(void **state)
{
    uint8_t byte = 1;
    int fds[2];

    make_pair(fds);
    data_thread_request_pause(env.data_thread);
    data_thread_await_pause(env.data_thread);
    assert_int_equal(env.data_thread->state, DATA_THREAD_PAUSED);
    assert_int_equal(send(fds[0], &byte, 1, 0), 1);
    struct pollfd pollfd = {fds[1], POLLIN, 0};
    assert_int_equal(poll(&pollfd, 1, 50), 0);
    data_thread_resume(env.data_thread);
    assert_int_equal(receive(fds[1], &byte, 1), 1);
    close(fds[0]);
    close(fds[1]);
}

static void test_data_thread_paused_delivers_messages_to_the_caller(void **state)
{
    data_thread_request_pause(env.data_thread);
    data_thread_await_pause(env.data_thread);
    add_ticket(GT_CLOCK_NEVER);
    assert_int_equal(atomic_load(&env.data_thread->counts.n_tickets), 0);
    data_thread_deliver(env.data_thread);
    assert_int_equal(atomic_load(&env.data_thread->counts.n_tickets), 1);
    data_thread_resume(env.data_thread);
}

static bool move_join(void *userdata, struct preauth *preauth)
{
    return data_thread_move_join(env.data_thread, preauth) == 0;
}

static void test_data_thread_join_from_the_main_port_is_paired(void **state)
{
    struct preauth_host main_port;
    uint8_t bytes[GT_JOIN_SIZE];
    struct gt_join join = join_of(GT_ROLE_OPERATOR);
    int fds[2];

    assert_int_equal(preauth_host_init(&main_port, env.loop, &env.quota), 0);
    main_port.join_ms = 60000;
    main_port.on_join = move_join;
    add_ticket(GT_CLOCK_NEVER);
    int device = connect_and_join(GT_ROLE_DEVICE);
    assert_int_equal(gt_sock_pair(fds), 0);
    gt_join_encode(&join, bytes);
    assert_int_equal(send(fds[1], bytes, sizeof(bytes), 0), sizeof(bytes));
    preauth_accept(&main_port, fds[0], &env.addr, NULL);
    assert_true(gt_list_is_empty(&main_port.open));
    assert_message(0, MESSAGE_PAIRED, GT_CODE_NONE);
    receive_reply(fds[1]);
    receive_reply(device);
    close(fds[1]);
    close(device);
    preauth_host_deinit(&main_port);
}

static void test_data_thread_removed_port_closes_its_connections(void **state)
{
    uint8_t byte;
    int fds[2];

    make_pair(fds);
    int waiting = connect_and_start();
    data_thread_remove_port(env.data_thread, env.session_port);
    assert_is_closed_without_a_byte(waiting);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(receive(fds[i], &byte, 1), -1); /* a reset */
        close(fds[i]);
    }
    for (uint64_t deadline = gt_clock_ms() + TEST_LIMIT_MS;
         atomic_load(&env.data_thread->counts.n_session_ports) > 0;)
        assert_true(gt_clock_ms() < deadline);
}

static void test_data_thread_free_closes_everything(void **state)
{
    uint8_t byte;
    int fds[2];

    make_pair(fds);
    int waiting = connect_and_start();
    env.data_thread = data_thread_free(env.data_thread);
    assert_is_closed_without_a_byte(waiting);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(receive(fds[i], &byte, 1), -1);
        close(fds[i]);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_data_thread_transfers_between_two_joins),
        TEST(test_data_thread_join_with_a_wrong_secret_gets_no_byte),
        TEST(test_data_thread_slow_connection_is_closed_after_changed_limit),
        TEST(test_data_thread_cancelled_ticket_gets_no_byte),
        TEST(test_data_thread_ticket_expires),
        TEST(test_data_thread_pause_holds_bytes_until_resume),
        TEST(test_data_thread_paused_delivers_messages_to_the_caller),
        TEST(test_data_thread_join_from_the_main_port_is_paired),
        TEST(test_data_thread_removed_port_closes_its_connections),
        TEST(test_data_thread_free_closes_everything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
