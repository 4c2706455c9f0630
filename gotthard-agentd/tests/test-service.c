/* SPDX-License-Identifier: ISC */
/*
 * Dialling on loopback: a target that is there, one that is not, one that does not answer, and a
 * dial that is given up. Each errno has its word.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gotthard/log.h"
#include "service.h"

struct heard {
    struct ev_loop *loop;
    unsigned n_calls;
    int fd;
    enum gt_rst code;
};

static void on_done(void *userdata, struct service *service, int fd, enum gt_rst code)
{
    struct heard *heard = userdata;

    heard->n_calls++;
    heard->fd = fd;
    heard->code = code;
    ev_break(heard->loop, EVBREAK_ALL);
}

static struct heard dial(const char *host, uint16_t port, unsigned timeout_ms)
{
    struct heard heard = {.loop = ev_loop_new(0), .fd = -1};
    struct target target = {.name = "it", .port = port};
    struct service_settings settings = {&target, 7, timeout_ms, "session=test"};
    struct service *service;

    memcpy(target.host, host, strlen(host) + 1);
    assert_int_equal(service_new(heard.loop, &settings, on_done, &heard, &service), 0);
    assert_int_equal(heard.n_calls, 0);
    assert_int_equal(service_stream(service), 7);
    ev_run(heard.loop, 0);
    assert_int_equal(heard.n_calls, 1);
    ev_loop_destroy(heard.loop);
    return heard;
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

static void a_target_that_listens_is_connected(void **state)
{
    uint16_t port;
    int listener = listen_on_loopback(8, &port);
    struct gt_addr peer, ours;

    struct heard heard = dial("127.0.0.1", port, 5000);
    assert_int_equal(heard.code, GT_RST_NONE);
    assert_true(heard.fd >= 0);
    int accepted = gt_sock_accept(listener, &peer);
    assert_true(accepted >= 0);
    assert_int_equal(gt_sock_local(heard.fd, &ours), 0);
    assert_int_equal(gt_addr_port(&ours), gt_addr_port(&peer));
    close(accepted);
    close(heard.fd);
    close(listener);
}

static void a_name_with_a_dead_first_address_still_leads_there(void **state)
{
    uint16_t port;
    int listener =
        listen_on_loopback(8, &port); /* localhost may be ::1 first: nothing listens there */

    struct heard heard = dial("localhost", port, 5000);
    assert_int_equal(heard.code, GT_RST_NONE);
    close(heard.fd);
    close(listener);
}

static void a_port_nobody_listens_on_is_refused(void **state)
{
    uint16_t port;
    int listener = listen_on_loopback(8, &port);

    close(listener);
    struct heard heard = dial("127.0.0.1", port, 5000);
    assert_int_equal(heard.fd, -1);
    assert_int_equal(heard.code, GT_RST_REFUSED);
}

static void a_name_without_address_is_unreachable(void **state)
{
    struct heard heard = dial("no-such-host.invalid", 22, 20000);

    assert_int_equal(heard.fd, -1);
    assert_true(heard.code == GT_RST_UNREACHABLE || heard.code == GT_RST_TIMEOUT);
}

/* A listener whose queue is full does not answer, as a host behind a silent firewall does not. */
static void a_target_that_does_not_answer_times_out(void **state)
{
    uint16_t port;
    int listener = listen_on_loopback(0, &port), fillers[16];
    struct gt_addr addr;

    assert_int_equal(gt_addr_parse("127.0.0.1", port, &addr), 0);
    for (size_t i = 0; i < GT_ARRAY_SIZE(fillers); i++)
        fillers[i] = gt_sock_connect(&addr);
    struct heard heard = dial("127.0.0.1", port, 300);
    assert_int_equal(heard.fd, -1);
    assert_int_equal(heard.code, GT_RST_TIMEOUT);
    for (size_t i = 0; i < GT_ARRAY_SIZE(fillers); i++)
        gt_close(&fillers[i]);
    close(listener);
}

static void a_dial_that_is_given_up_says_nothing(void **state)
{
    struct heard heard = {.loop = ev_loop_new(0)};
    struct target target = {"it", "127.0.0.1", 9};
    struct service_settings settings = {&target, 1, 100, "session=test"};
    struct service *service;

    assert_int_equal(service_new(heard.loop, &settings, on_done, &heard, &service), 0);
    assert_null(service_free(service));
    assert_null(service_free(NULL));
    while (ev_run(heard.loop, EVRUN_NOWAIT))
        ;
    assert_int_equal(heard.n_calls, 0);
    ev_loop_destroy(heard.loop);
}

static void every_errno_has_a_word(void **state)
{
    static const struct {
        int err;
        enum gt_rst code;
    } cases[] = {
        {0, GT_RST_NONE},
        {ECONNREFUSED, GT_RST_REFUSED},
        {ECONNRESET, GT_RST_REFUSED},
        {ETIMEDOUT, GT_RST_TIMEOUT},
        {EHOSTUNREACH, GT_RST_UNREACHABLE},
        {ENETUNREACH, GT_RST_UNREACHABLE},
        {EACCES, GT_RST_UNREACHABLE},
        {EMFILE, GT_RST_INTERNAL},
        {ENOMEM, GT_RST_INTERNAL},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        assert_int_equal(service_code_of(cases[i].err), cases[i].code);
        assert_int_equal(service_code_of(-cases[i].err), cases[i].code);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_target_that_listens_is_connected),
        cmocka_unit_test(a_name_with_a_dead_first_address_still_leads_there),
        cmocka_unit_test(a_port_nobody_listens_on_is_refused),
        cmocka_unit_test(a_name_without_address_is_unreachable),
        cmocka_unit_test(a_target_that_does_not_answer_times_out),
        cmocka_unit_test(a_dial_that_is_given_up_says_nothing),
        cmocka_unit_test(every_errno_has_a_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
