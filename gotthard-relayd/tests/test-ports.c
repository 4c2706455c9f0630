/* SPDX-License-Identifier: ISC */
/* ports.c: the range, the order of allocation, cool-downs, hints, and changes of the range. */
#include "limits/ports.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

static struct ports ports_new(uint16_t from, uint16_t to, uint64_t cooldown_ms)
{
    struct ports ports;

    assert_int_equal(ports_init(&ports, from, to, cooldown_ms), 0);
    return ports;
}

static const uint8_t rids[2][GT_RID_SIZE] = {"a session", "another one"};

static uint16_t acquire_for(struct ports *ports, const uint8_t *rid, uint16_t hint, uint64_t now)
{
    uint16_t port = 0;

    return ports_acquire(ports, hint, rid, now, &port) ? 0 : port;
}

static uint16_t acquire(struct ports *ports, uint16_t hint, uint64_t now)
{
    return acquire_for(ports, rids[0], hint, now);
}

static void release(struct ports *ports, uint16_t port, uint64_t now)
{
    ports_release(ports, port, rids[1], now);
}

static void test_ports_allocates_each_port_once(void **state)
{
    static const struct {
        uint16_t from, to;
    } ranges[] = {{1, 1}, {7001, 7002}, {7001, 7999}, {65535, 65535}, {1, 65535}};
    for (size_t i = 0; i < GT_ARRAY_SIZE(ranges); i++) {
        struct ports ports = ports_new(ranges[i].from, ranges[i].to, 0);
        bool *seen = calloc(65536, 1);

        for (size_t n = 0; n < ports_n(&ports); n++) {
            uint16_t port = acquire(&ports, 0, 0);

            assert_in_range(port, ranges[i].from, ranges[i].to);
            assert_false(seen[port]);
            seen[port] = true;
        }
        assert_int_equal(acquire(&ports, 0, 0), 0);
        assert_int_equal(ports_n_in_use(&ports), ports_n(&ports));
        free(seen);
        ports_deinit(&ports);
    }
}

static void test_ports_keeps_cooldown_after_release(void **state)
{
    struct ports ports = ports_new(10, 11, 5000);

    assert_int_equal(acquire(&ports, 0, 1000), 10);
    release(&ports, 10, 2000);
    assert_int_equal(acquire(&ports, 10, 6999), 11);
    release(&ports, 11, 6999);
    assert_int_equal(acquire(&ports, 0, 7000), 10);
    ports_deinit(&ports);
}

/* Short sessions cannot block the range. */
static void test_ports_reuses_first_released_when_none_is_free(void **state)
{
    struct ports ports = ports_new(10, 12, 5000);

    for (uint16_t port = 10; port <= 12; port++)
        assert_int_equal(acquire(&ports, 0, 0), port);
    release(&ports, 11, 1000);
    release(&ports, 10, 1001);
    ports_skip(&ports, 12, 0); /* used by another program: never reused early */
    assert_int_equal(acquire(&ports, 0, 1002), 11);
    assert_int_equal(acquire(&ports, 0, 1003), 10);
    assert_int_equal(acquire(&ports, 0, 1004), 0);
    ports_deinit(&ports);
}

static void test_ports_gives_same_session_its_port_during_cooldown(void **state)
{
    struct ports ports = ports_new(10, 11, 5000);

    assert_int_equal(acquire_for(&ports, rids[1], 0, 0), 10);
    release(&ports, 10, 1000);
    assert_int_equal(acquire_for(&ports, rids[0], 10, 1001), 11);
    assert_int_equal(acquire_for(&ports, rids[1], 10, 1001), 10);
    assert_int_equal(acquire_for(&ports, rids[1], 10, 1001), 0); /* in use by this session */
    release(&ports, 10, 2000);
    assert_int_equal(acquire_for(&ports, rids[0], 10, 7000), 10); /* after its cool-down */
    ports_skip(&ports, 10, 8000);
    assert_int_equal(acquire_for(&ports, rids[1], 10, 8001), 0); /* used by another program */
    ports_deinit(&ports);
}

static void test_ports_skips_ports_of_other_programs(void **state)
{
    struct ports ports = ports_new(10, 12, 0);

    assert_int_equal(acquire(&ports, 0, 0), 10);
    ports_skip(&ports, 10, 0);
    assert_int_equal(acquire(&ports, 0, 0), 11);
    assert_int_equal(acquire(&ports, 0, 0), 12);
    assert_int_equal(acquire(&ports, 0, 0), 0);
    assert_int_equal(acquire(&ports, 0, 1000), 10);
    ports_deinit(&ports);
}

static void test_ports_allocates_longest_free_first(void **state)
{
    struct ports ports = ports_new(10, 13, 0);

    assert_int_equal(acquire(&ports, 0, 0), 10);
    release(&ports, 10, 0);
    assert_int_equal(acquire(&ports, 0, 0), 11);
    assert_int_equal(acquire(&ports, 0, 0), 12);
    assert_int_equal(acquire(&ports, 0, 0), 13);
    assert_int_equal(acquire(&ports, 0, 0), 10);
    ports_deinit(&ports);
}

static void test_ports_follows_hint_if_free(void **state)
{
    struct ports ports = ports_new(10, 12, 0);

    assert_int_equal(acquire(&ports, 12, 0), 12);
    assert_int_equal(acquire(&ports, 12, 0), 10); /* in use */
    assert_int_equal(acquire(&ports, 9, 0), 11);  /* outside */
    release(&ports, 9, 0);                        /* outside the range: no effect */
    release(&ports, 13, 0);
    assert_int_equal(ports_n_in_use(&ports), 3);
    ports_deinit(&ports);
}

static void test_ports_keeps_ports_in_use_when_range_changes(void **state)
{
    struct ports ports = ports_new(10, 12, 0);

    assert_int_equal(acquire(&ports, 11, 0), 11);
    assert_int_equal(acquire(&ports, 10, 0), 10);
    assert_int_equal(ports_change(&ports, 11, 20, 0), 0);
    assert_int_equal(ports_n_in_use(&ports), 1);
    assert_int_equal(acquire(&ports, 11, 0), 12);
    release(&ports, 10, 0); /* outside the new range */
    release(&ports, 11, 0);
    assert_int_equal(acquire(&ports, 11, 0), 11);
    ports_deinit(&ports);
}

/* Random use, compared with an array of the ports in use. */
static void test_ports_never_allocates_one_port_twice(void **state)
{
    struct ports ports = ports_new(100, 131, 50);
    bool in_use[132] = {0};
    unsigned seed = (unsigned)time(NULL);
    size_t n_in_use = 0;

    print_message("seed %u\n", seed);
    for (uint64_t now = 0; now < 20000; now++) {
        uint16_t port = (uint16_t)(100 + rand_r(&seed) % 32);

        if (rand_r(&seed) % 2 && in_use[port]) {
            release(&ports, port, now);
            in_use[port] = false;
            n_in_use--;
        } else if ((port = acquire(&ports, (uint16_t)(rand_r(&seed) % 140), now))) {
            assert_false(in_use[port]);
            in_use[port] = true;
            n_in_use++;
        }
        assert_int_equal(ports_n_in_use(&ports), n_in_use);
    }
    ports_deinit(&ports);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ports_allocates_each_port_once),
        cmocka_unit_test(test_ports_keeps_cooldown_after_release),
        cmocka_unit_test(test_ports_reuses_first_released_when_none_is_free),
        cmocka_unit_test(test_ports_gives_same_session_its_port_during_cooldown),
        cmocka_unit_test(test_ports_skips_ports_of_other_programs),
        cmocka_unit_test(test_ports_allocates_longest_free_first),
        cmocka_unit_test(test_ports_follows_hint_if_free),
        cmocka_unit_test(test_ports_keeps_ports_in_use_when_range_changes),
        cmocka_unit_test(test_ports_never_allocates_one_port_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
