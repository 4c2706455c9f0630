/* SPDX-License-Identifier: ISC */
/* The access list in the state folder: what a restart finds, and what it must not accept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "gotthard/state/access-store.h"

static const uint8_t authority_key[GT_KEY_SIZE] = "the authority's private key ..";
static const uint8_t other_key[GT_KEY_SIZE] = "the private key of another one";

struct fixture {
    char folder[64];
    uint8_t authority[GT_KEY_SIZE], other[GT_KEY_SIZE];
    struct gt_access_store store;
    char why[GT_ACCESS_STORE_WHY];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    *state = f;
    if (!f || gt_ed25519_public(authority_key, f->authority) ||
        gt_ed25519_public(other_key, f->other))
        return -1;
    snprintf(f->folder, sizeof(f->folder), "/tmp/gotthard-access-XXXXXX");
    return mkdtemp(f->folder) ? 0 : -1;
}

static void path_of(const struct fixture *f, const char *name, char *ret)
{
    snprintf(ret, 96, "%s/%s", f->folder, name);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char path[96];

    gt_access_store_deinit(&f->store);
    path_of(f, "access.list", path);
    unlink(path);
    path_of(f, "access.serial", path);
    unlink(path);
    rmdir(f->folder);
    free(f);
    return 0;
}

static int start(struct fixture *f)
{
    gt_access_store_deinit(&f->store);
    return gt_access_store_init(&f->store, f->folder, f->authority, f->why);
}

static int take(struct fixture *f, unsigned serial, const uint8_t *key)
{
    char text[80], why[GT_ACCESS_WHY], *whole = NULL;
    size_t n = 0;

    snprintf(text, sizeof(text), "serial %u\nissued 2026-11-30T14:05:00Z\nrevoked o:bob\n", serial);
    assert_int_equal(gt_access_list_sign(gt_span_text(text), key, &whole, &n, why), 0);
    int r = gt_access_store_take(&f->store, gt_span(whole, n), f->why);
    free(whole);
    return r;
}

static void write_file(const struct fixture *f, const char *name, const char *text)
{
    char path[96];

    path_of(f, name, path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static char *read_file(const struct fixture *f, const char *name)
{
    static char text[1024];
    char path[96];

    path_of(f, name, path);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = 0;
    fclose(file);
    return text;
}

static void test_store_without_a_list(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(start(f), 0);
    assert_null(f->store.list);
    assert_int_equal(gt_access_store_serial(&f->store), 0);
    assert_int_equal(gt_access_store_save(&f->store, f->why), 0);
}

static void test_list_survives_a_restart(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(start(f), 0);
    assert_int_equal(take(f, 7, authority_key), 0);
    assert_int_equal(gt_access_store_save(&f->store, f->why), 0);
    assert_int_equal(start(f), 0);
    assert_int_equal(gt_access_store_serial(&f->store), 7);
    assert_true(gt_access_list_is_revoked(f->store.list, true, "bob"));
}

static void test_take_needs_a_greater_serial_of_the_authority(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(start(f), 0);
    assert_int_equal(take(f, 7, authority_key), 0);
    assert_int_equal(take(f, 7, authority_key), GT_ACCESS_STORE_E_OLD);
    assert_int_equal(take(f, 6, authority_key), GT_ACCESS_STORE_E_OLD);
    assert_int_equal(take(f, 8, other_key), GT_ACCESS_STORE_E_BAD);
    assert_string_equal(f->why, "not signed by the configured authority, or changed since");
    assert_int_equal(gt_access_store_serial(&f->store), 7);
    assert_int_equal(take(f, 9, authority_key), 0);
    assert_int_equal(gt_access_store_serial(&f->store), 9);
}

/* Only the list that was in force, or a newer one, replaces a damaged file. */
static void test_damaged_list_is_reported_and_leaves_none(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(start(f), 0);
    assert_int_equal(take(f, 7, authority_key), 0);
    assert_int_equal(gt_access_store_save(&f->store, f->why), 0);
    char *text = read_file(f, "access.list");
    text[10] ^= 1;
    write_file(f, "access.list", text);
    assert_int_equal(start(f), GT_ACCESS_STORE_E_FILE);
    assert_non_null(strstr(f->why, "access.list: not signed by the configured authority"));
    assert_null(f->store.list);
    assert_int_equal(take(f, 6, authority_key), GT_ACCESS_STORE_E_OLD);
    assert_int_equal(take(f, 7, authority_key), 0);
}

static void test_older_or_missing_list_is_not_used(void **state)
{
    struct fixture *f = *state;
    char old[1024], path[96];

    assert_int_equal(start(f), 0);
    assert_int_equal(take(f, 6, authority_key), 0);
    assert_int_equal(gt_access_store_save(&f->store, f->why), 0);
    snprintf(old, sizeof(old), "%s", read_file(f, "access.list"));
    assert_int_equal(take(f, 7, authority_key), 0);
    assert_int_equal(gt_access_store_save(&f->store, f->why), 0);
    write_file(f, "access.list", old);
    assert_int_equal(start(f), GT_ACCESS_STORE_E_FILE);
    assert_non_null(strstr(f->why, "serial 7 was in force, and this list is older"));
    assert_null(f->store.list);
    path_of(f, "access.list", path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(start(f), GT_ACCESS_STORE_E_FILE);
    assert_non_null(strstr(f->why, "serial 7 was in force, and there is no list"));
    assert_int_equal(take(f, 6, authority_key), GT_ACCESS_STORE_E_OLD);
}

static void test_damaged_serial_is_reported(void **state)
{
    static const char *const texts[] = {"x\n", "7\n", "7 gk1a.x\n", "0 gk1a.x\n", "7"};
    struct fixture *f = *state;

    for (size_t i = 0; i < GT_ARRAY_SIZE(texts); i++) {
        write_file(f, "access.serial", texts[i]);
        assert_int_equal(start(f), GT_ACCESS_STORE_E_FILE);
        assert_non_null(strstr(f->why, "access.serial: damaged"));
    }
}

/* The serials of another authority begin anew. */
static void test_serial_of_another_authority_counts_for_nothing(void **state)
{
    struct fixture *f = *state;
    char path[96];

    assert_int_equal(start(f), 0);
    assert_int_equal(take(f, 7, authority_key), 0);
    assert_int_equal(gt_access_store_save(&f->store, f->why), 0);
    memcpy(f->authority, f->other, sizeof(f->authority));
    assert_int_equal(start(f), GT_ACCESS_STORE_E_FILE); /* the list is of the other one */
    path_of(f, "access.list", path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(start(f), 0);
    assert_int_equal(take(f, 1, other_key), 0);
}

static void test_list_that_cannot_be_stored_is_in_force_and_tried_again(void **state)
{
    struct fixture *f = *state;
    char path[96];

    assert_int_equal(start(f), 0);
    path_of(f, "access.list", path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(take(f, 7, authority_key), 0);
    assert_int_equal(gt_access_store_save(&f->store, f->why), GT_ACCESS_STORE_E_FILE);
    assert_int_equal(gt_access_store_serial(&f->store), 7);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(gt_access_store_save(&f->store, f->why), 0);
    assert_int_equal(start(f), 0);
    assert_int_equal(gt_access_store_serial(&f->store), 7);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_store_without_a_list),
        TEST(test_list_survives_a_restart),
        TEST(test_take_needs_a_greater_serial_of_the_authority),
        TEST(test_damaged_list_is_reported_and_leaves_none),
        TEST(test_older_or_missing_list_is_not_used),
        TEST(test_damaged_serial_is_reported),
        TEST(test_serial_of_another_authority_counts_for_nothing),
        TEST(test_list_that_cannot_be_stored_is_in_force_and_tried_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
