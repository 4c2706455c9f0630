/* SPDX-License-Identifier: ISC */
/* network-check.c: real addresses of this machine, and the rows of each result. */
#include "gotthard/doctor/network-check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct gt_check_row rows[4];
static unsigned n_rows;

static void on_row(void *userdata, const struct gt_check_row *row)
{
    assert_true(n_rows < GT_ARRAY_SIZE(rows));
    rows[n_rows++] = *row;
}

static const struct gt_network_words words = {
    .name = "relay name",
    .tcp = "relay TCP",
    .fault = {.id = 50, .exit = 69, .remedy = "check it"},
    .blocked = "open the port",
    .refused = "start it",
    .setting = "server.host",
};
static const struct gt_host_port to = {.host = "relay.example.org", .port = 7000};

static bool add(const struct gt_network *network)
{
    struct gt_checkup checkup = {.on_row = on_row};

    n_rows = 0;
    return gt_network_add_rows(network, &to, &words, &checkup);
}

static struct gt_network network_of(const char *const *addrs, const int *errors, size_t n)
{
    struct gt_network network = {.n_attempts = n};

    for (size_t i = 0; i < n; i++) {
        assert_int_equal(gt_addr_parse(addrs[i], 7000, &network.attempts[i].addr), 0);
        network.attempts[i].err = errors[i];
        network.n_connected += errors[i] == 0;
    }
    return network;
}

static void test_check_connects_to_a_listener(void **state)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct gt_host_port here = {.host = "127.0.0.1"};
    struct gt_network network;
    struct gt_addr addr;

    assert_int_equal(gt_addr_parse("127.0.0.1", 0, &addr), 0);
    int fd = gt_sock_listen(&addr, 1);
    assert_true(fd >= 0);
    assert_int_equal(gt_sock_local(fd, &addr), 0);
    here.port = gt_addr_port(&addr);
    gt_network_check(loop, &here, &network);
    assert_true(network.is_numeric);
    assert_int_equal(network.name, GT_NETWORK_NAME_FOUND);
    assert_int_equal(network.n_connected, 1);
    gt_close(&fd);
    gt_network_check(loop, &here, &network);
    assert_int_equal(network.n_connected, 0);
    assert_int_equal(network.attempts[0].err, ECONNREFUSED);
    assert_int_equal(gt_network_check_address(loop, &addr, 1.), ECONNREFUSED);
    ev_loop_destroy(loop);
}

static void test_rows_of_a_name(void **state)
{
    static const struct {
        enum gt_network_name name;
        const char *text;
    } cases[] = {
        {GT_NETWORK_NAME_ABSENT, "the name servers do not know it"},
        {GT_NETWORK_NAME_FAILED, "(SERVFAIL) for relay.example.org, or cannot be reached"},
        {GT_NETWORK_NAME_SILENT, "no name server answers"},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_network network = {.name = cases[i].name};

        assert_false(add(&network));
        assert_int_equal(n_rows, 2);
        assert_int_equal(rows[0].result, GT_CHECK_FAILURE);
        assert_int_equal(rows[0].id, 50);
        assert_non_null(strstr(rows[0].text, cases[i].text));
        assert_non_null(strstr(rows[0].remedy, "getent ahosts relay.example.org"));
        if (cases[i].name != GT_NETWORK_NAME_ABSENT) /* TLS needs the name */
            assert_non_null(strstr(rows[0].remedy, "/etc/hosts"));
        assert_int_equal(rows[1].result, GT_CHECK_SKIPPED);
    }
}

static void test_rows_of_addresses(void **state)
{
    static const char *const addrs[] = {"2001:db8::1", "192.0.2.1"};
    static const struct {
        int errors[2];
        enum gt_check_result result;
        const char *text, *remedy;
    } cases[] = {
        {{0, 0}, GT_CHECK_OK, "[2001:db8::1]:7000 answers", ""},
        {{ETIMEDOUT, 0},
         GT_CHECK_WARNING,
         "IPv6 is broken: [2001:db8::1]:7000: no answer",
         "ping -6 -c 1 2001:db8::1"},
        {{ENETUNREACH, 0}, GT_CHECK_OK, "192.0.2.1:7000 answers", ""}, /* there is no IPv6 here */
        {{0, EHOSTUNREACH}, GT_CHECK_WARNING, "IPv4 is broken", "remove the address"},
        {{ENETUNREACH, ECONNREFUSED},
         GT_CHECK_FAILURE,
         "192.0.2.1:7000: Connection refused",
         "start it"},
        {{ETIMEDOUT, ECONNREFUSED}, GT_CHECK_FAILURE, "no answer", "check it"},
        {{ENETUNREACH, ENETUNREACH}, GT_CHECK_FAILURE, "unreachable", "ip route"},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_network network = network_of(addrs, cases[i].errors, 2);

        assert_int_equal(add(&network), cases[i].result != GT_CHECK_FAILURE);
        assert_int_equal(n_rows, 2);
        assert_int_equal(rows[0].result, GT_CHECK_OK);
        assert_int_equal(rows[1].result, cases[i].result);
        if (!strstr(rows[1].text, cases[i].text) || !strstr(rows[1].remedy, cases[i].remedy))
            fail_msg("%zu: %s; %s", i, rows[1].text, rows[1].remedy);
    }
}

static void test_rows_of_a_blocked_port(void **state)
{
    static const char *const addrs[] = {"192.0.2.1"};
    struct gt_network network = network_of(addrs, (const int[]){ETIMEDOUT}, 1);

    network.is_alive = true;
    assert_false(add(&network));
    assert_non_null(strstr(rows[1].text, "answers at port 443: a firewall blocks port 7000"));
    assert_string_equal(rows[1].remedy, "open the port");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check_connects_to_a_listener),
        cmocka_unit_test(test_rows_of_a_name),
        cmocka_unit_test(test_rows_of_addresses),
        cmocka_unit_test(test_rows_of_a_blocked_port),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
