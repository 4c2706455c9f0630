/* SPDX-License-Identifier: ISC */
/* The operator's command that signs: what it gets, and which of its ends are failures. */
#include "sign-hook.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct run {
    struct ev_loop *loop;
    struct sign_hook *hook;
    char why[SIGN_HOOK_WHY], output[SIGN_HOOK_OUTPUT_MAX + 1];
    size_t n;
    bool is_good;
};

static void run_on_end(void *userdata, const char *why, struct gt_span output)
{
    struct run *run = userdata;

    run->is_good = why == NULL;
    snprintf(run->why, sizeof(run->why), "%s", why ? why : "");
    memcpy(run->output, output.data, output.n);
    run->output[output.n] = 0;
    run->n = output.n;
    run->hook = sign_hook_free(run->hook);
    ev_break(run->loop, EVBREAK_ALL);
}

static struct run *run_command(const char *command)
{
    static struct run run;
    struct sign_hook_settings settings = {
        .command = command, .name = "GatewayOli", .kind = "device", .request = "the request\n"};

    run = (struct run){.loop = ev_default_loop(0)};
    assert_int_equal(sign_hook_new(run.loop, &settings, run_on_end, &run, &run.hook), 0);
    ev_run(run.loop, 0);
    return &run;
}

static void test_command_gets_request_name_and_kind(void **state)
{
    struct run *run = run_command("cat; echo $NAME $KIND");

    assert_true(run->is_good);
    assert_string_equal(run->output, "the request\nGatewayOli device\n");
}

static void test_command_gets_no_secret_of_the_environment(void **state)
{
    setenv("GOTTHARD_CRYPT_KEY", "secret", 1);
    setenv("NAME", "mallory", 1);
    setenv("AWS_PROFILE", "fleet", 1);
    struct run *run = run_command("env | grep -c '^GOTTHARD_'; echo $AWS_PROFILE $NAME");
    assert_string_equal(run->output, "0\nfleet GatewayOli\n");
    unsetenv("GOTTHARD_CRYPT_KEY");
    unsetenv("NAME");
    unsetenv("AWS_PROFILE");
}

static void test_command_that_does_not_read_is_no_failure(void **state)
{
    assert_true(run_command("echo certificate")->is_good);
}

static void test_command_that_fails_is_reported(void **state)
{
    struct run *run = run_command("echo half; exit 3");

    assert_false(run->is_good);
    assert_string_equal(run->why, "it ended with status 3");
    run = run_command("kill -9 $$");
    assert_string_equal(run->why, "it was ended by signal 9");
    run = run_command("/nonexistent/command 2>/dev/null");
    assert_string_equal(run->why, "it ended with status 127");
}

static void test_output_that_is_too_long_is_a_failure(void **state)
{
    struct run *run = run_command("yes certificate 2>/dev/null");

    assert_false(run->is_good);
    assert_string_equal(run->why, "its output is too long");
    run = run_command("head -c 65535 /dev/zero");
    assert_true(run->is_good);
    assert_int_equal(run->n, SIGN_HOOK_OUTPUT_MAX - 1);
    assert_false(run_command("head -c 65536 /dev/zero")->is_good);
}

/* A program that the command leaves behind holds the pipe open. */
static void test_child_of_the_command_does_not_delay_its_end(void **state)
{
    struct run *run = run_command("sleep 1 & echo certificate");

    assert_true(run->is_good);
    assert_string_equal(run->output, "certificate\n");
}

static void test_freed_hook_kills_the_command_and_its_children(void **state)
{
    struct ev_loop *loop = ev_default_loop(0);
    struct sign_hook_settings settings = {.command = "trap '' TERM; echo $$ >&3; sleep 300 & wait",
                                          .name = "a",
                                          .kind = "device",
                                          .request = ""};
    struct sign_hook *hook = NULL;
    struct run run = {.loop = loop};
    int pipes[2];
    char text[32] = "";

    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(dup2(pipes[1], 3) >= 0 || pipes[1] == 3, 1);
    assert_int_equal(sign_hook_new(loop, &settings, run_on_end, &run, &hook), 0);
    assert_true(read(pipes[0], text, sizeof(text) - 1) > 0);
    pid_t pid = atoi(text);
    assert_true(pid > 1);
    assert_int_equal(kill(pid, 0), 0);
    assert_null(sign_hook_free(hook));
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(errno, ESRCH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_command_gets_request_name_and_kind),
        cmocka_unit_test(test_command_gets_no_secret_of_the_environment),
        cmocka_unit_test(test_command_that_does_not_read_is_no_failure),
        cmocka_unit_test(test_command_that_fails_is_reported),
        cmocka_unit_test(test_output_that_is_too_long_is_a_failure),
        cmocka_unit_test(test_child_of_the_command_does_not_delay_its_end),
        cmocka_unit_test(test_freed_hook_kills_the_command_and_its_children),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
