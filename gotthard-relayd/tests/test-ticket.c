/* SPDX-License-Identifier: ISC */
/* ticket.c: a ticket is valid once per side, at its own port, until it expires. */
#include "data/ticket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "memory.h"

static char here[] = "here", there[] = "there"; /* in place of session ports */

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

static void test_ticket_is_valid_once_per_side(void **state)
{
    struct tickets tickets = {0};
    struct gt_ticket t = given(1);
    struct gt_join by_operator = join_of(&t, GT_ROLE_OPERATOR),
                   by_device = join_of(&t, GT_ROLE_DEVICE);
    struct ticket *ticket, *spent;

    assert_int_equal(tickets_add(&tickets, &t, 30000, here, &ticket), 0);
    assert_int_equal(tickets_spend(&tickets, &by_operator, here, 0, &spent), 0);
    assert_ptr_equal(spent, ticket);
    assert_int_equal(ticket->state, TICKET_BY_OPERATOR);
    assert_int_equal(tickets_spend(&tickets, &by_operator, here, 0, &spent), TICKET_E_BAD);
    assert_int_equal(tickets_spend(&tickets, &by_device, NULL, 0, &spent), 0); /* main port */
    assert_int_equal(ticket->state, TICKET_BY_BOTH);
    assert_int_equal(tickets_spend(&tickets, &by_device, here, 0, &spent), TICKET_E_BAD);
    ticket_free(&tickets, ticket);
    assert_int_equal(tickets_spend(&tickets, &by_device, here, 0, &spent), TICKET_E_BAD);
    assert_null(tickets.by_id);
}

static void test_ticket_device_may_join_first(void **state)
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

/* Flips each bit of a JOIN that the ticket is compared with. */
static void test_ticket_with_any_flipped_bit_is_invalid(void **state)
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

static void test_ticket_is_valid_at_its_port_until_it_expires(void **state)
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

static void test_ticket_is_found_among_many(void **state)
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

/* A side without an answer from its session's port repeats its JOIN at the main port. A repeated
 * JOIN that comes after the other side's is too late there, and a replay elsewhere. */
static void test_ticket_join_may_be_repeated_at_the_main_port(void **state)
{
    struct tickets tickets = {0};
    struct gt_ticket t = given(1);
    struct gt_join by_operator = join_of(&t, GT_ROLE_OPERATOR),
                   by_device = join_of(&t, GT_ROLE_DEVICE);
    struct ticket *ticket, *spent;

    assert_int_equal(tickets_add(&tickets, &t, 30000, here, &ticket), 0);
    assert_int_equal(tickets_spend(&tickets, &by_operator, here, 0, &spent), 0);
    assert_int_equal(tickets_spend(&tickets, &by_operator, here, 0, &spent), TICKET_E_BAD);
    assert_int_equal(tickets_spend(&tickets, &by_operator, NULL, 0, &spent), 0);
    assert_int_equal(ticket->state, TICKET_BY_OPERATOR);
    assert_int_equal(tickets_spend(&tickets, &by_device, NULL, 0, &spent), 0);
    assert_int_equal(ticket->state, TICKET_BY_BOTH);
    assert_int_equal(tickets_spend(&tickets, &by_operator, NULL, 0, &spent), TICKET_E_BAD);
    ticket_free(&tickets, ticket);
    assert_int_equal(tickets_spend(&tickets, &by_operator, NULL, 0, &spent), TICKET_E_BAD);
}

static void test_ticket_add_fails_without_memory(void **state)
{
    struct tickets tickets = {0};
    struct gt_ticket t = given(1);
    struct ticket *ticket;
    int r = -ENOMEM;

    for (int n = 0; r; n++) {
        memory_left = n;
        r = tickets_add(&tickets, &t, 30000, here, &ticket);
        memory_left = MEMORY_UNLIMITED;
        assert_true(r ? r == -ENOMEM && !tickets.by_id : n > 1);
    }
    ticket_free(&tickets, ticket);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ticket_is_valid_once_per_side),
        cmocka_unit_test(test_ticket_device_may_join_first),
        cmocka_unit_test(test_ticket_with_any_flipped_bit_is_invalid),
        cmocka_unit_test(test_ticket_is_valid_at_its_port_until_it_expires),
        cmocka_unit_test(test_ticket_is_found_among_many),
        cmocka_unit_test(test_ticket_add_fails_without_memory),
        cmocka_unit_test(test_ticket_join_may_be_repeated_at_the_main_port),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
