/* SPDX-License-Identifier: ISC */
/*
 * dock.c in a plane without a thread: events come one by one, in the order that hurts most.
 */
#include "dock.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "plane.h"

static struct {
    struct mailbox outbox;
    struct quota quota;
    struct plane *plane;
    struct dock *dock;
    struct gt_addr addr;
} world;

static void on_letter(void *userdata, struct letter *letter)
{
    letter_free(letter);
}

/* A plane without a thread: its loop is the test's. */
static int begin(void **state)
{
    struct plane_settings settings = {
        .outbox = &world.outbox, .quota = &world.quota, .limits = {.join_ms = 5000}};

    quota_init(&world.quota,
               &(struct quota_limits){.n_strangers = 9, .n_early = 9, .n_per_source = 9}, 100, 1);
    mailbox_init(&world.outbox, ev_default_loop(0), on_letter, NULL);
    assert_int_equal(plane_new(&settings, &world.plane), 0);
    assert_int_equal(gt_addr_parse("127.0.0.1", 0, &world.addr), 0);
    int fd = gt_sock_listen(&world.addr, 4);
    assert_true(fd >= 0);
    assert_int_equal(gt_sock_local(fd, &world.addr), 0);
    assert_true(quota_take_fd(&world.quota));
    world.dock = dock_new(7, "12345678", &fd);
    assert_non_null(world.dock);
    assert_int_equal(plane_dock(world.plane, world.dock), 0);
    mailbox_drain(&world.plane->inbox);
    return 0;
}

static int end(void **state)
{
    struct quota_counts counts;

    plane_free(world.plane);
    mailbox_drain(&world.outbox);
    mailbox_deinit(&world.outbox);
    quota_count(&world.quota, &counts);
    assert_int_equal(counts.n_fds, 0);
    quota_deinit(&world.quota);
    return 0;
}

/* A connection that has said @join, and waits to be accepted. */
static int client_new(const struct gt_join *join)
{
    uint8_t bytes[GT_JOIN_SIZE];
    int fd = gt_sock_connect(&world.addr);

    assert_true(fd >= 0);
    gt_join_encode(join, bytes);
    assert_int_equal(send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL), sizeof(bytes));
    struct pollfd pollfd = {world.dock->listener.fd, POLLIN, 0};
    assert_int_equal(poll(&pollfd, 1, 5000), 1);
    return fd;
}

static const struct gt_ticket ticket = {.stream = 1, .attempt = 1, .id = "an id", .secret = "x"};
static const struct gt_join join = {
    .role = GT_ROLE_OPERATOR, .stream = 1, .attempt = 1, .id = "an id", .secret = "x"};

/* The letter with the ticket comes in the same turn as who has it. */
static void test_a_ticket_in_the_last_moment(void **state)
{
    int client = client_new(&join);

    assert_int_equal(plane_honour(world.plane, world.dock, &ticket, NEVER), 0);
    ev_invoke(world.plane->loop, &world.dock->listener.io, EV_READ);
    assert_int_equal(atomic_load(&world.plane->counts.n_pairs), 1);
    close(client);
    plane_undock(world.plane, world.dock);
    mailbox_drain(&world.plane->inbox);
    assert_int_equal(atomic_load(&world.plane->counts.n_pairs), 0);
    assert_int_equal(atomic_load(&world.plane->counts.n_docks), 0);
}

/* The session ends while its listener accepts: the letter is read in the middle of that. */
static void test_the_end_in_the_middle_of_an_accept(void **state)
{
    int client = client_new(&join);

    assert_int_equal(plane_honour(world.plane, world.dock, &ticket, NEVER), 0);
    plane_undock(world.plane, world.dock);
    ev_invoke(world.plane->loop, &world.dock->listener.io, EV_READ);
    assert_int_equal(atomic_load(&world.plane->counts.n_pairs), 0);
    assert_int_equal(atomic_load(&world.plane->counts.n_docks), 0);
    ev_run(world.plane->loop, EVRUN_NOWAIT);
    close(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_ticket_in_the_last_moment, begin, end),
        cmocka_unit_test_setup_teardown(test_the_end_in_the_middle_of_an_accept, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
