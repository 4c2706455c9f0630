/* SPDX-License-Identifier: ISC */
#include "device-table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static struct gt_state state_of(bool is_online, uint64_t seq)
{
    struct gt_state state = {.is_online = is_online, .seq = seq};

    state.extensions.version = gt_span_text("1\n2");
    state.extensions.services[0] = gt_span_text("ssh");
    state.extensions.services[1] = gt_span_text("web");
    state.extensions.n_services = 2;
    return state;
}

static void assert_counts(const struct device_table *table, size_t n_authentic, size_t n_foreign,
                          size_t n_unknown, size_t n_online)
{
    assert_int_equal(table->n_authentic, n_authentic);
    assert_int_equal(table->n_foreign, n_foreign);
    assert_int_equal(table->n_unknown, n_unknown);
    assert_int_equal(table->n_online, n_online);
}

static void test_device_table_counts_each_device_once(void **unused)
{
    struct device_table table = {0};
    struct gt_state online = state_of(true, 5), offline = state_of(false, 6);

    assert_non_null(device_table_expect(&table, "a"));
    assert_counts(&table, 0, 0, 1, 0);
    assert_non_null(device_table_add(&table, "a", NULL, true));
    assert_counts(&table, 0, 1, 0, 0);
    assert_null(device_table_add(&table, "a", NULL, true));
    assert_non_null(device_table_add(&table, "a", &online, true));
    assert_counts(&table, 1, 0, 0, 1);
    assert_null(device_table_add(&table, "a", NULL, true));
    assert_null(device_table_add(&table, "a", &offline, true));
    assert_counts(&table, 1, 0, 0, 0);
    assert_string_equal(device_table_find(&table, "a")->services, "ssh web");
    assert_null(strchr(device_table_find(&table, "a")->version, '\n'));
    device_table_deinit(&table);
}

/* In order, each key once, and only those that are well-formed. */
static void test_device_table_with_tags(void **unused)
{
    static const char *const tags[] = {"site=zurich", "role=gateway", "role=spare", "a b=c", "x"};
    struct device_table table = {0};
    struct gt_state state = state_of(true, 1);

    for (size_t i = 0; i < GT_ARRAY_SIZE(tags); i++)
        state.extensions.tags[state.extensions.n_tags++] = gt_span_text(tags[i]);
    device_table_add(&table, "a", &state, true);
    assert_string_equal(device_table_find(&table, "a")->tags, "role=gateway site=zurich");
    assert_string_equal(device_table_find(&table, "a")->services, "ssh web");
    device_table_deinit(&table);
}

static void test_device_table_with_all_services(void **unused)
{
    struct device_table table = {0};
    struct gt_state state = state_of(true, 1);
    char name[GT_SERVICE_MAX + 1];

    memset(name, 'x', GT_SERVICE_MAX);
    name[GT_SERVICE_MAX] = 0;
    for (size_t i = 0; i < GT_SERVICES_MAX; i++)
        state.extensions.services[i] = gt_span_text(name);
    state.extensions.n_services = GT_SERVICES_MAX;
    device_table_add(&table, "a", &state, true);
    assert_int_equal(strlen(device_table_find(&table, "a")->services),
                     GT_SERVICES_MAX * (GT_SERVICE_MAX + 1) - 1);
    device_table_deinit(&table);
}

/* Invented devices do not take the room of real ones. */
static void test_device_table_limits(void **unused)
{
    struct device_table table = {0};
    struct gt_state state = state_of(true, 1);
    char name[32];

    for (int i = 0; i < DEVICE_TABLE_FOREIGN_MAX + 5; i++) {
        snprintf(name, sizeof(name), "foreign-%d", i);
        device_table_add(&table, name, NULL, true);
    }
    assert_int_equal(table.n_foreign, DEVICE_TABLE_FOREIGN_MAX);
    assert_int_equal(table.n_foreign_dropped, 5);
    for (int i = 0; i < DEVICE_TABLE_MAX + 3; i++) {
        snprintf(name, sizeof(name), "device-%d", i);
        device_table_add(&table, name, &state, true);
    }
    assert_int_equal(table.n_authentic, DEVICE_TABLE_MAX);
    assert_int_equal(table.n_dropped, 3);
    device_table_deinit(&table);
}

static void test_device_table_counts_devices_of_a_pass(void **unused)
{
    struct device_table table = {0};
    struct gt_state state = state_of(true, 1);

    device_table_begin_pass(&table);
    device_table_add(&table, "b", &state, true);
    device_table_add(&table, "a", &state, true);
    device_table_expect(&table, "unknown");
    assert_int_equal(table.n_in_pass, 2);
    device_table_begin_pass(&table);
    assert_int_equal(table.n_in_pass, 0);
    device_table_add(&table, "a", &state, true);
    device_table_add(&table, "a", &state, true);
    device_table_add(&table, "b", NULL, true);
    assert_int_equal(table.n_in_pass, 1);
    device_table_sort(&table);
    assert_string_equal(table.rows->name, "a");
    device_table_deinit(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_device_table_counts_each_device_once),
        cmocka_unit_test(test_device_table_with_tags),
        cmocka_unit_test(test_device_table_with_all_services),
        cmocka_unit_test(test_device_table_limits),
        cmocka_unit_test(test_device_table_counts_devices_of_a_pass),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
