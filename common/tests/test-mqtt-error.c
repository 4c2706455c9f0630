/* SPDX-License-Identifier: ISC */
/*
 * The description of each end of a connection, and the ends that a broker without MQTT 5 may cause.
 * test-mqtt.c and test_broker.py check with real brokers that the library's codes are as assumed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs these before it */
#include <cmocka.h>
#include <errno.h>
#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <openssl/x509_vfy.h>
#include <string.h>

#include "gotthard/base/base.h"
#include "gotthard/mqtt/mqtt-connection.h"
#include "gotthard/mqtt/mqtt-error.h"

static const struct {
    struct gt_mqtt_error end;
    const char *words; /* part of the description */
    bool suggests_v3;
} ends[] = {
    {{.rc = MOSQ_ERR_PROTOCOL, .is_v5 = true, .is_aborted = true}, "failed on a packet", false},
    {{.reason = GT_MQTT_REASON_NO_ROUTE, .is_v5 = true, .was_up = true},
     "route to the broker is gone",
     false},
    {{.rc = MOSQ_ERR_CONN_LOST, .reason = GT_MQTT_REASON_TAKEN_OVER, .is_v5 = true, .was_up = true},
     "closed by the broker: Session taken over",
     false},
    {{.reason = MQTT_RC_NOT_AUTHORIZED, .is_v5 = true},
     "refused by the broker: Not authorized",
     false},
    {{.reason = CONNACK_REFUSED_NOT_AUTHORIZED},
     "refused by the broker: Connection Refused",
     false},
    {{.reason = MQTT_RC_UNSUPPORTED_PROTOCOL_VERSION, .is_v5 = true}, "refused by", true},
    {{.reason = CONNACK_REFUSED_PROTOCOL_VERSION, .is_v5 = true}, "refused by", true},
    {{.reason = CONNACK_REFUSED_PROTOCOL_VERSION}, "refused by", false},
    {{.rc = MOSQ_ERR_TLS, .is_v5 = true, .last_error = "OpenSSL Error[0]: bad"},
     "TLS: OpenSSL Error[0]: bad",
     false},
    {{.rc = MOSQ_ERR_ERRNO, .err = EPROTO, .is_v5 = true}, "rejected our certificate", false},
    {{.rc = MOSQ_ERR_ERRNO, .err = ECONNRESET, .is_v5 = true, .is_tls = true},
     "TLS: aborted by the broker; it may have rejected our certificate",
     false},
    {{.rc = MOSQ_ERR_ERRNO, .err = ECONNRESET, .is_v5 = true}, "Connection reset", false},
    {{.rc = MOSQ_ERR_CONN_LOST, .is_v5 = true, .last_error = "tlsv13 alert certificate required"},
     "TLS: tlsv13 alert",
     false},
    {{.rc = MOSQ_ERR_CONN_LOST, .is_v5 = true, .last_error = "certificate verify failed"},
     "TLS: certificate verify failed",
     false},
    {{.rc = MOSQ_ERR_TLS,
      .is_v5 = true,
      .last_error = "certificate verify failed",
      .verification = {.error = X509_V_ERR_CERT_HAS_EXPIRED, .names = "b.example", .not_after = 1}},
     "TLS: the certificate b.example expired on 1970-01-01 (today is 2",
     false},
    {{.rc = MOSQ_ERR_CONN_LOST,
      .is_v5 = true,
      .verification = {.error = X509_V_ERR_CERT_NOT_YET_VALID,
                       .names = "b.example",
                       .not_before = 4102444800}},
     "TLS: the certificate b.example is valid from 2100-01-01",
     false},
    {{.rc = MOSQ_ERR_TLS,
      .verification = {.error = X509_V_ERR_HOSTNAME_MISMATCH, .names = "a, b", .host = "c"}},
     "TLS: the broker's certificate is for a, b, not for c",
     false},
    {{.rc = MOSQ_ERR_TLS,
      .verification = {.error = X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
                       .names = "a",
                       .issuer = "Them"}},
     "TLS: the certificate a is from Them, which is not a trusted authority",
     false},
    {{.rc = MOSQ_ERR_TLS, .verification = {.error = X509_V_ERR_CERT_REVOKED, .names = "a"}},
     "TLS: the certificate a is rejected: certificate revoked",
     false},
    {{.rc = MOSQ_ERR_CONN_LOST, .was_up = true, .last_error = "tlsv13 alert of long ago"},
     "connection was lost",
     false},
    {{.rc = MOSQ_ERR_ERRNO, .err = ECONNREFUSED, .is_v5 = true}, "Connection refused", false},
    {{.rc = MOSQ_ERR_EAI, .is_v5 = true}, "cannot be resolved", false},
    {{.rc = MOSQ_ERR_CONN_LOST, .is_v5 = true}, "connection was lost", true},
    {{.rc = MOSQ_ERR_PROTOCOL, .is_v5 = true}, "protocol error", true},
    {{.rc = MOSQ_ERR_MALFORMED_PACKET, .is_v5 = true}, "", true},
    {{.rc = MOSQ_ERR_CONN_LOST, .is_v5 = true, .was_up = true}, "connection was lost", false},
    {{.rc = MOSQ_ERR_CONN_LOST}, "connection was lost", false},
};

static void test_describe_names_each_cause(void **state)
{
    char text[160];

    for (size_t i = 0; i < GT_ARRAY_SIZE(ends); i++) {
        gt_mqtt_error_describe(&ends[i].end, text, sizeof(text));
        if (!strcasestr(text, ends[i].words))
            fail_msg("end %zu: \"%s\" without \"%s\"", i, text, ends[i].words);
        assert_true(gt_mqtt_error_suggests_v3(&ends[i].end) == ends[i].suggests_v3);
    }
}

static void test_describe_truncates_long_text(void **state)
{
    struct gt_mqtt_error end = {.rc = MOSQ_ERR_TLS};
    char text[16];

    memset(end.last_error, 'x', sizeof(end.last_error) - 1);
    gt_mqtt_error_describe(&end, text, sizeof(text));
    assert_string_equal(text, "TLS: xxxxxxxxxx");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_describe_names_each_cause),
        cmocka_unit_test(test_describe_truncates_long_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
