/* SPDX-License-Identifier: ISC */
/*
 * Every accepted form of mqtt.endpoint, and forms that must be rejected.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gotthard/config/mqtt-url.h"

static void test_url_accepts_each_form(void **state)
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
        {"broker.example.", "broker.example", 8883, true, false, false},
        {"mqtts://a1.iot.eu-west-1.amazonaws.com.:443", "a1.iot.eu-west-1.amazonaws.com", 443, true,
         true, false},
        {"evilamazonaws.com:443", "evilamazonaws.com", 443, true, false, false},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_mqtt_url url;

        assert_int_equal(gt_mqtt_url_parse(cases[i].text, &url), 0);
        assert_string_equal(url.host, cases[i].host);
        assert_int_equal(url.port, cases[i].port);
        assert_int_equal(url.is_tls, cases[i].is_tls);
        assert_int_equal(url.alpn != NULL, cases[i].has_alpn);
        assert_int_equal(gt_mqtt_url_is_loopback(&url), cases[i].is_loopback);
    }
}

static void test_url_rejects_other_forms(void **state)
{
    static const char *const cases[] = {
        "",       " ",        "mqtts://",     "mqtt://",     "https://broker",
        "ws://b", "mqtts:/b", "//b",          "b/",          "mqtts://b/path",
        "user@b", "b:0",      "b:65536",      "b:",          "b: 8883",
        ":8883",  "b:0x1",    "b:8883 ",      " b",          "mqtts://mqtts://b",
        "[::1",   "::1]:1",   "b:1883:1883x", "mqtts://b?x", "b\n",
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_mqtt_url url = {.port = 7};

        assert_int_equal(gt_mqtt_url_parse(cases[i], &url), GT_MQTT_URL_E_SYNTAX);
        assert_int_equal(url.port, 7);
    }
}

static void test_explanation_has_the_text_but_no_password(void **state)
{
    char why[256];

    gt_mqtt_url_explain("wss://broker", why, sizeof(why));
    assert_non_null(strstr(why, "\"wss://broker\""));
    gt_mqtt_url_explain("mqtts://oli:sesame@broker", why, sizeof(why));
    assert_non_null(strstr(why, "mqtt.username"));
    assert_null(strstr(why, "sesame"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_url_accepts_each_form),
        cmocka_unit_test(test_url_rejects_other_forms),
        cmocka_unit_test(test_explanation_has_the_text_but_no_password),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
