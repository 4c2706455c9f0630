/* SPDX-License-Identifier: ISC */
/*
 * service.c: dialing on loopback targets that listen, refuse, or do not answer; cancelling a dial;
 * the RST code of each errno.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gotthard/base/log.h"
#include "gotthard/net/sock.h"
#include "service.h"

struct result {
    struct ev_loop *loop;
    unsigned n_calls;
    int fd;
    enum gt_rst code;
    bool is_at_once; /* without the loop */
};

static void on_done(void *userdata, struct service *service, const struct service_result *outcome)
{
    struct result *result = userdata;

    result->n_calls++;
    result->fd = outcome->fd;
    result->code = outcome->code;
    assert_int_equal(outcome->fd >= 0, outcome->addr != NULL);
    assert_int_equal(outcome->fd >= 0, outcome->why == NULL);
    assert_null(service_free(service));
    ev_break(result->loop, EVBREAK_ALL);
}

static struct result dial(const char *host, uint16_t port, unsigned timeout_ms)
{
    struct result result = {.loop = ev_loop_new(0), .fd = -1};
    struct permit_target target = {.to.port = port};
    struct service_settings settings = {.target = &target, .timeout_ms = timeout_ms};
    struct service *service;

    memcpy(target.to.host, host, strlen(host) + 1);
    assert_int_equal(service_new(result.loop, &settings, on_done, &result, &service), 0);
    result.is_at_once = result.n_calls == 1;
    if (!result.is_at_once)
        ev_run(result.loop, 0);
    assert_int_equal(result.n_calls, 1);
    ev_loop_destroy(result.loop);
    return result;
}

static int listen_on_loopback(int backlog, uint16_t *ret_port)
{
    struct gt_addr addr;

    assert_int_equal(gt_addr_parse("127.0.0.1", 0, &addr), 0);
    int fd = gt_sock_listen(&addr, backlog);
    assert_true(fd >= 0);
    assert_int_equal(gt_sock_local(fd, &addr), 0);
    *ret_port = gt_addr_port(&addr);
    return fd;
}

static void on_udp_done(void *userdata, struct service *service,
                        const struct service_result *outcome)
{
    int *family = userdata;

    *family = outcome->fd >= 0 ? outcome->addr->any.sa_family : -1;
    if (outcome->fd >= 0)
        close(outcome->fd);
    assert_null(service_free(service));
}

/* The first address is the only one that is tried. */
static void test_udp_prefers_ipv4(void **state)
{
    struct permit_target target = {.to = {.host = "localhost", .port = 53}, .is_udp = true};
    struct service_settings settings = {.target = &target, .timeout_ms = 5000};
    struct ev_loop *loop = ev_loop_new(0);
    struct service *service;
    int family = 0;

    assert_int_equal(service_new(loop, &settings, on_udp_done, &family, &service), 0);
    for (int i = 0; family == 0 && i < 1000; i++)
        ev_run(loop, EVRUN_ONCE);
    assert_int_equal(family, AF_INET);
    ev_loop_destroy(loop);
}

static void test_dial_connects_to_listening_target(void **state)
{
    uint16_t port;
    int listener = listen_on_loopback(8, &port);
    struct gt_addr peer, ours;

    struct result result = dial("127.0.0.1", port, 5000);
    assert_true(result.is_at_once);
    assert_int_equal(result.code, GT_RST_NONE);
    assert_true(result.fd >= 0);
    int accepted = gt_sock_accept(listener, &peer);
    assert_true(accepted >= 0);
    assert_int_equal(gt_sock_local(result.fd, &ours), 0);
    assert_int_equal(gt_addr_port(&ours), gt_addr_port(&peer));
    close(accepted);
    close(result.fd);
    close(listener);
}

static void test_dial_tries_next_address_of_name(void **state)
{
    uint16_t port;
    int listener =
        listen_on_loopback(8, &port); /* localhost may be ::1 first, where nothing listens */

    struct result result = dial("localhost", port, 5000);
    assert_int_equal(result.code, GT_RST_NONE);
    close(result.fd);
    close(listener);
}

static void test_dial_closed_port_is_refused(void **state)
{
    uint16_t port;
    int listener = listen_on_loopback(8, &port);

    close(listener);
    struct result result = dial("127.0.0.1", port, 5000);
    assert_true(result.is_at_once);
    assert_int_equal(result.fd, -1);
    assert_int_equal(result.code, GT_RST_REFUSED);
}

/* Without a resolver (a build machine without network) it is not known whether the name exists. */
static void test_dial_unknown_name_is_not_unreachable(void **state)
{
    struct result result = dial("no-such-host.invalid", 22, 20000);

    assert_int_equal(result.fd, -1);
    assert_true(result.code == GT_RST_NO_NAME || result.code == GT_RST_NO_RESOLVER);
}

/* A listener with a full queue does not answer, like a host behind a firewall that drops. */
static void test_dial_silent_target_times_out(void **state)
{
    uint16_t port;
    int listener = listen_on_loopback(0, &port), fillers[16];
    struct gt_addr addr;

    assert_int_equal(gt_addr_parse("127.0.0.1", port, &addr), 0);
    for (size_t i = 0; i < GT_ARRAY_SIZE(fillers); i++)
        fillers[i] = gt_sock_connect(&addr);
    struct result result = dial("127.0.0.1", port, 300);
    assert_int_equal(result.fd, -1);
    assert_int_equal(result.code, GT_RST_TIMEOUT);
    for (size_t i = 0; i < GT_ARRAY_SIZE(fillers); i++)
        gt_close(&fillers[i]);
    close(listener);
}

static void test_free_cancels_dial_without_callback(void **state)
{
    struct result result = {.loop = ev_loop_new(0)};
    struct permit_target target = {.to = {"no-such-host.invalid", 9}};
    struct service_settings settings = {.target = &target, .timeout_ms = 100};
    struct service *service;

    assert_int_equal(service_new(result.loop, &settings, on_done, &result, &service), 0);
    assert_null(service_free(service));
    assert_null(service_free(NULL));
    while (ev_run(result.loop, EVRUN_NOWAIT))
        ;
    assert_int_equal(result.n_calls, 0);
    ev_loop_destroy(result.loop);
}

static void test_rst_code_of_each_errno(void **state)
{
    static const struct {
        int err;
        enum gt_rst code;
    } cases[] = {
        {0, GT_RST_NONE},
        {ECONNREFUSED, GT_RST_REFUSED},
        {ECONNRESET, GT_RST_REFUSED},
        {ETIMEDOUT, GT_RST_TIMEOUT},
        {ENXIO, GT_RST_NO_NAME},
        {EAGAIN, GT_RST_NO_RESOLVER},
        {EHOSTUNREACH, GT_RST_UNREACHABLE},
        {ENETUNREACH, GT_RST_UNREACHABLE},
        {EACCES, GT_RST_UNREACHABLE},
        {EMFILE, GT_RST_INTERNAL},
        {ENOMEM, GT_RST_INTERNAL},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        assert_int_equal(service_rst_code(cases[i].err), cases[i].code);
        assert_int_equal(service_rst_code(-cases[i].err), cases[i].code);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dial_connects_to_listening_target),
        cmocka_unit_test(test_udp_prefers_ipv4),
        cmocka_unit_test(test_dial_tries_next_address_of_name),
        cmocka_unit_test(test_dial_closed_port_is_refused),
        cmocka_unit_test(test_dial_unknown_name_is_not_unreachable),
        cmocka_unit_test(test_dial_silent_target_times_out),
        cmocka_unit_test(test_free_cancels_dial_without_callback),
        cmocka_unit_test(test_rst_code_of_each_errno),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
