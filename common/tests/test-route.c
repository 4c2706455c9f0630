/* SPDX-License-Identifier: ISC */
/*
 * Route checks when the address, the route or the cable goes, in a network namespace of the test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs these before it */
#include <cmocka.h>

#include "gotthard/net/route.h"
#include "netns.h"

static struct gt_addr addr_of(const char *host)
{
    struct gt_addr addr;

    assert_int_equal(gt_addr_parse(host, 7000, &addr), 0);
    return addr;
}

/* Checks a connection from the address of "near" to a remote host. */
static enum gt_route route(void)
{
    struct gt_addr from = addr_of("192.0.2.2"), to = addr_of("203.0.113.1");

    return gt_route_check(&from, &to);
}

static bool has_route(const char *host)
{
    struct gt_addr to = addr_of(host);

    return gt_route_exists(&to);
}

/* The kernel reports an unplugged cable after a moment. */
static void expect(enum gt_route expected)
{
    for (int i = 0; i < 200 && route() != expected; i++)
        usleep(10000);
    assert_int_equal(route(), expected);
}

static void test_route_of_loopback_is_ok(void **state)
{
    struct gt_addr v4 = addr_of("127.0.0.1"), v6 = addr_of("::1");

    assert_int_equal(gt_route_check(&v4, &v4), GT_ROUTE_OK);
    assert_int_equal(gt_route_check(&v6, &v6), GT_ROUTE_OK);
    assert_true(gt_route_exists(&v4));
}

static void test_route_without_its_address_is_gone(void **state)
{
    needs_netns();
    expect(GT_ROUTE_OK);
    ip("address del 192.0.2.2/24 dev near");
    assert_int_equal(route(), GT_ROUTE_GONE);
    ip("address add 192.0.2.2/24 dev near");
    assert_int_equal(route(), GT_ROUTE_GONE); /* the route went with it */
    assert_false(has_route("203.0.113.1"));
    ip("route replace default via 192.0.2.1");
    expect(GT_ROUTE_OK);
    assert_true(has_route("203.0.113.1"));
}

static void test_route_with_nonlocal_bind_is_gone_without_its_address(void **state)
{
    needs_netns();
    if (system("sysctl -qw net.ipv4.ip_nonlocal_bind=1 2>/dev/null"))
        skip();
    ip("address add 198.51.100.2/24 dev near");
    ip("address del 192.0.2.2/24 dev near");
    ip("route replace default via 198.51.100.1");
    assert_int_equal(route(), GT_ROUTE_GONE);
    ip("address del 198.51.100.2/24 dev near");
    ip("address add 192.0.2.2/24 dev near");
    ip("route replace default via 192.0.2.1");
    assert_int_equal(system("sysctl -qw net.ipv4.ip_nonlocal_bind=0"), 0);
}

static void test_route_that_is_deleted_is_gone(void **state)
{
    needs_netns();
    ip("route del default");
    assert_int_equal(route(), GT_ROUTE_GONE);
    ip("route add unreachable default");
    assert_int_equal(route(), GT_ROUTE_GONE);
    assert_false(has_route("203.0.113.1"));
    ip("route del unreachable default");
    ip("route add blackhole default");
    assert_int_equal(route(), GT_ROUTE_GONE);
    ip("route del blackhole default");
    ip("route replace default via 192.0.2.1");
    expect(GT_ROUTE_OK);
}

static void test_route_over_another_interface_is_changed(void **state)
{
    needs_netns();
    ip("link add other type veth peer name end");
    ip("link set other up");
    ip("link set end up");
    ip("address add 198.51.100.2/24 dev other");
    expect(GT_ROUTE_OK);
    ip("route del default");
    ip("route replace default via 198.51.100.1");
    assert_int_equal(route(), GT_ROUTE_CHANGED);
    ip("link del other");
    ip("route replace default via 192.0.2.1");
    expect(GT_ROUTE_OK);
}

static void test_route_over_an_unplugged_cable_is_changed(void **state)
{
    needs_netns();
    ip("link set far down");
    expect(GT_ROUTE_CHANGED);
    ip("link set far up");
    expect(GT_ROUTE_OK);
    ip("link set near down");
    assert_int_equal(route(), GT_ROUTE_GONE);
    ip("link set near up");
    ip("route replace default via 192.0.2.1");
    expect(GT_ROUTE_OK);
}

static void test_route_of_a_socket_uses_its_local_address(void **state)
{
    needs_netns();
    struct gt_addr to = addr_of("203.0.113.1");
    gt_cleanup(gt_close) int fd = gt_sock_connect(&to); /* never completes */
    assert_true(fd >= 0);
    assert_int_equal(gt_route_check_socket(fd, &to), GT_ROUTE_OK);
    ip("address del 192.0.2.2/24 dev near");
    assert_int_equal(gt_route_check_socket(fd, &to), GT_ROUTE_GONE);
    ip("address add 192.0.2.2/24 dev near");
    ip("route replace default via 192.0.2.1");
}

static void test_route_over_ipv6(void **state)
{
    needs_netns();
    struct gt_addr from = addr_of("2001:db8::2"), to = addr_of("2001:db8:1::1");
    ip("address add 2001:db8::2/64 dev near nodad");
    ip("route replace default via 2001:db8::1");
    assert_int_equal(gt_route_check(&from, &to), GT_ROUTE_OK);
    ip("address del 2001:db8::2/64 dev near");
    assert_int_equal(gt_route_check(&from, &to), GT_ROUTE_GONE);
}

int main(void)
{
    const struct CMUnitTest anywhere[] = {cmocka_unit_test(test_route_of_loopback_is_ok)};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_route_without_its_address_is_gone),
        cmocka_unit_test(test_route_with_nonlocal_bind_is_gone_without_its_address),
        cmocka_unit_test(test_route_that_is_deleted_is_gone),
        cmocka_unit_test(test_route_over_another_interface_is_changed),
        cmocka_unit_test(test_route_over_an_unplugged_cable_is_changed),
        cmocka_unit_test(test_route_of_a_socket_uses_its_local_address),
        cmocka_unit_test(test_route_over_ipv6),
    };
    int r = cmocka_run_group_tests(anywhere, NULL, NULL);

    return r ? r : cmocka_run_group_tests(tests, netns_enter, NULL);
}
