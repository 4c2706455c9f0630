/* SPDX-License-Identifier: ISC */
/* failure.c: each id has its documented exit status, and a hint. */
#include "failure-table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    enum failure_id id;
    int exit;
} rows[] = {
    {FAILURE_CONFIG, 78},
    {FAILURE_KEY, 78},
    {FAILURE_CLOCK, 78},
    {FAILURE_CERTIFICATE, 78},
    {FAILURE_AUTHORITY, 78},
    {FAILURE_LIST_NEWER, 77},
    {FAILURE_CA, 78},
    {FAILURE_ENROLMENT, 77},
    {FAILURE_NAME, 77},
    {FAILURE_NO_COUNTERPART, 69},
    {FAILURE_AUDIT_BROKEN, 76},
    {FAILURE_AUDIT_UNREADABLE, 69},
    {FAILURE_LIST_NOT_EVERYWHERE, 75},
    {FAILURE_BROKER_UNREACHABLE, 69},
    {FAILURE_BROKER_UNTRUSTED, 77},
    {FAILURE_BROKER_FOREIGN, 76},
    {FAILURE_BROKER_REFUSED, 77},
    {FAILURE_UNKNOWN_DEVICE, 69},
    {FAILURE_OFFLINE, 69},
    {FAILURE_NO_ANSWER, 69},
    {FAILURE_UNTRUSTED, 77},
    {FAILURE_DENIED, 77},
    {FAILURE_NO_SERVICE, 77},
    {FAILURE_QUOTA, 75},
    {FAILURE_NO_RELAY, 77},
    {FAILURE_DEVICE_INTERNAL, 75},
    {FAILURE_WITHDRAWN, 77},
    {FAILURE_VERSION, 76},
    {FAILURE_RELAY_UNREACHABLE, 69},
    {FAILURE_RELAY_REFUSED, 77},
    {FAILURE_RELAY_FULL, 75},
    {FAILURE_RELAY_ERROR, 76},
    {FAILURE_RELAY_LIMIT, 75},
    {FAILURE_PORT_BUSY, 75},
    {FAILURE_BIND, 77},
    {FAILURE_TUNNEL_LOST, 69},
    {FAILURE_DEVICE_LOST, 69},
    {FAILURE_TUNNEL_IDLE, 69},
    {FAILURE_TUNNEL_EXPIRED, 69},
    {FAILURE_INTERNAL, 70},
};

static void test_failure_table_has_exit_and_hint(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        struct failure failure;

        assert_int_equal(failure_set(&failure, rows[i].id, NULL, "%s %d", "why", 7), 1);
        assert_int_equal(failure.id, rows[i].id);
        assert_string_equal(failure.message, "why 7");
        assert_true(strlen(failure.hint) > 0);
        assert_int_equal(failure_exit(rows[i].id), rows[i].exit);
    }
}

/* The compiler rejects this function if an id of the enum is missing. */
static bool is_id(int number)
{
    switch ((enum failure_id)number) {
    case FAILURE_CONFIG:
    case FAILURE_KEY:
    case FAILURE_USAGE:
    case FAILURE_CLOCK:
    case FAILURE_CERTIFICATE:
    case FAILURE_AUTHORITY:
    case FAILURE_LIST_NEWER:
    case FAILURE_CA:
    case FAILURE_ENROLMENT:
    case FAILURE_NAME:
    case FAILURE_NO_COUNTERPART:
    case FAILURE_AUDIT_BROKEN:
    case FAILURE_AUDIT_UNREADABLE:
    case FAILURE_LIST_NOT_EVERYWHERE:
    case FAILURE_BROKER_UNREACHABLE:
    case FAILURE_BROKER_UNTRUSTED:
    case FAILURE_BROKER_FOREIGN:
    case FAILURE_BROKER_REFUSED:
    case FAILURE_UNKNOWN_DEVICE:
    case FAILURE_OFFLINE:
    case FAILURE_NO_ANSWER:
    case FAILURE_UNTRUSTED:
    case FAILURE_LIST_NOT_WHOLE:
    case FAILURE_DENIED:
    case FAILURE_NO_SERVICE:
    case FAILURE_QUOTA:
    case FAILURE_NO_RELAY:
    case FAILURE_DEVICE_INTERNAL:
    case FAILURE_WITHDRAWN:
    case FAILURE_CLOSED:
    case FAILURE_VERSION:
    case FAILURE_TARGET:
    case FAILURE_RELAY_UNREACHABLE:
    case FAILURE_RELAY_REFUSED:
    case FAILURE_RELAY_FULL:
    case FAILURE_RELAY_ERROR:
    case FAILURE_DEVICE_RELAY:
    case FAILURE_RELAY_LIMIT:
    case FAILURE_PROXY:
    case FAILURE_PORT_BUSY:
    case FAILURE_BIND:
    case FAILURE_TUNNEL_LOST:
    case FAILURE_DEVICE_LOST:
    case FAILURE_TUNNEL_IDLE:
    case FAILURE_TUNNEL_EXPIRED:
    case FAILURE_INTERNAL: return true;
    }
    return false;
}

/* Exactly one row for each id of the enum, and no row without one. */
static void test_failure_table_has_each_id_once(void **state)
{
    size_t n;
    const struct failure_row *table = failure_table(&n);

    for (int number = 0; number < 256; number++) {
        int n_found = 0;

        for (size_t i = 0; i < n; i++)
            n_found += (int)table[i].id == number;
        assert_int_equal(n_found, is_id(number) ? 1 : 0);
    }
    for (size_t i = 0; i < n; i++)
        assert_ptr_equal(failure_row(table[i].id), &table[i]);
}

static void test_failure_hint_of_caller_wins(void **state)
{
    struct failure failure;

    failure_set(&failure, FAILURE_KEY, "do this", "%s", "that");
    assert_string_equal(failure.hint, "do this");
}

static void test_failure_hint_is_made_at_run_time(void **state)
{
    char name[] = "GatewayOli";
    struct failure failure, copy;

    failure_set_of(&failure, name, FAILURE_QUOTA, NULL, "%s", "that");
    copy = failure;
    memset(name, 0, sizeof(name));
    memset(&failure, 0, sizeof(failure));
    assert_non_null(strstr(copy.hint, "gotthard-cli disconnect GatewayOli"));

    failure_hint(&failure, "the certificate %s; {mqtt.cert_path} {device}", "alice");
    assert_string_equal(failure.hint, "the certificate alice; mqtt.cert_path {device}");
    failure_set_of(&failure, "A", FAILURE_QUOTA, "{device} and {device}: {x}", "%s", "that");
    assert_string_equal(failure.hint, "A and A: {x}");
}

static void test_failure_hint_is_truncated(void **state)
{
    char device[FAILURE_HINT + 10];
    struct failure failure;

    for (size_t n = FAILURE_HINT - 20; n < sizeof(device); n++) {
        memset(device, 'x', n);
        device[n] = 0;
        failure_set_of(&failure, device, FAILURE_QUOTA, "a {device} b {device} c", "%s", "that");
        assert_true(strlen(failure.hint) < FAILURE_HINT);
        assert_memory_equal(failure.hint, "a xx", 4);
        failure_hint(&failure, "{mqtt.cert_path}%s", device);
        assert_true(strlen(failure.hint) < FAILURE_HINT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failure_table_has_exit_and_hint),
        cmocka_unit_test(test_failure_table_has_each_id_once),
        cmocka_unit_test(test_failure_hint_of_caller_wins),
        cmocka_unit_test(test_failure_hint_is_made_at_run_time),
        cmocka_unit_test(test_failure_hint_is_truncated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
