/* SPDX-License-Identifier: ISC */
/* socks-clients.c, with streams of the test: replies, hostile clients, and the ends of both sides.
 */
#include "socks-clients.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "gotthard/net/sock.h"
#include "gotthard/tunnel/tunnel.h"

static const uint8_t request[] = {5, 1, 0, 5, 1, 0, 1, 10, 0, 0, 5, 0, 80};

static struct {
    struct ev_loop *loop;
    struct socks_clients clients;
    int fd; /* the client's end */
    char target[GT_SERVICE_MAX + 1];
    int open_result;
    int served; /* the descriptor of serve() */
    unsigned n_opened, n_cancelled, n_rooms;
} f;

static int on_open(void *userdata, const char *target, const struct local_peer *peer,
                   uint32_t *ret_stream)
{
    snprintf(f.target, sizeof(f.target), "%s", target);
    if (f.open_result != 0)
        return f.open_result;
    *ret_stream = 100 + ++f.n_opened;
    return 0;
}

static void on_serve(void *userdata, uint32_t stream, int fd)
{
    f.served = fd;
}

static void on_cancel(void *userdata, uint32_t stream)
{
    assert_int_equal(stream, 101);
    f.n_cancelled++;
}

static void on_room(void *userdata)
{
    f.n_rooms++;
}

static int set_up(void **state)
{
    static const struct socks_clients_events events = {on_open, on_serve, on_cancel, on_room};
    static const struct local_peer peer = {.is_uid_known = true};
    int ends[2];

    memset(&f, 0, sizeof(f));
    f.served = -1;
    f.loop = ev_loop_new(0);
    socks_clients_init(&f.clients, f.loop, &events, &f);
    assert_int_equal(gt_sock_pair(ends), 0);
    f.fd = ends[0];
    socks_clients_add(&f.clients, ends[1], &peer);
    return 0;
}

static int tear_down(void **state)
{
    socks_clients_deinit(&f.clients);
    assert_int_equal(f.clients.n, 0);
    gt_close(&f.fd);
    gt_close(&f.served);
    ev_loop_destroy(f.loop);
    return 0;
}

static void settle(void)
{
    for (int i = 0; i < 20; i++)
        ev_run(f.loop, EVRUN_NOWAIT);
}

static void send_bytes(const void *data, size_t n)
{
    assert_int_equal(send(f.fd, data, n, MSG_NOSIGNAL), n);
    settle();
}

/* Receives exactly @n bytes. */
static void assert_received(const uint8_t *wanted, size_t n)
{
    uint8_t data[64];

    assert_int_equal(recv(f.fd, data, n, MSG_DONTWAIT), n);
    assert_memory_equal(data, wanted, n);
}

static void assert_nothing_received(void)
{
    uint8_t byte;

    assert_int_equal(recv(f.fd, &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
}

static void assert_closed(void)
{
    uint8_t byte;

    assert_true(recv(f.fd, &byte, 1, MSG_DONTWAIT) <= 0 && errno != EAGAIN);
}

static void negotiate(void)
{
    static const uint8_t accepted[] = {5, 0};

    send_bytes(request, sizeof(request));
    assert_received(accepted, sizeof(accepted));
    assert_string_equal(f.target, "10.0.0.5:80");
    assert_int_equal(f.n_opened, 1);
    assert_nothing_received(); /* not before the target is connected */
}

static void test_success_is_replied_when_the_target_is_connected(void **state)
{
    static const uint8_t reply[] = {5, 0, 0, 1, 0, 0, 0, 0, 0, 0};

    negotiate();
    socks_clients_connected(&f.clients, 100); /* another stream's */
    assert_nothing_received();
    socks_clients_connected(&f.clients, 101);
    assert_received(reply, sizeof(reply));
    assert_true(f.served >= 0);
    assert_int_equal(f.clients.n, 0);
    socks_clients_ended(&f.clients, 101, GT_RST_NONE); /* its end is the stream's */
    assert_nothing_received();
}

static void test_reason_of_a_failure_is_replied(void **state)
{
    static const uint8_t reply[] = {5, 5, 0, 1, 0, 0, 0, 0, 0, 0};

    negotiate();
    socks_clients_ended(&f.clients, 101, GT_RST_REFUSED);
    assert_received(reply, sizeof(reply));
    errno = 0;
    assert_closed();
    assert_int_equal(f.n_cancelled, 0);
    gt_close(&f.fd); /* the client reads the reply and closes */
    settle();
    assert_int_equal(f.clients.n, 0);
}

static void test_stream_that_cannot_be_opened_is_replied(void **state)
{
    static const uint8_t replies[] = {5, 0, 5, 1, 0, 1, 0, 0, 0, 0, 0, 0};

    f.open_result = -ENOMEM;
    send_bytes(request, sizeof(request));
    assert_received(replies, sizeof(replies));
}

static void test_client_waits_for_a_free_stream(void **state)
{
    static const uint8_t accepted[] = {5, 0}, reply[] = {5, 0, 0, 1, 0, 0, 0, 0, 0, 0};

    f.open_result = GT_TUNNEL_E_FULL;
    send_bytes(request, sizeof(request));
    assert_received(accepted, sizeof(accepted));
    socks_clients_retry(&f.clients);
    settle();
    socks_clients_ended(&f.clients, 0, GT_RST_CLOSED); /* another stream's */
    assert_nothing_received();
    assert_int_equal(f.n_opened, 0);
    f.open_result = 0;
    socks_clients_retry(&f.clients);
    settle();
    socks_clients_retry(&f.clients);
    settle();
    assert_int_equal(f.n_opened, 1);
    assert_nothing_received();
    socks_clients_connected(&f.clients, 101);
    assert_received(reply, sizeof(reply));
}

static void test_waiting_client_that_leaves_has_no_stream(void **state)
{
    f.open_result = GT_TUNNEL_E_FULL;
    send_bytes(request, sizeof(request));
    gt_close(&f.fd);
    settle();
    assert_int_equal(f.clients.n, 0);
    assert_int_equal(f.n_cancelled, 0);
}

static void test_bytes_after_the_request_are_for_the_target(void **state)
{
    uint8_t data[64];

    send_bytes(request, sizeof(request));
    send_bytes("early", 5);
    socks_clients_connected(&f.clients, 101);
    assert_int_equal(recv(f.served, data, sizeof(data), MSG_DONTWAIT), 5);
    assert_memory_equal(data, "early", 5);
}

static void test_trickled_request(void **state)
{
    for (size_t i = 0; i < sizeof(request); i++)
        send_bytes(request + i, 1);
    assert_int_equal(f.n_opened, 1);
    assert_string_equal(f.target, "10.0.0.5:80");
}

static void test_client_that_leaves_resets_its_stream(void **state)
{
    negotiate();
    gt_close(&f.fd);
    settle();
    assert_int_equal(f.n_cancelled, 1);
    assert_int_equal(f.clients.n, 0);
}

static void test_other_protocol_gets_no_byte(void **state)
{
    send_bytes("GET / HTTP/1.1\r\n\r\n", 18);
    errno = 0;
    assert_closed();
    assert_int_equal(f.clients.n, 0);
    assert_int_equal(f.n_opened, 0);
}

static void test_refused_client_that_goes_on_sending_is_closed(void **state)
{
    static const uint8_t udp[] = {5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0};
    static const uint8_t replies[] = {5, 0, 5, 7, 0, 1, 0, 0, 0, 0, 0, 0};
    static char flood[8192];

    send_bytes(udp, sizeof(udp));
    assert_received(replies, sizeof(replies));
    for (int i = 0; i < 100 && f.clients.n > 0; i++) {
        (void)!send(f.fd, flood, sizeof(flood), MSG_NOSIGNAL | MSG_DONTWAIT);
        settle();
    }
    assert_int_equal(f.clients.n, 0);
}

static void test_clients_have_a_limit(void **state)
{
    static const struct local_peer peer = {.is_uid_known = true};
    int ends[SOCKS_CLIENTS_MAX + 1];

    for (size_t i = 0; i < GT_ARRAY_SIZE(ends); i++) {
        int pair[2];

        assert_int_equal(gt_sock_pair(pair), 0);
        ends[i] = pair[0];
        assert_int_equal(socks_clients_is_full(&f.clients), f.clients.n == SOCKS_CLIENTS_MAX);
        socks_clients_add(&f.clients, pair[1], &peer);
    }
    assert_int_equal(f.clients.n, SOCKS_CLIENTS_MAX);
    assert_int_equal(f.n_rooms, 0);
    for (size_t i = 0; i < GT_ARRAY_SIZE(ends); i++)
        gt_close(&ends[i]);
    settle();
    assert_int_equal(f.clients.n, 1);
    assert_int_equal(f.n_rooms, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_success_is_replied_when_the_target_is_connected),
        TEST(test_reason_of_a_failure_is_replied),
        TEST(test_stream_that_cannot_be_opened_is_replied),
        TEST(test_client_waits_for_a_free_stream),
        TEST(test_waiting_client_that_leaves_has_no_stream),
        TEST(test_bytes_after_the_request_are_for_the_target),
        TEST(test_trickled_request),
        TEST(test_client_that_leaves_resets_its_stream),
        TEST(test_other_protocol_gets_no_byte),
        TEST(test_refused_client_that_goes_on_sending_is_closed),
        TEST(test_clients_have_a_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
