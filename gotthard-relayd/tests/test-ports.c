/* SPDX-License-Identifier: ISC */
/* ports.c: the range, its order, resting, hints, and a range that changes under sessions. */
#include "ports.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

static struct ports ports_of(uint16_t from, uint16_t to, uint64_t rest_ms)
{
    struct ports ports;
    assert_int_equal(ports_init(&ports, from, to, rest_ms), 0);
    return ports;
}

static const uint8_t rids[2][GT_RID_SIZE] = {"a session", "another one"};

static uint16_t take_for(struct ports *ports, const uint8_t *rid, uint16_t hint, uint64_t now)
{
    uint16_t port = 0;
    return ports_take(ports, hint, rid, now, &port) ? 0 : port;
}

static uint16_t take(struct ports *ports, uint16_t hint, uint64_t now)
{
    return take_for(ports, rids[0], hint, now);
}

static void give_back(struct ports *ports, uint16_t port, uint64_t now)
{
    ports_give_back(ports, port, rids[1], now);
}

static void each_port_is_given_once(void **state)
{
    static const struct {
        uint16_t from, to;
    } ranges[] = {{1, 1}, {7001, 7002}, {7001, 7999}, {65535, 65535}, {1, 65535}};
    for (size_t i = 0; i < GT_ARRAY_SIZE(ranges); i++) {
        struct ports ports = ports_of(ranges[i].from, ranges[i].to, 0);
        bool *seen = calloc(65536, 1);
        for (size_t n = 0; n < ports_n(&ports); n++) {
            uint16_t port = take(&ports, 0, 0);
            assert_in_range(port, ranges[i].from, ranges[i].to);
            assert_false(seen[port]);
            seen[port] = true;
        }
        assert_int_equal(take(&ports, 0, 0), 0);
        assert_int_equal(ports_n_taken(&ports), ports_n(&ports));
        free(seen);
        ports_deinit(&ports);
    }
}

static void a_port_rests_after_its_session(void **state)
{
    struct ports ports = ports_of(10, 11, 5000);
    assert_int_equal(take(&ports, 0, 1000), 10);
    give_back(&ports, 10, 2000);
    assert_int_equal(take(&ports, 10, 6999), 11);
    give_back(&ports, 11, 6999);
    assert_int_equal(take(&ports, 0, 7000), 10);
    ports_deinit(&ports);
}

/* Sessions that come and go keep nobody out. */
static void when_all_rest_the_first_to_do_so_is_taken(void **state)
{
    struct ports ports = ports_of(10, 12, 5000);
    for (uint16_t port = 10; port <= 12; port++)
        assert_int_equal(take(&ports, 0, 0), port);
    give_back(&ports, 11, 1000);
    give_back(&ports, 10, 1001);
    ports_skip(&ports, 12, 0); /* another program's: it would not help */
    assert_int_equal(take(&ports, 0, 1002), 11);
    assert_int_equal(take(&ports, 0, 1003), 10);
    assert_int_equal(take(&ports, 0, 1004), 0);
    ports_deinit(&ports);
}

static void a_session_that_comes_back_need_not_wait(void **state)
{
    struct ports ports = ports_of(10, 11, 5000);
    assert_int_equal(take_for(&ports, rids[1], 0, 0), 10);
    give_back(&ports, 10, 1000);
    assert_int_equal(take_for(&ports, rids[0], 10, 1001), 11);
    assert_int_equal(take_for(&ports, rids[1], 10, 1001), 10);
    assert_int_equal(take_for(&ports, rids[1], 10, 1001), 0); /* it has it */
    give_back(&ports, 10, 2000);
    assert_int_equal(take_for(&ports, rids[0], 10, 7000), 10); /* rested: anybody's */
    ports_skip(&ports, 10, 8000);
    assert_int_equal(take_for(&ports, rids[1], 10, 8001), 0); /* another program has it */
    ports_deinit(&ports);
}

static void what_others_hold_is_skipped_for_a_while(void **state)
{
    struct ports ports = ports_of(10, 12, 0);
    assert_int_equal(take(&ports, 0, 0), 10);
    ports_skip(&ports, 10, 0);
    assert_int_equal(take(&ports, 0, 0), 11);
    assert_int_equal(take(&ports, 0, 0), 12);
    assert_int_equal(take(&ports, 0, 0), 0);
    assert_int_equal(take(&ports, 0, 1000), 10);
    ports_deinit(&ports);
}

static void the_one_free_for_longest_comes_first(void **state)
{
    struct ports ports = ports_of(10, 13, 0);
    assert_int_equal(take(&ports, 0, 0), 10);
    give_back(&ports, 10, 0);
    assert_int_equal(take(&ports, 0, 0), 11);
    assert_int_equal(take(&ports, 0, 0), 12);
    assert_int_equal(take(&ports, 0, 0), 13);
    assert_int_equal(take(&ports, 0, 0), 10);
    ports_deinit(&ports);
}

static void a_hint_is_a_wish(void **state)
{
    struct ports ports = ports_of(10, 12, 0);
    assert_int_equal(take(&ports, 12, 0), 12);
    assert_int_equal(take(&ports, 12, 0), 10); /* taken */
    assert_int_equal(take(&ports, 9, 0), 11);  /* outside */
    give_back(&ports, 9, 0);                   /* never ours: nothing happens */
    give_back(&ports, 13, 0);
    assert_int_equal(ports_n_taken(&ports), 3);
    ports_deinit(&ports);
}

static void a_changed_range_keeps_what_is_taken(void **state)
{
    struct ports ports = ports_of(10, 12, 0);
    assert_int_equal(take(&ports, 11, 0), 11);
    assert_int_equal(take(&ports, 10, 0), 10);
    assert_int_equal(ports_change(&ports, 11, 20, 0), 0);
    assert_int_equal(ports_n_taken(&ports), 1);
    assert_int_equal(take(&ports, 11, 0), 12);
    give_back(&ports, 10, 0); /* outside by now */
    give_back(&ports, 11, 0);
    assert_int_equal(take(&ports, 11, 0), 11);
    ports_deinit(&ports);
}

/* Random taking and giving back against a plain table of what is out. */
static void random_use_never_gives_one_port_twice(void **state)
{
    struct ports ports = ports_of(100, 131, 50);
    bool is_out[132] = {0};
    unsigned seed = (unsigned)time(NULL);
    size_t n_out = 0;
    print_message("seed %u\n", seed);
    for (uint64_t now = 0; now < 20000; now++) {
        uint16_t port = (uint16_t)(100 + rand_r(&seed) % 32);
        if (rand_r(&seed) % 2 && is_out[port]) {
            give_back(&ports, port, now);
            is_out[port] = false;
            n_out--;
        } else if ((port = take(&ports, (uint16_t)(rand_r(&seed) % 140), now))) {
            assert_false(is_out[port]);
            is_out[port] = true;
            n_out++;
        }
        assert_int_equal(ports_n_taken(&ports), n_out);
    }
    ports_deinit(&ports);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_port_is_given_once),
        cmocka_unit_test(a_port_rests_after_its_session),
        cmocka_unit_test(when_all_rest_the_first_to_do_so_is_taken),
        cmocka_unit_test(a_session_that_comes_back_need_not_wait),
        cmocka_unit_test(what_others_hold_is_skipped_for_a_while),
        cmocka_unit_test(the_one_free_for_longest_comes_first),
        cmocka_unit_test(a_hint_is_a_wish),
        cmocka_unit_test(a_changed_range_keeps_what_is_taken),
        cmocka_unit_test(random_use_never_gives_one_port_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
