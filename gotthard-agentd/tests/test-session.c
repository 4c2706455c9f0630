/* SPDX-License-Identifier: ISC */
/*
 * session.c and worker-spawn.c: a session's process, as the listener sees it. The test is its own
 * worker, because a session runs /proc/self/exe. The exit code of the worker shows
 * whether it received the right parameters.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/exit-status.h"
#include "gotthard/base/log.h"
#include "session.h"
#include "worker.h"

/* --- the worker: its behavior depends on the operator's name */

static void ignore_signal(int number)
{
}

/* Returns 42 when the listener has closed its end. */
static int flood_with_reports(void)
{
    struct worker_report report = {.report.kind = GT_REPORT_UNREACHABLE};
    uint8_t bytes[WORKER_REPORT_SIZE];

    signal(SIGPIPE, SIG_IGN);
    worker_report_encode(&report, bytes);
    for (unsigned i = 0; i < 20 * SESSION_REPORTS_BURST; i++)
        if (write(WORKER_REPORTS_FD, bytes, sizeof(bytes)) < 0)
            return errno == EPIPE ? 42 : 96;
    return 95;
}

/* As worker-grant.c does. Exits if a grant has no service. */
static void apply_grants(void)
{
    struct session_info info;
    sigset_t change;
    int number;

    sigemptyset(&change);
    sigaddset(&change, WORKER_CHANGE);
    sigprocmask(SIG_BLOCK, &change, NULL);
    do {
        if (session_file_read(SESSION_FILE_FD, &info) != 0)
            exit(94);
        if (info.services.n == 0)
            exit(43);
        session_file_acknowledge(SESSION_FILE_FD, info.grant);
        session_info_deinit(&info);
    } while (sigwait(&change, &number) == 0);
}

static int worker(void)
{
    struct worker_parameters worker_parameters;
    struct sigaction action = {.sa_handler = ignore_signal};

    if (getenv("GOTTHARD_CRYPT_KEY") || getenv("NOTIFY_SOCKET") || !getenv("KEPT"))
        return 99;
    if (fcntl(SESSION_FILE_FD, F_GETFD) >= 0 && session_file_hold(SESSION_FILE_FD) < 0)
        return 97;
    if (worker_parameters_receive(WORKER_PARAMETERS_FD, &worker_parameters) != 0)
        return 3;
    if (strcmp(worker_parameters.operator_, "stubborn") == 0) {
        sigaction(SIGTERM, &action, NULL);
        for (;;)
            pause();
    }
    if (strcmp(worker_parameters.operator_, "applying") == 0)
        apply_grants();
    if (strcmp(worker_parameters.operator_, "waiting") == 0)
        pause();
    bool is_right = worker_parameters.services.n == 1 && worker_parameters.keys.session[0] == 0x5e;
    bool is_bye_unsent = strcmp(worker_parameters.operator_, "bye-unsent") == 0;
    bool is_failing = strcmp(worker_parameters.operator_, "failing") == 0;
    bool is_flooding = strcmp(worker_parameters.operator_, "flooding") == 0;
    worker_parameters_deinit(&worker_parameters);
    if (is_flooding)
        return flood_with_reports();
    if (is_bye_unsent)
        return GT_EXIT_BYE_UNSENT;
    if (is_failing)
        return GT_EXIT_INTERNAL;
    return is_right ? 0 : 98;
}

/* --- the tests */

int __real_memfd_create(const char *name, unsigned flags);
int __wrap_memfd_create(const char *name, unsigned flags);

static bool is_memfd_denied; /* as by a container's filter of system calls */

int __wrap_memfd_create(const char *name, unsigned flags)
{
    if (!is_memfd_denied)
        return __real_memfd_create(name, flags);
    errno = EPERM;
    return -1;
}

static const char *folder; /* of session files; NULL in most tests */

struct env {
    struct ev_loop *loop;
    unsigned n_ended, n_reports;
    int status, ending;
};

static void on_end(void *userdata, struct session *session)
{
    struct env *env = userdata;

    env->n_ended++;
    env->status = session->exit_status;
    env->ending = (int)session->ending;
    session_remove_file(session);
    session_free(session);
    ev_break(env->loop, EVBREAK_ALL);
}

static void on_report(void *userdata, struct session *session, const struct worker_report *report)
{
    struct env *env = userdata;

    env->n_reports++;
}

static struct session *start(struct env *env, const char *operator_)
{
    static const struct target service = {"ssh", {"127.0.0.1", 22}};
    static const uint8_t request_id[GT_REQ_ID_SIZE] = {9};
    static const struct lifelines none = {{-1, -1}, {-1, -1}};
    struct session_info info = {.device = "dev", .relay = {"main", {"relay.example.org", 7000}}};
    struct session *session;

    *env = (struct env){.loop = ev_default_loop(0), .status = -1};
    snprintf(info.operator_, sizeof(info.operator_), "%s", operator_);
    assert_int_equal(targets_add(&info.services, &service), 0);
    struct session_settings settings = {.info = &info,
                                        .request_id = request_id,
                                        .service = "ssh",
                                        .folder = folder,
                                        .lifelines = &none,
                                        .on_report = on_report};
    assert_int_equal(session_new(env->loop, &settings, on_end, env, &session), 0);
    assert_int_equal(session->state, SESSION_READY);
    return session;
}

static void begin(struct session *session)
{
    struct worker_parameters worker_parameters = {.lifetime_s = 60,
                                                  .services = session->info.services,
                                                  .relay = {"main", {"relay.example.org", 7000}}};

    snprintf(worker_parameters.operator_, sizeof(worker_parameters.operator_), "%s",
             session->info.operator_);
    worker_parameters.keys.session[0] = 0x5e;
    worker_parameters.keys.rid[0] = 0xab;
    assert_int_equal(session_start(session, &worker_parameters), 0);
    assert_string_equal(session->id, "ab000000");
    assert_int_equal(session->state, SESSION_RUNNING);
}

/* It must neither hold up the listener nor make it publish without end. */
static void test_reports_of_a_worker_are_limited(void **state)
{
    struct env env;

    begin(start(&env, "flooding"));
    ev_run(env.loop, 0);
    assert_in_range(env.n_reports, SESSION_REPORTS_BURST, SESSION_REPORTS_BURST + 20);
    assert_int_equal(WEXITSTATUS(env.status), 42);
}

static void test_start_sends_worker_its_parameters(void **state)
{
    struct env env;

    begin(start(&env, "alice"));
    ev_run(env.loop, 0);
    assert_int_equal(env.n_ended, 1);
    assert_int_equal(env.status, 0);
}

static void test_worker_without_parameters_exits(void **state)
{
    struct env env;
    struct session *session = start(&env, "alice");

    gt_close(&session->parameters);
    ev_run(env.loop, 0);
    assert_int_equal(env.status, 3 << 8);
}

static void test_close_sends_sigterm_once(void **state)
{
    struct env env;
    struct session *session = start(&env, "waiting");

    begin(session);
    session_close(session, "test");
    assert_true(session_is_closing(session));
    session_close(session, "twice is once");
    assert_int_equal(session->state, SESSION_CLOSING);
    ev_run(env.loop, 0);
    assert_int_equal(env.status, SIGTERM);
}

static void test_close_escalates_to_sigkill(void **state)
{
    struct env env;
    struct session *session = start(&env, "stubborn");

    begin(session);
    session_close(session, "test");
    ev_feed_event(env.loop, &session->deadline, EV_TIMER); /* instead of waiting */
    ev_run(env.loop, EVRUN_NOWAIT);
    if (!env.n_ended) { /* unless the signal arrived before the handler was installed */
        assert_int_equal(session->state, SESSION_TERMINATING);
        ev_feed_event(env.loop, &session->deadline, EV_TIMER);
        ev_run(env.loop, 0);
        assert_true(env.status == SIGKILL || env.status == SIGTERM);
    }
    assert_int_equal(env.n_ended, 1);
}

/* A worker that hangs is killed within a second, and its late BYE has the reason. */
static void test_withdraw_escalates_to_sigkill(void **state)
{
    struct env env;
    struct session *session = start(&env, "stubborn");

    begin(session);
    session_withdraw(session, "test");
    assert_true(session->is_withdrawn && session_is_closing(session));
    assert_int_equal(session->state, SESSION_WITHDRAWING);
    assert_true(ev_timer_remaining(env.loop, &session->deadline) <= 1.);
    ev_feed_event(env.loop, &session->deadline, EV_TIMER); /* instead of waiting */
    ev_run(env.loop, 0);
    assert_int_equal(env.n_ended, 1);
    assert_int_equal(env.ending, SESSION_ENDED_KILLED);
}

static void test_free_leaves_process_running(void **state)
{
    struct env env;
    struct session *session = start(&env, "waiting");
    pid_t pid = session->info.pid;

    begin(session);
    session_free(session);
    assert_int_equal(kill(pid, 0), 0);
    kill(pid, SIGKILL);
    assert_int_equal(env.n_ended, 0);
}

struct restored {
    struct env *env;
    struct session *session;
};

static void on_alive(void *userdata, struct session_info *info, int pidfd, const char *path)
{
    struct restored *restored = userdata;

    assert_null(restored->session);
    assert_int_equal(session_restore(restored->env->loop, info, pidfd, path, on_end, NULL,
                                     restored->env, &restored->session),
                     0);
}

static unsigned n_killed;

static void on_killed(void *userdata, struct session_info *info, const char *path)
{
    n_killed++;
    unlink(path);
    assert_int_equal(info->rid[0], 0xab);
    assert_string_equal(info->relay.address.host, "relay.example.org");
    assert_int_equal(info->relay.address.port, 7000);
    session_info_deinit(info);
}

static const struct session_file_events session_file_events = {on_alive, on_killed};

static unsigned count_files(const char *path)
{
    char command[128];
    unsigned n = 99;

    snprintf(command, sizeof(command), "ls %s | wc -l", path);
    FILE *pipe = popen(command, "r");
    assert_int_equal(fscanf(pipe, "%u", &n), 1);
    pclose(pipe);
    return n;
}

static void test_restore_live_session(void **state)
{
    char path[] = "/tmp/test-session.XXXXXX";
    struct env env;
    struct restored restored = {&env, NULL};

    folder = mkdtemp(path);
    struct session *session = start(&env, "waiting");
    begin(session);
    pid_t pid = session->info.pid;
    session_free(session); /* as when the listener ends */
    assert_int_equal(count_files(folder), 1);
    assert_int_equal(session_file_scan(folder, &session_file_events, &restored), 1);
    session = restored.session;
    assert_int_equal(session->info.pid, pid);
    assert_string_equal(session->info.operator_, "waiting");
    assert_string_equal(session->id, "ab000000");
    assert_int_equal(session->info.services.n, 1);
    assert_in_range(session->info.ends_at_ms, gt_clock_ms() + 50000, gt_clock_ms() + 60000);
    assert_int_equal(session->info.relay.address.port, 7000);
    session_close(session, "test");
    ev_run(env.loop, 0);
    assert_int_equal(env.n_ended, 1);
    assert_int_equal(env.ending, SESSION_ENDED_KILLED); /* this worker does not empty its file */
    assert_int_equal(count_files(folder), 0);
    rmdir(folder);
    folder = NULL;
}

static void test_finished_session_leaves_no_file(void **state)
{
    char path[] = "/tmp/test-session.XXXXXX", session_file_path[SESSION_FILE_PATH_MAX];
    struct env env;
    struct restored restored = {&env, NULL};

    folder = mkdtemp(path);
    begin(start(&env, "alice")); /* exits by itself: its file is removed */
    ev_run(env.loop, 0);
    assert_int_equal(count_files(folder), 0);
    /* as of a listener that was killed before it wrote the file */
    int fd = session_file_create(folder, session_file_path);
    assert_true(fd >= 0);
    assert_int_equal(session_file_scan(folder, &session_file_events, &restored), 0);
    assert_int_equal(count_files(folder), 1);
    close(fd);
    assert_int_equal(session_file_scan(folder, &session_file_events, &restored), 0);
    assert_int_equal(count_files(folder), 0);
    rmdir(folder);
    folder = NULL;
}

/* The worker is killed while no listener is running. */
static void test_scan_reports_killed_session(void **state)
{
    char path[] = "/tmp/test-session.XXXXXX";
    struct env env;
    struct restored restored = {&env, NULL};

    folder = mkdtemp(path);
    for (int is_emptied = 0; is_emptied < 2; is_emptied++) {
        struct session *session = start(&env, "waiting");

        begin(session);
        pid_t pid = session->info.pid;
        int fd = open(session->session_file_path, O_RDWR | O_CLOEXEC);
        assert_true(session_file_is_abandoned(session->session_file_path));
        if (is_emptied)
            session_file_clear(fd);
        session_free(session);
        close(fd);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        n_killed = 0;
        assert_int_equal(session_file_scan(folder, &session_file_events, &restored), 0);
        assert_int_equal(n_killed, !is_emptied);
        assert_int_equal(count_files(folder), 0);
    }
    rmdir(folder);
    folder = NULL;
}

static void test_ending_bye_unsent(void **state)
{
    struct env env;

    begin(start(&env, "bye-unsent"));
    ev_run(env.loop, 0);
    assert_int_equal(env.ending, SESSION_ENDED_BYE_UNSENT);
    begin(start(&env, "alice"));
    ev_run(env.loop, 0);
    assert_int_equal(env.ending, SESSION_ENDED_CLEANLY);
}

/* libev exits a process without memory in the middle of its work: no BYE is sent. */
static void test_ending_failed_worker_counts_as_killed(void **state)
{
    struct env env;

    begin(start(&env, "failing"));
    ev_run(env.loop, 0);
    assert_int_equal(env.status, GT_EXIT_INTERNAL << 8);
    assert_int_equal(env.ending, SESSION_ENDED_KILLED);
}

static void test_session_without_folder_runs(void **state)
{
    struct env env;

    folder = "/nonexistent";
    begin(start(&env, "alice"));
    ev_run(env.loop, 0);
    assert_int_equal(env.status, 0);
    folder = NULL;
}

static void change(struct session *session, unsigned n_services)
{
    static const struct target service = {"ssh", {"127.0.0.1", 2222}};
    struct targets services = {0};

    for (unsigned i = 0; i < n_services; i++)
        assert_int_equal(targets_add(&services, &service), 0);
    session_change(session, &services, "10.0.0.0/8:80", "test");
}

static void on_time(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    ev_break(loop, EVBREAK_ALL);
}

static void run_for(struct env *env, double seconds)
{
    ev_timer timer;

    ev_timer_init(&timer, on_time, seconds, 0.);
    ev_now_update(env->loop);
    ev_timer_start(env->loop, &timer);
    ev_run(env->loop, 0);
}

/* Runs until a change must be acknowledged. */
static void run_change(struct env *env)
{
    run_for(env, 2.2);
}

/* Twice by the listener that has started the worker, then by another one. Without a folder: by the
 * first only. */
static void check_change(bool has_folder)
{
    char path[] = "/tmp/test-session.XXXXXX";
    struct env env;
    struct restored restored = {&env, NULL};

    folder = has_folder ? mkdtemp(path) : NULL;
    struct session *session = start(&env, "applying");
    begin(session);
    for (unsigned i = 0; i < 2; i++) {
        change(session, 1);
        assert_int_equal(session->state, SESSION_CHANGING);
        run_change(&env);
        assert_int_equal(session->state, SESSION_RUNNING);
    }
    if (has_folder) {
        session_free(session);
        assert_int_equal(session_file_scan(folder, &session_file_events, &restored), 1);
        session = restored.session;
        assert_int_equal(session->state, SESSION_RUNNING);
        assert_int_equal(session->info.services.all[0].address.port, 2222);
        assert_string_equal(session->info.permit, "10.0.0.0/8:80");
    }
    change(session, 0);
    ev_run(env.loop, 0);
    assert_int_equal(env.n_ended, 1);
    assert_true(has_folder || WEXITSTATUS(env.status) == 43); /* the new grant arrived */
    if (has_folder) {
        assert_int_equal(count_files(folder), 0);
        rmdir(folder);
    }
    folder = NULL;
}

static void test_change_reaches_the_worker(void **state)
{
    check_change(true);
    check_change(false);
}

/* A worker that hangs, or of an earlier version. */
static void test_change_without_acknowledgement_withdraws(void **state)
{
    struct env env;
    struct session *session = start(&env, "waiting");

    begin(session);
    change(session, 1);
    while (env.n_ended == 0 && session->state != SESSION_WITHDRAWING)
        ev_run(env.loop, EVRUN_ONCE);
    assert_int_equal(env.n_ended, 0); /* the end frees the session */
    assert_true(session->is_withdrawn);
    ev_run(env.loop, 0);
    assert_int_equal(env.n_ended, 1);
}

/* It runs, and ends when its grant changes. */
static void test_session_without_any_file_runs(void **state)
{
    struct env env;

    is_memfd_denied = true;
    begin(start(&env, "alice"));
    ev_run(env.loop, 0);
    assert_int_equal(env.status, 0);
    struct session *session = start(&env, "waiting");
    begin(session);
    change(session, 1);
    assert_true(session->is_withdrawn);
    ev_run(env.loop, 0);
    assert_int_equal(env.n_ended, 1);
    is_memfd_denied = false;
}

/* The listener's number of the grant that a restored worker had applied, 255 changes later. */
static void test_change_after_all_numbers_is_not_acknowledged_before(void **state)
{
    char path[] = "/tmp/test-session.XXXXXX";
    struct env env;
    struct restored restored = {&env, NULL};

    folder = mkdtemp(path);
    struct session *session = start(&env, "applying");
    begin(session);
    change(session, 1);
    run_change(&env);
    session_free(session);
    assert_int_equal(session_file_scan(folder, &session_file_events, &restored), 1);
    session = restored.session;
    uint8_t applied = session->info.applied;
    assert_true(applied > 0);
    kill(session->info.pid, SIGSTOP);
    do
        change(session, 0);
    while (session->info.grant != applied);
    assert_false(session_file_is_acknowledged(-1, session->session_file_path));
    while (session->state == SESSION_CHANGING)
        ev_run(env.loop, EVRUN_ONCE);
    assert_int_equal(session->state, SESSION_WITHDRAWING);
    ev_run(env.loop, 0);
    assert_int_equal(env.n_ended, 1);
    assert_int_equal(count_files(folder), 0);
    rmdir(folder);
    folder = NULL;
}

/* A machine that swaps: its worker gets no processor for a second. */
static void test_slow_worker_applies_a_change(void **state)
{
    struct env env;
    struct session *session = start(&env, "applying");

    begin(session);
    kill(session->info.pid, SIGSTOP);
    change(session, 1);
    run_for(&env, 1.);
    assert_int_equal(session->state, SESSION_CHANGING);
    kill(session->info.pid, SIGCONT);
    run_for(&env, 1.5);
    assert_int_equal(session->state, SESSION_RUNNING);
    session_close(session, "test");
    ev_run(env.loop, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_start_sends_worker_its_parameters),
        cmocka_unit_test(test_worker_without_parameters_exits),
        cmocka_unit_test(test_close_sends_sigterm_once),
        cmocka_unit_test(test_close_escalates_to_sigkill),
        cmocka_unit_test(test_withdraw_escalates_to_sigkill),
        cmocka_unit_test(test_free_leaves_process_running),
        cmocka_unit_test(test_restore_live_session),
        cmocka_unit_test(test_finished_session_leaves_no_file),
        cmocka_unit_test(test_reports_of_a_worker_are_limited),
        cmocka_unit_test(test_scan_reports_killed_session),
        cmocka_unit_test(test_ending_bye_unsent),
        cmocka_unit_test(test_ending_failed_worker_counts_as_killed),
        cmocka_unit_test(test_session_without_folder_runs),
        cmocka_unit_test(test_session_without_any_file_runs),
        cmocka_unit_test(test_change_reaches_the_worker),
        cmocka_unit_test(test_change_without_acknowledgement_withdraws),
        cmocka_unit_test(test_change_after_all_numbers_is_not_acknowledged_before),
        cmocka_unit_test(test_slow_worker_applies_a_change),
    };

    if (argc == 2 && strcmp(argv[1], "--worker") == 0)
        return worker();
    setenv("GOTTHARD_CRYPT_KEY", "secret", 1);
    setenv("NOTIFY_SOCKET", "/nowhere", 1);
    setenv("KEPT", "1", 1);
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
