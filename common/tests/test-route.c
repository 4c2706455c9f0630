/* SPDX-License-Identifier: ISC */
/*
 * What the kernel says of a way whose address, route or cable goes, in a network of our own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>

#include "gotthard/way.h"
#include "netns.h"

static struct gt_addr addr_of(const char *host)
{
    struct gt_addr addr;
    assert_int_equal(gt_addr_parse(host, 7000, &addr), 0);
    return addr;
}

/* Of a connection from the cable to far away. */
static enum gt_way way(void)
{
    struct gt_addr from = addr_of("192.0.2.2"), to = addr_of("203.0.113.1");
    return gt_way_check(&from, &to);
}

static bool is_there(const char *host)
{
    struct gt_addr to = addr_of(host);
    return gt_way_is_there(&to);
}

/* A cable's state is a matter of an instant in the kernel. */
static void expect(enum gt_way expected)
{
    for (int i = 0; i < 200 && way() != expected; i++)
        usleep(10000);
    assert_int_equal(way(), expected);
}

static void loopback_is_always_good(void **state)
{
    struct gt_addr v4 = addr_of("127.0.0.1"), v6 = addr_of("::1");
    assert_int_equal(gt_way_check(&v4, &v4), GT_WAY_GOOD);
    assert_int_equal(gt_way_check(&v6, &v6), GT_WAY_GOOD);
    assert_true(gt_way_is_there(&v4));
}

static void an_address_that_goes(void **state)
{
    needs_netns();
    expect(GT_WAY_GOOD);
    ip("address del 192.0.2.2/24 dev near");
    assert_int_equal(way(), GT_WAY_GONE);
    ip("address add 192.0.2.2/24 dev near");
    assert_int_equal(way(), GT_WAY_GONE); /* the route went with it */
    assert_false(is_there("203.0.113.1"));
    ip("route replace default via 192.0.2.1");
    expect(GT_WAY_GOOD);
    assert_true(is_there("203.0.113.1"));
}

static void an_address_that_others_may_bind(void **state)
{
    needs_netns();
    if (system("sysctl -qw net.ipv4.ip_nonlocal_bind=1 2>/dev/null"))
        skip();
    ip("address add 198.51.100.2/24 dev near");
    ip("address del 192.0.2.2/24 dev near");
    ip("route replace default via 198.51.100.1");
    assert_int_equal(way(), GT_WAY_GONE);
    ip("address del 198.51.100.2/24 dev near");
    ip("address add 192.0.2.2/24 dev near");
    ip("route replace default via 192.0.2.1");
    assert_int_equal(system("sysctl -qw net.ipv4.ip_nonlocal_bind=0"), 0);
}

static void a_route_that_goes(void **state)
{
    needs_netns();
    ip("route del default");
    assert_int_equal(way(), GT_WAY_GONE);
    ip("route add unreachable default");
    assert_int_equal(way(), GT_WAY_GONE);
    assert_false(is_there("203.0.113.1"));
    ip("route del unreachable default");
    ip("route add blackhole default");
    assert_int_equal(way(), GT_WAY_GONE);
    ip("route del blackhole default");
    ip("route replace default via 192.0.2.1");
    expect(GT_WAY_GOOD);
}

static void a_route_that_moves(void **state)
{
    needs_netns();
    ip("link add other type veth peer name end");
    ip("link set other up");
    ip("link set end up");
    ip("address add 198.51.100.2/24 dev other");
    expect(GT_WAY_GOOD);
    ip("route del default");
    ip("route replace default via 198.51.100.1");
    assert_int_equal(way(), GT_WAY_DOUBTFUL);
    ip("link del other");
    ip("route replace default via 192.0.2.1");
    expect(GT_WAY_GOOD);
}

static void a_cable_that_is_pulled(void **state)
{
    needs_netns();
    ip("link set far down");
    expect(GT_WAY_DOUBTFUL);
    ip("link set far up");
    expect(GT_WAY_GOOD);
    ip("link set near down");
    assert_int_equal(way(), GT_WAY_GONE);
    ip("link set near up");
    ip("route replace default via 192.0.2.1");
    expect(GT_WAY_GOOD);
}

static void a_socket_is_asked_for_its_address(void **state)
{
    needs_netns();
    struct gt_addr to = addr_of("203.0.113.1");
    gt_cleanup(gt_close) int fd = gt_sock_connect(&to); /* nobody answers */
    assert_true(fd >= 0);
    assert_int_equal(gt_way_of(fd, &to), GT_WAY_GOOD);
    ip("address del 192.0.2.2/24 dev near");
    assert_int_equal(gt_way_of(fd, &to), GT_WAY_GONE);
    ip("address add 192.0.2.2/24 dev near");
    ip("route replace default via 192.0.2.1");
}

static void ipv6(void **state)
{
    needs_netns();
    struct gt_addr from = addr_of("2001:db8::2"), to = addr_of("2001:db8:1::1");
    ip("address add 2001:db8::2/64 dev near nodad");
    ip("route replace default via 2001:db8::1");
    assert_int_equal(gt_way_check(&from, &to), GT_WAY_GOOD);
    ip("address del 2001:db8::2/64 dev near");
    assert_int_equal(gt_way_check(&from, &to), GT_WAY_GONE);
}

int main(void)
{
    const struct CMUnitTest anywhere[] = {cmocka_unit_test(loopback_is_always_good)};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_that_goes),
        cmocka_unit_test(an_address_that_others_may_bind),
        cmocka_unit_test(a_route_that_goes),
        cmocka_unit_test(a_route_that_moves),
        cmocka_unit_test(a_cable_that_is_pulled),
        cmocka_unit_test(a_socket_is_asked_for_its_address),
        cmocka_unit_test(ipv6),
    };
    int r = cmocka_run_group_tests(anywhere, NULL, NULL);
    return r ? r : cmocka_run_group_tests(tests, netns_enter, NULL);
}
