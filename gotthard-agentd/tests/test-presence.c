/* SPDX-License-Identifier: ISC */
/*
 * presence.c without a broker: the port refuses connections, or the client pretends to be
 * connected. (The end-to-end tests have a broker.)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "presence-internal.h"

/* --- a client that pretends to be connected --------------------------------------------------- */

static bool is_pretending;
static int publish_result; /* of the next call only */
static unsigned n_publishes;

bool __real_gt_mqtt_is_up(const struct gt_mqtt *mqtt);
int __real_gt_mqtt_publish(struct gt_mqtt *mqtt, const char *topic, struct gt_span payload,
                           bool is_retained, unsigned expiry_s, int *ret_id);
bool __wrap_gt_mqtt_is_up(const struct gt_mqtt *mqtt);
int __wrap_gt_mqtt_publish(struct gt_mqtt *mqtt, const char *topic, struct gt_span payload,
                           bool is_retained, unsigned expiry_s, int *ret_id);

bool __wrap_gt_mqtt_is_up(const struct gt_mqtt *mqtt)
{
    return is_pretending || __real_gt_mqtt_is_up(mqtt);
}

int __wrap_gt_mqtt_publish(struct gt_mqtt *mqtt, const char *topic, struct gt_span payload,
                           bool is_retained, unsigned expiry_s, int *ret_id)
{
    int r = publish_result;

    if (!is_pretending)
        return __real_gt_mqtt_publish(mqtt, topic, payload, is_retained, expiry_s, ret_id);
    publish_result = 0;
    *ret_id = (int)++n_publishes;
    return r;
}

#if defined(__USE_TIME_BITS64) && __TIMESIZE == 32
/* The C library's names of the same functions with 64-bit times. */
#define __real_clock_gettime __real___clock_gettime64
#define __wrap_clock_gettime __wrap___clock_gettime64
#define __real_time          __real___time64
#define __wrap_time          __wrap___time64
#endif

static time_t boot_shift; /* of the clock that never jumps */

int __real_clock_gettime(clockid_t id, struct timespec *ret);
int __wrap_clock_gettime(clockid_t id, struct timespec *ret);

int __wrap_clock_gettime(clockid_t id, struct timespec *ret)
{
    int r = __real_clock_gettime(id, ret);

    if (r == 0 && id == CLOCK_BOOTTIME)
        ret->tv_sec += boot_shift;
    return r;
}

static time_t clock_shift; /* of the wall clock */

time_t __real_time(time_t *ret);
time_t __wrap_time(time_t *ret);

time_t __wrap_time(time_t *ret)
{
    time_t now = __real_time(NULL) + clock_shift;

    if (ret)
        *ret = now;
    return now;
}

/* --- the environment -------------------------------------------------------------------------- */

struct env {
    struct ev_loop *loop;
    struct settings settings;
    struct setup setup;
    struct request_handler *request_handler;
    struct presence presence;
    struct credentials credentials;
    unsigned n_changes, n_offline, n_replaced;
};

static void on_message(void *userdata, const char *topic, bool is_retained, struct gt_span payload)
{
    fail_msg("a message without a broker");
}

static void on_change(void *userdata)
{
    struct env *env = userdata;

    env->n_changes++;
    ev_break(env->loop, EVBREAK_ALL);
}

static void on_offline(void *userdata)
{
    struct env *env = userdata;

    env->n_offline++;
}

static unsigned count_sessions(void *userdata, const char *operator_)
{
    return 0;
}

static void on_replaced(void *userdata)
{
    ((struct env *)userdata)->n_replaced++;
}

static bool is_awaited(void *userdata)
{
    return false;
}

static const struct presence_events events = {on_message, on_change, on_replaced, on_offline,
                                              is_awaited};
static const struct request_handler_events handler_events = {.count_sessions = count_sessions};

static int setup(void **state)
{
    static const uint8_t of_device[GT_KEY_SIZE] = {1};
    static char device[] = "dev", prefix[] = "gotthard/v1", version[] = "auto";
    struct env *env = calloc(1, sizeof(*env));

    assert_non_null(env);
    env->loop = ev_default_loop(0);
    env->settings = (struct settings){.device_name = device,
                                      .mqtt_prefix = prefix,
                                      .mqtt_keepalive_ms = 30000,
                                      .mqtt_version = version};
    env->setup.settings = &env->settings;
    assert_int_equal(gt_mqtt_url_parse("mqtt://127.0.0.1:1", &env->setup.broker), 0);
    env->credentials.n_users = 1;
    env->setup.credentials = &env->credentials;
    gt_trust_init_psk(&env->setup.trust);
    struct request_handler_settings settings = {.prefix = prefix,
                                                .device = device,
                                                .trust = &env->setup.trust,
                                                .policy = &env->setup.policy};
    assert_int_equal(request_handler_new(&settings, of_device, NULL, gt_clock_ms(), &handler_events,
                                         env, &env->request_handler),
                     0);
    presence_init(&env->presence, env->loop, &events, env);
    *state = env;
    return 0;
}

static int teardown(void **state)
{
    struct env *env = *state;

    presence_close(&env->presence);
    request_handler_free(env->request_handler);
    free(env);
    return 0;
}

static void test_closed_presence_is_not_up(void **state)
{
    struct env *env = *state;

    env->presence.setup = &env->setup;
    assert_false(presence_is_up(&env->presence));
    presence_publish_offline(&env->presence);
    assert_int_equal(env->n_offline, 1); /* inside the call: there is no broker to wait for */
}

static void test_refused_connection_is_reported(void **state)
{
    struct env *env = *state;

    assert_int_equal(presence_open(&env->presence, &env->setup, env->request_handler), 0);
    assert_false(presence_is_up(&env->presence));
    ev_run(env->loop, 0);
    assert_true(env->n_changes > 0);
    assert_false(presence_is_up(&env->presence));
}

static void test_publish_without_connection_is_harmless(void **state)
{
    struct env *env = *state;

    assert_int_equal(presence_open(&env->presence, &env->setup, env->request_handler), 0);
    presence_publish_reply(&env->presence, "gotthard/v1/d/dev/rsp/alice", gt_span("x", 1));
    presence_changed(&env->presence);
    presence_changed(&env->presence);
    assert_int_equal(env->n_offline, 0);
    presence_publish_offline(&env->presence);
    assert_int_equal(env->n_offline, 1);
}

static void test_close_and_open_again(void **state)
{
    struct env *env = *state;

    for (int i = 0; i < 2; i++) {
        assert_int_equal(presence_open(&env->presence, &env->setup, env->request_handler), 0);
        presence_close(&env->presence);
        assert_false(presence_is_up(&env->presence));
    }
}

static void test_replacement_that_fails_changes_nothing(void **state)
{
    struct env *env = *state;
    struct credentials renewed = {.n_users = 1};

    assert_int_equal(presence_open(&env->presence, &env->setup, env->request_handler), 0);
    const struct presence_link *link = env->presence.link;
    env->setup.credentials = &renewed;
    assert_int_equal(gt_mqtt_url_parse("mqtt://127.0.0.1:2", &env->setup.broker), 0);
    assert_int_equal(presence_replace(&env->presence, env->request_handler), 0);
    assert_int_equal(presence_replace(&env->presence, env->request_handler), 0); /* in its place */
    assert_int_equal(renewed.n_users, 2);
    for (double end = gt_clock() + 0.2; gt_clock() < end;)
        ev_run(env->loop, EVRUN_NOWAIT);
    assert_ptr_equal(env->presence.link, link);
    assert_ptr_equal(presence_credentials(&env->presence), &env->credentials);
    assert_int_equal(presence_broker(&env->presence)->port, 1);
    assert_int_equal(env->n_replaced, 0);
    presence_publish_offline(&env->presence);
    assert_null(env->presence.next);
    assert_int_equal(renewed.n_users, 1);
}

/* Returns the number of attempts to publish STATE within @seconds after a change, of which the
 * first has @result. */
static unsigned publish_attempts(struct env *env, double seconds, int result)
{
    is_pretending = true;
    env->presence.link->is_subscribed = true;
    publish_result = result;
    n_publishes = 0;
    presence_changed(&env->presence);
    for (double end = gt_clock() + seconds; gt_clock() < end;)
        ev_run(env->loop, EVRUN_ONCE);
    is_pretending = false;
    return n_publishes;
}

static void on_tick(struct ev_loop *loop, ev_timer *timer, int revents)
{
}

static void test_failed_state_is_published_again(void **state)
{
    struct env *env = *state;
    ev_timer tick;

    ev_timer_init(&tick, on_tick, 0.05, 0.05);
    ev_timer_start(env->loop, &tick);
    assert_int_equal(presence_open(&env->presence, &env->setup, env->request_handler), 0);
    assert_int_equal(publish_attempts(env, 0.5, 0), 1);
    assert_int_equal(publish_attempts(env, 1.5, -ENOMEM), 2);
    assert_int_equal(publish_attempts(env, 1.5, -EOPNOTSUPP), 1); /* permanent */
    ev_timer_stop(env->loop, &tick);
}

/* A device that boots in 1970: the state is published again with the right time, and the connection
 * is replaced once for its last will. */
static void test_jump_of_the_wall_clock_corrects_the_state(void **state)
{
    struct env *env = *state;
    ev_timer tick;

    ev_timer_init(&tick, on_tick, 0.05, 0.05);
    ev_timer_start(env->loop, &tick);
    clock_shift = -__real_time(NULL);
    assert_int_equal(presence_open(&env->presence, &env->setup, env->request_handler), 0);
    ev_run(env->loop, 0);
    assert_null(presence_tick(&env->presence)); /* not connected */
    assert_int_equal(publish_attempts(env, 0.3, 0), 1);
    is_pretending = true;
    assert_null(presence_tick(&env->presence));
    assert_false(ev_is_active(&env->presence.state_due));

    clock_shift += 10;
    assert_null(presence_tick(&env->presence)); /* the will is about right */
    assert_true(ev_is_active(&env->presence.state_due));
    clock_shift = 0;
    assert_non_null(presence_tick(&env->presence));
    assert_int_equal(publish_attempts(env, 0.3, 0), 1);
    is_pretending = true;
    assert_int_equal(presence_replace(&env->presence, env->request_handler), 0);
    assert_null(presence_tick(&env->presence)); /* a replacement is on its way */
    assert_false(ev_is_active(&env->presence.state_due));
    is_pretending = false;
    ev_timer_stop(env->loop, &tick);
}

/* --- STATE and its acknowledgement ------------------------------------------------------------ */

/* The subscription of a connection is granted. */
static void begin(struct env *env)
{
    assert_int_equal(presence_open(&env->presence, &env->setup, env->request_handler), 0);
    is_pretending = true;
    env->presence.link->is_subscribed = true;
    clock_shift = boot_shift = 0;
    n_publishes = env->n_changes = 0;
    presence_state_begin(&env->presence);
    assert_int_equal(n_publishes, 1);
    assert_int_equal(env->presence.standing, PRESENCE_PENDING);
}

/* Publishes the scheduled STATE now. */
static void publish_scheduled(struct env *env)
{
    assert_true(ev_is_active(&env->presence.state_due));
    ev_timer_stop(env->loop, &env->presence.state_due);
    ev_invoke(env->loop, &env->presence.state_due, 0);
}

static void test_device_is_online_after_the_acknowledgement(void **state)
{
    struct env *env = *state;

    begin(env);
    int id = env->presence.state_id;
    presence_state_acknowledged(&env->presence, id + 1); /* of a reply */
    assert_int_equal(env->presence.standing, PRESENCE_PENDING);
    assert_int_equal(env->n_changes, 0);
    presence_state_acknowledged(&env->presence, id);
    assert_int_equal(env->presence.standing, PRESENCE_ONLINE);
    assert_int_equal(env->n_changes, 1);
    presence_changed(&env->presence);
    publish_scheduled(env);
    presence_state_acknowledged(&env->presence, env->presence.state_id);
    assert_int_equal(env->n_changes, 1);
    is_pretending = false;
}

static void test_refused_state_is_published_again_with_back_off(void **state)
{
    struct env *env = *state;

    begin(env);
    for (int i = 0; i < 12; i++) {
        double least = GT_MIN(5. * (1 << i), 300.);

        assert_false(ev_is_active(&env->presence.state_due));
        presence_state_refused(&env->presence, "Not authorized");
        assert_int_equal(env->presence.standing, PRESENCE_REFUSED);
        assert_string_equal(env->presence.refusal, "STATE (Not authorized)");
        double left = ev_timer_remaining(env->loop, &env->presence.state_due);
        assert_true(left > least - 1. && left <= 1.25 * least + 1.);
        presence_changed(&env->presence); /* does not shorten the wait */
        assert_true(ev_timer_remaining(env->loop, &env->presence.state_due) > left - 1.);
        publish_scheduled(env);
    }
    assert_int_equal(n_publishes, 13);
    assert_int_equal(env->n_changes, 1);
    presence_state_acknowledged(&env->presence, env->presence.state_id);
    assert_int_equal(env->presence.standing, PRESENCE_ONLINE);
    assert_int_equal(env->n_changes, 2);
    presence_changed(&env->presence);
    publish_scheduled(env);
    presence_state_refused(&env->presence, "Quota exceeded");
    assert_true(ev_timer_remaining(env->loop, &env->presence.state_due) < 7.);
    is_pretending = false;
}

static void test_state_that_is_not_accepted_is_a_refusal(void **state)
{
    struct env *env = *state;

    begin(env);
    publish_result = -EOPNOTSUPP;
    presence_changed(&env->presence);
    publish_scheduled(env);
    assert_int_equal(env->presence.standing, PRESENCE_REFUSED);
    publish_scheduled(env);
    presence_state_acknowledged(&env->presence, env->presence.state_id);
    assert_int_equal(env->presence.standing, PRESENCE_ONLINE);
    is_pretending = false;
}

static void test_state_without_acknowledgement_is_a_refusal(void **state)
{
    struct env *env = *state;

    begin(env);
    clock_shift = boot_shift = 29;
    presence_tick(&env->presence);
    assert_int_equal(env->presence.standing, PRESENCE_PENDING);
    clock_shift = boot_shift = 31;
    presence_tick(&env->presence);
    assert_int_equal(env->presence.standing, PRESENCE_REFUSED);
    publish_scheduled(env);
    presence_state_acknowledged(&env->presence, env->presence.state_id);
    clock_shift = boot_shift = 62;
    presence_tick(&env->presence);
    assert_int_equal(env->presence.standing, PRESENCE_ONLINE);
    is_pretending = false;
}

/* The library sends no more messages while the broker acknowledges none of its first ones. */
static void test_connection_without_acknowledgements_is_replaced(void **state)
{
    struct env *env = *state;
    unsigned n_replacements = 0;

    begin(env);
    env->presence.link->will_shift_s = presence_clock_shift_s();
    for (boot_shift = 30; boot_shift <= 600; boot_shift += 30) {
        clock_shift = boot_shift;
        if (presence_tick(&env->presence)) {
            n_replacements++;
            presence_state_begin(&env->presence);
        }
        if (ev_is_active(&env->presence.state_due))
            publish_scheduled(env);
        assert_true(boot_shift > 30 || n_replacements == 0);
    }
    assert_in_range(n_replacements, 2, 10);
    presence_state_acknowledged(&env->presence, env->presence.state_id);
    assert_int_equal(env->presence.n_refusals, 0);
    boot_shift = clock_shift = 0;
    is_pretending = false;
}

/* Runs the loop until its log has both texts. */
static void wait_for_lines(struct env *env, const char *one, const char *other)
{
    int stderr_before = dup(STDERR_FILENO), log = memfd_create("log", MFD_CLOEXEC);
    char text[8192] = "";
    ssize_t n = 0;

    assert_true(stderr_before >= 0 && log >= 0);
    assert_int_equal(dup2(log, STDERR_FILENO), STDERR_FILENO);
    for (double end = gt_clock() + 20;
         n >= 0 && gt_clock() < end && !(strstr(text, one) && strstr(text, other));) {
        ev_run(env->loop, EVRUN_ONCE);
        n = pread(log, text, sizeof(text) - 1, 0);
        text[GT_MAX(n, 0)] = 0;
    }
    dup2(stderr_before, STDERR_FILENO);
    close(stderr_before);
    close(log);
    if (!strstr(text, one) || !strstr(text, other))
        fail_msg("not both of \"%s\" and \"%s\":\n%s", one, other, text);
}

/* Its broker closes it for the new one, which can be reported first. Here no broker listens, so the
 * replacement fails as well. */
static void test_end_of_a_replaced_connection_is_no_warning(void **state)
{
    struct env *env = *state;

    begin(env);
    presence_state_acknowledged(&env->presence, env->presence.state_id);
    is_pretending = false;
    assert_int_equal(presence_replace(&env->presence, env->request_handler), 0);
    gt_log_open("test-presence", GT_LOG_INFO);
    wait_for_lines(env, "probably in favor of its replacement", "broker not reachable");
    assert_int_equal(env->presence.standing, PRESENCE_PENDING);
}

/* A will of the connection before may replace "online" at the broker at any time. */
static void test_state_is_published_again_regularly(void **state)
{
    struct env *env = *state;
    unsigned n_first = 0;

    begin(env);
    presence_state_acknowledged(&env->presence, env->presence.state_id);
    for (boot_shift = 30; boot_shift <= 24 * 3600; boot_shift += 30) {
        clock_shift = boot_shift;
        presence_tick(&env->presence);
        if (ev_is_active(&env->presence.state_due)) {
            publish_scheduled(env);
            presence_state_acknowledged(&env->presence, env->presence.state_id);
        }
        n_first += boot_shift <= 150 ? n_publishes - 1 : 0;
        assert_true(boot_shift > 30 || n_publishes == 1);
    }
    assert_in_range(n_first, 1, 4); /* after 60 to 120 s, seen for at most 4 ticks */
    assert_in_range(n_publishes, 1 + 24 * 3600 / 4530, 2 + 24 * 3600 / 2700);
    boot_shift = clock_shift = 0;
    is_pretending = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_closed_presence_is_not_up, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused_connection_is_reported, setup, teardown),
        cmocka_unit_test_setup_teardown(test_publish_without_connection_is_harmless, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_close_and_open_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_replacement_that_fails_changes_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_failed_state_is_published_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_device_is_online_after_the_acknowledgement, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_refused_state_is_published_again_with_back_off, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_state_that_is_not_accepted_is_a_refusal, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_state_without_acknowledgement_is_a_refusal, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_end_of_a_replaced_connection_is_no_warning, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_connection_without_acknowledgements_is_replaced, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_state_is_published_again_regularly, setup, teardown),
        cmocka_unit_test_setup_teardown(test_jump_of_the_wall_clock_corrects_the_state, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
