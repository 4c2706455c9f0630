/* SPDX-License-Identifier: ISC */
/* quota.c: evictions by the total, by the source, and by the descriptor budget; the order of them.
 */
#include "limits/quota.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "gotthard/net/sock.h"

static const struct quota_limits limits = {
    .n_preauths = 256, .n_handshakes = 3, .n_of_identity = 3, .n_per_source = 16};

static struct quota quota;
static struct quota_charge charges[512];

static void begin(const struct quota_limits *with, size_t n_fds)
{
    memset(charges, 0, sizeof(charges));
    quota_init(&quota, with, n_fds);
}

static int admit(unsigned source, enum charge_state state, struct quota_charge *ret)
{
    uint8_t bytes[QUOTA_SOURCE] = {0};

    memcpy(bytes, &source, sizeof(source));
    return quota_admit(&quota, bytes, -1, state, ret);
}

static struct quota_counts counts(void)
{
    struct quota_counts c;

    quota_count(&quota, &c);
    return c;
}

/* Asserts which of the first @n charges are evicted: a string of '.' and 'x'. */
static void assert_evicted(const char *expected)
{
    for (size_t i = 0; expected[i]; i++)
        assert_int_equal(quota_is_evicted(&charges[i]), expected[i] == 'x');
}

static void test_quota_evicts_the_oldest_of_a_source_at_its_limit(void **state)
{
    begin(&limits, 1000);
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(admit(1, CHARGE_SILENT, &charges[i]), 0);
    assert_int_equal(admit(2, CHARGE_SILENT, &charges[16]), 0);
    assert_evicted(".................");
    assert_int_equal(admit(1, CHARGE_SILENT, &charges[17]), 0);
    assert_evicted("x.................");
    quota_mark(&charges[1], CHARGE_KNOWN); /* authenticated: does not count any more */
    assert_int_equal(admit(1, CHARGE_SILENT, &charges[18]), 0);
    assert_evicted("x..................");
    assert_int_equal(counts().n_preauths, 17);
    assert_int_equal(counts().n_known, 1);
    assert_int_equal(counts().n_evicted, 1);
    for (unsigned i = 0; i < 20; i++)
        quota_release(&charges[i]);
    assert_int_equal(counts().n_fds, 0);
    quota_release(&charges[0]); /* no effect the second time */
    assert_int_equal(counts().n_fds, 0);
}

/* Of equally many, the silent ones. */
static void test_quota_evicts_the_more_numerous_kind(void **state)
{
    struct quota_limits few = {
        .n_preauths = 3, .n_handshakes = 3, .n_of_identity = 3, .n_per_source = 3};

    begin(&few, 100);
    assert_int_equal(admit(1, CHARGE_SILENT, &charges[0]), 0);
    assert_int_equal(admit(2, CHARGE_SILENT, &charges[1]), 0);
    assert_int_equal(admit(3, CHARGE_SILENT, &charges[2]), 0);
    quota_mark(&charges[0], CHARGE_STARTED);
    assert_int_equal(admit(4, CHARGE_STARTED, &charges[3]), 0);
    assert_evicted(".x..");
    quota_mark(&charges[0], CHARGE_STARTED); /* more bytes: now the youngest */
    assert_int_equal(admit(5, CHARGE_SILENT, &charges[4]), 0);
    assert_evicted(".x.x.");
    quota_mark(&charges[3], CHARGE_STARTED); /* no effect: the socket was shut down */
    assert_int_equal(admit(6, CHARGE_SILENT, &charges[5]), 0);
    assert_evicted(".xxx..");
    assert_int_equal(counts().n_evicted, 3);
    assert_int_equal(counts().n_preauths, 3);
}

/* The first bytes of an honest client may come a moment after its connection, or in two parts. */
static void test_quota_flood_of_one_kind_evicts_none_of_the_other(void **state)
{
    static const enum charge_state kinds[] = {CHARGE_SILENT, CHARGE_STARTED};

    for (size_t kind = 0; kind < GT_ARRAY_SIZE(kinds); kind++)
        for (unsigned n_sources = 1; n_sources <= 400; n_sources += 399) { /* either limit */
            begin(&limits, 1000);
            assert_int_equal(admit(0, kinds[kind], &charges[0]), 0);
            for (unsigned i = 0; i < 400; i++)
                assert_int_equal(admit(i % n_sources, kinds[!kind], &charges[1 + i]), 0);
            assert_evicted(".x");
        }
}

static void test_quota_evicts_rejected_connections_before_all_others(void **state)
{
    struct quota_limits few = {
        .n_preauths = 3, .n_handshakes = 3, .n_of_identity = 3, .n_per_source = 3};

    begin(&few, 100);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(admit(i, CHARGE_SILENT, &charges[i]), 0);
    quota_mark(&charges[2], CHARGE_REJECTED);
    assert_int_equal(admit(9, CHARGE_SILENT, &charges[3]), 0);
    assert_evicted("..x.");
}

/* One source cannot displace another, and connections with a proof are in no one's way. */
static void test_quota_source_at_its_limit_displaces_no_other(void **state)
{
    struct quota_limits few = {
        .n_preauths = 8, .n_handshakes = 4, .n_of_identity = 4, .n_per_source = 4};

    begin(&few, 1000);
    assert_int_equal(admit(1, CHARGE_SILENT, &charges[0]), 0);
    for (unsigned i = 1; i < 100; i++) {
        assert_int_equal(admit(2, CHARGE_STARTED, &charges[i]), 0);
        assert_false(quota_is_evicted(&charges[0]));
    }
    assert_int_equal(counts().n_preauths, 5);
}

static void test_quota_limits_handshakes_apart(void **state)
{
    begin(&limits, 1000);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(admit(1, CHARGE_SILENT, &charges[100 + i]), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(admit(1, CHARGE_PROVED, &charges[i]), 0);
    assert_evicted("...");
    quota_mark(&charges[1], CHARGE_KNOWN);
    assert_int_equal(admit(1, CHARGE_PROVED, &charges[3]), 0);
    assert_evicted("....");
    assert_int_equal(admit(1, CHARGE_PROVED, &charges[4]), 0);
    assert_evicted("x....");
    assert_int_equal(counts().n_preauths, 16 + 3);
}

/* A ClientHello that comes in two parts proves a key after a wait. */
static void test_quota_limits_handshakes_that_have_waited(void **state)
{
    begin(&limits, 1000);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(admit(i, CHARGE_STARTED, &charges[i]), 0);
        quota_prove(&charges[i], (uint8_t[QUOTA_SOURCE]){(uint8_t)i});
    }
    assert_evicted("xxxxx...");
    quota_prove(&charges[0], (uint8_t[QUOTA_SOURCE]){9}); /* no effect: it was evicted */
    assert_evicted("xxxxx...");
    assert_int_equal(counts().n_preauths, 3);
}

/* Whether they have waited or not, and whatever their addresses are. */
static void test_quota_identity_at_its_limit_displaces_no_other(void **state)
{
    struct quota_limits few = {
        .n_preauths = 99, .n_handshakes = 4, .n_of_identity = 2, .n_per_source = 99};

    begin(&few, 1000);
    assert_int_equal(admit(1, CHARGE_PROVED, &charges[0]), 0);
    for (unsigned i = 1; i < 100; i++) {
        assert_int_equal(admit(i % 2 ? 2 : i, i % 2 ? CHARGE_PROVED : CHARGE_SILENT, &charges[i]),
                         0);
        if (i % 2 == 0)
            quota_prove(&charges[i], charges[i - 1].source);
        assert_false(quota_is_evicted(&charges[0]));
    }
    assert_int_equal(counts().n_preauths, 3);
}

/* The holders of two keys together could otherwise fill the limit. */
static void test_quota_evicts_handshakes_of_identities_with_many_first(void **state)
{
    struct quota_limits many = {
        .n_preauths = 128, .n_handshakes = 32, .n_of_identity = 16, .n_per_source = 99};

    begin(&many, 1000);
    assert_int_equal(admit(3, CHARGE_PROVED, &charges[0]), 0);
    for (unsigned i = 1; i < 400; i++) {
        assert_int_equal(admit(i == 200 ? 4 : i % 2, CHARGE_PROVED, &charges[i]), 0);
        assert_false(quota_is_evicted(&charges[0]));
        assert_true(i < 200 || !quota_is_evicted(&charges[200]));
    }
    assert_int_equal(counts().n_preauths, 32);
}

static void test_quota_eviction_shuts_the_socket_down(void **state)
{
    struct quota_limits one = {
        .n_preauths = 1, .n_handshakes = 1, .n_of_identity = 1, .n_per_source = 1};
    uint8_t source[QUOTA_SOURCE] = {1}, byte;
    int fds[2];

    begin(&one, 100);
    assert_int_equal(gt_sock_pair(fds), 0);
    assert_int_equal(quota_admit(&quota, source, fds[0], CHARGE_SILENT, &charges[0]), 0);
    assert_int_equal(recv(fds[1], &byte, 1, 0), -1);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(admit(2, CHARGE_SILENT, &charges[1]), 0);
    assert_int_equal(recv(fds[1], &byte, 1, 0), 0);
    assert_int_equal(recv(fds[0], &byte, 1, 0), 0);
    close(fds[0]);
    close(fds[1]);
}

/* Waiting connections give way, authenticated ones do not. */
static void test_quota_descriptor_budget_covers_all_users(void **state)
{
    begin(&limits, 3);
    assert_int_equal(admit(1, CHARGE_SILENT, &charges[0]), 0);
    assert_true(quota_acquire_fd(&quota));
    assert_int_equal(admit(1, CHARGE_KNOWN, &charges[1]), 0);
    assert_int_equal(admit(2, CHARGE_PROVED, &charges[2]), 0);
    assert_evicted("x..");
    assert_int_equal(admit(2, CHARGE_SILENT, &charges[3]), QUOTA_E_FDS);
    assert_null(charges[3].quota);
    assert_int_equal(admit(2, CHARGE_KNOWN, &charges[3]), QUOTA_E_FDS);
    assert_false(quota_acquire_fd(&quota));
    quota_release(&charges[0]);
    assert_false(quota_acquire_fd(&quota));
    quota_release(&charges[1]);
    assert_true(quota_acquire_fd(&quota));
    quota_release_fd(&quota);
    quota_release_fd(&quota);
    quota_release(&charges[2]);
    assert_int_equal(counts().n_fds, 0);
}

static void test_quota_port_evicts_a_waiting_connection(void **state)
{
    begin(&limits, 1);
    assert_int_equal(admit(1, CHARGE_STARTED, &charges[0]), 0);
    assert_true(quota_acquire_fd(&quota));
    assert_evicted("x");
    assert_false(quota_acquire_fd(&quota));
}

static void test_quota_charge_can_be_moved(void **state)
{
    begin(&limits, 100);
    assert_int_equal(admit(1, CHARGE_SILENT, &charges[0]), 0);
    assert_int_equal(admit(1, CHARGE_SILENT, &charges[1]), 0);
    quota_move(&charges[0], &charges[10]);
    memset(&charges[0], 0xff, sizeof(charges[0])); /* as freed memory may be */
    assert_int_equal(counts().n_preauths, 2);
    quota_mark(&charges[10], CHARGE_KNOWN);
    quota_move(&charges[10], &charges[11]);
    quota_release(&charges[10]);
    quota_release(&charges[11]);
    quota_release(&charges[1]);
    assert_int_equal(counts().n_preauths + counts().n_known + counts().n_fds, 0);
    quota_move(&charges[1], &charges[11]); /* empty */
    quota_release(&charges[11]);
    assert_false(quota_is_evicted(&charges[11]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quota_evicts_the_oldest_of_a_source_at_its_limit),
        cmocka_unit_test(test_quota_evicts_the_more_numerous_kind),
        cmocka_unit_test(test_quota_flood_of_one_kind_evicts_none_of_the_other),
        cmocka_unit_test(test_quota_evicts_rejected_connections_before_all_others),
        cmocka_unit_test(test_quota_source_at_its_limit_displaces_no_other),
        cmocka_unit_test(test_quota_limits_handshakes_apart),
        cmocka_unit_test(test_quota_limits_handshakes_that_have_waited),
        cmocka_unit_test(test_quota_identity_at_its_limit_displaces_no_other),
        cmocka_unit_test(test_quota_evicts_handshakes_of_identities_with_many_first),
        cmocka_unit_test(test_quota_eviction_shuts_the_socket_down),
        cmocka_unit_test(test_quota_descriptor_budget_covers_all_users),
        cmocka_unit_test(test_quota_port_evicts_a_waiting_connection),
        cmocka_unit_test(test_quota_charge_can_be_moved),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
