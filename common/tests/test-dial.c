/* SPDX-License-Identifier: ISC */
/* Dialling, with a resolver that says what the test wants: it stands in for resolve.c here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>
#include <netdb.h>
#include <string.h>

#include "gotthard/dial.h"
#include "gotthard/resolve.h"

enum port { OPEN, SHUT, SILENT }; /* what an address leads to */

struct gt_resolve {
    struct ev_loop *loop;
    ev_timer answer;
    gt_resolve_fn done;
    void *userdata;
};

struct fixture {
    struct ev_loop *loop;
    int listener[2], crowd[8]; /* listener 0 accepts, 1 is full */
    uint16_t port[3];
    const enum port *addrs;
    size_t n_addrs;
    int err;
    bool is_resolver_dead;
    struct gt_dial *dial;
    bool is_done;
    int fd;
    uint16_t answered;
    char why[200];
} f;

struct gt_resolve *gt_resolve_cancel(struct gt_resolve *resolve)
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
    resolve->done(resolve->userdata, f.err, addrs, f.n_addrs);
    gt_resolve_cancel(resolve);
}

int gt_resolve_new(struct ev_loop *loop, const char *host, uint16_t port, gt_resolve_fn done,
                   void *userdata, struct gt_resolve **ret)
{
    struct gt_resolve *resolve = calloc(1, sizeof *resolve);
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
    memset(&f, 0, sizeof f);
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
    gt_dial_cancel(f.dial);
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
    f.dial = NULL;
    f.fd = fd;
    assert_int_equal(fd >= 0, addr != NULL);
    assert_int_equal(fd >= 0, why == NULL);
    f.answered = addr ? gt_addr_port(addr) : 0;
    strncpy(f.why, why ? why : "", sizeof f.why - 1);
}

static void dial(const enum port *addrs, size_t n_addrs, unsigned timeout_ms)
{
    f.addrs = addrs;
    f.n_addrs = n_addrs;
    assert_int_equal(
        gt_dial_new(f.loop, "relay.example.org", 7000, timeout_ms, on_done, NULL, &f.dial), 0);
    assert_false(f.is_done);
    ev_run(f.loop, 0); /* ends when nothing is watched any more */
    assert_true(f.is_done);
}

static void the_first_that_answers_is_taken(void **state)
{
    static const enum port addrs[] = {SHUT, SHUT, OPEN, SHUT};
    dial(addrs, 4, 3000);
    assert_true(f.fd >= 0);
    assert_int_equal(f.answered, f.port[OPEN]);
    assert_int_equal(gt_sock_error(f.fd), 0);
}

static void when_none_answers_the_first_reason_is_told(void **state)
{
    static const enum port addrs[] = {SHUT, SILENT};
    dial(addrs, 2, 300);
    assert_int_equal(f.fd, -1);
    assert_string_equal(f.why, "Connection refused");
}

static void a_silent_address_ends_with_the_time(void **state)
{
    static const enum port addrs[] = {SILENT, SILENT, SILENT};
    ev_tstamp begun = ev_time();
    dial(addrs, 3, 300);
    assert_string_equal(f.why, "no answer");
    assert_true(ev_time() - begun < 3);
}

static void a_silent_address_does_not_hide_the_next(void **state)
{
    static const enum port addrs[] = {SILENT, OPEN};
    dial(addrs, 2, 15000);
    assert_int_equal(f.answered, f.port[OPEN]);
}

static void no_address_is_told_with_the_name(void **state)
{
    f.err = EAI_NONAME;
    dial(NULL, 0, 300);
    assert_non_null(strstr(f.why, "no address for relay.example.org ("));
    f.is_done = false;
    f.err = 0;
    dial(NULL, 0, 300);
    assert_non_null(strstr(f.why, "no address for relay.example.org ("));
}

static void a_dead_resolver_ends_with_the_time(void **state)
{
    f.is_resolver_dead = true;
    dial(NULL, 0, 100);
    assert_string_equal(f.why, "the resolver does not answer");
}

static void it_may_be_cancelled_at_any_time(void **state)
{
    static const enum port addrs[] = {SHUT, SILENT};
    f.addrs = addrs;
    f.n_addrs = 2;
    for (int n_turns = 0; n_turns < 5; n_turns++) {
        assert_int_equal(
            gt_dial_new(f.loop, "relay.example.org", 7000, 9000, on_done, NULL, &f.dial), 0);
        for (int i = 0; i < n_turns; i++)
            ev_run(f.loop, EVRUN_NOWAIT);
        f.dial = gt_dial_cancel(f.dial);
        ev_run(f.loop, 0);
    }
    assert_false(f.is_done);
    assert_null(gt_dial_cancel(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_first_that_answers_is_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(when_none_answers_the_first_reason_is_told, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_silent_address_ends_with_the_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_silent_address_does_not_hide_the_next, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_address_is_told_with_the_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_dead_resolver_ends_with_the_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_may_be_cancelled_at_any_time, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
