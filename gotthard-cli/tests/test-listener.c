/* SPDX-License-Identifier: ISC */
/* listener.c: free and busy ports, both loopback addresses, and connections that wait. */
#include "listener.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct heard {
    unsigned n;
    struct listener *listener;
    bool stops;
};

static void on_accept(void *userdata, int fd, const struct gt_addr *peer)
{
    struct heard *heard = userdata;
    assert_true(gt_addr_is_loopback(peer));
    heard->n++;
    close(fd);
    if (heard->stops)
        listener_stop(heard->listener);
}

static struct listener *listener_on(const char *bind, uint16_t port, struct heard *heard)
{
    struct listener_settings settings = {.loop = ev_default_loop(0), .bind = bind, .port = port};
    struct listener *listener = NULL;
    assert_int_equal(listener_new(&settings, on_accept, heard, &listener), 0);
    heard->listener = listener;
    return listener;
}

static int condition_on(const char *bind, uint16_t port)
{
    struct listener_settings settings = {.loop = ev_default_loop(0), .bind = bind, .port = port};
    struct listener *listener = NULL;
    int err = listener_new(&settings, on_accept, NULL, &listener);
    listener_free(listener);
    return err;
}

static int dial(const char *host, uint16_t port)
{
    struct gt_addr addr;
    assert_int_equal(gt_addr_parse(host, port, &addr), 0);
    return gt_sock_connect(&addr);
}

static bool has_v6(void)
{
    struct gt_addr addr;
    if (gt_addr_parse("::1", 0, &addr) != 0)
        return false;
    int fd = gt_sock_listen(&addr, 1);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static void run_until(unsigned *n, unsigned wanted)
{
    for (int i = 0; i < 1000 && *n < wanted; i++)
        ev_run(ev_default_loop(0), EVRUN_ONCE);
    assert_int_equal(*n, wanted);
}

static void test_free_port(void **state)
{
    struct heard heard = {0};
    struct listener *listener = listener_on(NULL, 0, &heard);
    assert_true(listener_port(listener) > 0);
    assert_true(gt_addr_is_loopback(listener_addr(listener)));
    listener_start(listener);
    listener_start(listener);
    int one = dial("127.0.0.1", listener_port(listener));
    run_until(&heard.n, 1);
    close(one);
    if (has_v6()) {
        int two = dial("::1", listener_port(listener));
        run_until(&heard.n, 2);
        close(two);
    }
    listener_free(listener);
}

static void test_busy(void **state)
{
    struct heard heard = {0};
    struct listener *listener = listener_on(NULL, 0, &heard);
    assert_int_equal(condition_on(NULL, listener_port(listener)), LISTENER_E_BUSY);
    uint16_t port = listener_port(listener);
    listener_free(listener);
    listener = listener_on(NULL, port, &heard); /* given back at once */
    listener_free(listener);
}

/* Somebody else has only [::1]:port: `localhost` would lead there. */
static void test_busy_on_v6_only(void **state)
{
    struct gt_addr addr;
    if (!has_v6())
        skip();
    assert_int_equal(gt_addr_parse("::1", 0, &addr), 0);
    int fd = gt_sock_listen(&addr, 1);
    assert_int_equal(gt_sock_local(fd, &addr), 0);
    assert_int_equal(condition_on(NULL, gt_addr_port(&addr)), LISTENER_E_BUSY);
    close(fd);
}

static void test_bad_addresses(void **state)
{
    assert_int_equal(condition_on("nonsense", 0), LISTENER_E_ADDRESS);
    assert_int_equal(condition_on("localhost", 0), LISTENER_E_ADDRESS);
    assert_int_equal(condition_on("192.0.2.1", 0), LISTENER_E_ADDRESS);
    assert_int_equal(condition_on("127.0.0.1", 0), 0);
}

/* Stopped inside its own callback: the second waits in the queue until it is started again. */
static void test_waiting(void **state)
{
    struct heard heard = {.stops = true};
    struct listener *listener = listener_on("127.0.0.1", 0, &heard);
    int one = dial("127.0.0.1", listener_port(listener));
    int two = dial("127.0.0.1", listener_port(listener));
    ev_run(ev_default_loop(0), EVRUN_NOWAIT);
    assert_int_equal(heard.n, 0);
    listener_start(listener);
    run_until(&heard.n, 1);
    ev_run(ev_default_loop(0), EVRUN_NOWAIT);
    assert_int_equal(heard.n, 1);
    listener_start(listener);
    run_until(&heard.n, 2);
    close(one);
    close(two);
    listener_free(listener);
    assert_null(listener_free(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_free_port),       cmocka_unit_test(test_busy),
        cmocka_unit_test(test_busy_on_v6_only), cmocka_unit_test(test_bad_addresses),
        cmocka_unit_test(test_waiting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
