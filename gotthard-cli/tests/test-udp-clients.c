/* SPDX-License-Identifier: ISC */
/* udp-clients.c, with streams of the test: senders beyond the streams, failures, pauses, lengths.
 */
#include "udp-clients.h"

#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "gotthard/tunnel/datagrams.h"
#include "gotthard/tunnel/tunnel.h"

#define STREAMS_MAX 4
#define N_SENDERS   40

static struct {
    struct ev_loop *loop;
    struct udp_clients clients;
    int port; /* the local socket */
    int senders[N_SENDERS];
    int streams[2 * N_SENDERS]; /* the streams' ends, in the order of opening; -1: ended */
    unsigned n_opened, n_calls;
    int failure;
} f;

static unsigned n_open(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < f.n_opened; i++)
        n += f.streams[i] >= 0;
    return n;
}

static int on_open(void *userdata, int fd, const struct gt_addr *peer)
{
    f.n_calls++;
    if (f.failure) {
        close(fd);
        return f.failure;
    }
    if (n_open() >= STREAMS_MAX)
        return GT_TUNNEL_E_FULL;
    f.streams[f.n_opened++] = fd;
    return 0;
}

/* Ends streams whose client is gone, as a tunnel does. */
static void settle(void)
{
    for (int i = 0; i < 30; i++) {
        ev_run(f.loop, EVRUN_NOWAIT);
        for (unsigned k = 0; k < f.n_opened; k++) {
            struct pollfd at = {.fd = f.streams[k]};

            if (poll(&at, 1, 0) > 0 && (at.revents & POLLHUP))
                gt_close(&f.streams[k]);
        }
        if (n_open() < STREAMS_MAX)
            udp_clients_start(&f.clients);
    }
}

static int set_up(void **state)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(at);

    memset(&f, 0, sizeof(f));
    f.loop = ev_loop_new(0);
    f.port = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(f.port, (struct sockaddr *)&at, n), 0);
    assert_int_equal(getsockname(f.port, (struct sockaddr *)&at, &n), 0);
    for (size_t i = 0; i < N_SENDERS; i++) {
        f.senders[i] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        assert_int_equal(connect(f.senders[i], (struct sockaddr *)&at, n), 0);
    }
    udp_clients_init(&f.clients, f.loop, &f.port, 1, on_open, NULL);
    udp_clients_start(&f.clients);
    return 0;
}

static int tear_down(void **state)
{
    udp_clients_deinit(&f.clients);
    assert_int_equal(f.clients.n, 0);
    for (size_t i = 0; i < N_SENDERS; i++)
        gt_close(&f.senders[i]);
    for (unsigned i = 0; i < f.n_opened; i++)
        gt_close(&f.streams[i]);
    gt_close(&f.port);
    ev_loop_destroy(f.loop);
    return 0;
}

static void ask(size_t sender)
{
    assert_int_equal(send(f.senders[sender], "ask", 3, 0), 3);
    settle();
}

/* The target of @stream answers; the question must be there. */
static void answer(unsigned stream)
{
    static const uint8_t frame[] = {0, 3, 'a', 'n', 's'};
    uint8_t data[8];

    assert_int_equal(recv(f.streams[stream], data, sizeof(data), MSG_DONTWAIT), 5);
    assert_int_equal(send(f.streams[stream], frame, sizeof(frame), MSG_NOSIGNAL), sizeof(frame));
    settle();
}

static bool is_answered(size_t sender)
{
    char data[8];

    return recv(f.senders[sender], data, sizeof(data), MSG_DONTWAIT) == 3;
}

static void run_for(double seconds)
{
    ev_tstamp end = ev_time() + seconds;

    while (ev_time() < end) {
        ev_sleep(0.01);
        settle();
    }
}

static void test_each_new_sender_replaces_the_one_unused_longest(void **state)
{
    for (size_t i = 0; i < N_SENDERS; i++) {
        ask(i);
        assert_int_equal(f.n_opened, i + 1);
        answer((unsigned)i);
        assert_true(is_answered(i));
    }
    assert_true(f.streams[N_SENDERS - 1] >= 0);
    assert_int_equal(f.streams[0], -1);
}

static void test_sender_in_use_keeps_its_stream(void **state)
{
    ask(0);
    answer(0);
    for (size_t i = 1; i < 12; i++) {
        ask(0);
        answer(0);
        ask(i);
        answer((unsigned)i);
    }
    assert_int_equal(f.n_opened, 12);
    assert_true(f.streams[0] >= 0);
}

/* A burst does not take the streams from senders that await their answer. */
static void test_senders_wait_for_answers_of_others(void **state)
{
    for (size_t i = 0; i < STREAMS_MAX + 2; i++)
        ask(i);
    assert_int_equal(f.n_opened, STREAMS_MAX);
    for (unsigned i = 0; i < STREAMS_MAX; i++) {
        answer(i);
        assert_true(is_answered(i));
    }
    run_for(0.3);
    assert_int_equal(f.n_opened, STREAMS_MAX + 2);
    answer(STREAMS_MAX);
    answer(STREAMS_MAX + 1);
    assert_true(is_answered(STREAMS_MAX) && is_answered(STREAMS_MAX + 1));
}

static void test_unanswered_senders_lose_their_streams_as_well(void **state)
{
    for (size_t i = 0; i < STREAMS_MAX + 1; i++)
        ask(i);
    assert_int_equal(f.n_opened, STREAMS_MAX);
    run_for(1.3);
    assert_int_equal(f.n_opened, STREAMS_MAX + 1);
}

static void test_failure_is_not_repeated_at_once(void **state)
{
    f.failure = -EMFILE;
    for (size_t i = 0; i < 20; i++)
        ask(i);
    assert_int_equal(f.n_calls, 1);
    assert_int_equal(f.clients.n, 0);
    f.failure = 0;
    run_for(1.1);
    ask(0);
    assert_int_equal(f.n_opened, 1);
}

static void test_datagrams_of_a_pause_are_dropped(void **state)
{
    uint8_t data[64];

    ask(0);
    udp_clients_pause(&f.clients, true);
    ask(0);
    ask(1);
    udp_clients_pause(&f.clients, false);
    settle();
    assert_int_equal(f.n_opened, 1);
    assert_int_equal(recv(f.streams[0], data, sizeof(data), MSG_DONTWAIT), 5);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_each_new_sender_replaces_the_one_unused_longest),
        TEST(test_sender_in_use_keeps_its_stream),
        TEST(test_senders_wait_for_answers_of_others),
        TEST(test_unanswered_senders_lose_their_streams_as_well),
        TEST(test_failure_is_not_repeated_at_once),
        TEST(test_datagrams_of_a_pause_are_dropped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
