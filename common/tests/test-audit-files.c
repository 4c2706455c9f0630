/* SPDX-License-Identifier: ISC */
/* Reading an audit while it is written: the order, a rotation in between, and odd files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "gotthard/audit/audit-chain.h"
#include "gotthard/state/audit-files.h"

static char folder[64];
static struct gt_audit_log audit;

static int setup(void **state)
{
    snprintf(folder, sizeof(folder), "/tmp/gotthard-audit-XXXXXX");
    if (!mkdtemp(folder) || gt_audit_log_init(&audit, folder, 0, 0) != 0)
        return -1;
    gt_audit_log_configure(&audit, 4096, 3);
    return 0;
}

static int teardown(void **state)
{
    char path[96];

    gt_audit_log_deinit(&audit);
    for (unsigned n = 1; n < 5; n++) {
        snprintf(path, sizeof(path), "%s/audit.log.%u", folder, n);
        unlink(path);
    }
    snprintf(path, sizeof(path), "%s/audit.log", folder);
    unlink(path);
    return rmdir(folder);
}

static void write_n(unsigned n)
{
    while (n-- > 0)
        gt_audit_log_write(&audit, &(struct gt_audit_event){.kind = GT_AUDIT_RELOAD});
}

static struct gt_audit_chain read_all(struct gt_audit_files *files)
{
    struct gt_audit_chain chain;
    uint8_t bytes[1000];
    ssize_t n;

    gt_audit_chain_init(&chain, NULL, NULL);
    while ((n = gt_audit_files_read(files, bytes, sizeof(bytes))) > 0)
        assert_int_equal(gt_audit_chain_feed(&chain, gt_span(bytes, (size_t)n)), 0);
    assert_int_equal(n, 0);
    return chain;
}

static void test_files_are_read_from_the_oldest_line_on(void **state)
{
    struct gt_audit_files files;

    write_n(100);
    assert_int_equal(gt_audit_files_open(folder, &files), 0);
    assert_int_equal(files.n, 3);
    struct gt_audit_chain chain = read_all(&files);
    assert_true(gt_audit_chain_is_intact(&chain));
    assert_int_equal(chain.head.seq, 100);
    assert_int_equal(files.n, 0);
}

/* The descriptors keep the lines that are removed meanwhile. */
static void test_rotation_while_reading_loses_no_line(void **state)
{
    struct gt_audit_files files;

    write_n(30);
    assert_int_equal(gt_audit_files_open(folder, &files), 0);
    write_n(300);
    struct gt_audit_chain chain = read_all(&files);
    assert_true(gt_audit_chain_is_intact(&chain));
    assert_true(chain.head.seq >= 30);
}

static void test_empty_folder_has_no_lines(void **state)
{
    struct gt_audit_files files;

    assert_int_equal(gt_audit_files_open(folder, &files), 0);
    struct gt_audit_chain chain = read_all(&files);
    assert_int_equal(chain.n_lines, 0);
    gt_audit_files_close(&files);
}

static void test_other_kinds_of_files_are_rejected(void **state)
{
    struct gt_audit_files files;
    char path[96];

    snprintf(path, sizeof(path), "%s/audit.log", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(gt_audit_files_open(folder, &files), -EINVAL);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(gt_audit_files_open_one(path, &files), -ENOENT);
    write_n(1);
    assert_int_equal(gt_audit_files_open_one(path, &files), 0);
    struct gt_audit_chain chain = read_all(&files);
    assert_int_equal(chain.n_lines, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_files_are_read_from_the_oldest_line_on),
        TEST(test_rotation_while_reading_loses_no_line),
        TEST(test_empty_folder_has_no_lines),
        TEST(test_other_kinds_of_files_are_rejected),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
