/* SPDX-License-Identifier: ISC */
/* ports.c: what was asked for or nothing, what was wished for or another one. */
#include "ports.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void on_connection(void *userdata, struct port *port, int fd, const struct gt_addr *peer)
{
    close(fd);
}

/* A port that is taken, on both loopback addresses if there are two. */
static struct listener *take(uint16_t *ret_port)
{
    struct listener_settings settings = {.loop = ev_default_loop(0)};
    struct listener *taken = NULL;
    assert_int_equal(listener_new(&settings, NULL, NULL, &taken), 0);
    *ret_port = listener_port(taken);
    return taken;
}

static int open_ports(uint16_t default_port, bool is_asked, const char *const *texts,
                      size_t n_texts, struct ports *ret, struct failure *ret_failure)
{
    struct ports_settings settings = {
        .loop = ev_default_loop(0),
        .default_port = default_port,
        .is_default_asked = is_asked,
    };
    struct target targets[8];
    const char *why;
    for (size_t i = 0; i < n_texts; i++)
        assert_int_equal(target_parse(texts[i], default_port, &targets[i], &why), 0);
    return ports_open(&settings, targets, n_texts, on_connection, NULL, ret, ret_failure);
}

static void test_wish_moves(void **state)
{
    uint16_t port;
    struct listener *taken = take(&port);
    struct ports ports;
    struct failure failure;
    assert_int_equal(open_ports(port, false, (const char *[]){"ssh"}, 1, &ports, &failure), 0);
    assert_true(ports.items[0].is_moved);
    assert_int_not_equal(listener_port(ports.items[0].listener), port);
    ports_close(&ports);
    ports_close(&ports);
    listener_free(taken);
}

static void test_asked_fails(void **state)
{
    uint16_t port;
    struct listener *taken = take(&port);
    struct ports ports;
    struct failure failure;
    assert_int_equal(open_ports(port, true, (const char *[]){"ssh"}, 1, &ports, &failure), 1);
    assert_int_equal(failure.id, FAILURE_PORT_BUSY);
    char text[32];
    snprintf(text, sizeof(text), "%u:ssh", port);
    const char *const targets[] = {"0:web", text};
    assert_int_equal(open_ports(0, false, targets, 2, &ports, &failure), 1);
    assert_int_equal(failure.id, FAILURE_PORT_BUSY);
    assert_int_equal(ports.n_items, 0);
    listener_free(taken);
}

/* The configured port is for the first; the second would clash with ourselves. */
static void test_two_wishes(void **state)
{
    uint16_t port;
    struct listener *taken = take(&port);
    struct ports ports;
    struct failure failure;
    listener_free(taken);
    const char *const targets[] = {"ssh", "web", ":22"};
    assert_int_equal(open_ports(port, true, targets, 3, &ports, &failure), 0);
    assert_int_equal(listener_port(ports.items[0].listener), port);
    assert_false(ports.items[0].is_moved);
    assert_true(ports.items[1].is_moved);
    assert_false(ports.items[2].is_moved);
    ports_start(&ports);
    ports_stop(&ports);
    ports_close(&ports);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wish_moves),
        cmocka_unit_test(test_asked_fails),
        cmocka_unit_test(test_two_wishes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
