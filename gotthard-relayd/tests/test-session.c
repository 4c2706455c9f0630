/* SPDX-License-Identifier: ISC */
/* session.c: every event in every state, who may sit where, and what is due when. */
#include "session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

static const struct session_limits limits = {
    .half_ms = 30000, .idle_ms = 1800000, .grace_ms = 120000};
static const uint8_t rid[GT_RID_SIZE] = {0x7f, 0x3a, 1, 2};
static char one[] = "one", two[] = "two", three[] = "three"; /* stand for members */

/* The table once more, written from the protocol: '-' is a pair that is not listed. */
static const char *const wanted[] = {
    /*                     ONE_UP BOTH_UP REPLACED LOST BYE TIMEOUT EXPIRED STOPPED */
    [SESSION_EMPTY] = "H----ggg", [SESSION_HALF] = "-PHggggg", [SESSION_PAIRED] = "--PRgggg",
    [SESSION_GRACE] = "RPRRgggg", [SESSION_GONE] = "--------",
};

static enum session_state state_of(char letter)
{
    switch (letter) {
    case 'H': return SESSION_HALF;
    case 'P': return SESSION_PAIRED;
    case 'R': return SESSION_GRACE;
    default: return SESSION_GONE;
    }
}

static void every_event_in_every_state(void **state)
{
    for (unsigned s = 0; s < N_SESSION_STATES; s++)
        for (unsigned e = 0; e < N_SESSION_EVENTS; e++) {
            struct session session;
            session_init(&session, rid, 0);
            session.state = (enum session_state)s;
            int r = session_handle(&session, (enum session_event)e, 5);
            assert_int_equal(r, wanted[s][e] == '-' ? SESSION_E_UNLISTED : 0);
            assert_int_equal(session.state, state_of(wanted[s][e]));
            /* what stays where it is keeps its deadline */
            assert_int_equal(session.entered_at, session.state == s ? 0 : 5);
        }
    assert_string_equal(session_state_text(SESSION_GRACE), "grace");
}

static int claim(struct session *session, enum gt_role role, const char *name, uint32_t generation,
                 void *member, struct session_claim *ret)
{
    return session_claim(session, role, name, generation, member, ret);
}

static void slots_belong_to_whoever_came_first(void **state)
{
    struct session session;
    struct session_claim c;
    session_init(&session, rid, 0);
    assert_string_equal(session.tag, "7f3a0102");
    assert_int_equal(claim(&session, GT_ROLE_OPERATOR, "alice", 1, one, &c), 0);
    assert_int_equal(c.event, SESSION_ONE_UP);
    assert_null(c.replaced);
    assert_int_equal(claim(&session, GT_ROLE_OPERATOR, "bob", 9, two, &c), SESSION_E_TAKEN);
    assert_int_equal(claim(&session, GT_ROLE_DEVICE, "oli", 1, two, &c), 0);
    assert_int_equal(c.event, SESSION_BOTH_UP);
    assert_int_equal(claim(&session, GT_ROLE_DEVICE, "eli", 2, three, &c), SESSION_E_TAKEN);
    assert_ptr_equal(session_peer(&session, GT_ROLE_OPERATOR)->member, two);
    session_slot(&session, GT_ROLE_OPERATOR)->member = NULL; /* lost: still alice's */
    assert_int_equal(claim(&session, GT_ROLE_OPERATOR, "bob", 9, three, &c), SESSION_E_TAKEN);
    assert_null(session_slot(&session, GT_ROLE_OPERATOR)->member);
}

static void a_greater_generation_replaces(void **state)
{
    static const struct {
        uint32_t before, after;
        int condition;
    } table[] = {
        {1, 2, 0}, {1, UINT32_MAX, 0}, {0, 1, 0}, {1, 1, SESSION_E_TAKEN}, {2, 1, SESSION_E_TAKEN}};
    for (size_t i = 0; i < GT_ARRAY_SIZE(table); i++) {
        struct session session;
        struct session_claim c = {0};
        session_init(&session, rid, 0);
        assert_int_equal(claim(&session, GT_ROLE_DEVICE, "oli", table[i].before, one, &c), 0);
        assert_int_equal(claim(&session, GT_ROLE_DEVICE, "oli", table[i].after, two, &c),
                         table[i].condition);
        if (table[i].condition)
            continue;
        assert_int_equal(c.event, SESSION_REPLACED);
        assert_ptr_equal(c.replaced, one);
        assert_false(c.is_new_process);
    }
}

static void generation_0_is_a_new_process_at_any_time(void **state)
{
    struct session session;
    struct session_claim c;
    session_init(&session, rid, 0);
    assert_int_equal(claim(&session, GT_ROLE_DEVICE, "oli", 0, one, &c), 0);
    assert_false(c.is_new_process); /* than whom? */
    assert_int_equal(claim(&session, GT_ROLE_DEVICE, "oli", UINT32_MAX, two, &c), 0);
    assert_int_equal(claim(&session, GT_ROLE_DEVICE, "eli", 0, three, &c), SESSION_E_TAKEN);
    assert_int_equal(claim(&session, GT_ROLE_DEVICE, "oli", 0, three, &c), 0);
    assert_int_equal(c.event, SESSION_REPLACED);
    assert_ptr_equal(c.replaced, two);
    assert_true(c.is_new_process);
}

static void who_comes_back_with_an_old_generation_is_a_new_process(void **state)
{
    struct session session;
    struct session_claim c;
    session_init(&session, rid, 0);
    assert_int_equal(claim(&session, GT_ROLE_OPERATOR, "alice", 1, one, &c), 0);
    assert_int_equal(claim(&session, GT_ROLE_DEVICE, "oli", 3, two, &c), 0);
    assert_false(c.is_new_process);
    session_slot(&session, GT_ROLE_DEVICE)->member = NULL;
    assert_int_equal(claim(&session, GT_ROLE_DEVICE, "oli", 1, three, &c), 0);
    assert_int_equal(c.event, SESSION_BOTH_UP);
    assert_true(c.is_new_process);
    session_slot(&session, GT_ROLE_DEVICE)->member = NULL;
    assert_int_equal(claim(&session, GT_ROLE_DEVICE, "oli", 2, two, &c), 0);
    assert_false(c.is_new_process);
}

static void every_state_has_its_deadline(void **state)
{
    struct session session;
    session_init(&session, rid, 1000);
    assert_int_equal(session_deadline(&session, &limits), 31000);
    session.state = SESSION_HALF;
    assert_int_equal(session_deadline(&session, &limits), 31000);
    session.state = SESSION_GRACE;
    assert_int_equal(session_deadline(&session, &limits), 121000);
    session.state = SESSION_PAIRED;
    assert_int_equal(session_deadline(&session, &limits), 1801000);
    session.streams.n_live = 1; /* not idle */
    assert_true(session_deadline(&session, &limits) == NEVER);
    session.streams.n_spares = 1; /* idle after all */
    assert_int_equal(session_deadline(&session, &limits), 1801000);
    session.streams.n_live = 2;
    assert_true(session_deadline(&session, &limits) == NEVER);
    session.expires_at = 43201000;
    assert_int_equal(session_deadline(&session, &limits), 43201000);
    session.state = SESSION_GONE;
    assert_int_equal(session_deadline(&session, &limits), 43201000);
}

static void what_is_due(void **state)
{
    struct session session;
    session_init(&session, rid, 0);
    session.expires_at = 500;
    assert_int_equal(session_due(&session, 499), SESSION_TIMEOUT);
    assert_int_equal(session_due(&session, 500), SESSION_EXPIRED);
}

/* A session that lives through anything, as the registry drives it. */
static void random_lives_end(void **state)
{
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    for (unsigned life = 0; life < 2000; life++) {
        struct session session;
        session_init(&session, rid, 0);
        for (unsigned i = 0; session.state != SESSION_GONE; i++) {
            enum gt_role role = rand_r(&seed) % 2 ? GT_ROLE_OPERATOR : GT_ROLE_DEVICE;
            struct session_slot *slot = session_slot(&session, role);
            struct session_claim c = {.event = SESSION_LOST};
            if (i > 50)
                c.event = SESSION_TIMEOUT;
            else if (slot->member && rand_r(&seed) % 2)
                slot->member = NULL;
            else if (claim(&session, role, "x", slot->generation + 1, one, &c))
                fail();
            assert_int_equal(session_handle(&session, c.event, i), 0);
            int n_up = !!session.slots[0].member + !!session.slots[1].member;
            if (session.state == SESSION_PAIRED)
                assert_int_equal(n_up, 2);
            if (session.state == SESSION_HALF)
                assert_int_equal(n_up, 1);
            if (session.state == SESSION_GRACE)
                assert_in_range(n_up, 0, 1);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_event_in_every_state),
        cmocka_unit_test(slots_belong_to_whoever_came_first),
        cmocka_unit_test(a_greater_generation_replaces),
        cmocka_unit_test(generation_0_is_a_new_process_at_any_time),
        cmocka_unit_test(who_comes_back_with_an_old_generation_is_a_new_process),
        cmocka_unit_test(every_state_has_its_deadline),
        cmocka_unit_test(what_is_due),
        cmocka_unit_test(random_lives_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
