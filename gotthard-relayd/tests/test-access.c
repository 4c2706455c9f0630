/* SPDX-License-Identifier: ISC */
/*
 * access.c: parts from clients, the list in the folder, after a change of settings and in a
 * snapshot.
 */
#include "limits/access.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define N_PARTS 3

static const uint8_t key[GT_KEY_SIZE] = "the authority's private key ..";
static const uint8_t other_key[GT_KEY_SIZE] = "the private key of another one";

static struct {
    uint8_t authority[GT_KEY_SIZE], other[GT_KEY_SIZE];
    char folder[64];
    struct access access;
} env;

static int set_up(void **state)
{
    memset(&env, 0, sizeof(env));
    assert_int_equal(gt_ed25519_public(key, env.authority), 0);
    assert_int_equal(gt_ed25519_public(other_key, env.other), 0);
    snprintf(env.folder, sizeof(env.folder), "/tmp/test-access-XXXXXX");
    assert_non_null(mkdtemp(env.folder));
    return 0;
}

static int tear_down(void **state)
{
    char command[96];

    access_deinit(&env.access);
    snprintf(command, sizeof(command), "rm -r %s", env.folder);
    assert_int_equal(system(command), 0);
    return 0;
}

struct part {
    uint8_t bytes[GT_ACCESS_PART_MAX];
    size_t n;
};

/* Makes a list that revokes o:@name, in N_PARTS parts. */
static void make_parts(const uint8_t *signer, uint64_t serial, const char *name,
                       struct part ret[static N_PARTS])
{
    char body[128], why[GT_ACCESS_WHY], *text;
    size_t n;

    snprintf(body, sizeof(body), "serial %llu\nissued 2026-11-30T14:05:00Z\nrevoked o:%s\n",
             (unsigned long long)serial, name);
    assert_int_equal(gt_access_list_sign(gt_span_text(body), signer, &text, &n, why), 0);
    for (size_t i = 0; i < N_PARTS; i++)
        assert_int_equal(gt_access_part_encode(signer, gt_span(text, n), serial, i, N_PARTS,
                                               ret[i].bytes, &ret[i].n),
                         0);
    free(text);
}

static enum access_result send_part(const struct part *part, uint64_t now_ms)
{
    return access_receive(&env.access, "g1:o:alice", gt_span(part->bytes, part->n), now_ms);
}

/* Returns the result of the last part. */
static enum access_result send_list(const uint8_t *signer, uint64_t serial, const char *name)
{
    enum access_result result = ACCESS_ADDED;
    struct part parts[N_PARTS];

    make_parts(signer, serial, name, parts);
    for (size_t i = 0; i < N_PARTS; i++)
        result = send_part(&parts[i], 0);
    return result;
}

static bool is_revoked(const char *name)
{
    const struct gt_access_list *list = access_list(&env.access);

    return list && gt_access_list_is_revoked(list, true, name);
}

static void test_list_without_an_authority_is_not_used(void **state)
{
    assert_int_equal(send_list(key, 1, "bob"), ACCESS_UNUSED);
    access_configure(&env.access, NULL, env.folder);
    assert_int_equal(send_list(key, 1, "bob"), ACCESS_UNUSED);
    assert_int_equal(access_serial(&env.access), 0);
    assert_null(access_list(&env.access));
    assert_false(access_is_pending(&env.access));
}

static void test_only_newer_lists_of_the_authority_come_into_force(void **state)
{
    access_configure(&env.access, env.authority, NULL);
    assert_int_equal(send_list(other_key, 9, "alice"), ACCESS_REJECTED);
    assert_null(access_list(&env.access));
    assert_int_equal(send_list(key, 5, "bob"), ACCESS_IN_FORCE);
    assert_true(is_revoked("bob"));
    assert_int_equal(send_list(key, 5, "bob"), ACCESS_KNOWN);
    assert_int_equal(send_list(key, 5, "alice"), ACCESS_OTHER);
    assert_int_equal(send_list(key, 4, "alice"), ACCESS_OTHER);
    assert_true(is_revoked("bob") && !is_revoked("alice"));
    assert_int_equal(access_serial(&env.access), 5);
    assert_int_equal(send_list(key, 6, "alice"), ACCESS_IN_FORCE);
    assert_true(is_revoked("alice") && !is_revoked("bob"));
}

/* Each bit of each part, and each length. */
static void test_damaged_part_changes_nothing(void **state)
{
    struct part parts[N_PARTS], damaged;

    access_configure(&env.access, env.authority, NULL);
    make_parts(key, 1, "bob", parts);
    for (size_t i = 0; i < parts[0].n; i++) {
        damaged = parts[0];
        damaged.bytes[i] ^= 1;
        assert_int_equal(send_part(&damaged, 0), ACCESS_REJECTED);
        damaged = parts[0];
        damaged.n = i;
        assert_int_equal(send_part(&damaged, 0), ACCESS_REJECTED);
    }
    assert_false(access_is_pending(&env.access));
    for (size_t i = 0; i < N_PARTS; i++)
        assert_int_equal(send_part(&parts[i], 0), i < N_PARTS - 1 ? ACCESS_ADDED : ACCESS_IN_FORCE);
}

static void test_incomplete_list_is_dropped_after_a_minute(void **state)
{
    struct part parts[N_PARTS];

    access_configure(&env.access, env.authority, NULL);
    make_parts(key, 1, "bob", parts);
    assert_int_equal(send_part(&parts[0], 1000), ACCESS_ADDED);
    assert_int_equal(send_part(&parts[0], 2000), ACCESS_REPEATED);
    assert_true(access_is_pending(&env.access));
    access_tick(&env.access, 60999);
    assert_true(access_is_pending(&env.access));
    access_tick(&env.access, 61000);
    assert_false(access_is_pending(&env.access));
    assert_int_equal(send_part(&parts[1], 62000), ACCESS_ADDED);
    assert_int_equal(send_part(&parts[2], 62000), ACCESS_ADDED);
    assert_int_equal(send_part(&parts[0], 62000), ACCESS_IN_FORCE);
}

static void test_list_is_read_again_from_the_folder(void **state)
{
    access_configure(&env.access, env.authority, env.folder);
    assert_int_equal(send_list(key, 3, "bob"), ACCESS_IN_FORCE);
    assert_false(access_is_pending(&env.access));
    access_deinit(&env.access);
    access_configure(&env.access, env.authority, env.folder);
    assert_true(is_revoked("bob"));
    assert_int_equal(send_list(key, 2, "alice"), ACCESS_OTHER);
    assert_int_equal(send_list(key, 3, "bob"), ACCESS_KNOWN);
}

/* Its serial is still known, so that no older list takes its place. */
static void test_damaged_file_is_not_used_and_lowers_nothing(void **state)
{
    char path[96];

    access_configure(&env.access, env.authority, env.folder);
    assert_int_equal(send_list(key, 3, "bob"), ACCESS_IN_FORCE);
    access_deinit(&env.access);
    snprintf(path, sizeof(path), "%s/access.list", env.folder);
    assert_int_equal(truncate(path, 50), 0);
    access_configure(&env.access, env.authority, env.folder);
    assert_null(access_list(&env.access));
    assert_int_equal(access_serial(&env.access), 3);
    assert_int_equal(send_list(key, 2, "alice"), ACCESS_OTHER);
    assert_int_equal(send_list(key, 3, "bob"), ACCESS_IN_FORCE);
}

static void test_list_is_in_force_and_stored_later_if_the_folder_fails(void **state)
{
    char away[80];

    access_configure(&env.access, env.authority, env.folder);
    snprintf(away, sizeof(away), "%s.away", env.folder);
    assert_int_equal(rename(env.folder, away), 0);
    assert_int_equal(send_list(key, 1, "bob"), ACCESS_IN_FORCE);
    assert_true(is_revoked("bob") && access_is_pending(&env.access));
    access_tick(&env.access, 0);
    assert_true(access_is_pending(&env.access));
    assert_int_equal(rename(away, env.folder), 0);
    access_tick(&env.access, 0);
    assert_false(access_is_pending(&env.access));
}

static void test_folder_of_other_users_is_not_used(void **state)
{
    access_configure(&env.access, env.authority, env.folder);
    assert_int_equal(send_list(key, 1, "alice"), ACCESS_IN_FORCE);
    access_deinit(&env.access);
    assert_int_equal(chmod(env.folder, 0777), 0);
    access_configure(&env.access, env.authority, env.folder);
    assert_null(access_list(&env.access));
    assert_int_equal(send_list(key, 1, "bob"), ACCESS_IN_FORCE);
}

static void test_change_of_settings_keeps_the_list_of_the_same_authority(void **state)
{
    access_configure(&env.access, env.authority, NULL);
    assert_int_equal(send_list(key, 2, "bob"), ACCESS_IN_FORCE);
    access_configure(&env.access, env.authority, NULL);
    assert_true(is_revoked("bob"));
    access_configure(&env.access, env.authority, env.folder);
    assert_true(is_revoked("bob"));
    assert_false(access_is_pending(&env.access)); /* it is stored now */
    access_configure(&env.access, env.other, env.folder);
    assert_null(access_list(&env.access));
    access_configure(&env.access, env.authority, env.folder);
    assert_true(is_revoked("bob"));
    access_configure(&env.access, NULL, NULL);
    assert_null(access_list(&env.access));
}

/* Reads the list of @text as the next image does. */
static void restore(const uint8_t *bytes, size_t n)
{
    struct gt_reader reader = gt_reader(bytes, n);
    struct saved_access saved;

    assert_int_equal(gt_read_u8(&reader), SAVED_ACCESS);
    saved_layout_read(&access_layout, &reader, &saved);
    assert_true(gt_reader_is_done(&reader));
    access_restore(&env.access, &saved);
}

static void test_snapshot_carries_the_list(void **state)
{
    uint8_t bytes[1024];
    struct gt_writer writer = gt_writer(bytes, sizeof(bytes));

    access_configure(&env.access, env.authority, NULL);
    access_save(&env.access, &writer);
    assert_int_equal(writer.n, 0);
    assert_int_equal(send_list(key, 2, "bob"), ACCESS_IN_FORCE);
    access_save(&env.access, &writer);
    access_deinit(&env.access);
    access_configure(&env.access, env.authority, NULL);
    restore(bytes, writer.n);
    assert_true(is_revoked("bob"));
    assert_int_equal(send_list(key, 3, "alice"), ACCESS_IN_FORCE);
    restore(bytes, writer.n);
    assert_true(is_revoked("alice"));
    access_configure(&env.access, env.other, NULL);
    restore(bytes, writer.n);
    assert_null(access_list(&env.access));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_list_without_an_authority_is_not_used),
        TEST(test_only_newer_lists_of_the_authority_come_into_force),
        TEST(test_damaged_part_changes_nothing),
        TEST(test_incomplete_list_is_dropped_after_a_minute),
        TEST(test_list_is_read_again_from_the_folder),
        TEST(test_damaged_file_is_not_used_and_lowers_nothing),
        TEST(test_list_is_in_force_and_stored_later_if_the_folder_fails),
        TEST(test_folder_of_other_users_is_not_used),
        TEST(test_change_of_settings_keeps_the_list_of_the_same_authority),
        TEST(test_snapshot_carries_the_list),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
