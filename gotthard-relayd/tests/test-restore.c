/* SPDX-License-Identifier: ISC */
/*
 * restore.c: a state that is accepted or rejected, its secrets, and the descriptors that a
 * take-over keeps and closes. Each take-over runs in a child process, because it closes
 * descriptors.
 */
#include "upgrade/restore.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "gotthard/config/config.h"
#include "upgrade/snapshot-format.h"

struct state {
    int listener; /* the descriptor in the state */
    bool is_damaged;
};

static void write_record(struct gt_writer *writer, const struct saved_record *record)
{
    snapshot_format_write_record(writer, record);
}

static void write_state(void *userdata, struct gt_writer *writer)
{
    const struct state *state = userdata;
    const struct gt_addr bind = {.n = sizeof(struct sockaddr_in), .v4 = {.sin_family = AF_INET}};

    snapshot_format_write_head(writer);
    write_record(writer, &(struct saved_record){.kind = SAVED_RELAY});
    write_record(writer, &(struct saved_record){.kind = SAVED_SECRET,
                                                .secret = {"GOTTHARD_TEST_SECRET", "sesame"}});
    write_record(writer, &(struct saved_record){.kind = SAVED_MAIN_LISTENER,
                                                .main_listener = {state->listener}});
    write_record(writer,
                 &(struct saved_record){.kind = SAVED_REGISTRY, .registry = {.bind = bind}});
    write_record(writer, &(struct saved_record){.kind = SAVED_PORTS});
    write_record(writer, &(struct saved_record){.kind = SAVED_QUOTA});
    if (!state->is_damaged)
        write_record(writer, &(struct saved_record){.kind = SAVED_END});
}

static struct memfd new_state(const struct state *state)
{
    struct memfd memfd;

    assert_int_equal(memfd_new(write_state, (void *)state, &memfd), 0);
    return memfd;
}

static void on_secret(void *userdata, const char *variable, const char *text)
{
    *(bool *)userdata |=
        strcmp(variable, "GOTTHARD_TEST_SECRET") == 0 && strcmp(text, "sesame") == 0;
}

static void test_restore_rehearsal_keeps_secrets_and_ignores_descriptors(void **state)
{
    struct memfd memfd = new_state(&(struct state){.listener = 99999});
    struct restore restore;
    bool is_found = false;

    assert_int_equal(restore_rehearse(memfd.fd, &restore), 0);
    assert_true(restore_is_pending(&restore));
    assert_int_equal(restore_state(&restore).n, memfd.n);
    gt_config_each_taken(on_secret, &is_found);
    assert_true(is_found);
    memfd.fd = -1; /* taken */
    restore_deinit(&restore);
    assert_false(restore_is_pending(&restore));
    restore_deinit(&restore); /* no effect the second time */
    memfd_close(&memfd);
}

static void test_restore_rejects_invalid_states(void **state)
{
    struct memfd damaged = new_state(&(struct state){.listener = 10, .is_damaged = true});
    struct restore restore = {.memfd = {.fd = -7}};
    int file = open("/dev/null", O_RDONLY | O_CLOEXEC);

    assert_int_equal(restore_rehearse(-1, &restore), RESTORE_E_REJECTED);
    assert_int_equal(restore_rehearse(file, &restore), RESTORE_E_REJECTED);
    assert_int_equal(restore_rehearse(damaged.fd, &restore), RESTORE_E_REJECTED);
    assert_int_equal(restore.memfd.fd, -7); /* untouched */
    damaged.fd = -1;                        /* closed with the state */
    memfd_close(&damaged);
    close(file);
}

/* Takes over a state with @listener in a child. Returns a bit set: 1 accepted, 2 the listener is
 * open and close-on-exec, 4 @other is closed, 8 the standard streams are open. */
static int take_over(int listener, int other)
{
    struct memfd memfd = new_state(&(struct state){.listener = listener});
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0) {
        struct restore restore;
        int r = restore_take_over(memfd.fd, &restore);
        int flags = fcntl(listener, F_GETFD);

        _exit((r == 0) | (flags >= 0 && flags & FD_CLOEXEC) << 1 |
              (fcntl(other, F_GETFD) < 0) << 2 | (fcntl(STDERR_FILENO, F_GETFD) >= 0) << 3);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    memfd_close(&memfd);
    return WEXITSTATUS(status);
}

static void test_restore_take_over_keeps_own_descriptors_only(void **state)
{
    int sockets[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
    for (size_t i = 0; i < 2; i++) /* the other one is below or above */
        assert_int_equal(take_over(sockets[i], sockets[1 - i]), 1 | 2 | 4 | 8);
    close(sockets[0]);
    close(sockets[1]);
}

static void test_restore_take_over_rejects_other_types_and_closed_descriptors(void **state)
{
    int fds[2], other = open("/dev/null", O_RDONLY);

    assert_int_equal(pipe(fds), 0);
    assert_int_equal(take_over(fds[0], other) & 1, 0);
    assert_int_equal(take_over(99999, other) & 1, 0);
    close(fds[0]);
    close(fds[1]);
    close(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_restore_rehearsal_keeps_secrets_and_ignores_descriptors),
        cmocka_unit_test(test_restore_rejects_invalid_states),
        cmocka_unit_test(test_restore_take_over_keeps_own_descriptors_only),
        cmocka_unit_test(test_restore_take_over_rejects_other_types_and_closed_descriptors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
