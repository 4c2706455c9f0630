/* SPDX-License-Identifier: ISC */
/* Addresses as text and as sources, and the options of every new descriptor. */
#include "gotthard/net/sock.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include <cmocka.h>

static struct gt_addr address(const char *host, uint16_t port)
{
    struct gt_addr addr;

    assert_int_equal(gt_addr_parse(host, port, &addr), 0);
    return addr;
}

static void test_addr_parse_accepts_numeric_addresses_only(void **state)
{
    static const char *const bad[] = {"",          "localhost",  "127.1",      "[::1]", "1.2.3.4:5",
                                      "256.0.0.1", " 127.0.0.1", "0x7f.0.0.1", ":::",   "a:b"};
    struct gt_addr addr = address("127.0.0.1", 1);

    for (size_t i = 0; i < GT_ARRAY_SIZE(bad); i++)
        assert_int_equal(gt_addr_parse(bad[i], 22, &addr), 1);
    assert_int_equal(gt_addr_port(&addr), 1);
}

static void test_addr_text(void **state)
{
    static const struct {
        const char *host;
        uint16_t port;
        const char *text;
        bool is_loopback;
    } table[] = {
        {"127.0.0.1", 4444, "127.0.0.1:4444", true},
        {"127.255.0.9", 1, "127.255.0.9:1", true},
        {"0.0.0.0", 0, "0.0.0.0:0", false},
        {"192.0.2.1", 65535, "192.0.2.1:65535", false},
        {"::1", 22, "[::1]:22", true},
        {"::", 22, "[::]:22", false},
        {"2001:DB8::0:1", 22, "[2001:db8::1]:22", false},
        {"::ffff:127.0.0.1", 22, "127.0.0.1:22", true},
        {"::ffff:192.0.2.1", 22, "192.0.2.1:22", false},
        {"fe80::1%lo", 22, "[fe80::1%1]:22", false},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(table); i++) {
        char text[GT_ADDR_TEXT];
        struct gt_addr addr = address(table[i].host, table[i].port);

        assert_string_equal(gt_addr_text(&addr, text), table[i].text);
        assert_int_equal(gt_addr_is_loopback(&addr), table[i].is_loopback);
        assert_int_equal(gt_addr_port(&addr), table[i].port);
        gt_addr_set_port(&addr, 7);
        assert_int_equal(gt_addr_port(&addr), 7);
    }
}

/* An IPv6 host can use 2^64 source addresses, all in one /64. */
static void test_addr_source_is_ipv4_address_or_ipv6_prefix(void **state)
{
    static const struct {
        const char *a, *b;
        bool is_same;
    } table[] = {
        {"192.0.2.1", "192.0.2.1", true},
        {"192.0.2.1", "192.0.2.2", false},
        {"192.0.2.1", "::ffff:192.0.2.1", true},
        {"2001:db8::1", "2001:db8::ffff:1", true},
        {"2001:db8:0:1::1", "2001:db8:0:2::1", false},
        {"::1", "0.0.0.0", false},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(table); i++) {
        struct gt_addr a = address(table[i].a, 1), b = address(table[i].b, 2);
        uint8_t of_a[16], of_b[16];

        gt_addr_source(&a, of_a);
        gt_addr_source(&b, of_b);
        assert_int_equal(memcmp(of_a, of_b, 16) == 0, table[i].is_same);
    }
}

static void assert_nonblocking_and_cloexec(int fd)
{
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

static int option(int fd, int level, int name)
{
    int value = 0;
    socklen_t n = sizeof(value);

    assert_int_equal(getsockopt(fd, level, name, &value, &n), 0);
    return value;
}

static void wait_until(int fd, short events)
{
    struct pollfd poll_fd = {.fd = fd, .events = events};

    assert_int_equal(poll(&poll_fd, 1, 5000), 1);
}

/* The peer is on this machine: no pacing. */
static void assert_unpaced(int fd)
{
    char name[16] = "";
    socklen_t n = sizeof(name);

    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &n), 0);
    assert_string_equal(name, "reno");
}

/* A listener on a free port, and both ends of a connection to it. */
static void connect_to(const char *host, const char *listen_host, int ret[3])
{
    struct gt_addr any = address(listen_host, 0), at, peer, from;

    ret[0] = gt_sock_listen(&any, 4);
    assert_true(ret[0] >= 0);
    assert_int_equal(gt_sock_local(ret[0], &at), 0);
    struct gt_addr to = address(host, gt_addr_port(&at));
    ret[1] = gt_sock_connect(&to);
    assert_true(ret[1] >= 0);
    wait_until(ret[0], POLLIN);
    ret[2] = gt_sock_accept(ret[0], &peer);
    assert_true(ret[2] >= 0);
    wait_until(ret[1], POLLOUT);
    assert_int_equal(gt_sock_error(ret[1]), 0);
    assert_int_equal(gt_sock_local(ret[1], &from), 0);
    assert_int_equal(gt_addr_port(&from), gt_addr_port(&peer));
    assert_true(gt_addr_is_loopback(&peer));
    assert_int_equal(gt_sock_peer(ret[1], &from), 0);
    assert_int_equal(gt_addr_port(&from), gt_addr_port(&at));
}

static void test_sock_connections_have_their_options(void **state)
{
    static const char *const pairs[][2] = {
        {"127.0.0.1", "127.0.0.1"}, {"::1", "::1"}, {"127.0.0.1", "::"}, {"::1", "::"}};

    for (size_t i = 0; i < GT_ARRAY_SIZE(pairs); i++) {
        int fds[3];
        struct gt_addr ignored;

        connect_to(pairs[i][0], pairs[i][1], fds);
        for (size_t j = 0; j < 3; j++)
            assert_nonblocking_and_cloexec(fds[j]);
        for (size_t j = 1; j < 3; j++) {
            assert_true(option(fds[j], IPPROTO_TCP, TCP_NODELAY));
            assert_true(option(fds[j], SOL_SOCKET, SO_KEEPALIVE));
            assert_unpaced(fds[j]);
        }
        assert_int_equal(gt_sock_accept(fds[0], &ignored), -EAGAIN);
        for (size_t j = 0; j < 3; j++)
            close(fds[j]);
    }
}

/* Accepts one connection to @host with no option set on it. */
static int accept_untouched(int listener, const char *host, int *ret_client)
{
    struct gt_addr at, peer;

    assert_int_equal(gt_sock_local(listener, &at), 0);
    struct gt_addr to = address(host, gt_addr_port(&at));
    *ret_client = gt_sock_connect(&to);
    assert_true(*ret_client >= 0);
    wait_until(listener, POLLIN);
    int fd = gt_sock_accept_inheriting(listener, (struct gt_sock_inherited){true, true}, &peer);
    assert_true(fd >= 0);
    return fd;
}

/* All of it, from a listener that serves this machine only. */
static void test_sock_accepted_connections_inherit_from_their_listener(void **state)
{
    static const struct {
        const char *listen_host, *host;
        bool is_unpaced;
    } table[] = {{"127.0.0.1", "127.0.0.1", true},
                 {"::1", "::1", true},
                 {"0.0.0.0", "127.0.0.1", false},
                 {"::", "::1", false}};

    for (size_t i = 0; i < GT_ARRAY_SIZE(table); i++) {
        struct gt_addr any = address(table[i].listen_host, 0);
        gt_cleanup(gt_close) int listener = gt_sock_listen(&any, 4);
        struct linger linger = {0};
        socklen_t n = sizeof(linger);
        int client;

        gt_sock_set_abortive(listener, true);
        gt_sock_set_keepalive(listener, 40);
        struct gt_sock_inherited inherited = gt_sock_inherited(listener);
        assert_true(inherited.is_tuned);
        int fd = accept_untouched(listener, table[i].host, &client);
        assert_true(option(fd, IPPROTO_TCP, TCP_NODELAY));
        assert_true(option(fd, SOL_SOCKET, SO_KEEPALIVE));
        assert_true(option(fd, SOL_SOCKET, SO_OOBINLINE));
        if (table[i].is_unpaced) {
            assert_true(inherited.is_unpaced);
            assert_unpaced(fd);
        }
        assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPIDLE), 20);
        assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPINTVL), 5);
        assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPCNT), 4);
        assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &n), 0);
        assert_true(linger.l_onoff && linger.l_linger == 0);
        close(fd);
        close(client);
    }
}

/* The socket of a service manager: its connections get the options one by one. */
static void test_sock_foreign_listener_passes_on_nothing(void **state)
{
    struct gt_addr at = address("127.0.0.1", 0), peer;
    gt_cleanup(gt_close) int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(listener, &at.any, at.n), 0);
    assert_int_equal(listen(listener, 4), 0);
    struct gt_sock_inherited inherited = gt_sock_inherited(listener);
    assert_false(inherited.is_tuned);
    assert_int_equal(gt_sock_local(listener, &at), 0);
    gt_cleanup(gt_close) int client = gt_sock_connect(&at);
    assert_true(client >= 0);
    wait_until(listener, POLLIN);
    gt_cleanup(gt_close) int fd = gt_sock_accept_inheriting(listener, inherited, &peer);
    assert_true(option(fd, IPPROTO_TCP, TCP_NODELAY));
    assert_true(option(fd, SOL_SOCKET, SO_KEEPALIVE));
    assert_true(option(fd, SOL_SOCKET, SO_OOBINLINE));
    assert_unpaced(fd);
    setsockopt(listener, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int));
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    assert_false(gt_sock_inherited(listener).is_tuned); /* without SO_OOBINLINE */
}

static void test_sock_unix_listener_needs_no_options(void **state)
{
    gt_cleanup(gt_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct gt_sock_inherited inherited = gt_sock_inherited(fd);

    assert_true(inherited.is_tuned && inherited.is_unpaced);
}

/* Within this machine the result is known when gt_sock_connect returns. */
static void test_sock_connect_again_reports_the_result(void **state)
{
    struct gt_addr at = address("127.0.0.1", 0);
    int listener = gt_sock_listen(&at, 1), fds[8];
    size_t n = 0;

    assert_int_equal(gt_sock_local(listener, &at), 0);
    fds[n++] = gt_sock_connect(&at);
    assert_int_equal(gt_sock_connect_again(fds[0], &at), 0);
    assert_int_equal(gt_sock_connect_again(fds[0], &at), 0);
    for (int r = 0; r == 0; n++) { /* until the queue is full: SYNs are dropped */
        assert_true(n < GT_ARRAY_SIZE(fds));
        fds[n] = gt_sock_connect(&at);
        r = gt_sock_connect_again(fds[n], &at);
        assert_true(r == 0 || r == -EALREADY);
    }
    close(listener);
    while (n > 0)
        close(fds[--n]);
    gt_cleanup(gt_close) int refused = gt_sock_connect(&at);
    assert_true(refused >= 0);
    assert_int_equal(gt_sock_connect_again(refused, &at), -ECONNREFUSED);
}

static void test_sock_reset_sends_rst(void **state)
{
    int fds[3];
    char byte;

    connect_to("127.0.0.1", "127.0.0.1", fds);
    gt_sock_reset(fds[1]);
    wait_until(fds[2], POLLIN);
    assert_int_equal(read(fds[2], &byte, 1), -1);
    assert_int_equal(errno, ECONNRESET);
    close(fds[0]);
    close(fds[2]);
}

/* The peer reads nothing: its window closes, and little more is accepted. */
static void test_sock_accepts_little_beyond_the_window_of_the_peer(void **state)
{
    static uint8_t bytes[65536];
    int fds[3], n_unsent;

    connect_to("127.0.0.1", "127.0.0.1", fds);
    setsockopt(fds[2], SOL_SOCKET, SO_RCVBUF, &(int){65536}, sizeof(int));
    gt_sock_set_unsent_max(fds[1], 32 * 1024);
    struct pollfd full = {.fd = fds[1], .events = POLLOUT};
    while (poll(&full, 1, 50) == 1)
        assert_true(send(fds[1], bytes, sizeof(bytes), MSG_NOSIGNAL) > 0);
    assert_int_equal(ioctl(fds[1], SIOCOUTQNSD, &n_unsent), 0);
    assert_in_range(n_unsent, 1, 128 * 1024);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
}

static void test_sock_failures_are_negative_errnos(void **state)
{
    struct gt_addr any = address("127.0.0.1", 0), at;
    int fd = gt_sock_listen(&any, 1);

    assert_int_equal(gt_sock_local(fd, &at), 0);
    assert_int_equal(gt_sock_listen(&at, 1), -EADDRINUSE);
    close(fd);
    int refused = gt_sock_connect(&at);
    if (refused >= 0) {
        wait_until(refused, POLLOUT);
        assert_int_equal(gt_sock_error(refused), -ECONNREFUSED);
        assert_int_equal(gt_sock_peer(refused, &any), -ENOTCONN);
        close(refused);
    } else {
        assert_int_equal(refused, -ECONNREFUSED);
    }
    assert_int_equal(gt_sock_error(-1), -EBADF);
    assert_int_equal(gt_sock_local(-1, &any), -EBADF);
}

static void test_sock_pair_is_connected(void **state)
{
    int fds[2];
    char byte = 0;
    struct gt_addr addr;
    char text[GT_ADDR_TEXT];

    assert_int_equal(gt_sock_pair(fds), 0);
    assert_nonblocking_and_cloexec(fds[0]);
    assert_nonblocking_and_cloexec(fds[1]);
    assert_int_equal(write(fds[0], "x", 1), 1);
    assert_int_equal(read(fds[1], &byte, 1), 1);
    assert_int_equal(byte, 'x');
    assert_int_equal(gt_sock_local(fds[0], &addr), 0);
    assert_string_equal(gt_addr_text(&addr, text), "local");
    assert_int_equal(gt_addr_port(&addr), 0);
    assert_true(gt_addr_is_loopback(&addr));
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addr_parse_accepts_numeric_addresses_only),
        cmocka_unit_test(test_addr_text),
        cmocka_unit_test(test_addr_source_is_ipv4_address_or_ipv6_prefix),
        cmocka_unit_test(test_sock_connections_have_their_options),
        cmocka_unit_test(test_sock_accepted_connections_inherit_from_their_listener),
        cmocka_unit_test(test_sock_foreign_listener_passes_on_nothing),
        cmocka_unit_test(test_sock_unix_listener_needs_no_options),
        cmocka_unit_test(test_sock_connect_again_reports_the_result),
        cmocka_unit_test(test_sock_reset_sends_rst),
        cmocka_unit_test(test_sock_accepts_little_beyond_the_window_of_the_peer),
        cmocka_unit_test(test_sock_failures_are_negative_errnos),
        cmocka_unit_test(test_sock_pair_is_connected),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
