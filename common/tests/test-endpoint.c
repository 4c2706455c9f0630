/* SPDX-License-Identifier: ISC */
/*
 * Every form of GOTTHARD_MQTT_ENDPOINT that people write, and those that must not be guessed at.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gotthard/endpoint.h"

static void each_good_form_is_read(void **state)
{
    static const struct {
        const char *text, *host;
        uint16_t port;
        bool is_tls, has_alpn, is_loopback;
    } cases[] = {
        {"broker.example", "broker.example", 8883, true, false, false},
        {"broker.example:1883", "broker.example", 1883, true, false, false},
        {"mqtts://broker.example", "broker.example", 8883, true, false, false},
        {"MQTTS://broker.example:443", "broker.example", 443, true, false, false},
        {"mqtt://broker.example", "broker.example", 1883, false, false, false},
        {"mqtt://localhost:11883", "localhost", 11883, false, false, true},
        {"mqtt://127.0.0.1", "127.0.0.1", 1883, false, false, true},
        {"mqtt://127.0.0.1.example", "127.0.0.1.example", 1883, false, false, false},
        {"mqtt://[::1]:5", "::1", 5, false, false, true},
        {"::1", "::1", 8883, true, false, true},
        {"a1-ats.iot.eu-central-1.amazonaws.com", "a1-ats.iot.eu-central-1.amazonaws.com", 8883,
         true, false, false},
        {"a1-ats.iot.eu-central-1.amazonaws.com:443", "a1-ats.iot.eu-central-1.amazonaws.com", 443,
         true, true, false},
        {"a1.iot.CN-NORTH-1.AMAZONAWS.com.cn:443", "a1.iot.CN-NORTH-1.AMAZONAWS.com.cn", 443, true,
         true, false},
        {"mqtt://a1.iot.eu-west-1.amazonaws.com:443", "a1.iot.eu-west-1.amazonaws.com", 443, false,
         false, false},
        {"evilamazonaws.com:443", "evilamazonaws.com", 443, true, false, false},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_endpoint endpoint;
        assert_int_equal(gt_endpoint_parse(cases[i].text, &endpoint), 0);
        assert_string_equal(endpoint.host, cases[i].host);
        assert_int_equal(endpoint.port, cases[i].port);
        assert_int_equal(endpoint.is_tls, cases[i].is_tls);
        assert_int_equal(endpoint.alpn != NULL, cases[i].has_alpn);
        assert_int_equal(gt_endpoint_is_loopback(&endpoint), cases[i].is_loopback);
    }
}

static void nothing_is_guessed(void **state)
{
    static const char *const cases[] = {
        "",       " ",        "mqtts://",     "mqtt://",     "https://broker",
        "ws://b", "mqtts:/b", "//b",          "b/",          "mqtts://b/path",
        "user@b", "b:0",      "b:65536",      "b:",          "b: 8883",
        ":8883",  "b:0x1",    "b:8883 ",      " b",          "mqtts://mqtts://b",
        "[::1",   "::1]:1",   "b:1883:1883x", "mqtts://b?x", "b\n",
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_endpoint endpoint = {.port = 7};
        assert_int_equal(gt_endpoint_parse(cases[i], &endpoint), GT_ENDPOINT_E_SYNTAX);
        assert_int_equal(endpoint.port, 7);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_good_form_is_read),
        cmocka_unit_test(nothing_is_guessed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
