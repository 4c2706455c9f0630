/* SPDX-License-Identifier: ISC */
/*
 * What the end of a connection is called, and which ends an older broker may have made. Whether the
 * library's codes come as they are taken here, test-mqtt.c and test_broker.py see with real
 * brokers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>
#include <errno.h>
#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <string.h>

#include "gotthard/base.h"
#include "gotthard/broker.h"
#include "gotthard/brokerend.h"

static const struct {
    struct gt_broker_end end;
    const char *words; /* are in the explanation */
    bool may_be_older;
} ends[] = {
    {{.rc = MOSQ_ERR_PROTOCOL, .is_v5 = true, .is_spoiled = true}, "cannot bear", false},
    {{.reason = GT_BROKER_NO_WAY, .is_v5 = true, .was_up = true}, "network has gone", false},
    {{.rc = MOSQ_ERR_CONN_LOST, .reason = GT_BROKER_TAKEN_OVER, .is_v5 = true, .was_up = true},
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
    {{.rc = MOSQ_ERR_ERRNO, .err = EPROTO, .is_v5 = true}, "no certificate of ours", false},
    {{.rc = MOSQ_ERR_CONN_LOST, .is_v5 = true, .last_error = "tlsv13 alert certificate required"},
     "TLS: tlsv13 alert",
     false},
    {{.rc = MOSQ_ERR_CONN_LOST, .is_v5 = true, .last_error = "certificate verify failed"},
     "TLS: certificate verify failed",
     false},
    {{.rc = MOSQ_ERR_CONN_LOST, .was_up = true, .last_error = "tlsv13 alert of long ago"},
     "connection was lost",
     false},
    {{.rc = MOSQ_ERR_ERRNO, .err = ECONNREFUSED, .is_v5 = true}, "Connection refused", false},
    {{.rc = MOSQ_ERR_EAI, .is_v5 = true}, "no address", false},
    {{.rc = MOSQ_ERR_CONN_LOST, .is_v5 = true}, "connection was lost", true},
    {{.rc = MOSQ_ERR_PROTOCOL, .is_v5 = true}, "protocol error", true},
    {{.rc = MOSQ_ERR_MALFORMED_PACKET, .is_v5 = true}, "", true},
    {{.rc = MOSQ_ERR_CONN_LOST, .is_v5 = true, .was_up = true}, "connection was lost", false},
    {{.rc = MOSQ_ERR_CONN_LOST}, "connection was lost", false},
};

static void each_end_has_its_words(void **state)
{
    char text[160];

    for (size_t i = 0; i < GT_ARRAY_SIZE(ends); i++) {
        gt_broker_end_explain(&ends[i].end, text, sizeof(text));
        if (!strcasestr(text, ends[i].words))
            fail_msg("end %zu: \"%s\" without \"%s\"", i, text, ends[i].words);
        assert_true(gt_broker_end_may_be_older(&ends[i].end) == ends[i].may_be_older);
    }
}

static void long_words_are_cut(void **state)
{
    struct gt_broker_end end = {.rc = MOSQ_ERR_TLS};
    char text[16];

    memset(end.last_error, 'x', sizeof(end.last_error) - 1);
    gt_broker_end_explain(&end, text, sizeof(text));
    assert_string_equal(text, "TLS: xxxxxxxxxx");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_end_has_its_words),
        cmocka_unit_test(long_words_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
