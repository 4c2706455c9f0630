/* SPDX-License-Identifier: ISC */
/*
 * session-file.c and session-file-scan.c: the locks, the scan of files of live, killed and finished
 * workers, and files and folders that others may have planted.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "session-file.h"

static struct session_info sample(void)
{
    static const struct target service = {"ssh", {"127.0.0.1", 22}};
    struct session_info info = {.pid = getpid(),
                                .device = "dev",
                                .operator_ = "alice",
                                .is_signed = true,
                                .ends_at_ms = 0x0102030405060708,
                                .relay = {"main", {"relay.example.org", 7000}}};

    memset(info.rid, 0xab, sizeof(info.rid));
    memset(info.key_id, 0xbc, sizeof(info.key_id));
    memset(info.fingerprint, 0xcd, sizeof(info.fingerprint));
    assert_int_equal(targets_add(&info.services, &service), 0);
    return info;
}

static void assert_same(const struct session_info *a, const struct session_info *b)
{
    assert_int_equal(a->pid, b->pid);
    assert_string_equal(a->device, b->device);
    assert_string_equal(a->operator_, b->operator_);
    assert_memory_equal(a->rid, b->rid, sizeof(a->rid));
    assert_memory_equal(a->key_id, b->key_id, sizeof(a->key_id));
    assert_int_equal(a->is_signed, b->is_signed);
    assert_memory_equal(a->fingerprint, b->fingerprint, sizeof(a->fingerprint));
    assert_int_equal(a->ends_at_ms, b->ends_at_ms);
    assert_true(target_equals(&a->relay, &b->relay));
    assert_int_equal(a->services.n, b->services.n);
    for (size_t i = 0; i < a->services.n; i++)
        assert_true(target_equals(&a->services.all[i], &b->services.all[i]));
}

/* --- files */

struct env {
    char folder[32], path[SESSION_FILE_PATH_MAX];
    struct session_info info;
    int fd; /* has the lock of the listener, which the worker shares */
    pid_t worker;
    unsigned n_alive, n_killed;
};

static void on_alive(void *userdata, struct session_info *info, int pidfd, const char *path)
{
    struct env *env = userdata;

    env->n_alive++;
    assert_true(pidfd >= 0);
    assert_string_equal(path, env->path);
    assert_same(info, &env->info);
    session_info_deinit(info);
    close(pidfd);
}

static void on_killed(void *userdata, struct session_info *info, const char *path)
{
    struct env *env = userdata;

    env->n_killed++;
    assert_string_equal(path, env->path);
    assert_same(info, &env->info);
    session_info_deinit(info);
}

static unsigned scan(struct env *env)
{
    static const struct session_file_events events = {on_alive, on_killed};

    env->n_alive = env->n_killed = 0;
    return session_file_scan(env->folder, &events, env);
}

/* Starts a process that shares the file, as a worker does. @is_holding: with its own lock. */
static void start_worker(struct env *env, bool is_holding)
{
    int ready[2];
    char byte;

    assert_int_equal(pipe(ready), 0);
    env->worker = fork();
    assert_true(env->worker >= 0);
    if (env->worker == 0) {
        if (is_holding && session_file_hold(env->fd) < 0)
            _exit(1);
        close(ready[1]);
        pause();
        _exit(0);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 0);
    close(ready[0]);
    env->info.pid = env->worker;
}

static void stop_worker(struct env *env)
{
    if (!env->worker)
        return;
    kill(env->worker, SIGKILL);
    waitpid(env->worker, NULL, 0);
    env->worker = 0;
}

/* Returns true if the worker was sent a signal. */
static bool is_signalled(struct env *env)
{
    int status;

    if (waitpid(env->worker, &status, WNOHANG) == 0)
        return false;
    env->worker = 0;
    return WIFSIGNALED(status);
}

static bool has_file(const struct env *env)
{
    return access(env->path, F_OK) == 0;
}

static int setup(void **state)
{
    struct env *env = calloc(1, sizeof(*env));

    assert_non_null(env);
    snprintf(env->folder, sizeof(env->folder), "/tmp/test-session-file.XXXXXX");
    assert_non_null(mkdtemp(env->folder));
    env->info = sample();
    env->fd = session_file_create(env->folder, env->path);
    assert_true(env->fd >= 0);
    *state = env;
    return 0;
}

static int teardown(void **state)
{
    struct env *env = *state;

    stop_worker(env);
    gt_close(&env->fd);
    unlink(env->path);
    assert_int_equal(rmdir(env->folder), 0);
    session_info_deinit(&env->info);
    free(env);
    return 0;
}

static void test_create_makes_private_file(void **state)
{
    struct env *env = *state;
    struct stat status;
    char path[SESSION_FILE_PATH_MAX];

    assert_int_equal(stat(env->path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    assert_int_equal(session_file_create("/nonexistent", path), -ENOENT);
}

static void test_scan_locked_file_is_alive(void **state)
{
    struct env *env = *state;

    start_worker(env, true);
    assert_int_equal(session_file_write(env->fd, &env->info), 0);
    gt_close(&env->fd);
    assert_int_equal(scan(env), 1);
    assert_int_equal(env->n_alive, 1);
    assert_int_equal(env->n_killed, 0);
    assert_true(has_file(env));
}

static void test_scan_unlocked_file_is_killed(void **state)
{
    struct env *env = *state;

    assert_int_equal(session_file_write(env->fd, &env->info), 0);
    gt_close(&env->fd);
    assert_int_equal(scan(env), 0);
    assert_int_equal(env->n_alive, 0);
    assert_int_equal(env->n_killed, 1);
    assert_true(has_file(env)); /* the callee removes it */
}

static void test_scan_removes_unlocked_empty_file(void **state)
{
    struct env *env = *state;

    assert_int_equal(scan(env), 0);
    assert_true(has_file(env)); /* its listener may be about to write it */
    assert_int_equal(session_file_write(env->fd, &env->info), 0);
    assert_true(session_file_is_abandoned(env->path));
    session_file_clear(env->fd);
    assert_false(session_file_is_abandoned(env->path));
    gt_close(&env->fd);
    assert_int_equal(scan(env), 0);
    assert_int_equal(env->n_killed, 0);
    assert_false(has_file(env));
}

static void test_scan_removes_unlocked_damaged_file(void **state)
{
    struct env *env = *state;

    assert_int_equal(pwrite(env->fd, "damaged", 7, 0), 7);
    assert_int_equal(scan(env), 0);
    assert_true(has_file(env));
    gt_close(&env->fd);
    assert_int_equal(scan(env), 0);
    assert_int_equal(env->n_killed, 0);
    assert_false(has_file(env));
}

static void test_scan_skips_other_names(void **state)
{
    struct env *env = *state;
    char other[64];

    snprintf(other, sizeof(other), "%s/note.txt", env->folder);
    int fd = open(other, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    start_worker(env, true);
    assert_int_equal(session_file_write(env->fd, &env->info), 0);
    assert_int_equal(scan(env), 1);
    assert_int_equal(unlink(other), 0); /* still there */
}

static void test_scan_without_folder_finds_nothing(void **state)
{
    static const struct session_file_events events = {on_alive, on_killed};

    assert_int_equal(session_file_scan("/nonexistent", &events, NULL), 0);
}

/* --- what others may have planted */

/* The file names a process that does not hold its lock: that process is left alone. */
static void test_scan_ignores_a_process_that_does_not_hold_the_lock(void **state)
{
    struct env *env = *state;

    for (int is_holding = 0; is_holding < 2; is_holding++) {
        start_worker(env, is_holding);
        env->info.pid = getppid();
        assert_int_equal(session_file_write(env->fd, &env->info), 0);
        assert_int_equal(scan(env), 0);
        assert_int_equal(env->n_alive + env->n_killed, 0);
        if (!is_holding)
            assert_false(is_signalled(env));
        stop_worker(env);
    }
    assert_true(has_file(env));
}

static void test_scan_ends_a_worker_with_an_unreadable_file(void **state)
{
    struct env *env = *state;

    start_worker(env, true);
    assert_int_equal(pwrite(env->fd, "damaged", 7, 0), 7);
    assert_int_equal(scan(env), 0);
    while (!is_signalled(env))
        usleep(1000);
}

static void test_scan_leaves_a_worker_that_has_emptied_its_file(void **state)
{
    struct env *env = *state;

    start_worker(env, true);
    assert_int_equal(scan(env), 0);
    assert_false(is_signalled(env));
}

static void plant_mode(struct env *env)
{
    assert_int_equal(chmod(env->path, 0620), 0);
}

static void plant_public(struct env *env)
{
    assert_int_equal(chmod(env->path, 0602), 0);
}

static void plant_link(struct env *env)
{
    char other[SESSION_FILE_PATH_MAX + 8];

    snprintf(other, sizeof(other), "%s.other", env->path);
    assert_int_equal(link(env->path, other), 0);
}

static void plant_symlink(struct env *env)
{
    char other[SESSION_FILE_PATH_MAX + 8];

    snprintf(other, sizeof(other), "%s.other", env->path);
    assert_int_equal(rename(env->path, other), 0);
    assert_int_equal(symlink(other, env->path), 0);
}

static void plant_fifo(struct env *env)
{
    assert_int_equal(unlink(env->path), 0);
    assert_int_equal(mkfifo(env->path, 0600), 0);
}

static void plant_owner(struct env *env)
{
    assert_int_equal(chown(env->path, 65534, 65534), 0);
}

/* Neither the process in such a file is touched nor its relay. */
static void test_scan_ignores_files_of_doubtful_origin(void **state)
{
    static void (*const plants[])(struct env *) = {plant_mode,    plant_public, plant_link,
                                                   plant_symlink, plant_fifo,   plant_owner};

    for (size_t i = 0; i < 2 * GT_ARRAY_SIZE(plants); i++) {
        char other[SESSION_FILE_PATH_MAX + 8];
        struct env *env;

        if (plants[i / 2] == plant_owner && geteuid() != 0)
            continue;
        assert_int_equal(setup((void **)&env), 0);
        if (i % 2)
            start_worker(env, true);
        assert_int_equal(session_file_write(env->fd, &env->info), 0);
        gt_close(&env->fd);
        plants[i / 2](env);
        assert_int_equal(scan(env), 0);
        assert_int_equal(env->n_alive + env->n_killed, 0);
        assert_true(has_file(env));
        if (i % 2)
            assert_false(is_signalled(env));
        snprintf(other, sizeof(other), "%s.other", env->path);
        unlink(other);
        teardown((void **)&env);
    }
}

static bool is_trusted(const char *folder)
{
    char why[GT_PROTECTEDFILE_WHY] = "";

    bool is_trusted = gt_protectedfile_check_own_folder(folder, why) == 0;
    assert_int_equal(why[0] == 0, is_trusted);
    return is_trusted;
}

static void test_folder_check_refuses_folders_of_others(void **state)
{
    struct env *env = *state;
    char inner[64];

    assert_true(is_trusted(env->folder));
    assert_false(is_trusted("/nonexistent"));
    assert_false(is_trusted(env->path));
    for (mode_t mode = 0700; mode <= 01777; mode++) {
        assert_int_equal(chmod(env->folder, mode), 0);
        assert_int_equal(is_trusted(env->folder), (mode & 0722) == 0700);
        mode = mode == 0777 ? 01676 : mode; /* a sticky bit is not enough */
    }
    assert_int_equal(chmod(env->folder, 0777), 0);
    snprintf(inner, sizeof(inner), "%s/inner", env->folder);
    assert_int_equal(mkdir(inner, 0700), 0);
    assert_false(is_trusted(inner)); /* others can replace it */
    assert_int_equal(chmod(env->folder, 0700), 0);
    assert_true(is_trusted(inner));
    assert_int_equal(rmdir(inner), 0);
    if (geteuid() != 0)
        return;
    assert_int_equal(chown(env->folder, 65534, 65534), 0);
    assert_false(is_trusted(env->folder));
    assert_int_equal(chown(env->folder, 0, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_create_makes_private_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scan_locked_file_is_alive, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scan_unlocked_file_is_killed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scan_removes_unlocked_empty_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scan_removes_unlocked_damaged_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scan_skips_other_names, setup, teardown),
        cmocka_unit_test(test_scan_without_folder_finds_nothing),
        cmocka_unit_test_setup_teardown(test_scan_ignores_a_process_that_does_not_hold_the_lock,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_scan_ends_a_worker_with_an_unreadable_file, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_scan_leaves_a_worker_that_has_emptied_its_file, setup,
                                        teardown),
        cmocka_unit_test(test_scan_ignores_files_of_doubtful_origin),
        cmocka_unit_test_setup_teardown(test_folder_check_refuses_folders_of_others, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
