/* SPDX-License-Identifier: ISC */
/*
 * The dial, with a resolver of the test in place of resolve.c: addresses that accept, refuse or are
 * silent, names without address, and time limits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>
#include <netdb.h>
#include <string.h>

#include "gotthard/base/clock.h"
#include "gotthard/net/dial.h"
#include "gotthard/net/resolve.h"
#include "support/fake-clock.h"

enum port { OPEN, SHUT, SILENT }; /* accepts, refuses, drops the SYN */

struct gt_resolve {
    struct ev_loop *loop;
    ev_timer answer;
    gt_resolve_fn done;
    void *userdata;
};

struct fixture {
    struct ev_loop *loop;
    int listener[2], crowd[8]; /* listener 0 accepts, the backlog of 1 is full */
    uint16_t port[3];
    const enum port *addrs;
    size_t n_addrs;
    int err;
    bool is_resolver_dead, is_known; /* known: without a lookup */
    struct gt_dial *dial;
    bool is_done, is_kept; /* freed by the tear-down, not inside the callback */
    int fd;
    uint16_t answered;
    char why[200];
} f;

struct gt_resolve *gt_resolve_free(struct gt_resolve *resolve)
{
    if (resolve)
        ev_timer_stop(resolve->loop, &resolve->answer);
    free(resolve);
    return NULL;
}

static void resolve_on_answer(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct gt_resolve *resolve = w->data;
    struct gt_addr addrs[GT_RESOLVE_MAX];

    for (size_t i = 0; i < f.n_addrs; i++)
        assert_int_equal(gt_addr_parse("127.0.0.1", f.port[f.addrs[i]], &addrs[i]), 0);
    resolve->done(resolve->userdata, f.err, addrs, f.n_addrs); /* frees @resolve */
}

void gt_resolve_report_known(struct gt_resolve *resolve)
{
    if (f.is_known)
        resolve_on_answer(resolve->loop, &resolve->answer, 0);
}

static const struct gt_host_port relay = {"relay.example.org", 7000};

int gt_resolve_new(struct ev_loop *loop, const char *host, uint16_t port, gt_resolve_fn done,
                   void *userdata, struct gt_resolve **ret)
{
    struct gt_resolve *resolve = calloc(1, sizeof(*resolve));

    assert_non_null(resolve);
    *resolve = (struct gt_resolve){.loop = loop, .done = done, .userdata = userdata};
    ev_timer_init(&resolve->answer, resolve_on_answer, 0, 0);
    resolve->answer.data = resolve;
    if (!f.is_resolver_dead)
        ev_timer_start(loop, &resolve->answer);
    *ret = resolve;
    return 0;
}

static int listen_at(int backlog, uint16_t *ret_port)
{
    struct gt_addr addr;

    assert_int_equal(gt_addr_parse("127.0.0.1", 0, &addr), 0);
    int fd = gt_sock_listen(&addr, backlog);
    assert_true(fd >= 0);
    assert_int_equal(gt_sock_local(fd, &addr), 0);
    *ret_port = gt_addr_port(&addr);
    return fd;
}

static int set_up(void **state)
{
    struct gt_addr addr;

    fake_clock_start();
    memset(&f, 0, sizeof(f));
    f.loop = ev_loop_new(0);
    f.fd = -1;
    f.listener[0] = listen_at(8, &f.port[OPEN]);
    close(listen_at(8, &f.port[SHUT]));
    f.listener[1] = listen_at(0, &f.port[SILENT]);
    assert_int_equal(gt_addr_parse("127.0.0.1", f.port[SILENT], &addr), 0);
    for (size_t i = 0; i < GT_ARRAY_SIZE(f.crowd); i++)
        f.crowd[i] = gt_sock_connect(&addr);
    return 0;
}

static int tear_down(void **state)
{
    gt_dial_free(f.dial);
    gt_close(&f.fd);
    gt_close(&f.listener[0]);
    gt_close(&f.listener[1]);
    for (size_t i = 0; i < GT_ARRAY_SIZE(f.crowd); i++)
        gt_close(&f.crowd[i]);
    ev_loop_destroy(f.loop);
    return 0;
}

static void on_done(void *userdata, int fd, const struct gt_addr *addr, const char *why)
{
    assert_false(f.is_done);
    f.is_done = true;
    f.fd = fd;
    assert_int_equal(fd >= 0, addr != NULL);
    assert_int_equal(fd >= 0, why == NULL);
    f.answered = addr ? gt_addr_port(addr) : 0;
    strncpy(f.why, why ? why : "", sizeof(f.why) - 1);
    if (!f.is_kept)
        f.dial = gt_dial_free(f.dial);
}

static void dial(const enum port *addrs, size_t n_addrs, unsigned timeout_ms)
{
    f.addrs = addrs;
    f.n_addrs = n_addrs;
    assert_int_equal(gt_dial_new(f.loop, &relay, timeout_ms, on_done, NULL, &f.dial), 0);
    assert_false(f.is_done);
    ev_run(f.loop, 0); /* ends when nothing is watched any more */
    assert_true(f.is_done);
}

static void test_dial_takes_the_first_address_that_accepts(void **state)
{
    static const enum port addrs[] = {SHUT, SHUT, OPEN, SHUT};

    dial(addrs, 4, 3000);
    assert_true(f.fd >= 0);
    assert_int_equal(f.answered, f.port[OPEN]);
    assert_int_equal(gt_sock_error(f.fd), 0);
}

/* Returns true if the result came from inside the call. */
static bool dial_now(const enum port *addrs, size_t n_addrs)
{
    f.addrs = addrs;
    f.n_addrs = n_addrs;
    f.is_done = false;
    assert_int_equal(gt_dial_new(f.loop, &relay, 3000, on_done, NULL, &f.dial), 0);
    gt_dial_try_now(f.dial);
    return f.is_done;
}

/* One after the other is tried within the call, until one does not answer at once. */
static void test_dial_of_known_addresses_on_this_machine_needs_no_loop(void **state)
{
    static const enum port refused[] = {SHUT, SHUT}, accepted[] = {SHUT, OPEN},
                           mixed[] = {SILENT, OPEN};

    f.is_known = true;
    assert_true(dial_now(refused, 2));
    assert_int_equal(f.fd, -ECONNREFUSED);
    assert_true(dial_now(accepted, 2));
    assert_int_equal(f.answered, f.port[OPEN]);
    gt_close(&f.fd);
    assert_false(dial_now(mixed, 2));
    ev_run(f.loop, 0);
    assert_true(f.is_done);
    assert_int_equal(f.answered, f.port[OPEN]);
}

static void test_dial_of_a_name_waits_for_its_lookup(void **state)
{
    static const enum port addrs[] = {OPEN};

    assert_false(dial_now(addrs, 1));
    ev_run(f.loop, 0);
    assert_true(f.is_done);
    assert_int_equal(f.answered, f.port[OPEN]);
}

static void test_dial_reports_the_failure_of_the_first_address(void **state)
{
    static const enum port addrs[] = {SHUT, SILENT};

    dial(addrs, 2, 300);
    assert_int_equal(f.fd, -ECONNREFUSED);
    assert_string_equal(f.why, "Connection refused");
}

static void test_dial_of_silent_addresses_ends_at_the_time_limit(void **state)
{
    static const enum port addrs[] = {SILENT, SILENT, SILENT};
    ev_tstamp begun = ev_time();

    dial(addrs, 3, 300);
    assert_int_equal(f.fd, -ETIMEDOUT);
    assert_string_equal(f.why, "no answer");
    assert_true(ev_time() - begun < 3);
}

static void test_dial_tries_the_next_address_after_a_silent_one(void **state)
{
    static const enum port addrs[] = {SILENT, OPEN};

    dial(addrs, 2, 15000);
    assert_int_equal(f.answered, f.port[OPEN]);
}

static void test_dial_starts_the_next_address_beside_a_silent_one(void **state)
{
    static const enum port addrs[] = {SILENT, SILENT, SHUT, OPEN};
    double begun = gt_clock();
    int before = dup(f.listener[0]);

    close(before);
    dial(addrs, 4, 15000);
    assert_int_equal(f.answered, f.port[OPEN]);
    assert_in_range((unsigned)((gt_clock() - begun) * 1000), 400, 1500); /* two delays of 250 ms */
    gt_close(&f.fd);
    int after = dup(f.listener[0]);
    close(after);
    assert_int_equal(after, before); /* the silent ones are closed */
}

/* The second address fails first. */
static void test_dial_reports_the_silence_of_the_first_address(void **state)
{
    static const enum port addrs[] = {SILENT, SHUT};

    dial(addrs, 2, 600);
    assert_int_equal(f.fd, -ETIMEDOUT);
    assert_string_equal(f.why, "no answer");
}

/* Eight silent addresses before one that accepts: none gets more than its share of the time. */
static void test_dial_gives_each_address_its_share_of_the_time(void **state)
{
    static const enum port addrs[] = {SILENT, SILENT, SILENT, SILENT, SILENT, SILENT, SILENT, OPEN};
    ev_tstamp begun = ev_time();

    dial(addrs, 8, 2000);
    assert_int_equal(f.answered, f.port[OPEN]);
    assert_true(ev_time() - begun < 2);
}

static void test_dial_reports_a_name_without_address(void **state)
{
    f.err = EAI_NONAME;
    dial(NULL, 0, 300);
    assert_non_null(strstr(f.why, "no address for relay.example.org ("));
    assert_int_equal(f.fd, -ENXIO);
    f.is_done = false;
    f.err = 0;
    dial(NULL, 0, 300);
    assert_non_null(strstr(f.why, "no address for relay.example.org ("));
    assert_int_equal(f.fd, -ENXIO);
}

static void test_dial_distinguishes_a_failed_resolver(void **state)
{
    static const int errors[] = {EAI_AGAIN, EAI_FAIL, EAI_MEMORY, EAI_SYSTEM};

    for (size_t i = 0; i < GT_ARRAY_SIZE(errors); i++) {
        f.is_done = false;
        f.err = errors[i];
        dial(NULL, 0, 300);
        assert_non_null(strstr(f.why, "the resolver failed for relay.example.org ("));
        assert_int_equal(f.fd, -EAGAIN);
    }
}

static void test_dial_with_a_dead_resolver_ends_at_the_time_limit(void **state)
{
    f.is_resolver_dead = true;
    dial(NULL, 0, 100);
    assert_int_equal(f.fd, -EAGAIN);
    assert_string_equal(f.why, "the resolver does not answer");
}

static void test_dial_can_be_freed_after_the_callback(void **state)
{
    static const enum port addrs[] = {SHUT, OPEN};

    f.is_kept = true;
    dial(addrs, 2, 300);
    assert_true(f.fd >= 0);
    gt_dial_check(f.dial);
    ev_run(f.loop, EVRUN_NOWAIT);
    assert_non_null(f.dial);
}

static void test_dial_can_be_freed_in_every_state(void **state)
{
    static const enum port addrs[] = {SHUT, SILENT};

    f.addrs = addrs;
    f.n_addrs = 2;
    for (int n_turns = 0; n_turns < 5; n_turns++) {
        assert_int_equal(gt_dial_new(f.loop, &relay, 9000, on_done, NULL, &f.dial), 0);
        for (int i = 0; i < n_turns; i++)
            ev_run(f.loop, EVRUN_NOWAIT);
        f.dial = gt_dial_free(f.dial);
        ev_run(f.loop, 0);
    }
    assert_false(f.is_done);
    assert_null(gt_dial_free(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_dial_takes_the_first_address_that_accepts, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_dial_of_known_addresses_on_this_machine_needs_no_loop,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dial_of_a_name_waits_for_its_lookup, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_dial_reports_the_failure_of_the_first_address, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_dial_of_silent_addresses_ends_at_the_time_limit,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dial_tries_the_next_address_after_a_silent_one, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_dial_starts_the_next_address_beside_a_silent_one,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dial_reports_the_silence_of_the_first_address, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_dial_gives_each_address_its_share_of_the_time, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_dial_reports_a_name_without_address, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_dial_distinguishes_a_failed_resolver, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_dial_with_a_dead_resolver_ends_at_the_time_limit,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dial_can_be_freed_after_the_callback, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_dial_can_be_freed_in_every_state, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
