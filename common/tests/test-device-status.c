/* SPDX-License-Identifier: ISC */
/* The status of a device: encoding and decoding are inverse, within limits, and strict. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "gotthard/signaling/device-status.h"

static struct gt_device_status status, got;
static uint8_t bytes[GT_STATUS_SIZE];

static int setup(void **state)
{
    status = (struct gt_device_status){
        .time = 1700000000,
        .uptime_s = 77,
        .n_sessions = 3,
        .n_others = 1,
        .n_listed = 2,
        .n_relays = 2,
        .sessions = {{.operator_ = "alice",
                      .service = "ssh",
                      .state = GT_STATUS_UP,
                      .age_s = 5,
                      .has_usage = true,
                      .n_streams = 2,
                      .n_up = 1ull << 40,
                      .n_down = 9},
                     {.operator_ = "bob", .state = GT_STATUS_ALONE}},
        .relays = {{.name = "main",
                    .address = "relay.example.org:7000",
                    .state = GT_STATUS_RELAY_FAILED,
                    .age_s = 12,
                    .why = "Connection refused"},
                   {.name = "alps", .address = "[::1]:7000"}},
    };
    return 0;
}

static int decode(size_t n)
{
    memset(&got, 0xee, sizeof(got));
    return gt_device_status_decode(gt_span(bytes, n), &got);
}

static void test_status_round_trip(void **state)
{
    size_t n = gt_device_status_encode(&status, bytes);

    assert_int_equal(decode(n), 0);
    assert_memory_equal(&got, &status, sizeof(status));
    status = (struct gt_device_status){0};
    n = gt_device_status_encode(&status, bytes);
    assert_int_equal(decode(n), 0);
    assert_memory_equal(&got, &status, sizeof(status));
}

static void test_status_with_too_many_bytes_lists_fewer_sessions(void **state)
{
    status.n_listed = GT_STATUS_SESSIONS_MAX;
    for (size_t i = 0; i < status.n_listed; i++) {
        memset(status.sessions[i].operator_, 'a', GT_NAME_MAX);
        memset(status.sessions[i].service, 'b', GT_SERVICE_MAX);
    }
    assert_int_equal(decode(gt_device_status_encode(&status, bytes)), 0);
    assert_in_range(got.n_listed, 5, GT_STATUS_SESSIONS_MAX - 1);
    assert_int_equal(got.n_relays, 2);
    assert_memory_equal(&got.sessions[0], &status.sessions[0], sizeof(status.sessions[0]));
}

/* The longest relays leave room for sessions. */
static void test_status_with_the_longest_relays(void **state)
{
    status.n_relays = GT_STATUS_RELAYS_MAX;
    for (size_t i = 0; i < status.n_relays; i++) {
        memset(status.relays[i].name, 'a', GT_RELAY_NAME_MAX);
        memset(status.relays[i].address, 'b', sizeof(status.relays[i].address) - 1);
        memset(status.relays[i].why, 'c', sizeof(status.relays[i].why) - 1);
    }
    assert_int_equal(decode(gt_device_status_encode(&status, bytes)), 0);
    assert_memory_equal(&got, &status, sizeof(status));
}

static void test_status_of_another_form_is_rejected(void **state)
{
    size_t n = gt_device_status_encode(&status, bytes);

    for (size_t i = 0; i < n; i++)
        assert_int_equal(decode(i), GT_MESSAGE_E_BAD);
    bytes[n] = 0;
    assert_int_equal(decode(n + 1), GT_MESSAGE_E_BAD);
    status.sessions[1].state = GT_STATUS_ALONE + 1;
    assert_int_equal(decode(gt_device_status_encode(&status, bytes)), GT_MESSAGE_E_BAD);
    setup(state);
    status.relays[1].state = GT_STATUS_RELAY_FAILED + 1;
    assert_int_equal(decode(gt_device_status_encode(&status, bytes)), GT_MESSAGE_E_BAD);
    setup(state);
    strcpy(status.relays[0].why, "\033[2J");
    assert_int_equal(decode(gt_device_status_encode(&status, bytes)), GT_MESSAGE_E_BAD);
    setup(state);
    strcpy(status.sessions[0].service, "a\nb");
    assert_int_equal(decode(gt_device_status_encode(&status, bytes)), GT_MESSAGE_E_BAD);
    setup(state);
    strcpy(status.sessions[0].operator_, "../x");
    assert_int_equal(decode(gt_device_status_encode(&status, bytes)), GT_MESSAGE_E_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_status_round_trip, setup),
        cmocka_unit_test_setup(test_status_with_too_many_bytes_lists_fewer_sessions, setup),
        cmocka_unit_test_setup(test_status_with_the_longest_relays, setup),
        cmocka_unit_test_setup(test_status_of_another_form_is_rejected, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
