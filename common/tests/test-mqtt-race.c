/* SPDX-License-Identifier: ISC */
/*
 * The race of a broker's addresses, on loopback: listeners that accept, ports that refuse, and
 * listeners with a full queue, to which the kernel does not answer.
 */
#include "gotthard/mqtt/mqtt-race.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include <cmocka.h>

#include "gotthard/base/clock.h"

#define N_FILL 3

struct place { /* one of the broker's addresses */
    struct gt_addr addr;
    int listener, full[N_FILL];
};

struct env {
    struct gt_mqtt_race race;
    struct place places[3];
    atomic_bool is_over; /* set by another thread */
};

static int listen_at(struct gt_addr *addr, int backlog)
{
    int fd = gt_sock_listen(addr, backlog);

    assert_true(fd >= 0);
    assert_int_equal(gt_sock_local(fd, addr), 0);
    return fd;
}

static struct place *place_at(struct env *env, const char *address)
{
    struct place *place = &env->places[env->race.n];

    assert_int_equal(gt_addr_parse(address, 0, &place->addr), 0);
    for (size_t i = 0; i < N_FILL; i++)
        place->full[i] = -1;
    place->listener = -1;
    return place;
}

static void add(struct env *env, const struct place *place)
{
    struct mosquitto *mosquitto = mosquitto_new("racer", true, env);

    assert_non_null(mosquitto);
    assert_int_equal(mosquitto_threaded_set(mosquitto, true), MOSQ_ERR_SUCCESS);
    assert_int_equal(mosquitto_int_option(mosquitto, MOSQ_OPT_PROTOCOL_VERSION, 5), 0);
    env->race.candidates[env->race.n++] =
        (struct gt_mqtt_candidate){.mosquitto = mosquitto, .addr = place->addr};
}

static int add_accepting(struct env *env, const char *address)
{
    struct place *place = place_at(env, address);

    place->listener = listen_at(&place->addr, 8);
    add(env, place);
    return place->listener;
}

static void add_refusing(struct env *env, const char *address)
{
    struct place *place = place_at(env, address);
    int fd = listen_at(&place->addr, 1);

    close(fd);
    add(env, place);
}

static void add_swallowing(struct env *env, const char *address)
{
    struct place *place = place_at(env, address);

    place->listener = listen_at(&place->addr, 0);
    for (size_t i = 0; i < N_FILL; i++)
        place->full[i] = gt_sock_connect(&place->addr);
    add(env, place);
}

static bool is_over(void *userdata)
{
    return ((struct env *)userdata)->is_over;
}

static int setup(void **state)
{
    struct env *env = calloc(1, sizeof(*env));

    assert_non_null(env);
    mosquitto_lib_init();
    env->race.keepalive_s = 60;
    env->race.is_v5 = true;
    env->race.wakeup_fd = eventfd(0, EFD_NONBLOCK);
    env->race.is_over = is_over;
    env->race.userdata = env;
    *state = env;
    return 0;
}

static int teardown(void **state)
{
    struct env *env = *state;

    for (size_t i = 0; i < GT_ARRAY_SIZE(env->places); i++) {
        struct place *place = &env->places[i];

        if (i >= env->race.n)
            break;
        gt_close(&place->listener);
        for (size_t j = 0; j < N_FILL; j++)
            gt_close(&place->full[j]);
    }
    close(env->race.wakeup_fd);
    mosquitto_lib_cleanup();
    free(env);
    return 0;
}

/* Runs the race; returns its duration in seconds. */
static double run(struct env *env, int wanted, int wanted_errno, struct mosquitto **ret)
{
    double began = gt_clock();

    assert_int_equal(gt_mqtt_race_run(&env->race, ret), wanted);
    if (wanted != MOSQ_ERR_SUCCESS)
        assert_int_equal(errno, wanted_errno);
    for (size_t i = 0; i < env->race.n; i++)
        assert_null(env->race.candidates[i].mosquitto);
    return gt_clock() - began;
}

/* The winner is connected to @listener, and has not sent a byte. */
static void assert_winner(struct mosquitto *winner, int listener)
{
    struct gt_addr peer, from;
    char byte;

    assert_non_null(winner);
    int fd = gt_sock_accept(listener, &from);
    assert_true(fd >= 0);
    assert_int_equal(gt_sock_local(mosquitto_socket(winner), &peer), 0);
    assert_memory_equal(&peer.any, &from.any, peer.n);
    assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
    close(fd);
    mosquitto_destroy(winner);
}

static void test_race_takes_the_first_that_accepts(void **state)
{
    struct env *env = *state;
    struct mosquitto *winner = NULL;
    struct gt_addr from;

    int first = add_accepting(env, "127.0.0.2");
    int second = add_accepting(env, "127.0.0.3");
    assert_true(run(env, MOSQ_ERR_SUCCESS, 0, &winner) < 0.2);
    assert_winner(winner, first);
    assert_int_equal(gt_sock_accept(second, &from), -EAGAIN); /* never tried */
}

/* The limit of a packet's size is a property of CONNECT (MQTT 5, section 3.1.2.11.4). The library
 * keeps it by a manner of its own, see mqtt-race.c. */
static void test_winner_announces_its_limit(void **state)
{
    struct env *env = *state;
    struct mosquitto *winner = NULL;
    struct gt_addr from;
    uint8_t connect[128];

    int listener = add_accepting(env, "127.0.0.2");
    (void)run(env, MOSQ_ERR_SUCCESS, 0, &winner);
    int fd = gt_sock_accept(listener, &from);
    assert_int_equal(mosquitto_loop(winner, 100, 1), MOSQ_ERR_SUCCESS);
    ssize_t n = recv(fd, connect, sizeof(connect), 0);
    assert_true(n > 20);
    assert_int_equal(connect[8], 5); /* the version */
    const uint8_t *property = memchr(connect + 13, 0x27, (size_t)n - 13);
    assert_non_null(property);
    close(fd);
    mosquitto_destroy(winner);
}

static void test_race_passes_an_address_that_swallows(void **state)
{
    struct env *env = *state;
    struct mosquitto *winner = NULL;

    add_swallowing(env, "127.0.0.2");
    int second = add_accepting(env, "127.0.0.3");
    assert_true(run(env, MOSQ_ERR_SUCCESS, 0, &winner) < 1);
    assert_winner(winner, second);
}

static void test_race_passes_an_address_that_refuses_at_once(void **state)
{
    struct env *env = *state;
    struct mosquitto *winner = NULL;

    add_refusing(env, "127.0.0.2");
    add_refusing(env, "::1");
    int third = add_accepting(env, "127.0.0.3");
    assert_true(run(env, MOSQ_ERR_SUCCESS, 0, &winner) < 0.2);
    assert_winner(winner, third);
}

static void test_race_without_a_winner_reports_the_first_failure(void **state)
{
    struct env *env = *state;
    struct mosquitto *winner = NULL;

    add_refusing(env, "127.0.0.2");
    add_refusing(env, "127.0.0.3");
    (void)run(env, MOSQ_ERR_ERRNO, ECONNREFUSED, &winner);
    assert_null(winner);
}

static void *end_later(void *userdata)
{
    struct env *env = userdata;

    poll(NULL, 0, 400);
    env->is_over = true;
    eventfd_write(env->race.wakeup_fd, 1);
    return NULL;
}

static void test_race_is_ended_by_its_owner(void **state)
{
    struct env *env = *state;
    struct mosquitto *winner = NULL;
    pthread_t thread;

    add_swallowing(env, "127.0.0.2");
    add_swallowing(env, "127.0.0.3");
    eventfd_write(env->race.wakeup_fd, 1); /* a wake-up for another reason */
    assert_int_equal(pthread_create(&thread, NULL, end_later, env), 0);
    assert_true(run(env, MOSQ_ERR_NO_CONN, 0, &winner) < 1);
    pthread_join(thread, NULL);
    assert_null(winner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_race_takes_the_first_that_accepts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_winner_announces_its_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_race_passes_an_address_that_swallows, setup, teardown),
        cmocka_unit_test_setup_teardown(test_race_passes_an_address_that_refuses_at_once, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_race_without_a_winner_reports_the_first_failure, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_race_is_ended_by_its_owner, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
