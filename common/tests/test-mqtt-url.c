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
        {"ssl://broker.example", "broker.example", 8883, true, false, false},
        {"SSL://broker.example:8884", "broker.example", 8884, true, false, false},
        {"tls://broker.example", "broker.example", 8883, true, false, false},
        {"tcp://broker.example", "broker.example", 1883, false, false, false},
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
        assert_string_equal(url.alpn, cases[i].has_alpn ? "x-amzn-mqtt-ca" : "");
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

    gt_mqtt_url_explain("http://broker", why, sizeof(why));
    assert_non_null(strstr(why, "\"http://broker\" is invalid, expected HOST"));
    gt_mqtt_url_explain("wss://broker/mqtt", why, sizeof(why));
    assert_non_null(strstr(why, "\"wss://broker/mqtt\": MQTT over WebSocket is not supported"));
    gt_mqtt_url_explain("WS://broker:80", why, sizeof(why));
    assert_non_null(strstr(why, "MQTT over WebSocket"));
    gt_mqtt_url_explain("wss://oli:sesame@broker", why, sizeof(why));
    assert_null(strstr(why, "sesame"));
    gt_mqtt_url_explain("mqtts://oli:sesame@broker", why, sizeof(why));
    assert_non_null(strstr(why, "mqtt.username"));
    assert_null(strstr(why, "sesame"));
}

static void test_options_depend_on_each_other(void **state)
{
    static char long_alpn[GT_MQTT_URL_ALPN_MAX + 2];
    memset(long_alpn, 'x', sizeof(long_alpn) - 1);
    static const struct {
        struct gt_mqtt_options options;
        const char *path, *why;
    } cases[] = {
        {{.endpoint = "b"}, NULL, NULL},
        {{.endpoint = "b", .alpn = "mqtt"}, NULL, NULL},
        {{.endpoint = "b", .username = "oli", .password = "sesame"}, NULL, NULL},
        {{.endpoint = "b", .username = "oli"}, NULL, NULL},
        {{.alpn = "mqtt"}, NULL, NULL},
        {{.endpoint = "wss://b"}, "mqtt.endpoint", "WebSocket"},
        {{.endpoint = "b", .alpn = "a b"}, "mqtt.alpn", "without blanks"},
        {{.endpoint = "b", .alpn = ""}, "mqtt.alpn", "without blanks"},
        {{.endpoint = "b", .alpn = long_alpn}, "mqtt.alpn", "at most 64"},
        {{.endpoint = "mqtt://b", .alpn = "mqtt"}, "mqtt.alpn", "requires TLS"},
        {{.endpoint = "b", .password = "sesame"}, "mqtt.password", "set mqtt.username"},
        {{.password = "sesame"}, "mqtt.password", "set mqtt.username"},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_mqtt_url url = {0};
        char why[256] = "";
        const char *path = gt_mqtt_options_check(&cases[i].options, &url, why, sizeof(why));

        assert_int_equal(path == NULL, cases[i].path == NULL);
        if (path)
            assert_string_equal(path, cases[i].path);
        if (path && !strstr(why, cases[i].why))
            fail_msg("case %zu: \"%s\"", i, why);
        if (!path && cases[i].options.alpn)
            assert_string_equal(url.alpn, "mqtt");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_url_accepts_each_form),
        cmocka_unit_test(test_url_rejects_other_forms),
        cmocka_unit_test(test_explanation_has_the_text_but_no_password),
        cmocka_unit_test(test_options_depend_on_each_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
