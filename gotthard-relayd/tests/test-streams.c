/* SPDX-License-Identifier: ISC */
/* streams.c: the order of attempts, the limit of slots, and whose turn a ticket is. */
#include "streams.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

static struct streams streams_of(size_t n_max, size_t n_tickets)
{
    struct streams streams;
    assert_int_equal(streams_init(&streams, n_max, n_tickets), 0);
    return streams;
}

static struct stream *give(struct streams *streams)
{
    struct stream *next = streams_next(streams);
    if (next) {
        struct gt_ticket ticket = next->ticket;
        ticket.secret[0] = 0xaa;
        streams_give(streams, next, &ticket, 30000);
    }
    return next;
}

static void attempts_only_grow(void **state)
{
    static const struct {
        uint32_t stream, attempt;
        int condition;
    } table[] = {
        {0, 1, STREAMS_E_ORDER},
        {1, 0, STREAMS_E_ORDER},
        {1, 1, 0},
        {1, 1, STREAMS_E_ORDER},
        {1, 3, 0},
        {1, 2, STREAMS_E_ORDER},
        {1, 3, STREAMS_E_ORDER},
        {1, UINT32_MAX, 0},
        {1, UINT32_MAX, STREAMS_E_ORDER},
        {1, 1, STREAMS_E_ORDER}, /* no wrap */
        {UINT32_MAX, 1, 0},
        {2, 7, 0},
    };
    struct streams streams = streams_of(8, 8);
    for (size_t i = 0; i < GT_ARRAY_SIZE(table); i++)
        assert_int_equal(streams_open(&streams, table[i].stream, table[i].attempt),
                         table[i].condition);
    assert_int_equal(streams.n_live, 3);
    streams_deinit(&streams);
}

static void an_ended_stream_keeps_its_count(void **state)
{
    struct streams streams = streams_of(2, 2);
    assert_int_equal(streams_open(&streams, 1, 5), 0);
    streams_end(&streams, streams_find(&streams, 1, 5));
    assert_null(streams_find(&streams, 1, 5));
    assert_int_equal(streams_open(&streams, 1, 5), STREAMS_E_ORDER);
    assert_int_equal(streams_open(&streams, 1, 6), 0);
    streams_deinit(&streams);
}

static void they_are_limited_and_the_first_ended_is_forgotten_first(void **state)
{
    struct streams streams = streams_of(64, 16);
    for (uint32_t i = 1; i <= 64; i++)
        assert_int_equal(streams_open(&streams, i, 1), 0);
    assert_int_equal(streams_open(&streams, 65, 1), STREAMS_E_FULL);
    assert_int_equal(streams_open(&streams, 3, 2), 0); /* its own slot */
    streams_end(&streams, streams_find(&streams, 9, 1));
    streams_end(&streams, streams_find(&streams, 4, 1));
    assert_int_equal(streams_open(&streams, 65, 1), 0);
    assert_int_equal(streams_open(&streams, 9, 1), STREAMS_E_ORDER);
    assert_int_equal(streams_open(&streams, 9, 2), 0);
    assert_int_equal(streams_open(&streams, 66, 1), STREAMS_E_FULL);
    assert_int_equal(streams.n_live, 64);
    for (uint32_t i = 66; i <= 200; i++) {
        streams_end(&streams, streams_find(&streams, i - 1, 1));
        assert_int_equal(streams_open(&streams, i, 1), 0);
    }
    assert_int_equal(streams_open(&streams, 4, 1), STREAMS_E_FULL);
    streams_end(&streams, streams_find(&streams, 200, 1));
    assert_int_equal(streams_open(&streams, 4, 1), 0); /* nobody knows any more that it was */
    streams_deinit(&streams);
}

/* What a side has called ended does not keep the next one out; the slots do, if it never leaves. */
static void one_that_leaves_makes_room(void **state)
{
    struct streams streams = streams_of(4, 4);
    for (uint32_t i = 1; i <= 4; i++) {
        assert_int_equal(streams_open(&streams, i, 1), 0);
        streams_join(&streams, give(&streams));
    }
    assert_int_equal(streams_open(&streams, 5, 1), STREAMS_E_FULL);
    for (uint32_t i = 1; i <= 4; i++) {
        assert_non_null(streams_tell(&streams, i, 1));
        assert_int_equal(streams_open(&streams, i + 4, 1), 0);
        assert_int_equal(streams_open(&streams, 9, 1), STREAMS_E_FULL);
    }
    assert_non_null(streams_tell(&streams, 8, 1));
    assert_int_equal(streams_open(&streams, 9, 1), STREAMS_E_FULL); /* eight are alive */
    streams_end(&streams, streams_find(&streams, 2, 1));
    assert_int_equal(streams_open(&streams, 9, 1), 0);
    streams_deinit(&streams);
}

static void tickets_are_limited_and_given_in_turn(void **state)
{
    struct streams streams = streams_of(64, 16);
    for (uint32_t i = 1; i <= 40; i++)
        assert_int_equal(streams_open(&streams, i, 1), 0);
    for (uint32_t i = 1; i <= 16; i++)
        assert_int_equal(give(&streams)->ticket.stream, i);
    assert_null(give(&streams));
    streams_join(&streams, streams_find(&streams, 5, 1));
    assert_int_equal(give(&streams)->ticket.stream, 17);
    assert_null(give(&streams));
    streams_end(&streams, streams_find(&streams, 6, 1));
    assert_int_equal(streams_open(&streams, 7, 2), 0); /* gives its own ticket up, goes last */
    assert_int_equal(give(&streams)->ticket.stream, 18);
    assert_int_equal(give(&streams)->ticket.stream, 19);
    assert_null(give(&streams));
    assert_int_equal(streams.n_tickets, 16);
    streams_deinit(&streams);
}

static void a_secret_lives_as_long_as_its_ticket(void **state)
{
    struct streams streams = streams_of(1, 1);
    assert_int_equal(streams_open(&streams, 1, 1), 0);
    struct stream *stream = give(&streams);
    assert_int_equal(stream->ticket.secret[0], 0xaa);
    streams_join(&streams, stream);
    assert_int_equal(stream->ticket.secret[0], 0);
    streams_deinit(&streams);
}

/* Whatever happens, the counts are what the states say. */
static void counts_follow_states(void **state)
{
    struct streams streams = streams_of(8, 3);
    unsigned seed = (unsigned)time(NULL);
    uint32_t attempt = 0;
    print_message("seed %u\n", seed);
    for (unsigned i = 0; i < 20000; i++) {
        struct stream *any = &streams.slots[(size_t)rand_r(&seed) % streams.n_slots];
        switch (rand_r(&seed) % 5) {
        case 0:
            if (streams_open(&streams, 1 + (uint32_t)rand_r(&seed) % 12, ++attempt))
                assert_int_equal(streams.n_live, 8);
            break;
        case 1: give(&streams); break;
        case 2:
            if (any->state == STREAM_TICKETED)
                streams_join(&streams, any);
            break;
        case 3:
            if (any->state != STREAM_FREE)
                streams_end(&streams, any);
            break;
        case 4:
            if (rand_r(&seed) % 100)
                streams_mark(&streams, any->ticket.stream, any->ticket.attempt, rand_r(&seed) % 2);
            else
                streams_unmark_all(&streams);
            break;
        }
        size_t n_live = 0, n_spares = 0, n_tickets = 0;
        for (size_t k = 0; k < streams.n_slots; k++) {
            n_live +=
                streams.slots[k].state != STREAM_FREE && streams.slots[k].state != STREAM_ENDED;
            n_tickets += streams.slots[k].state == STREAM_TICKETED;
            n_spares += streams.slots[k].is_spare;
        }
        assert_int_equal(streams.n_spares, n_spares);
        assert_true(n_spares <= n_live);
        assert_int_equal(streams.n_live, n_live);
        assert_int_equal(streams.n_tickets, n_tickets);
        assert_in_range(n_tickets, 0, 3);
    }
    streams_deinit(&streams);
}

/* An idle session has next to none; one that was busy has room for as many that ended. */
static void slots_come_with_streams(void **state)
{
    struct streams streams = streams_of(1024, 16);
    assert_in_range(streams.n_slots, 1, 8);
    for (uint32_t i = 1; i <= 200; i++) {
        assert_int_equal(streams_open(&streams, i, i), 0);
        streams_end(&streams, streams_find(&streams, i, i));
    }
    assert_in_range(streams.n_slots, 1, 8);
    for (uint32_t i = 201; i <= 1224; i++)
        assert_int_equal(streams_open(&streams, i, 1), 0);
    assert_int_equal(streams.n_slots, 2048);
    for (uint32_t i = 201; i <= 1224; i++)
        assert_non_null(streams_find(&streams, i, 1));
    assert_int_equal(streams_open(&streams, 1225, 1), STREAMS_E_FULL);
    streams_deinit(&streams);
}

/* The ends may be told while it lives and after its pair has gone, but not without limit. */
static void an_end_is_told_once_by_each_side(void **state)
{
    struct streams streams;
    assert_int_equal(streams_init(&streams, 2, 2), 0);
    assert_null(streams_tell(&streams, 1, 1));
    for (uint32_t attempt = 1; attempt <= 2; attempt++) {
        assert_int_equal(streams_open(&streams, 1, attempt), 0);
        assert_null(streams_tell(&streams, 1, attempt + 1));
        assert_null(streams_tell(&streams, 2, attempt));
        assert_ptr_equal(streams_tell(&streams, 1, attempt), &streams.slots[0]);
        streams_end(&streams, &streams.slots[0]);
        assert_ptr_equal(streams_tell(&streams, 1, attempt), &streams.slots[0]);
        assert_null(streams_tell(&streams, 1, attempt));
    }
    streams_deinit(&streams);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attempts_only_grow),
        cmocka_unit_test(an_ended_stream_keeps_its_count),
        cmocka_unit_test(they_are_limited_and_the_first_ended_is_forgotten_first),
        cmocka_unit_test(one_that_leaves_makes_room),
        cmocka_unit_test(tickets_are_limited_and_given_in_turn),
        cmocka_unit_test(a_secret_lives_as_long_as_its_ticket),
        cmocka_unit_test(counts_follow_states),
        cmocka_unit_test(slots_come_with_streams),
        cmocka_unit_test(an_end_is_told_once_by_each_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
