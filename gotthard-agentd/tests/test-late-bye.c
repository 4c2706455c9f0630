/* SPDX-License-Identifier: ISC */
/*
 * late-bye.c with a relay that cannot be reached: retries, the end, and the session file. (The
 * end-to-end tests have a relay.)
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "gotthard/net/sock.h"
#include "late-bye.h"

struct env {
    struct ev_loop *loop;
    char session_file[64];
    struct target relay;
    unsigned n_ended;
};

static void on_end(void *userdata, struct late_bye *late_bye)
{
    struct env *env = userdata;

    env->n_ended++;
    assert_int_equal(late_bye->state, LATE_BYE_DONE);
    assert_null(late_bye_free(late_bye));
    ev_break(env->loop, EVBREAK_ALL);
}

static uint16_t closed_port(void)
{
    struct gt_addr addr;

    assert_int_equal(gt_addr_parse("127.0.0.1", 0, &addr), 0);
    int fd = gt_sock_listen(&addr, 1);
    assert_true(fd >= 0);
    assert_int_equal(gt_sock_local(fd, &addr), 0);
    close(fd);
    return gt_addr_port(&addr);
}

static int setup(void **state)
{
    struct env *env = calloc(1, sizeof(*env));

    assert_non_null(env);
    env->loop = ev_default_loop(0);
    env->relay = (struct target){"main", {"127.0.0.1", closed_port()}};
    snprintf(env->session_file, sizeof(env->session_file), "/tmp/test-late-bye.XXXXXX");
    int fd = mkstemp(env->session_file);
    assert_true(fd >= 0);
    close(fd);
    *state = env;
    return 0;
}

static int teardown(void **state)
{
    struct env *env = *state;

    unlink(env->session_file);
    free(env);
    return 0;
}

static struct late_bye *start(struct env *env, const char *session_file, unsigned give_up_after_ms)
{
    static const uint8_t client_key[GT_KEY_SIZE] = {1}, rid[GT_RID_SIZE] = {2};
    struct late_bye_settings settings = {.relay = &env->relay,
                                         .device = "dev",
                                         .client_key = client_key,
                                         .rid = rid,
                                         .session_file_path = session_file,
                                         .code = GT_CODE_NEW_PROCESS,
                                         .give_up_after_ms = give_up_after_ms};
    struct late_bye *late_bye;

    assert_int_equal(late_bye_new(env->loop, &settings, on_end, env, &late_bye), 0);
    assert_int_equal(late_bye->state, LATE_BYE_SENDING);
    assert_int_equal(env->n_ended, 0);
    return late_bye;
}

static bool has_session_file(const struct env *env)
{
    return access(env->session_file, F_OK) == 0;
}

static void test_unreachable_relay_is_given_up_and_file_removed(void **state)
{
    struct env *env = *state;

    start(env, env->session_file, 0);
    ev_run(env->loop, 0);
    assert_int_equal(env->n_ended, 1);
    assert_false(has_session_file(env));
}

static void test_unreachable_relay_is_retried(void **state)
{
    struct env *env = *state;
    struct late_bye *late_bye = start(env, env->session_file, 60000);

    while (late_bye->state == LATE_BYE_SENDING)
        ev_run(env->loop, EVRUN_ONCE);
    assert_int_equal(late_bye->state, LATE_BYE_WAITING);
    assert_true(ev_is_active(&late_bye->due));
    ev_invoke(env->loop, &late_bye->due, EV_TIMER); /* instead of waiting */
    assert_int_equal(late_bye->state, LATE_BYE_SENDING);
    assert_null(late_bye_free(late_bye));
    assert_int_equal(env->n_ended, 0);
    assert_true(has_session_file(env)); /* for the next listener */
}

static void test_late_bye_without_session_file_ends(void **state)
{
    struct env *env = *state;

    start(env, NULL, 0);
    ev_run(env->loop, 0);
    assert_int_equal(env->n_ended, 1);
    assert_true(has_session_file(env));
    assert_null(late_bye_free(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_unreachable_relay_is_given_up_and_file_removed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_unreachable_relay_is_retried, setup, teardown),
        cmocka_unit_test_setup_teardown(test_late_bye_without_session_file_ends, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
