/* SPDX-License-Identifier: ISC */
/* rendezvous.c: the state table, the ownership of slots, and deadlines. */
#include "control/rendezvous.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

static const struct rendezvous_limits limits = {
    .pairing_ms = 30000, .idle_ms = 1800000, .grace_ms = 120000};
static const uint8_t rid[GT_RID_SIZE] = {0x7f, 0x3a, 1, 2};
static char one[] = "one", two[] = "two", three[] = "three"; /* in place of clients */

/* The table once more, written from the protocol document. '-': the event is not listed. */
static const char *const expected[] = {
    /*                     ONE_UP BOTH_UP REPLACED LOST BYE TIMEOUT EXPIRED STOPPED */
    [RENDEZVOUS_EMPTY] = "H----ggg",  [RENDEZVOUS_WAITING] = "-PHggggg",
    [RENDEZVOUS_PAIRED] = "--PRgggg", [RENDEZVOUS_GRACE] = "RPRRgggg",
    [RENDEZVOUS_ENDED] = "--------",
};

static enum rendezvous_state state_by_letter(char message)
{
    switch (message) {
    case 'H': return RENDEZVOUS_WAITING;
    case 'P': return RENDEZVOUS_PAIRED;
    case 'R': return RENDEZVOUS_GRACE;
    default: return RENDEZVOUS_ENDED;
    }
}

static void test_rendezvous_next_state_for_each_event(void **state)
{
    for (unsigned s = 0; s < N_RENDEZVOUS_STATES; s++)
        for (unsigned e = 0; e < N_RENDEZVOUS_EVENTS; e++) {
            struct rendezvous rendezvous;

            rendezvous_init(&rendezvous, rid, 0);
            rendezvous.state = (enum rendezvous_state)s;
            int r = rendezvous_handle(&rendezvous, (enum rendezvous_event)e, 5);
            assert_int_equal(r, expected[s][e] == '-' ? RENDEZVOUS_E_UNEXPECTED : 0);
            assert_int_equal(rendezvous.state, state_by_letter(expected[s][e]));
            /* a state that does not change keeps its deadline */
            assert_int_equal(rendezvous.entered_at, rendezvous.state == s ? 0 : 5);
        }
    assert_string_equal(rendezvous_state_text(RENDEZVOUS_GRACE), "grace");
}

static int claim(struct rendezvous *rendezvous, enum gt_role role, const char *name,
                 uint32_t generation, void *client, struct rendezvous_claim *ret)
{
    return rendezvous_claim(rendezvous, role, name, generation, client, ret);
}

static void test_rendezvous_slot_belongs_to_its_first_identity(void **state)
{
    struct rendezvous rendezvous;
    struct rendezvous_claim c;

    rendezvous_init(&rendezvous, rid, 0);
    assert_string_equal(rendezvous.tag, "7f3a0102");
    assert_int_equal(claim(&rendezvous, GT_ROLE_OPERATOR, "alice", 1, one, &c), 0);
    assert_int_equal(c.event, RENDEZVOUS_ONE_UP);
    assert_null(c.replaced);
    assert_int_equal(claim(&rendezvous, GT_ROLE_OPERATOR, "bob", 9, two, &c), RENDEZVOUS_E_TAKEN);
    assert_int_equal(claim(&rendezvous, GT_ROLE_DEVICE, "oli", 1, two, &c), 0);
    assert_int_equal(c.event, RENDEZVOUS_BOTH_UP);
    assert_int_equal(claim(&rendezvous, GT_ROLE_DEVICE, "eli", 2, three, &c), RENDEZVOUS_E_TAKEN);
    assert_ptr_equal(rendezvous_peer(&rendezvous, GT_ROLE_OPERATOR)->client, two);
    rendezvous_slot(&rendezvous, GT_ROLE_OPERATOR)->client =
        NULL; /* lost; the slot stays alice's */
    assert_int_equal(claim(&rendezvous, GT_ROLE_OPERATOR, "bob", 9, three, &c), RENDEZVOUS_E_TAKEN);
    assert_null(rendezvous_slot(&rendezvous, GT_ROLE_OPERATOR)->client);
}

static void test_rendezvous_slot_passes_to_a_greater_generation(void **state)
{
    static const struct {
        uint32_t before, after;
        int condition;

    } table[] = {{1, 2, 0},
                 {1, UINT32_MAX, 0},
                 {0, 1, 0},
                 {1, 1, RENDEZVOUS_E_TAKEN},
                 {2, 1, RENDEZVOUS_E_TAKEN}};
    for (size_t i = 0; i < GT_ARRAY_SIZE(table); i++) {
        struct rendezvous rendezvous;
        struct rendezvous_claim c = {0};

        rendezvous_init(&rendezvous, rid, 0);
        assert_int_equal(claim(&rendezvous, GT_ROLE_DEVICE, "oli", table[i].before, one, &c), 0);
        assert_int_equal(claim(&rendezvous, GT_ROLE_DEVICE, "oli", table[i].after, two, &c),
                         table[i].condition);
        if (table[i].condition)
            continue;
        assert_int_equal(c.event, RENDEZVOUS_REPLACED);
        assert_ptr_equal(c.replaced, one);
        assert_false(c.is_new_process);
    }
}

static void test_rendezvous_generation_0_is_a_new_process(void **state)
{
    struct rendezvous rendezvous;
    struct rendezvous_claim c;

    rendezvous_init(&rendezvous, rid, 0);
    assert_int_equal(claim(&rendezvous, GT_ROLE_DEVICE, "oli", 0, one, &c), 0);
    assert_false(c.is_new_process); /* the first process */
    assert_int_equal(claim(&rendezvous, GT_ROLE_DEVICE, "oli", UINT32_MAX, two, &c), 0);
    assert_int_equal(claim(&rendezvous, GT_ROLE_DEVICE, "eli", 0, three, &c), RENDEZVOUS_E_TAKEN);
    assert_int_equal(claim(&rendezvous, GT_ROLE_DEVICE, "oli", 0, three, &c), 0);
    assert_int_equal(c.event, RENDEZVOUS_REPLACED);
    assert_ptr_equal(c.replaced, two);
    assert_true(c.is_new_process);
}

static void test_rendezvous_old_generation_is_a_new_process(void **state)
{
    struct rendezvous rendezvous;
    struct rendezvous_claim c;

    rendezvous_init(&rendezvous, rid, 0);
    assert_int_equal(claim(&rendezvous, GT_ROLE_OPERATOR, "alice", 1, one, &c), 0);
    assert_int_equal(claim(&rendezvous, GT_ROLE_DEVICE, "oli", 3, two, &c), 0);
    assert_false(c.is_new_process);
    rendezvous_slot(&rendezvous, GT_ROLE_DEVICE)->client = NULL;
    assert_int_equal(claim(&rendezvous, GT_ROLE_DEVICE, "oli", 1, three, &c), 0);
    assert_int_equal(c.event, RENDEZVOUS_BOTH_UP);
    assert_true(c.is_new_process);
    rendezvous_slot(&rendezvous, GT_ROLE_DEVICE)->client = NULL;
    assert_int_equal(claim(&rendezvous, GT_ROLE_DEVICE, "oli", 2, two, &c), 0);
    assert_false(c.is_new_process);
}

static void test_rendezvous_deadline_of_each_state(void **state)
{
    struct rendezvous rendezvous;

    rendezvous_init(&rendezvous, rid, 1000);
    assert_int_equal(rendezvous_deadline(&rendezvous, &limits), 31000);
    rendezvous.state = RENDEZVOUS_WAITING;
    assert_int_equal(rendezvous_deadline(&rendezvous, &limits), 31000);
    rendezvous.state = RENDEZVOUS_GRACE;
    assert_int_equal(rendezvous_deadline(&rendezvous, &limits), 121000);
    rendezvous.state = RENDEZVOUS_PAIRED;
    assert_int_equal(rendezvous_deadline(&rendezvous, &limits), 1801000);
    rendezvous.streams.n_live = 1; /* a stream with a data connection of its own */
    assert_true(rendezvous_deadline(&rendezvous, &limits) == GT_CLOCK_NEVER);
    rendezvous.expires_at = 43201000;
    assert_int_equal(rendezvous_deadline(&rendezvous, &limits), 43201000);
    rendezvous.state = RENDEZVOUS_ENDED;
    assert_int_equal(rendezvous_deadline(&rendezvous, &limits), 43201000);
}

static void test_rendezvous_due_event_after_the_lifetime(void **state)
{
    struct rendezvous rendezvous;

    rendezvous_init(&rendezvous, rid, 0);
    rendezvous.expires_at = 500;
    enum gt_code code;

    assert_int_equal(rendezvous_due(&rendezvous, 499, &code), RENDEZVOUS_TIMEOUT);
    assert_int_equal(rendezvous_due(&rendezvous, 500, &code), RENDEZVOUS_EXPIRED);
    assert_int_equal(code, GT_CODE_LIFETIME);
}

static void test_rendezvous_each_limit_has_its_own_code(void **state)
{
    static const struct {
        enum rendezvous_state state;
        enum gt_code code;
    } rows[] = {
        {RENDEZVOUS_EMPTY, GT_CODE_PAIRING},
        {RENDEZVOUS_WAITING, GT_CODE_PAIRING},
        {RENDEZVOUS_PAIRED, GT_CODE_IDLE},
        {RENDEZVOUS_GRACE, GT_CODE_GRACE},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        struct rendezvous rendezvous;
        enum gt_code code;

        rendezvous_init(&rendezvous, rid, 0);
        rendezvous.state = rows[i].state;
        assert_int_equal(rendezvous_due(&rendezvous, 1, &code), RENDEZVOUS_TIMEOUT);
        assert_int_equal(code, rows[i].code);
    }
}

static void test_rendezvous_without_an_idle_limit_is_kept(void **state)
{
    static const struct rendezvous_limits unlimited = {
        .pairing_ms = 30000, .idle_ms = 0, .grace_ms = 120000};
    struct rendezvous rendezvous;

    rendezvous_init(&rendezvous, rid, 0);
    rendezvous.state = RENDEZVOUS_PAIRED;
    assert_true(rendezvous_deadline(&rendezvous, &unlimited) == GT_CLOCK_NEVER);
    rendezvous_set_load(&rendezvous, 1, 0);
    rendezvous_set_load(&rendezvous, 0, 0);
    assert_true(rendezvous_deadline(&rendezvous, &unlimited) == GT_CLOCK_NEVER);
}

/* The time of an idle session begins when the last stream in the shared connection has ended. */
static void test_rendezvous_is_idle_without_a_load(void **state)
{
    struct rendezvous rendezvous;

    rendezvous_init(&rendezvous, rid, 1000);
    rendezvous.state = RENDEZVOUS_PAIRED;
    assert_false(rendezvous_carries_streams(&rendezvous));
    rendezvous_set_load(&rendezvous, 3, 2000);
    assert_true(rendezvous_carries_streams(&rendezvous));
    assert_true(rendezvous_deadline(&rendezvous, &limits) == GT_CLOCK_NEVER);
    rendezvous_set_load(&rendezvous, 0, 5000);
    assert_false(rendezvous_carries_streams(&rendezvous));
    assert_int_equal(rendezvous_deadline(&rendezvous, &limits), 1805000);
    rendezvous.streams.n_live = 1;
    rendezvous_set_load(&rendezvous, 0, 6000);
    assert_true(rendezvous_carries_streams(&rendezvous));
    assert_true(rendezvous_deadline(&rendezvous, &limits) == GT_CLOCK_NEVER);
}

/* Events in random order, as the registry produces them. */
static void test_rendezvous_random_events_keep_the_invariants(void **state)
{
    unsigned seed = (unsigned)time(NULL);

    print_message("seed %u\n", seed);
    for (unsigned i_session = 0; i_session < 2000; i_session++) {
        struct rendezvous rendezvous;

        rendezvous_init(&rendezvous, rid, 0);
        for (unsigned i = 0; rendezvous.state != RENDEZVOUS_ENDED; i++) {
            enum gt_role role = rand_r(&seed) % 2 ? GT_ROLE_OPERATOR : GT_ROLE_DEVICE;
            struct rendezvous_slot *slot = rendezvous_slot(&rendezvous, role);
            struct rendezvous_claim c = {.event = RENDEZVOUS_LOST};

            if (i > 50)
                c.event = RENDEZVOUS_TIMEOUT;
            else if (slot->client && rand_r(&seed) % 2)
                slot->client = NULL;
            else if (claim(&rendezvous, role, "x", slot->generation + 1, one, &c))
                fail();
            assert_int_equal(rendezvous_handle(&rendezvous, c.event, i), 0);
            int n_up = !!rendezvous.slots[0].client + !!rendezvous.slots[1].client;
            if (rendezvous.state == RENDEZVOUS_PAIRED)
                assert_int_equal(n_up, 2);
            if (rendezvous.state == RENDEZVOUS_WAITING)
                assert_int_equal(n_up, 1);
            if (rendezvous.state == RENDEZVOUS_GRACE)
                assert_in_range(n_up, 0, 1);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rendezvous_next_state_for_each_event),
        cmocka_unit_test(test_rendezvous_slot_belongs_to_its_first_identity),
        cmocka_unit_test(test_rendezvous_slot_passes_to_a_greater_generation),
        cmocka_unit_test(test_rendezvous_generation_0_is_a_new_process),
        cmocka_unit_test(test_rendezvous_old_generation_is_a_new_process),
        cmocka_unit_test(test_rendezvous_deadline_of_each_state),
        cmocka_unit_test(test_rendezvous_due_event_after_the_lifetime),
        cmocka_unit_test(test_rendezvous_each_limit_has_its_own_code),
        cmocka_unit_test(test_rendezvous_without_an_idle_limit_is_kept),
        cmocka_unit_test(test_rendezvous_is_idle_without_a_load),
        cmocka_unit_test(test_rendezvous_random_events_keep_the_invariants),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
