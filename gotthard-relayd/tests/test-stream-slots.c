/* SPDX-License-Identifier: ISC */
/* stream-slots.c: the order of attempts, the limit of slots, and the order of tickets. */
#include "control/stream-slots.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

static struct streams new_streams(size_t n_max, size_t n_tickets)
{
    struct streams streams;

    assert_int_equal(stream_slots_init(&streams, n_max, n_tickets), 0);
    return streams;
}

static struct stream *grant_next(struct streams *streams)
{
    struct stream *next = stream_slots_next(streams);

    if (next) {
        struct gt_ticket ticket = next->ticket;

        ticket.secret[0] = 0xaa;
        stream_slots_grant(streams, next, &ticket, 30000);
    }
    return next;
}

static void test_stream_slots_attempts_must_grow(void **state)
{
    static const struct {
        uint32_t stream, attempt;
        int condition;

    } table[] = {
        {0, 0, STREAM_SLOTS_E_ORDER}, {0, 1, 0},
        {0, 1, STREAM_SLOTS_E_ORDER}, {0, 2, 0},
        {1, 0, STREAM_SLOTS_E_ORDER}, {1, 1, 0},
        {1, 1, STREAM_SLOTS_E_ORDER}, {1, 3, 0},
        {1, 2, STREAM_SLOTS_E_ORDER}, {1, 3, STREAM_SLOTS_E_ORDER},
        {1, UINT32_MAX, 0},           {1, UINT32_MAX, STREAM_SLOTS_E_ORDER},
        {1, 1, STREAM_SLOTS_E_ORDER}, /* no wrap */
        {UINT32_MAX, 1, 0},           {2, 7, 0},
    };
    struct streams streams = new_streams(8, 8);
    for (size_t i = 0; i < GT_ARRAY_SIZE(table); i++)
        assert_int_equal(stream_slots_open(&streams, table[i].stream, table[i].attempt),
                         table[i].condition);
    assert_int_equal(streams.n_live, 3);
    stream_slots_deinit(&streams);
}

static void test_stream_slots_ended_stream_keeps_its_attempt(void **state)
{
    struct streams streams = new_streams(2, 2);

    assert_int_equal(stream_slots_open(&streams, 1, 5), 0);
    stream_slots_end(&streams, stream_slots_find(&streams, 1, 5));
    assert_null(stream_slots_find(&streams, 1, 5));
    assert_int_equal(stream_slots_open(&streams, 1, 5), STREAM_SLOTS_E_ORDER);
    assert_int_equal(stream_slots_open(&streams, 1, 6), 0);
    stream_slots_deinit(&streams);
}

static void test_stream_slots_limit_reuses_the_first_ended(void **state)
{
    struct streams streams = new_streams(64, 16);

    for (uint32_t i = 1; i <= 64; i++)
        assert_int_equal(stream_slots_open(&streams, i, 1), 0);
    assert_int_equal(stream_slots_open(&streams, 65, 1), STREAM_SLOTS_E_FULL);
    assert_int_equal(stream_slots_open(&streams, 3, 2), 0); /* its own slot */
    stream_slots_end(&streams, stream_slots_find(&streams, 9, 1));
    stream_slots_end(&streams, stream_slots_find(&streams, 4, 1));
    assert_int_equal(stream_slots_open(&streams, 65, 1), 0);
    assert_int_equal(stream_slots_open(&streams, 9, 1), STREAM_SLOTS_E_ORDER);
    assert_int_equal(stream_slots_open(&streams, 9, 2), 0);
    assert_int_equal(stream_slots_open(&streams, 66, 1), STREAM_SLOTS_E_FULL);
    assert_int_equal(streams.n_live, 64);
    for (uint32_t i = 66; i <= 200; i++) {
        stream_slots_end(&streams, stream_slots_find(&streams, i - 1, 1));
        assert_int_equal(stream_slots_open(&streams, i, 1), 0);
    }
    assert_int_equal(stream_slots_open(&streams, 4, 1), STREAM_SLOTS_E_FULL);
    stream_slots_end(&streams, stream_slots_find(&streams, 200, 1));
    assert_int_equal(stream_slots_open(&streams, 4, 1),
                     0); /* its last attempt is not remembered any more */
    stream_slots_deinit(&streams);
}

/* A stream that a side has ended does not count against the limit of streams. It counts against the
 * limit of slots until its pair has ended. */
static void test_stream_slots_draining_stream_makes_room(void **state)
{
    struct streams streams = new_streams(4, 4);

    for (uint32_t i = 1; i <= 4; i++) {
        assert_int_equal(stream_slots_open(&streams, i, 1), 0);
        stream_slots_join(&streams, grant_next(&streams));
    }
    assert_int_equal(stream_slots_open(&streams, 5, 1), STREAM_SLOTS_E_FULL);
    for (uint32_t i = 1; i <= 4; i++) {
        assert_non_null(stream_slots_notify(&streams, i, 1));
        assert_int_equal(stream_slots_open(&streams, i + 4, 1), 0);
        assert_int_equal(stream_slots_open(&streams, 9, 1), STREAM_SLOTS_E_FULL);
    }
    assert_non_null(stream_slots_notify(&streams, 8, 1));
    assert_int_equal(stream_slots_open(&streams, 9, 1), STREAM_SLOTS_E_FULL); /* eight are live */
    stream_slots_end(&streams, stream_slots_find(&streams, 2, 1));
    assert_int_equal(stream_slots_open(&streams, 9, 1), 0);
    stream_slots_deinit(&streams);
}

static void test_stream_slots_tickets_are_limited_and_in_order(void **state)
{
    struct streams streams = new_streams(64, 16);

    for (uint32_t i = 1; i <= 40; i++)
        assert_int_equal(stream_slots_open(&streams, i, 1), 0);
    for (uint32_t i = 1; i <= 16; i++)
        assert_int_equal(grant_next(&streams)->ticket.stream, i);
    assert_null(grant_next(&streams));
    stream_slots_join(&streams, stream_slots_find(&streams, 5, 1));
    assert_int_equal(grant_next(&streams)->ticket.stream, 17);
    assert_null(grant_next(&streams));
    stream_slots_end(&streams, stream_slots_find(&streams, 6, 1));
    assert_int_equal(stream_slots_open(&streams, 7, 2),
                     0); /* loses its ticket and is the last in turn */
    assert_int_equal(grant_next(&streams)->ticket.stream, 18);
    assert_int_equal(grant_next(&streams)->ticket.stream, 19);
    assert_null(grant_next(&streams));
    assert_int_equal(streams.n_tickets, 16);
    stream_slots_deinit(&streams);
}

static void test_stream_slots_secret_is_wiped_after_join(void **state)
{
    struct streams streams = new_streams(1, 1);

    assert_int_equal(stream_slots_open(&streams, 1, 1), 0);
    struct stream *stream = grant_next(&streams);
    assert_int_equal(stream->ticket.secret[0], 0xaa);
    stream_slots_join(&streams, stream);
    assert_int_equal(stream->ticket.secret[0], 0);
    stream_slots_deinit(&streams);
}

/* After every change the counts agree with the states. */
static void test_stream_slots_random_changes_keep_the_counts(void **state)
{
    struct streams streams = new_streams(8, 3);
    unsigned seed = (unsigned)time(NULL);
    uint32_t attempt = 0;

    print_message("seed %u\n", seed);
    for (unsigned i = 0; i < 20000; i++) {
        struct stream *any = &streams.slots[(size_t)rand_r(&seed) % streams.n_slots];

        switch (rand_r(&seed) % 4) {
        case 0:
            if (stream_slots_open(&streams, (uint32_t)rand_r(&seed) % 13, ++attempt))
                assert_int_equal(streams.n_live, 8);
            break;
        case 1: grant_next(&streams); break;
        case 2:
            if (any->state == STREAM_SLOT_TICKETED)
                stream_slots_join(&streams, any);
            break;
        case 3:
            if (any->state != STREAM_SLOT_FREE)
                stream_slots_end(&streams, any);
            break;
        }
        size_t n_live = 0, n_tickets = 0;
        for (size_t k = 0; k < streams.n_slots; k++) {
            n_live += streams.slots[k].state != STREAM_SLOT_FREE &&
                      streams.slots[k].state != STREAM_SLOT_ENDED;
            n_tickets += streams.slots[k].state == STREAM_SLOT_TICKETED;
        }
        assert_int_equal(stream_slots_n_live(&streams), n_live);
        assert_in_range(n_live - streams.n_live, 0, 1);
        assert_int_equal(streams.n_tickets, n_tickets);
        assert_in_range(n_tickets, 0, 4); /* one more for stream 0 */
    }
    stream_slots_deinit(&streams);
}

/* An idle session has few slots. A busy one has as many slots for ended streams as for live ones.
 */
static void test_stream_slots_grow_with_live_streams(void **state)
{
    struct streams streams = new_streams(1024, 16);

    assert_in_range(streams.n_slots, 1, 8);
    for (uint32_t i = 1; i <= 200; i++) {
        assert_int_equal(stream_slots_open(&streams, i, i), 0);
        stream_slots_end(&streams, stream_slots_find(&streams, i, i));
    }
    assert_in_range(streams.n_slots, 1, 8);
    for (uint32_t i = 201; i <= 1224; i++)
        assert_int_equal(stream_slots_open(&streams, i, 1), 0);
    assert_int_equal(streams.n_slots, 2049);
    for (uint32_t i = 201; i <= 1224; i++)
        assert_non_null(stream_slots_find(&streams, i, 1));
    assert_int_equal(stream_slots_open(&streams, 1225, 1), STREAM_SLOTS_E_FULL);
    stream_slots_deinit(&streams);
}

/* An end may be notified before and after the pair has ended, once per side. */
static void test_stream_slots_end_is_notified_once_per_side(void **state)
{
    struct streams streams;

    assert_int_equal(stream_slots_init(&streams, 2, 2), 0);
    assert_null(stream_slots_notify(&streams, 1, 1));
    for (uint32_t attempt = 1; attempt <= 2; attempt++) {
        assert_int_equal(stream_slots_open(&streams, 1, attempt), 0);
        assert_null(stream_slots_notify(&streams, 1, attempt + 1));
        assert_null(stream_slots_notify(&streams, 2, attempt));
        assert_ptr_equal(stream_slots_notify(&streams, 1, attempt), &streams.slots[1]);
        stream_slots_end(&streams, &streams.slots[1]);
        assert_ptr_equal(stream_slots_notify(&streams, 1, attempt), &streams.slots[1]);
        assert_null(stream_slots_notify(&streams, 1, attempt));
    }
    stream_slots_deinit(&streams);
}

/* Stream 0 needs no room, takes none, and does not wait for a ticket. */
static void test_stream_slots_stream_0_has_its_own_slot(void **state)
{
    struct streams streams = new_streams(2, 1);

    assert_int_equal(stream_slots_open(&streams, 1, 1), 0);
    assert_int_equal(stream_slots_open(&streams, 2, 1), 0);
    assert_int_equal(grant_next(&streams)->ticket.stream, 1);
    assert_null(grant_next(&streams));
    assert_int_equal(stream_slots_open(&streams, 0, 1), 0);
    assert_int_equal(grant_next(&streams)->ticket.stream, 0);
    assert_null(grant_next(&streams));
    assert_int_equal(streams.n_live, 2);
    assert_int_equal(stream_slots_n_live(&streams), 3);
    assert_int_equal(stream_slots_open(&streams, 3, 1), STREAM_SLOTS_E_FULL);

    stream_slots_end(&streams, stream_slots_find(&streams, 1, 1));
    stream_slots_end(&streams, stream_slots_find(&streams, 2, 1));
    assert_int_equal(streams.n_live, 0);
    stream_slots_join(&streams, stream_slots_find(&streams, 0, 1));
    for (uint32_t i = 3; i <= 20; i++) { /* other streams never use its slot */
        assert_int_equal(stream_slots_open(&streams, i, 1), 0);
        stream_slots_end(&streams, stream_slots_find(&streams, i, 1));
    }
    assert_int_equal(stream_slots_open(&streams, 0, 1), STREAM_SLOTS_E_ORDER);
    assert_int_equal(stream_slots_open(&streams, 0, 2), 0);
    stream_slots_end(&streams, stream_slots_find(&streams, 0, 2));
    assert_int_equal(stream_slots_n_live(&streams), 0);
    stream_slots_deinit(&streams);
}

/* Its own unused ticket leaves the others all of theirs. */
static void test_stream_slots_ticket_of_stream_0_is_not_limited(void **state)
{
    struct streams streams = new_streams(4, 2);

    for (uint32_t i = 0; i <= 3; i++)
        assert_int_equal(stream_slots_open(&streams, i, 1), 0);
    for (uint32_t i = 0; i <= 2; i++)
        assert_int_equal(grant_next(&streams)->ticket.stream, i);
    assert_null(grant_next(&streams));
    stream_slots_join(&streams, stream_slots_find(&streams, 0, 1));
    assert_null(grant_next(&streams));
    stream_slots_join(&streams, stream_slots_find(&streams, 1, 1));
    assert_int_equal(grant_next(&streams)->ticket.stream, 3);
    stream_slots_deinit(&streams);
}

static void test_stream_slots_restore_stream_0_into_its_slot(void **state)
{
    const struct stream shared = {.state = STREAM_SLOT_TICKETED,
                                  .ticket = {.stream = 0, .attempt = 5}};
    const struct stream own = {.state = STREAM_SLOT_JOINED, .ticket = {.stream = 7, .attempt = 2}};
    struct streams streams = new_streams(1, 1);

    assert_int_equal(stream_slots_restore(&streams, &own), 0);
    assert_int_equal(stream_slots_restore(&streams, &shared), 0);
    assert_int_equal(stream_slots_restore(&streams, &shared), STREAM_SLOTS_E_FULL);
    assert_int_equal(stream_slots_restore(&streams, &own), 0); /* as an ended one that drains */
    assert_int_equal(stream_slots_restore(&streams, &own), STREAM_SLOTS_E_FULL);
    assert_int_equal(streams.n_live, 2);
    assert_int_equal(streams.n_tickets, 1);
    assert_int_equal(stream_slots_n_live(&streams), 3);
    assert_ptr_equal(stream_slots_find(&streams, 0, 5), &streams.slots[0]);
    stream_slots_deinit(&streams);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream_slots_attempts_must_grow),
        cmocka_unit_test(test_stream_slots_ended_stream_keeps_its_attempt),
        cmocka_unit_test(test_stream_slots_limit_reuses_the_first_ended),
        cmocka_unit_test(test_stream_slots_draining_stream_makes_room),
        cmocka_unit_test(test_stream_slots_tickets_are_limited_and_in_order),
        cmocka_unit_test(test_stream_slots_secret_is_wiped_after_join),
        cmocka_unit_test(test_stream_slots_random_changes_keep_the_counts),
        cmocka_unit_test(test_stream_slots_grow_with_live_streams),
        cmocka_unit_test(test_stream_slots_end_is_notified_once_per_side),
        cmocka_unit_test(test_stream_slots_stream_0_has_its_own_slot),
        cmocka_unit_test(test_stream_slots_ticket_of_stream_0_is_not_limited),
        cmocka_unit_test(test_stream_slots_restore_stream_0_into_its_slot),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
