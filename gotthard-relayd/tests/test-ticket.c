/* SPDX-License-Identifier: ISC */
/* ticket.c: good once for each side, at its own port, in its time, and only when all of it fits. */
#include "ticket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "memory.h"

static char here[] = "here", there[] = "there"; /* stand for docks */

static struct gt_ticket given(uint8_t first)
{
    struct gt_ticket ticket = {.stream = 7, .attempt = 2, .ttl_s = 30};
    for (size_t i = 0; i < sizeof(ticket.id); i++)
        ticket.id[i] = (uint8_t)(first + i);
    for (size_t i = 0; i < sizeof(ticket.secret); i++)
        ticket.secret[i] = (uint8_t)(100 + i);
    return ticket;
}

static struct gt_join join_of(const struct gt_ticket *ticket, enum gt_role role)
{
    struct gt_join join = {role, ticket->stream, ticket->attempt, {0}, {0}};
    memcpy(join.id, ticket->id, sizeof(join.id));
    memcpy(join.secret, ticket->secret, sizeof(join.secret));
    return join;
}

static void each_side_once(void **state)
{
    struct tickets tickets = {0};
    struct gt_ticket t = given(1);
    struct gt_join by_operator = join_of(&t, GT_ROLE_OPERATOR),
                   by_device = join_of(&t, GT_ROLE_DEVICE);
    struct ticket *ticket, *spent;
    assert_int_equal(tickets_add(&tickets, &t, 30000, here, &ticket), 0);
    assert_true(tickets_is_good(&tickets, &by_operator, here, 0));
    assert_int_equal(tickets_spend(&tickets, &by_operator, here, 0, &spent), 0);
    assert_ptr_equal(spent, ticket);
    assert_int_equal(ticket->state, TICKET_BY_OPERATOR);
    assert_false(tickets_is_good(&tickets, &by_operator, here, 0));
    assert_int_equal(tickets_spend(&tickets, &by_operator, here, 0, &spent), TICKET_E_BAD);
    assert_int_equal(tickets_spend(&tickets, &by_device, NULL, 0, &spent), 0); /* main port */
    assert_int_equal(ticket->state, TICKET_BY_BOTH);
    assert_int_equal(tickets_spend(&tickets, &by_device, here, 0, &spent), TICKET_E_BAD);
    ticket_free(&tickets, ticket);
    assert_int_equal(tickets_spend(&tickets, &by_device, here, 0, &spent), TICKET_E_BAD);
    assert_null(tickets.by_id);
}

static void the_other_side_may_come_first(void **state)
{
    struct tickets tickets = {0};
    struct gt_ticket t = given(1);
    struct gt_join by_operator = join_of(&t, GT_ROLE_OPERATOR),
                   by_device = join_of(&t, GT_ROLE_DEVICE);
    struct ticket *ticket, *spent;
    assert_int_equal(tickets_add(&tickets, &t, 30000, here, &ticket), 0);
    assert_int_equal(tickets_spend(&tickets, &by_device, here, 0, &spent), 0);
    assert_int_equal(tickets_spend(&tickets, &by_device, here, 0, &spent), TICKET_E_BAD);
    assert_int_equal(tickets_spend(&tickets, &by_operator, here, 0, &spent), 0);
    ticket_free(&tickets, ticket);
}

/* Every single bit of what a JOIN proves. */
static void every_bit_counts(void **state)
{
    struct tickets tickets = {0};
    struct gt_ticket t = given(1);
    const struct gt_join good = join_of(&t, GT_ROLE_OPERATOR);
    struct ticket *ticket, *spent;
    assert_int_equal(tickets_add(&tickets, &t, 30000, here, &ticket), 0);
    for (size_t i = 0; i < 32; i++) {
        struct gt_join join = good;
        join.stream ^= 1u << i;
        assert_int_equal(tickets_spend(&tickets, &join, here, 0, &spent), TICKET_E_BAD);
        join = good;
        join.attempt ^= 1u << i;
        assert_int_equal(tickets_spend(&tickets, &join, here, 0, &spent), TICKET_E_BAD);
    }
    for (size_t i = 0; i < 8 * sizeof(good.id); i++) {
        struct gt_join join = good;
        join.id[i / 8] ^= (uint8_t)(1u << i % 8);
        assert_int_equal(tickets_spend(&tickets, &join, here, 0, &spent), TICKET_E_BAD);
    }
    for (size_t i = 0; i < 8 * sizeof(good.secret); i++) {
        struct gt_join join = good;
        join.secret[i / 8] ^= (uint8_t)(1u << i % 8);
        assert_int_equal(tickets_spend(&tickets, &join, here, 0, &spent), TICKET_E_BAD);
    }
    assert_int_equal(ticket->state, TICKET_UNUSED);
    assert_int_equal(tickets_spend(&tickets, &good, here, 0, &spent), 0);
    ticket_free(&tickets, ticket);
}

static void its_port_and_its_time(void **state)
{
    struct tickets tickets = {0};
    struct gt_ticket t = given(1);
    struct gt_join join = join_of(&t, GT_ROLE_OPERATOR);
    struct ticket *ticket, *spent;
    assert_int_equal(tickets_add(&tickets, &t, 30000, here, &ticket), 0);
    assert_int_equal(tickets_spend(&tickets, &join, there, 0, &spent), TICKET_E_BAD);
    assert_int_equal(tickets_spend(&tickets, &join, here, 30000, &spent), TICKET_E_BAD);
    assert_int_equal(tickets_spend(&tickets, &join, here, 29999, &spent), 0);
    ticket_free(&tickets, ticket);
}

static void many_tickets_do_not_mix(void **state)
{
    struct tickets tickets = {0};
    struct ticket *made[200], *spent;
    for (uint8_t i = 0; i < 200; i++) {
        struct gt_ticket t = given(i);
        t.stream = i + 1u;
        assert_int_equal(tickets_add(&tickets, &t, 30000, here, &made[i]), 0);
    }
    for (uint8_t i = 0; i < 200; i++) {
        struct gt_join join = join_of(&made[i]->given, GT_ROLE_DEVICE);
        assert_int_equal(tickets_spend(&tickets, &join, here, 1, &spent), 0);
        assert_ptr_equal(spent, made[i]);
    }
    for (uint8_t i = 0; i < 200; i++)
        ticket_free(&tickets, made[i]);
    assert_null(tickets.by_id);
}

/* Whoever has not come with it yet is late, for as long as it would have been good, or a moment. */
static void who_comes_after_its_end_is_late(void **state)
{
    struct tickets tickets;
    struct gt_ticket t = given(1);
    struct gt_join by_operator = join_of(&t, GT_ROLE_OPERATOR),
                   by_device = join_of(&t, GT_ROLE_DEVICE), wrong = by_device;
    struct ticket *ticket, *spent;
    tickets_init(&tickets);
    assert_int_equal(tickets_add(&tickets, &t, 30000, here, &ticket), 0);
    assert_int_equal(tickets_spend(&tickets, &by_operator, here, 0, &spent), 0);
    assert_false(tickets_is_late(&tickets, &by_device, 0)); /* in time */
    ticket_end(&tickets, ticket, 5000);
    assert_int_equal(tickets_spend(&tickets, &by_device, here, 6000, &spent), TICKET_E_BAD);
    assert_int_equal(tickets_spend(&tickets, &by_device, NULL, 6000, &spent), TICKET_E_BAD);
    assert_false(tickets_is_good(&tickets, &by_device, NULL, 6000));
    assert_true(tickets_is_late(&tickets, &by_device, 6000));
    assert_false(tickets_is_late(&tickets, &by_operator, 6000)); /* has been here: a replay */
    wrong.secret[31] ^= 1;
    assert_false(tickets_is_late(&tickets, &wrong, 6000));
    assert_true(tickets_is_late(&tickets, &by_device, 29999));
    assert_false(tickets_is_late(&tickets, &by_device, 30000));
    t = given(2);
    by_device = join_of(&t, GT_ROLE_DEVICE);
    assert_int_equal(tickets_add(&tickets, &t, 30000, here, &ticket), 0);
    ticket_end(&tickets, ticket, 30000); /* expired */
    assert_int_equal(tickets.n_late, 1); /* the first one's time is over */
    assert_true(tickets_is_late(&tickets, &by_device, 30000 + TICKETS_LATE_MS - 1));
    assert_false(tickets_is_late(&tickets, &by_device, 30000 + TICKETS_LATE_MS));
    assert_int_equal(tickets_add(&tickets, &(struct gt_ticket){.id = "3"}, 99000, here, &ticket),
                     0);
    ticket->state = TICKET_BY_BOTH;
    ticket_end(&tickets, ticket, 30001);
    assert_int_equal(tickets.n_late, 1);
    tickets_deinit(&tickets);
    assert_null(tickets.by_id);
}

static void only_so_many_are_remembered(void **state)
{
    struct tickets tickets;
    struct gt_ticket t = given(1);
    struct ticket *ticket;
    tickets_init(&tickets);
    for (uint32_t i = 0; i < 2 * TICKETS_LATE_MAX; i++) {
        t.stream = i;
        memcpy(t.id, &i, sizeof(i));
        assert_int_equal(tickets_add(&tickets, &t, 30000, here, &ticket), 0);
        ticket_end(&tickets, ticket, 0);
    }
    assert_int_equal(tickets.n_late, TICKETS_LATE_MAX);
    assert_int_equal(HASH_COUNT(tickets.by_id), TICKETS_LATE_MAX);
    struct gt_join last = join_of(&t, GT_ROLE_DEVICE);
    assert_true(tickets_is_late(&tickets, &last, 1));
    tickets_deinit(&tickets);
    assert_null(tickets.by_id);
}

static void no_memory_no_ticket(void **state)
{
    struct tickets tickets = {0};
    struct gt_ticket t = given(1);
    struct ticket *ticket;
    int r = -ENOMEM;
    for (int n = 0; r; n++) {
        memory_left = n;
        r = tickets_add(&tickets, &t, 30000, here, &ticket);
        memory_left = MEMORY_ENDLESS;
        assert_true(r ? r == -ENOMEM && !tickets.by_id : n > 1);
    }
    ticket_free(&tickets, ticket);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_side_once),
        cmocka_unit_test(the_other_side_may_come_first),
        cmocka_unit_test(every_bit_counts),
        cmocka_unit_test(its_port_and_its_time),
        cmocka_unit_test(many_tickets_do_not_mix),
        cmocka_unit_test(no_memory_no_ticket),
        cmocka_unit_test(who_comes_after_its_end_is_late),
        cmocka_unit_test(only_so_many_are_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
