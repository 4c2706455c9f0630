/* SPDX-License-Identifier: ISC */
/* The audit in a folder: rotation, restarts, power cuts, full disks, and other programs. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "gotthard/audit/audit-chain.h"
#include "gotthard/state/audit-log.h"

#define SIZE  4096u
#define FILES 3u

struct fixture {
    char folder[64];
    struct gt_audit_log log;
};

static const struct gt_audit_event reload = {.kind = GT_AUDIT_RELOAD, .reason = "reloaded"};
static const struct gt_audit_event asked = {.kind = GT_AUDIT_ASKED, .operator_ = "bob"};

static void start(struct fixture *f)
{
    gt_audit_log_deinit(&f->log);
    assert_int_equal(gt_audit_log_init(&f->log, f->folder, 0, 5), 0);
    gt_audit_log_configure(&f->log, SIZE, FILES);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    *state = f;
    if (!f)
        return -1;
    f->log.fd = -1;
    snprintf(f->folder, sizeof(f->folder), "/tmp/gotthard-audit-XXXXXX");
    if (!mkdtemp(f->folder))
        return -1;
    start(f);
    return 0;
}

static char *path_of(const struct fixture *f, unsigned n)
{
    static char path[96];

    if (n == 0)
        snprintf(path, sizeof(path), "%s/audit.log", f->folder);
    else
        snprintf(path, sizeof(path), "%s/audit.log.%u", f->folder, n);
    return path;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    gt_audit_log_deinit(&f->log);
    for (unsigned n = 0; n < 10; n++)
        unlink(path_of(f, n));
    int r = rmdir(f->folder); /* nothing else was left there */
    free(f);
    return r;
}

static bool exists(const struct fixture *f, unsigned n)
{
    return access(path_of(f, n), F_OK) == 0;
}

static off_t size_of(const struct fixture *f, unsigned n)
{
    struct stat status;

    assert_int_equal(stat(path_of(f, n), &status), 0);
    return status.st_size;
}

static char events[4096]; /* the first letter of each event */

static bool note(void *userdata, enum gt_audit_verdict verdict, struct gt_span line,
                 const struct gt_audit_line *decoded)
{
    events[strlen(events)] = decoded ? decoded->event[0] : '?';
    return true;
}

/* The chain of all files, the oldest first. */
static struct gt_audit_chain read_all(const struct fixture *f)
{
    struct gt_audit_chain chain;
    uint8_t bytes[4 * SIZE];

    memset(events, 0, sizeof(events));
    gt_audit_chain_init(&chain, note, NULL);
    for (unsigned n = 10; n-- > 0;) {
        int fd = gt_audit_log_open_file(f->folder, n);
        ssize_t got = fd < 0 ? 0 : read(fd, bytes, sizeof(bytes));

        assert_true(got >= 0 && (size_t)got < sizeof(bytes));
        assert_int_equal(gt_audit_chain_feed(&chain, gt_span(bytes, (size_t)got)), 0);
        gt_close(&fd);
    }
    assert_int_equal(gt_audit_chain_end(&chain), 0);
    return chain;
}

static void write_n(struct fixture *f, unsigned n)
{
    for (; n > 0; n--)
        gt_audit_log_write(&f->log, &reload);
}

static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0640);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void test_chain_continues_over_restarts(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 0; i < 4; i++) {
        write_n(f, 2);
        start(f);
    }
    struct gt_audit_chain chain = read_all(f);
    assert_true(gt_audit_chain_is_intact(&chain));
    assert_int_equal(chain.head.seq, 8);
}

static void test_file_has_mode_0640_whatever_the_umask_is(void **state)
{
    struct fixture *f = *state;
    struct stat status;
    mode_t mask = umask(0077);

    write_n(f, 1);
    umask(mask);
    assert_int_equal(stat(path_of(f, 0), &status), 0);
    assert_int_equal(status.st_mode & 07777, 0640);
}

static void test_files_are_rotated_and_bounded(void **state)
{
    struct fixture *f = *state;

    write_n(f, 200);
    assert_true(exists(f, 2));
    assert_false(exists(f, 3));
    for (unsigned n = 0; n < FILES; n++)
        assert_true(size_of(f, n) > 0 && size_of(f, n) <= (off_t)SIZE);
    struct gt_audit_chain chain = read_all(f);
    assert_true(gt_audit_chain_is_intact(&chain));
    assert_int_equal(chain.head.seq, 200);
    start(f);
    write_n(f, 1);
    chain = read_all(f);
    assert_true(gt_audit_chain_is_intact(&chain));
    assert_int_equal(chain.head.seq, 201);
}

static void test_restart_after_a_rotation_continues_the_file_before(void **state)
{
    struct fixture *f = *state;
    char from[96];

    write_n(f, 3);
    gt_audit_log_deinit(&f->log);
    snprintf(from, sizeof(from), "%s", path_of(f, 0));
    assert_int_equal(rename(from, path_of(f, 1)), 0); /* a power cut in the middle of a rotation */
    start(f);
    write_n(f, 1);
    struct gt_audit_chain chain = read_all(f);
    assert_true(gt_audit_chain_is_intact(&chain));
    assert_int_equal(chain.head.seq, 4);
}

static void test_one_file_is_enough(void **state)
{
    struct fixture *f = *state;

    gt_audit_log_configure(&f->log, SIZE, 1);
    write_n(f, 100);
    assert_false(exists(f, 1));
    assert_true(size_of(f, 0) <= (off_t)SIZE);
    struct gt_audit_chain chain = read_all(f);
    assert_true(gt_audit_chain_is_intact(&chain));
}

static void test_fewer_files_remove_the_oldest(void **state)
{
    struct fixture *f = *state;

    write_n(f, 200);
    gt_audit_log_configure(&f->log, SIZE, 2);
    assert_false(exists(f, 2));
    gt_audit_log_configure(&f->log, SIZE, 0); /* off: the files stay */
    assert_false(gt_audit_log_is_on(&f->log));
    off_t before = size_of(f, 0);
    write_n(f, 1);
    assert_int_equal(size_of(f, 0), before);
}

static void test_power_cut_leaves_a_torn_line_that_is_named(void **state)
{
    struct fixture *f = *state;

    write_n(f, 3);
    assert_int_equal(truncate(path_of(f, 0), size_of(f, 0) - 20), 0);
    start(f);
    write_n(f, 1);
    struct gt_audit_chain chain = read_all(f);
    assert_string_equal(events, "rr?tr");
    assert_true(gt_audit_chain_is_intact(&chain));
    assert_int_equal(chain.n_torn, 1);
}

static void test_blocks_that_were_never_written_are_named(void **state)
{
    struct fixture *f = *state;

    write_n(f, 3);
    assert_int_equal(truncate(path_of(f, 0), 2 * SIZE), 0); /* zeros */
    start(f);
    write_n(f, 1);
    struct gt_audit_chain chain = read_all(f);
    assert_true(gt_audit_chain_is_intact(&chain));
    assert_int_equal(chain.n_torn, 1);
    assert_int_equal(chain.head.seq, 5);
}

static void test_change_while_running_breaks_the_chain(void **state)
{
    struct fixture *f = *state;

    write_n(f, 3);
    int fd = open(path_of(f, 0), O_WRONLY);
    assert_int_equal(pwrite(fd, "9", 1, 7), 1); /* seq of the first line */
    close(fd);
    write_n(f, 1);
    struct gt_audit_chain chain = read_all(f);
    assert_false(gt_audit_chain_is_intact(&chain));
}

static void test_removed_end_breaks_the_chain(void **state)
{
    struct fixture *f = *state;

    write_n(f, 2);
    off_t two = size_of(f, 0);
    write_n(f, 1);
    assert_int_equal(truncate(path_of(f, 0), two), 0); /* a whole line is gone */
    write_n(f, 1);
    struct gt_audit_chain chain = read_all(f);
    assert_false(gt_audit_chain_is_intact(&chain));
    assert_int_equal(chain.head.seq, 4);
}

static void test_removed_file_is_written_again(void **state)
{
    struct fixture *f = *state;

    write_n(f, 2);
    unlink(path_of(f, 0));
    write_n(f, 1);
    struct gt_audit_chain chain = read_all(f);
    assert_string_equal(events, "r");
    assert_int_equal(chain.head.seq, 3);
}

static void test_full_disk_is_counted_and_named_afterwards(void **state)
{
    struct fixture *f = *state;
    struct rlimit before, full;

    signal(SIGXFSZ, SIG_IGN);
    write_n(f, 2);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    full = before;
    full.rlim_cur = (rlim_t)size_of(f, 0) + 30; /* a line fits in part */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
    write_n(f, 4);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(f->log.n_unwritten, 4);
    f->log.retry_at_ms = 0; /* a second later */
    gt_audit_log_tick(&f->log);
    assert_int_equal(f->log.n_unwritten, 0);
    write_n(f, 1);
    struct gt_audit_chain chain = read_all(f);
    assert_string_equal(events, "rrlr");
    assert_true(gt_audit_chain_is_intact(&chain));
}

static void test_missing_folder_is_counted_and_named_afterwards(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(rmdir(f->folder), 0);
    write_n(f, 3);
    assert_int_equal(f->log.n_unwritten, 3);
    assert_int_equal(mkdir(f->folder, 0700), 0);
    f->log.retry_at_ms = 0;
    write_n(f, 1);
    struct gt_audit_chain chain = read_all(f);
    assert_string_equal(events, "lr");
    assert_true(gt_audit_chain_is_intact(&chain));
}

static void test_flood_is_limited_and_counted(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 0; i < 12; i++)
        gt_audit_log_write(&f->log, &asked); /* 5 are permitted */
    write_n(f, 1);
    struct gt_audit_chain chain = read_all(f);
    assert_string_equal(events, "aaaaalr");
    assert_true(gt_audit_chain_is_intact(&chain));
    assert_int_equal(chain.n_lines, 7);
}

static void test_second_process_does_not_write(void **state)
{
    struct fixture *f = *state;
    struct gt_audit_log other;

    write_n(f, 1);
    assert_int_equal(gt_audit_log_init(&other, f->folder, 0, 5), 0);
    gt_audit_log_configure(&other, SIZE, FILES);
    gt_audit_log_write(&other, &reload);
    assert_int_equal(other.n_unwritten, 1);
    write_n(f, 1);
    struct gt_audit_chain chain = read_all(f);
    assert_true(gt_audit_chain_is_intact(&chain));
    assert_int_equal(chain.n_lines, 2);
    gt_audit_log_deinit(&other);
}

static void test_link_is_not_followed(void **state)
{
    struct fixture *f = *state;
    char target[96];

    snprintf(target, sizeof(target), "%s", path_of(f, 7));
    put(target, "not an audit\n");
    assert_int_equal(symlink(target, path_of(f, 0)), 0);
    write_n(f, 1);
    assert_int_equal(f->log.n_unwritten, 1);
    assert_int_equal(size_of(f, 7), strlen("not an audit\n"));
    unlink(path_of(f, 0));
    assert_int_equal(link(target, path_of(f, 0)), 0); /* nor a second name of another file */
    f->log.retry_at_ms = 0;
    write_n(f, 1);
    assert_int_equal(f->log.n_unwritten, 2);
}

static void test_without_a_folder_there_is_no_audit(void **state)
{
    struct gt_audit_log log;

    assert_int_equal(gt_audit_log_init(&log, NULL, 1, 1), 0);
    gt_audit_log_configure(&log, SIZE, FILES);
    assert_false(gt_audit_log_is_on(&log));
    gt_audit_log_write(&log, &reload);
    gt_audit_log_tick(&log);
    assert_int_equal(log.n_unwritten, 0);
    gt_audit_log_deinit(&log);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_chain_continues_over_restarts),
        TEST(test_file_has_mode_0640_whatever_the_umask_is),
        TEST(test_files_are_rotated_and_bounded),
        TEST(test_restart_after_a_rotation_continues_the_file_before),
        TEST(test_one_file_is_enough),
        TEST(test_fewer_files_remove_the_oldest),
        TEST(test_power_cut_leaves_a_torn_line_that_is_named),
        TEST(test_blocks_that_were_never_written_are_named),
        TEST(test_change_while_running_breaks_the_chain),
        TEST(test_removed_end_breaks_the_chain),
        TEST(test_removed_file_is_written_again),
        TEST(test_full_disk_is_counted_and_named_afterwards),
        TEST(test_missing_folder_is_counted_and_named_afterwards),
        TEST(test_flood_is_limited_and_counted),
        TEST(test_second_process_does_not_write),
        TEST(test_link_is_not_followed),
        cmocka_unit_test(test_without_a_folder_there_is_no_audit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
