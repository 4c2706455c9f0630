/* SPDX-License-Identifier: ISC */
/*
 * preauth.c: all input that an unauthenticated peer can send to the main port or to a session's
 * port, over a socket pair or TCP on loopback. A peer must never receive a byte.
 */
#include "data/preauth.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#define TEST_LIMIT_MS 20000 /* of one wait */

enum on_join { RELEASE, REJECT, CLOSE, MOVE };
enum on_hello { PROVED, REFUSED, REPLAYED };

static struct {
    struct ev_loop *loop;
    struct quota quota;
    struct preauth_host host, other;
    struct gt_addr addr;
    enum on_join on_join;
    enum on_hello on_hello;
    unsigned n_joins, n_moved, n_hellos;
    uint8_t bytes[GT_JOIN_SIZE]; /* of the last JOIN */
    int fd;                      /* of the last released connection, -1 */
    struct quota_charge charge;
} env;

static void keep_released(struct preauth *preauth)
{
    gt_close(&env.fd);
    quota_release(&env.charge);
    env.fd = preauth_release(preauth, &env.charge);
}

static bool on_join(void *userdata, struct preauth *preauth)
{
    env.n_joins++;
    memcpy(env.bytes, preauth->bytes, GT_JOIN_SIZE);
    switch (env.on_join) {
    case RELEASE: keep_released(preauth); return false;
    case REJECT: preauth_reject(preauth); return false;
    case CLOSE: preauth_close(preauth); return false;
    case MOVE:
        preauth_detach(preauth);
        preauth_attach(preauth, &env.other);
        return true;
    }
    return false;
}

static bool on_moved_join(void *userdata, struct preauth *preauth)
{
    env.n_moved++;
    keep_released(preauth);
    return false;
}

static const uint8_t alert[] = {21, 3, 3, 0, 2, 2, 47};

static void on_hello(void *userdata, struct preauth *preauth, const struct gt_client_hello *hello)
{
    env.n_hellos++;
    assert_true(gt_span_equals(hello->identity, gt_span_text("g1:o:alice")));
    switch (env.on_hello) {
    case PROVED:
        assert_true(preauth_prove(preauth, "g1:o:alice"));
        keep_released(preauth);
        break;
    case REFUSED: preauth_refuse(preauth, gt_span(alert, sizeof(alert))); break;
    case REPLAYED: preauth_reject(preauth); break;
    }
}

static int set_up(void **state)
{
    memset(&env, 0, sizeof(env));
    env.fd = -1;
    env.loop = ev_loop_new(EVFLAG_AUTO);
    quota_init(&env.quota,
               &(struct quota_limits){
                   .n_preauths = 9, .n_handshakes = 9, .n_of_identity = 9, .n_per_source = 9},
               100);
    assert_int_equal(gt_addr_parse("192.0.2.1", 4242, &env.addr), 0);
    assert_int_equal(preauth_host_init(&env.host, env.loop, &env.quota), 0);
    assert_int_equal(preauth_host_init(&env.other, env.loop, &env.quota), 0);
    env.host.first_ms = env.host.join_ms = env.other.join_ms = 60000;
    env.host.on_join = on_join;
    env.other.on_join = on_moved_join;
    return 0;
}

static int tear_down(void **state)
{
    struct quota_counts counts;

    preauth_host_deinit(&env.host);
    preauth_host_deinit(&env.other);
    gt_close(&env.fd);
    quota_release(&env.charge);
    quota_count(&env.quota, &counts);
    assert_int_equal(counts.n_fds, 0);
    assert_int_equal(counts.n_preauths, 0);
    quota_deinit(&env.quota);
    ev_loop_destroy(env.loop);
    return 0;
}

static int set_up_main_port(void **state)
{
    int r = set_up(state);

    env.host.on_hello = on_hello;
    return r;
}

static void turn(void)
{
    ev_run(env.loop, EVRUN_NOWAIT);
    preauth_host_reap(&env.host);
    preauth_host_reap(&env.other);
}

static void send_bytes(int fd, const void *bytes, size_t n)
{
    assert_int_equal(send(fd, bytes, n, MSG_NOSIGNAL), n);
}

/* A connection to @session_port that has sent @n bytes. Returns the peer's end. */
static int accept_at(void *session_port, const void *bytes, size_t n)
{
    int fds[2];

    assert_int_equal(gt_sock_pair(fds), 0);
    if (n)
        send_bytes(fds[1], bytes, n);
    preauth_accept(&env.host, fds[0], &env.addr, session_port);
    return fds[1];
}

/* Over TCP: SO_RCVLOWAT and urgent bytes have no effect on a Unix socket. Returns the peer's end.
 */
static int accept_tcp(const void *bytes, size_t n)
{
    struct gt_addr addr, peer;

    assert_int_equal(gt_addr_parse("127.0.0.1", 0, &addr), 0);
    int listener = gt_sock_listen(&addr, 1);
    assert_true(listener >= 0);
    assert_int_equal(gt_sock_local(listener, &addr), 0);
    int fd = gt_sock_connect(&addr);
    assert_true(fd >= 0);
    struct pollfd pollfd = {listener, POLLIN, 0};
    assert_int_equal(poll(&pollfd, 1, 5000), 1);
    int accepted = gt_sock_accept(listener, &peer);
    assert_true(accepted >= 0);
    close(listener);
    send_bytes(fd, bytes, n);
    pollfd.fd = accepted;
    assert_int_equal(poll(&pollfd, 1, 5000), 1);
    preauth_accept(&env.host, accepted, &env.addr, NULL);
    return fd;
}

static int accept_bytes(const void *bytes, size_t n)
{
    return accept_at(NULL, bytes, n);
}

static bool is_open(int fd)
{
    uint8_t byte;
    ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);

    assert_true(n <= 0); /* never a byte for the peer */
    return n < 0 && errno == EAGAIN;
}

static void assert_is_closed(int fd)
{
    uint64_t deadline = gt_clock_ms() + TEST_LIMIT_MS;

    while (is_open(fd)) {
        turn();
        assert_true(gt_clock_ms() < deadline);
    }
    close(fd);
}

static const uint8_t *join_bytes(void)
{
    static const struct gt_join join = {
        .role = GT_ROLE_DEVICE, .stream = 1, .attempt = 2, .id = "an id", .secret = "a secret"};
    static uint8_t bytes[GT_JOIN_SIZE];

    gt_join_encode(&join, bytes);
    return bytes;
}

/* --- JOIN ------------------------------------------------------------------------------------- */

static void test_preauth_join_is_handled_within_the_accept(void **state)
{
    int fd = accept_bytes(join_bytes(), GT_JOIN_SIZE);

    assert_int_equal(env.n_joins, 1);
    assert_memory_equal(env.bytes, join_bytes(), GT_JOIN_SIZE);
    assert_true(env.fd >= 0);
    assert_true(is_open(fd));
    close(fd);
}

static void test_preauth_join_cut_at_any_byte_is_handled(void **state)
{
    for (size_t cut = 0; cut < GT_JOIN_SIZE; cut++) {
        int fd = accept_bytes(join_bytes(), cut);

        turn();
        assert_int_equal(env.n_joins, cut);
        send_bytes(fd, join_bytes() + cut, GT_JOIN_SIZE - cut);
        turn();
        assert_int_equal(env.n_joins, cut + 1);
        close(fd);
    }
}

static void test_preauth_join_byte_by_byte_is_handled(void **state)
{
    int fd = accept_bytes(NULL, 0);

    for (size_t i = 0; i < GT_JOIN_SIZE; i++) {
        assert_int_equal(env.n_joins, 0);
        send_bytes(fd, join_bytes() + i, 1);
        turn();
    }
    assert_int_equal(env.n_joins, 1);
    close(fd);
}

static void test_preauth_bytes_after_the_join_stay_in_the_socket(void **state)
{
    uint8_t bytes[GT_JOIN_SIZE + 5], after[8];
    int fd;

    memcpy(bytes, join_bytes(), GT_JOIN_SIZE);
    memcpy(bytes + GT_JOIN_SIZE, "after", 5);
    fd = accept_bytes(bytes, sizeof(bytes));
    assert_int_equal(env.n_joins, 1);
    assert_int_equal(recv(env.fd, after, sizeof(after), 0), 5);
    assert_memory_equal(after, "after", 5);
    close(fd);
}

/* The peer cannot measure which byte was wrong: the connection closes after 64 bytes. */
static void test_preauth_wrong_bytes_are_read_to_the_end(void **state)
{
    uint8_t bytes[GT_JOIN_SIZE];
    int fd;

    memset(bytes, 'x', sizeof(bytes));
    fd = accept_bytes(bytes, 1);
    for (size_t i = 1; i < GT_JOIN_SIZE; i++) {
        turn();
        assert_true(is_open(fd));
        send_bytes(fd, bytes, 1);
    }
    assert_is_closed(fd);
    assert_int_equal(env.n_joins, 0);
}

static void test_preauth_rejected_join_is_closed(void **state)
{
    env.on_join = REJECT;
    int fd = accept_bytes(join_bytes(), GT_JOIN_SIZE);
    turn();
    assert_is_closed(fd);
    assert_int_equal(env.n_joins, 1);
}

static void test_preauth_late_join_is_closed(void **state)
{
    env.on_join = CLOSE;
    int fd = accept_bytes(join_bytes(), GT_JOIN_SIZE);
    assert_is_closed(fd);
}

static void test_preauth_end_without_a_byte_closes(void **state)
{
    int fd = accept_bytes(NULL, 0);

    close(fd);
    turn();
    assert_true(gt_list_is_empty(&env.host.open));
}

static void test_preauth_end_within_a_join_closes(void **state)
{
    int fd = accept_bytes(join_bytes(), GT_JOIN_SIZE - 1);

    close(fd);
    turn();
    assert_true(gt_list_is_empty(&env.host.open));
    assert_int_equal(env.n_joins, 0);
}

static void test_preauth_timeout_closes(void **state)
{
    env.host.join_ms = 30;
    assert_is_closed(accept_bytes(NULL, 0));
}

static void test_preauth_trickle_gains_no_time(void **state)
{
    env.host.join_ms = 100;
    uint64_t began = gt_clock_ms(), sent_at = began;
    int fd = accept_bytes(join_bytes(), 1);
    for (size_t i = 1; is_open(fd); turn())
        if (gt_clock_ms() >= sent_at + 10 && i < GT_JOIN_SIZE - 1) {
            sent_at = gt_clock_ms();
            if (send(fd, join_bytes() + i++, 1, MSG_NOSIGNAL) < 0)
                break;
        }
    assert_in_range(gt_clock_ms() - began, 90, 5000);
    close(fd);
    assert_int_equal(env.n_joins, 0);
}

static void test_preauth_moves_to_another_host(void **state)
{
    env.on_join = MOVE;
    int fd = accept_bytes(join_bytes(), GT_JOIN_SIZE);
    assert_int_equal(env.n_joins, 1);
    assert_int_equal(env.n_moved, 1);
    assert_true(gt_list_is_empty(&env.host.open));
    close(fd);
    fd = accept_bytes(join_bytes(), 10); /* likewise after a wait */
    turn();
    send_bytes(fd, join_bytes() + 10, GT_JOIN_SIZE - 10);
    turn();
    assert_int_equal(env.n_moved, 2);
    close(fd);
}

static void test_preauth_close_of_port_keeps_other_ports(void **state)
{
    char here[] = "here", there[] = "there"; /* in place of session ports */
    int a = accept_at(here, NULL, 0), b = accept_at(there, NULL, 0), c = accept_at(here, "GT", 2);

    preauth_close_of_port(&env.host, here);
    assert_is_closed(a);
    assert_is_closed(c);
    assert_true(is_open(b));
    close(b);
    turn();
}

/* --- the quota -------------------------------------------------------------------------------- */

static bool is_evicted(int fd)
{
    turn();
    return !is_open(fd);
}

/* Nine may wait. The tenth is kept, and the first one is closed. */
static void test_preauth_beyond_the_quota_evicts_the_oldest(void **state)
{
    int fds[10];

    for (unsigned i = 0; i < 10; i++)
        fds[i] = accept_bytes(NULL, 0);
    assert_true(is_evicted(fds[0]));
    for (unsigned i = 1; i < 10; i++)
        assert_false(is_evicted(fds[i]));
    send_bytes(fds[1], join_bytes(), 1); /* is now younger than the others */
    turn();
    int another = accept_bytes(NULL, 0);
    assert_true(is_evicted(fds[2]));
    assert_false(is_evicted(fds[1]));
    for (unsigned i = 0; i < 10; i++)
        close(fds[i]);
    close(another);
    turn();
    turn();
}

static void test_preauth_that_has_started_outlives_silent_ones(void **state)
{
    int slow = accept_bytes(join_bytes(), 10);

    for (unsigned i = 0; i < 100; i++)
        close(accept_bytes(NULL, 0));
    for (unsigned i = 0; i < 100; i++) {
        int fd = accept_bytes(NULL, 0);

        assert_false(is_evicted(slow));
        close(fd);
    }
    send_bytes(slow, join_bytes() + 10, GT_JOIN_SIZE - 10);
    turn();
    assert_int_equal(env.n_joins, 1);
    close(slow);
}

/* A rejected connection, which is read to its end, is the first to give way. */
static void test_preauth_rejected_one_is_evicted_first(void **state)
{
    int fds[9];

    for (unsigned i = 0; i < 9; i++)
        fds[i] = i == 8 ? accept_bytes("rubbish", 7) : accept_bytes(NULL, 0);
    int another = accept_bytes(NULL, 0);
    assert_true(is_evicted(fds[8]));
    for (unsigned i = 0; i < 8; i++) {
        assert_false(is_evicted(fds[i]));
        close(fds[i]);
    }
    close(fds[8]);
    close(another);
    turn();
    turn();
}

/* A complete JOIN never waits and displaces no connection. */
static void test_preauth_complete_join_needs_no_place(void **state)
{
    int fds[9];

    for (unsigned i = 0; i < 9; i++)
        fds[i] = accept_bytes(NULL, 0);
    for (unsigned i = 0; i < 20; i++) {
        int fd = accept_bytes(join_bytes(), GT_JOIN_SIZE);

        assert_int_equal(env.n_joins, i + 1);
        assert_true(is_open(fd));
        close(fd);
    }
    for (unsigned i = 0; i < 9; i++) {
        assert_false(is_evicted(fds[i]));
        close(fds[i]);
    }
    turn();
}

static void test_preauth_without_a_descriptor_is_closed(void **state)
{
    while (quota_acquire_fd(&env.quota))
        continue;
    assert_is_closed(accept_bytes(NULL, 0));
    assert_is_closed(accept_bytes(join_bytes(), GT_JOIN_SIZE));
    assert_int_equal(env.n_joins, 0);
    for (unsigned i = 0; i < 100; i++)
        quota_release_fd(&env.quota);
}

/* --- the main port ---------------------------------------------------------------------------- */

/* A record with a ClientHello of @n_body bytes after its head, padded by an unknown extension.
 * Returns its size. */
static size_t make_hello(uint8_t *ret, size_t n_body)
{
    static const uint8_t psk[4 + 2 + 2 + 10 + 4 + 2 + 1 + 32] =
        "\0\x29\0\x35\0\x10\0\x0ag1:o:alice\0\0\0\0\0\x21\x20the binder";
    struct gt_writer w = gt_writer(ret, 9 + n_body);

    gt_write_bytes(&w, "\x16\3\1", 3);
    gt_write_u16(&w, (uint16_t)(n_body + 4));
    gt_write_u8(&w, 1);
    gt_write_uint(&w, n_body, 3);
    gt_write_bytes(&w, "\3\3the random number of 32 bytes...\0\0\2\x13\1\1\0", 41);
    gt_write_u16(&w, (uint16_t)(n_body - 43));
    gt_write_u16(&w, 0xfafa);
    gt_write_u16(&w, (uint16_t)(n_body - 43 - 4 - sizeof(psk)));
    memset(gt_write_room(&w, n_body - 43 - 4 - sizeof(psk)), 0x5a, n_body - 43 - 4 - sizeof(psk));
    gt_write_bytes(&w, psk, sizeof(psk));
    assert_true(!w.failed && w.n == 9 + n_body);
    return w.n;
}

static void test_preauth_main_port_takes_a_join(void **state)
{
    int fd = accept_bytes(join_bytes(), GT_JOIN_SIZE);

    assert_int_equal(env.n_joins, 1);
    assert_int_equal(env.n_hellos, 0);
    close(fd);
}

static void test_preauth_main_port_passes_tls_on_unread(void **state)
{
    uint8_t hello[512], copy[512];
    size_t n = make_hello(hello, 240);
    int fd = accept_bytes(hello, n);

    assert_int_equal(env.n_hellos, 1);
    assert_int_equal(recv(env.fd, copy, sizeof(copy), 0), n);
    assert_memory_equal(copy, hello, n);
    assert_int_equal(env.n_joins, 0);
    close(fd);
}

static void test_preauth_main_port_waits_for_a_whole_client_hello(void **state)
{
    uint8_t hello[5000];
    size_t n = make_hello(hello, 4092); /* the largest */

    for (size_t cut = 1; cut < n; cut += cut < 16 ? 1 : 271) {
        uint64_t deadline = gt_clock_ms() + TEST_LIMIT_MS;
        unsigned n_hellos = env.n_hellos;
        int fd = accept_tcp(hello, cut);

        turn();
        assert_int_equal(env.n_hellos, n_hellos);
        assert_true(is_open(fd));
        send_bytes(fd, hello + cut, n - cut);
        while (env.n_hellos == n_hellos) {
            turn();
            assert_true(is_open(fd));
            assert_true(gt_clock_ms() < deadline);
        }
        close(fd);
    }
}

/* The bytes after it can no longer be peeked at. */
static void test_preauth_main_port_urgent_byte_in_a_hello_closes(void **state)
{
    uint8_t hello[512];

    make_hello(hello, 240);
    int fd = accept_tcp(hello, 100);
    assert_int_equal(send(fd, "!", 1, MSG_OOB), 1);
    send_bytes(fd, hello + 100, 149);
    uint64_t deadline = gt_clock_ms() + TEST_LIMIT_MS;
    while (!gt_list_is_empty(&env.host.open)) {
        turn();
        assert_true(gt_clock_ms() < deadline);
    }
    close(fd);
    assert_int_equal(env.n_hellos, 0);
}

static void test_preauth_main_port_rejects_other_records(void **state)
{
    static const uint8_t heads[][9] = {
        {0x16, 3, 1, 0, 100, 2, 0, 0, 96},     /* not a ClientHello */
        {0x16, 3, 1, 0, 100, 1, 0, 0, 95},     /* shorter than its record */
        {0x16, 3, 1, 0, 100, 1, 0, 0, 97},     /* longer than its record */
        {0x16, 3, 1, 0, 100, 1, 1, 0, 96},     /* longer than any record */
        {0x16, 3, 1, 0x10, 1, 1, 0, 0xf, 253}, /* larger than GT_CLIENT_HELLO_MAX */
        {0x16, 3, 1, 0, 0, 1, 0, 0, 0},        /* empty */
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(heads); i++) {
        uint8_t bytes[GT_JOIN_SIZE] = {0};
        int r = set_up_main_port(state);

        assert_int_equal(r, 0);
        memcpy(bytes, heads[i], sizeof(heads[i]));
        int fd = accept_bytes(bytes, sizeof(heads[i]));
        turn();
        assert_true(is_open(fd)); /* reads to the end, as for a wrong JOIN */
        send_bytes(fd, bytes, sizeof(bytes));
        assert_is_closed(fd);
        assert_int_equal(env.n_hellos, 0);
        tear_down(state);
    }
}

static void test_preauth_main_port_hello_that_ends_early_closes(void **state)
{
    uint8_t hello[512];
    int fd;

    make_hello(hello, 240);
    fd = accept_bytes(hello, 100);
    turn();
    shutdown(fd, SHUT_WR);
    assert_is_closed(fd);
    assert_int_equal(env.n_hellos, 0);
}

static void test_preauth_main_port_join_time_starts_with_its_first_byte(void **state)
{
    env.host.join_ms = 30;
    int fd = accept_bytes(NULL, 0);
    for (uint64_t began = gt_clock_ms(); gt_clock_ms() < began + 80;)
        turn();
    assert_true(is_open(fd)); /* first_ms is longer */
    send_bytes(fd, join_bytes(), 1);
    assert_is_closed(fd);
}

static void test_preauth_main_port_passes_on_a_proof_without_a_place(void **state)
{
    uint8_t hello[512];
    size_t n = make_hello(hello, 240);
    int fds[9];

    for (unsigned i = 0; i < 9; i++)
        fds[i] = accept_bytes(NULL, 0);
    for (unsigned i = 0; i < 20; i++) {
        int fd = accept_bytes(hello, n);

        assert_int_equal(env.n_hellos, i + 1);
        assert_true(is_open(fd));
        close(fd);
    }
    for (unsigned i = 0; i < 9; i++) {
        assert_false(is_evicted(fds[i]));
        close(fds[i]);
    }
    turn();
}

static void test_preauth_main_port_hello_in_pieces_is_passed_on(void **state)
{
    uint8_t hello[512];
    size_t n = make_hello(hello, 240);
    int fd = accept_bytes(NULL, 0);

    for (size_t i = 0; i < n; i++) {
        assert_int_equal(env.n_hellos, 0);
        send_bytes(fd, hello + i, 1);
        turn();
    }
    assert_int_equal(env.n_hellos, 1);
    close(fd);
}

static void test_preauth_main_port_refused_hello_gets_the_alert(void **state)
{
    uint8_t hello[512], received[64];
    size_t n = make_hello(hello, 240);

    env.on_hello = REFUSED;
    int fd = accept_bytes(hello, n);
    assert_int_equal(recv(fd, received, sizeof(received), 0), sizeof(alert));
    assert_memory_equal(received, alert, sizeof(alert));
    assert_is_closed(fd);
}

static void test_preauth_main_port_replayed_hello_gets_no_byte(void **state)
{
    uint8_t hello[512];
    size_t n = make_hello(hello, 240);

    env.on_hello = REPLAYED;
    assert_is_closed(accept_bytes(hello, n));
    assert_int_equal(env.n_hellos, 1);
}

static void test_preauth_main_port_hello_without_a_psk_gets_no_byte(void **state)
{
    uint8_t hello[512];
    size_t n = make_hello(hello, 240);

    hello[n - 57] ^= 1; /* the type of the extension */
    assert_is_closed(accept_bytes(hello, n));
    assert_int_equal(env.n_hellos, 0);
}

/* --- random bytes ----------------------------------------------------------------------------- */

static void test_preauth_random_bytes_get_no_response(void **state)
{
    unsigned seed = (unsigned)gt_clock_ms();

    print_message("seed %u\n", seed);
    for (unsigned i = 0; i < 3000; i++) {
        uint8_t bytes[200];
        size_t n = (size_t)rand_r(&seed) % sizeof(bytes), cut = n ? (size_t)rand_r(&seed) % n : 0;

        for (size_t k = 0; k < n; k++)
            bytes[k] = (uint8_t)rand_r(&seed);
        if (n)
            bytes[0] = i % 3 == 0 ? 0x16 : i % 3 == 1 ? 'G' : bytes[0];
        int fd = accept_bytes(bytes, cut);
        turn();
        if (is_open(fd) && n > cut && send(fd, bytes + cut, n - cut, MSG_NOSIGNAL) < 0)
            assert_int_equal(errno, EPIPE);
        turn();
        is_open(fd);
        close(fd);
        turn();
        assert_true(gt_list_is_empty(&env.host.open));
    }
}

#define SESSION_PORT(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define MAIN_PORT(name)    cmocka_unit_test_setup_teardown(name, set_up_main_port, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SESSION_PORT(test_preauth_join_is_handled_within_the_accept),
        SESSION_PORT(test_preauth_join_cut_at_any_byte_is_handled),
        SESSION_PORT(test_preauth_join_byte_by_byte_is_handled),
        SESSION_PORT(test_preauth_bytes_after_the_join_stay_in_the_socket),
        SESSION_PORT(test_preauth_wrong_bytes_are_read_to_the_end),
        SESSION_PORT(test_preauth_rejected_join_is_closed),
        SESSION_PORT(test_preauth_late_join_is_closed),
        SESSION_PORT(test_preauth_end_without_a_byte_closes),
        SESSION_PORT(test_preauth_end_within_a_join_closes),
        SESSION_PORT(test_preauth_timeout_closes),
        SESSION_PORT(test_preauth_trickle_gains_no_time),
        SESSION_PORT(test_preauth_moves_to_another_host),
        SESSION_PORT(test_preauth_close_of_port_keeps_other_ports),
        SESSION_PORT(test_preauth_beyond_the_quota_evicts_the_oldest),
        SESSION_PORT(test_preauth_that_has_started_outlives_silent_ones),
        SESSION_PORT(test_preauth_rejected_one_is_evicted_first),
        SESSION_PORT(test_preauth_complete_join_needs_no_place),
        SESSION_PORT(test_preauth_without_a_descriptor_is_closed),
        MAIN_PORT(test_preauth_main_port_takes_a_join),
        MAIN_PORT(test_preauth_main_port_passes_tls_on_unread),
        MAIN_PORT(test_preauth_main_port_waits_for_a_whole_client_hello),
        MAIN_PORT(test_preauth_main_port_urgent_byte_in_a_hello_closes),
        cmocka_unit_test(test_preauth_main_port_rejects_other_records),
        MAIN_PORT(test_preauth_main_port_hello_that_ends_early_closes),
        MAIN_PORT(test_preauth_main_port_join_time_starts_with_its_first_byte),
        MAIN_PORT(test_preauth_main_port_passes_on_a_proof_without_a_place),
        MAIN_PORT(test_preauth_main_port_hello_in_pieces_is_passed_on),
        MAIN_PORT(test_preauth_main_port_refused_hello_gets_the_alert),
        MAIN_PORT(test_preauth_main_port_replayed_hello_gets_no_byte),
        MAIN_PORT(test_preauth_main_port_hello_without_a_psk_gets_no_byte),
        MAIN_PORT(test_preauth_random_bytes_get_no_response),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
