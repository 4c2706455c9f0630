/* SPDX-License-Identifier: ISC */
/* forwards.c: a required local port or a failure; a preferred one or a free one. */
#include "forwards.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void on_connection(void *userdata, const struct forward *forward, int fd,
                          const struct local_peer *peer)
{
    close(fd);
}

static void on_refused(void *userdata, const struct forward *forward, const struct local_peer *peer,
                       enum local_refusal why)
{
}

static const struct forwards_events events = {
    .on_connection = on_connection,
    .on_refused = on_refused,
};

/* Occupies a free port on both loopback addresses, or on one if there is no other. */
static struct local_listener *occupy_port(uint16_t *ret_port)
{
    struct local_listener_settings settings = {.loop = ev_default_loop(0)};
    struct local_listener *occupied = NULL;

    assert_int_equal(local_listener_new(&settings, NULL, NULL, &occupied), 0);
    *ret_port = local_listener_port(occupied);
    return occupied;
}

static int open_forwards(uint16_t default_port, bool is_required, const char *const *texts,
                         size_t n_texts, struct forwards *ret, struct failure *ret_failure)
{
    struct forwards_settings settings = {
        .loop = ev_default_loop(0),
        .default_port = default_port,
        .is_default_required = is_required,
    };
    struct forward_spec specs[8];
    const char *why;

    for (size_t i = 0; i < n_texts; i++)
        assert_int_equal(forward_spec_parse(texts[i], default_port, &specs[i], &why), 0);
    return forwards_open(&settings, specs, n_texts, &events, NULL, ret, ret_failure);
}

static void test_forwards_preferred_port_in_use_moves(void **state)
{
    uint16_t port;
    struct local_listener *occupied = occupy_port(&port);
    struct forwards forwards;
    struct failure failure;

    assert_int_equal(open_forwards(port, false, (const char *[]){"ssh"}, 1, &forwards, &failure),
                     0);
    assert_true(forwards.items[0].is_moved);
    assert_int_not_equal(local_listener_port(forwards.items[0].listener), port);
    forwards_close(&forwards);
    forwards_close(&forwards);
    local_listener_free(occupied);
}

static void test_forwards_required_port_in_use_fails(void **state)
{
    uint16_t port;
    struct local_listener *occupied = occupy_port(&port);
    struct forwards forwards;
    struct failure failure;

    assert_int_equal(open_forwards(port, true, (const char *[]){"ssh"}, 1, &forwards, &failure), 1);
    assert_int_equal(failure.id, FAILURE_PORT_BUSY);
    char text[32];
    snprintf(text, sizeof(text), "%u:ssh", port);
    const char *const texts[] = {"0:web", text};
    assert_int_equal(open_forwards(0, false, texts, 2, &forwards, &failure), 1);
    assert_int_equal(failure.id, FAILURE_PORT_BUSY);
    assert_int_equal(forwards.n_items, 0);
    local_listener_free(occupied);
}

/* The first forward gets the configured port, the second one a free port. */
static void test_forwards_same_preferred_port_twice(void **state)
{
    uint16_t port;
    struct local_listener *occupied = occupy_port(&port);
    struct forwards forwards;
    struct failure failure;

    local_listener_free(occupied);
    const char *const texts[] = {"ssh", "web", ":22"};
    assert_int_equal(open_forwards(port, true, texts, 3, &forwards, &failure), 0);
    assert_int_equal(local_listener_port(forwards.items[0].listener), port);
    assert_false(forwards.items[0].is_moved);
    assert_true(forwards.items[1].is_moved);
    assert_false(forwards.items[2].is_moved);
    forwards_start(&forwards);
    forwards_stop(&forwards);
    forwards_close(&forwards);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forwards_preferred_port_in_use_moves),
        cmocka_unit_test(test_forwards_required_port_in_use_fails),
        cmocka_unit_test(test_forwards_same_preferred_port_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
