/* SPDX-License-Identifier: ISC */
/* The changes of a row between two looks at it. */
#include "device-changes.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct device_row sample_row(void)
{
    return (struct device_row){.name = "gw-1",
                               .knowledge = DEVICE_AUTHENTIC,
                               .is_online = true,
                               .version = "1.0",
                               .services = "ssh",
                               .tags = "site=zurich"};
}

static void test_changes_of_each_part(void **state)
{
    static const struct selection all;
    struct device_changes *changes = device_changes_new(&all);
    struct device_row row = sample_row();

    assert_int_equal(device_changes_take(changes, &row), DEVICE_CHANGE_APPEARED);
    assert_int_equal(device_changes_take(changes, &row), 0);
    row.is_online = false;
    assert_int_equal(device_changes_take(changes, &row), DEVICE_CHANGE_ONLINE);
    row.n_sessions = 3;
    row.tags = "";
    assert_int_equal(device_changes_take(changes, &row),
                     DEVICE_CHANGE_SESSIONS | DEVICE_CHANGE_TAGS);
    row.services = "ssh web";
    row.version = "1.1";
    row.since = 1;
    assert_int_equal(device_changes_take(changes, &row),
                     DEVICE_CHANGE_SERVICES | DEVICE_CHANGE_VERSION);
    assert_int_equal(device_changes_take(changes, &row), 0);
    device_changes_free(changes);
}

static void test_changes_of_unknown_rows_are_none(void **state)
{
    static const struct selection all;
    struct device_changes *changes = device_changes_new(&all);
    struct device_row row = sample_row();

    row.knowledge = DEVICE_UNKNOWN;
    assert_int_equal(device_changes_take(changes, &row), 0);
    row.knowledge = DEVICE_FOREIGN;
    assert_int_equal(device_changes_take(changes, &row), 0);
    row.knowledge = DEVICE_AUTHENTIC;
    assert_int_equal(device_changes_take(changes, &row), DEVICE_CHANGE_APPEARED);
    device_changes_free(changes);
}

/* The change with which a device leaves the selection is the last one. */
static void test_changes_end_with_the_selection(void **state)
{
    struct selection selection = {0};

    assert_null(selection_add(&selection, "site=zurich"));
    struct device_changes *changes = device_changes_new(&selection);
    struct device_row row = sample_row(), other = sample_row();
    memcpy(other.name, "gw-2", sizeof("gw-2"));
    other.tags = "site=bern";
    assert_int_equal(device_changes_take(changes, &row), DEVICE_CHANGE_APPEARED);
    assert_int_equal(device_changes_take(changes, &other), 0);
    row.tags = "site=bern";
    assert_int_equal(device_changes_take(changes, &row),
                     DEVICE_CHANGE_TAGS | DEVICE_CHANGE_SELECTED);
    row.is_online = false;
    assert_int_equal(device_changes_take(changes, &row), 0);
    other.tags = "site=zurich";
    assert_int_equal(device_changes_take(changes, &other),
                     DEVICE_CHANGE_TAGS | DEVICE_CHANGE_SELECTED);
    device_changes_free(changes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changes_of_each_part),
        cmocka_unit_test(test_changes_of_unknown_rows_are_none),
        cmocka_unit_test(test_changes_end_with_the_selection),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
