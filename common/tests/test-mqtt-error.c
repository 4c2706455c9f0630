/* SPDX-License-Identifier: ISC */
/*
 * The table of outcomes: row, words and effect of each end of a connection. test-mqtt-outcomes.c,
 * test-mqtt.c and test_broker.py check with played and real brokers that the library's codes are as
 * assumed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs these before it */
#include <cmocka.h>
#include <errno.h>
#include <mosquitto.h>
#include <netdb.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gotthard/base/base.h"
#include "gotthard/mqtt/mqtt-connection.h"
#include "gotthard/mqtt/mqtt-error.h"

#define RETRY            GT_MQTT_EFFECT_RETRY
#define SPREAD           GT_MQTT_EFFECT_SPREAD
#define QUICK            GT_MQTT_EFFECT_QUICK
#define SILENT           GT_MQTT_EFFECT_SILENT
#define RIVAL            GT_MQTT_EFFECT_RIVAL
#define V3               GT_MQTT_EFFECT_V3
#define V3_GUESS         GT_MQTT_EFFECT_V3_GUESS
#define NETWORK          GT_MQTT_EFFECT_NETWORK
#define UNRETAINED       GT_MQTT_EFFECT_UNRETAINED
#define ERRNO(number)    .rc = MOSQ_ERR_ERRNO, .err = number
#define REFUSED(code)    .rc = MOSQ_ERR_PROTOCOL, .is_v5 = true, .reason = code
#define REFUSED_V3(code) .rc = MOSQ_ERR_CONN_REFUSED, .reason = code
#define ALERT(code)      .verification = {.alert = code}
#define ANSWERED         .verification = {.is_answered = true}
#define DONE             .verification = {.is_answered = true, .is_done = true}
#define OWN              .own = {.name = "alice", .issuer = "Us", .not_after = 4102444800}
#define CLOSED(code)     .rc = MOSQ_ERR_CONN_LOST, .is_v5 = true, .was_up = true, .reason = code

static time_t wall_clock; /* 0: the real one */

/* Replaces the C library's. */
time_t time(time_t *ret)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    time_t at = wall_clock ? wall_clock : now.tv_sec;
    if (ret)
        *ret = at;
    return at;
}

static const struct {
    const char *name; /* of the row */
    struct gt_mqtt_error end;
    enum gt_mqtt_effect effect;
    const char *words; /* part of the description */
} ends[] = {
    {"setting", {.start_err = -EINVAL}, RETRY, "invalid certificate, key or other setting"},
    {"start-failed", {.start_err = -EAGAIN}, RETRY, "too many threads are blocked"},
    {"start-failed", {.start_err = -ENOMEM}, RETRY, "out of memory"},
    {"library-failed",
     {.rc = MOSQ_ERR_PROTOCOL, .is_v5 = true, .is_aborted = true},
     RETRY,
     "failed on a packet"},
    {"proxy-denied",
     {.rc = MOSQ_ERR_NO_CONN,
      .is_at_proxy = true,
      .is_proxy_denial = true,
      .proxy = "p:1",
      .proxy_why = "proxy p:1 denied a connection to b:2: 403 Forbidden"},
     NETWORK,
     "proxy p:1 denied a connection to b:2: 403 Forbidden"},
    {"proxy",
     {.rc = MOSQ_ERR_ERRNO, .err = ECONNREFUSED, .is_at_proxy = true, .proxy = "p:1"},
     NETWORK,
     "proxy p:1: Connection refused"},
    {"proxy",
     {.name_err = EAI_NONAME, .is_at_proxy = true, .proxy = "p:1"},
     NETWORK,
     "proxy p:1: the host name cannot be resolved"},
    {"proxy",
     {.late = GT_MQTT_LATE_CONNECTION, .limit_s = 20, .is_at_proxy = true, .proxy = "p:1"},
     NETWORK,
     "proxy p:1: no answer to the connection attempt within 20 s"},
    {"proxy",
     {.rc = MOSQ_ERR_NO_CONN, .is_at_proxy = true, .proxy_why = "proxy p:1 cannot reach it"},
     NETWORK,
     "proxy p:1 cannot reach it"},
    {"no-route",
     {.reason = GT_MQTT_REASON_NO_ROUTE, .is_v5 = true, .was_up = true},
     QUICK,
     "the route to the broker is gone"},
    {"no-route", {.reason = GT_MQTT_REASON_NO_ROUTE}, QUICK, "the route to the broker is gone"},
    {"connack-late",
     {.late = GT_MQTT_LATE_CONNACK, .limit_s = 20},
     SPREAD,
     "no answer from the broker to CONNECT within 20 s"},
    {"connack-late",
     {.late = GT_MQTT_LATE_TLS, .limit_s = 20},
     SPREAD,
     "no answer from the broker to the TLS handshake within 20 s"},
    {"name-late",
     {.late = GT_MQTT_LATE_NAME, .limit_s = 20},
     NETWORK,
     "no answer from the name server within 20 s"},
    {"connection-late",
     {.late = GT_MQTT_LATE_CONNECTION, .limit_s = 20},
     NETWORK,
     "no answer to the connection attempt within 20 s"},
    {"answer-late",
     {.late = GT_MQTT_LATE_SUBACK, .limit_s = 20, .was_up = true},
     SPREAD,
     "no answer from the broker to a subscription within 20 s"},
    {"filter-refused",
     {.is_filter_refused = true, .was_up = true},
     RETRY,
     "the broker refuses a subscription"},

    {"version", {REFUSED(0x84)}, V3, "refused by the broker: it does not support this version"},
    {"version", {REFUSED(1)}, V3, "it does not support this version of MQTT"},
    {"version", {REFUSED_V3(1)}, RETRY, "it does not support this version of MQTT"},
    {"client-id",
     {REFUSED(0x85), .client_id = "GatewayOli"},
     RETRY,
     "refused by the broker: it does not accept the client id \"GatewayOli\""},
    {"client-id", {REFUSED_V3(2), .client_id = "x"}, RETRY, "does not accept the client id \"x\""},
    {"password", {REFUSED(0x86)}, RETRY, "refused by the broker: Bad user name or password"},
    {"password", {REFUSED_V3(4)}, RETRY, "refused by the broker: Bad user name or password"},
    {"not-authorized", {REFUSED(0x87)}, RETRY, "refused by the broker: Not authorized"},
    {"not-authorized", {REFUSED_V3(5)}, RETRY, "refused by the broker: Not authorized"},
    {"not-authorized", {CLOSED(0x87)}, SPREAD, "closed by the broker: Not authorized"},
    {"not-authorized",
     {REFUSED(0x87), .remark = "no such thing"},
     RETRY,
     "refused by the broker: Not authorized; it says: no such thing"},
    {"unavailable", {REFUSED(0x88)}, SPREAD, "refused by the broker: Server unavailable"},
    {"unavailable", {REFUSED_V3(3)}, SPREAD, "refused by the broker: Server unavailable"},
    {"busy", {REFUSED(0x89)}, SPREAD, "Server busy"},
    {"shutting-down", {CLOSED(0x8b)}, SPREAD, "closed by the broker: Server shutting down"},
    {"quota", {CLOSED(0x97)}, SPREAD, "closed by the broker: Quota exceeded"},
    {"connection-rate", {REFUSED(0x9f)}, SPREAD, "too many clients connect"},
    {"taken-over",
     {CLOSED(0x8e), .client_id = "GatewayOli"},
     RIVAL,
     "closed by the broker: another client uses the same client id; is there a second device named "
     "GatewayOli?"},
    {"no-retained", {REFUSED(0x9a)}, UNRETAINED, "it keeps no retained messages"},
    {"no-retained", {CLOSED(0x9a)}, RETRY, "closed by the broker: it keeps no retained messages"},
    {"qos", {REFUSED(0x9b)}, RETRY, "it accepts only QoS 0, and Gotthard needs QoS 1"},
    {"receive-maximum", {CLOSED(0x93)}, RETRY, "its Receive Maximum"},
    {"packet-size", {CLOSED(0x95)}, RETRY, "a packet was larger than its limit"},
    {"other-server",
     {REFUSED(0x9c), .server = "b.example:8883"},
     RETRY,
     "use another server; change mqtt.endpoint if this lasts; it names the server b.example:8883"},
    {"moved", {REFUSED(0x9d)}, RETRY, "the server has moved; change mqtt.endpoint"},
    {"moved", {CLOSED(0x9d)}, SPREAD, "closed by the broker: the server has moved"},
    {"other-reason", {REFUSED(0x8a)}, RETRY, "refused by the broker: Banned"},
    {"other-reason", {CLOSED(0x98)}, SPREAD, "closed by the broker: Administrative action"},
    {"other-reason", {CLOSED(0xff)}, SPREAD, "closed by the broker: "},
    {"other-reason", {REFUSED_V3(6)}, RETRY, "refused by the broker: "},

    {"certificate-expired",
     {.rc = MOSQ_ERR_TLS,
      .is_v5 = true,
      .last_error = "certificate verify failed",
      .verification = {.error = X509_V_ERR_CERT_HAS_EXPIRED, .names = "b.example", .not_after = 1}},
     RETRY,
     "TLS: the certificate b.example expired on 1970-01-01 (today is 2"},
    {"certificate-early",
     {.rc = MOSQ_ERR_CONN_LOST,
      .is_v5 = true,
      .verification = {.error = X509_V_ERR_CERT_NOT_YET_VALID,
                       .names = "b.example",
                       .not_before = 4102444800}},
     RETRY,
     "TLS: the certificate b.example is valid from 2100-01-01 (today is 2"},
    {"certificate-name",
     {.rc = MOSQ_ERR_TLS,
      .verification = {.error = X509_V_ERR_HOSTNAME_MISMATCH, .names = "a, b", .host = "c"}},
     RETRY,
     "TLS: the broker's certificate is for a, b, not for c"},
    {"certificate-authority",
     {.rc = MOSQ_ERR_TLS,
      .verification = {.error = X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
                       .names = "a",
                       .issuer = "Them"}},
     RETRY,
     "TLS: the certificate a is from Them, which is not a trusted authority"},
    {"certificate",
     {.rc = MOSQ_ERR_TLS, .verification = {.error = X509_V_ERR_CERT_REVOKED, .names = "a"}},
     RETRY,
     "TLS: the certificate a is rejected: certificate revoked"},
    {"http",
     {.rc = MOSQ_ERR_TLS, .last_error = "wrong version number", .verification = {.is_http = true}},
     RETRY,
     "TLS: the server answers with HTTP in place of TLS"},
    {"no-tls",
     {.rc = MOSQ_ERR_TLS, .is_v5 = true, .last_error = "SSL routines::wrong version number"},
     RETRY,
     "TLS: the port does not use TLS; mqtt:// connects without it"},
    {"alpn",
     {.rc = MOSQ_ERR_TLS, ALERT(120)},
     RETRY,
     "TLS: the broker does not accept the ALPN protocol (mqtt.alpn)"},
    {"server-name", {.rc = MOSQ_ERR_TLS, ALERT(112)}, RETRY, "does not know the name"},
    {"old-tls", {.rc = MOSQ_ERR_TLS, ALERT(70)}, RETRY, "the broker has no TLS 1.2 or newer"},
    {"old-tls",
     {.rc = MOSQ_ERR_TLS, .last_error = "SSL routines::unsupported protocol"},
     RETRY,
     "the broker has no TLS 1.2 or newer"},
    {"own-missing", {.rc = MOSQ_ERR_CONN_LOST, ALERT(116)}, RETRY, "it needs a certificate"},
    {"own-missing", {.rc = MOSQ_ERR_TLS, ALERT(40)}, RETRY, "this side, which has none"},
    {"own-expired",
     {.rc = MOSQ_ERR_CONN_LOST, ALERT(45), .own = {.name = "alice", .not_after = 86400}},
     RETRY,
     "TLS: the broker rejects the certificate alice of this side, which expired on 1970-01-02 "
     "(today is 2"},
    {"own-expired",
     {ERRNO(EPROTO), .is_v5 = true, .own = {.name = "alice", .not_after = 86400}},
     RETRY,
     "alice of this side, which expired on 1970-01-02"},
    {"own-expired-there", /* the broker's CRL, or a clock */
     {.rc = MOSQ_ERR_CONN_LOST, ALERT(45), .own = {.name = "alice", .not_after = 4102444800}},
     RETRY,
     "alice of this side as expired, but it is valid until 2100-01-01 (today is 2"},
    {"own-early",
     {.rc = MOSQ_ERR_CONN_LOST,
      ALERT(42),
      .own = {.name = "alice", .not_before = 4102444800, .not_after = 4102444801}},
     RETRY,
     "alice of this side, which is valid from 2100-01-01 (today is 2"},
    {"own-revoked", {.rc = MOSQ_ERR_CONN_LOST, ALERT(44), OWN}, RETRY, "it has been revoked"},
    {"own-authority",
     {.rc = MOSQ_ERR_CONN_LOST, ALERT(48), OWN},
     RETRY,
     "the certificate alice of this side: it does not know the authority Us"},
    {"own-rejected",
     {.rc = MOSQ_ERR_CONN_LOST, ALERT(42), OWN},
     RETRY,
     "TLS: the broker rejects the certificate alice of this side (bad certificate)"},
    {"tls", {.rc = MOSQ_ERR_CONN_LOST, ALERT(42)}, RETRY, "failed (bad certificate)"},
    {"tls-closed", {ERRNO(ECONNRESET), .is_tls = true, OWN}, RETRY, "without an answer"},
    {"tls-closed", {.rc = MOSQ_ERR_TLS, .is_tls = true}, RETRY, "without an answer"},
    {"tls-closed", {.rc = MOSQ_ERR_CONN_LOST, .is_tls = true, .is_v5 = true}, RETRY, "closed"},
    {"closed-early",
     {.rc = MOSQ_ERR_CONN_LOST, .is_tls = true, .is_v5 = true, ANSWERED},
     V3_GUESS,
     "closed without an answer to CONNECT"},
    {"tls-reset",
     {ERRNO(EPROTO), .is_v5 = true, OWN},
     V3_GUESS,
     "handshake or after it; the broker may have rejected the certificate alice of this side"},
    {"tls-reset", {ERRNO(ECONNRESET), .is_tls = true, ANSWERED, OWN}, RETRY, "may have rejected"},
    {"tls-reset",
     {ERRNO(ECONNRESET), .is_tls = true, .is_v5 = true, ANSWERED},
     V3_GUESS,
     "the broker may require a certificate of this side"},
    {"tls-reset",
     {.rc = MOSQ_ERR_TLS, .is_tls = true, .is_v5 = true, DONE, OWN},
     V3_GUESS,
     "may have rejected the certificate alice"},
    {"tls-reset",
     {.rc = MOSQ_ERR_CONN_LOST, .last_error = "tlsv13 alert certificate required", OWN},
     RETRY,
     "may have rejected the certificate alice"},
    {"tls",
     {.rc = MOSQ_ERR_TLS, .is_v5 = true, .last_error = "OpenSSL Error[0]: bad"},
     RETRY,
     "TLS: the handshake with the broker failed (no common parameters, or the answer is no valid "
     "TLS)"},
    {"tls", {.rc = MOSQ_ERR_TLS, ALERT(80)}, RETRY, "the broker failed (internal error)"},
    {"tls", {.rc = MOSQ_ERR_TLS, ALERT(200)}, RETRY, "the broker failed (alert 200)"},
    {"name", {.rc = MOSQ_ERR_EAI, .is_v5 = true}, NETWORK, "cannot be resolved"},
    {"name",
     {.name_err = EAI_AGAIN},
     NETWORK,
     "(the name server fails (SERVFAIL), or cannot be reached)"},
    {"name",
     {.name_err = EAI_AGAIN, .name_s = 10},
     NETWORK,
     "(no name server has answered within 10 s)"},
    {"name", {.name_err = EAI_FAIL}, NETWORK, "(the name server refuses to answer)"},
    {"name-unknown", {.name_err = EAI_NONAME}, NETWORK, "(there is no such name)"},
    {"name-unknown", {.name_err = EAI_NODATA}, NETWORK, "(the name exists, but has no address)"},
    {"memory", {.rc = MOSQ_ERR_NOMEM, .was_up = true}, RETRY, "out of memory"},
    {"keepalive",
     {.rc = MOSQ_ERR_KEEPALIVE, .was_up = true, .limit_s = 30},
     SILENT,
     "no answer from the broker within the keep-alive interval of 30 s"},
    {"network", {ERRNO(ETIMEDOUT), .was_up = true}, QUICK, "Connection timed out"},
    {"network", {ERRNO(EHOSTUNREACH), .was_up = true}, QUICK, "No route to host"},
    {"network", {ERRNO(ENETUNREACH), .is_v5 = true}, NETWORK, "Network is unreachable"},
    {"lost",
     {.rc = MOSQ_ERR_CONN_LOST, .was_up = true, .last_error = "tlsv13 alert of long ago"},
     SPREAD,
     "the broker or the network closed the connection"},
    {"lost", {ERRNO(ECONNRESET), .was_up = true, .is_tls = true}, SPREAD, "closed the connection"},
    {"lost", {ERRNO(0), .was_up = true}, SPREAD, "closed the connection"},
    {"lost", {.was_up = true}, SPREAD, "closed the connection"},
    {"closed-early",
     {.rc = MOSQ_ERR_CONN_LOST, .is_v5 = true},
     V3_GUESS,
     "closed without an answer to CONNECT; is this the broker's port?"},
    {"closed-early", {.rc = MOSQ_ERR_CONN_LOST}, RETRY, "closed without an answer to CONNECT"},
    {"closed-early", {ERRNO(0)}, RETRY, "closed without an answer to CONNECT"},
    {"descriptors", {ERRNO(EMFILE), .is_v5 = true}, RETRY, "Too many open files"},
    {"errno", {ERRNO(ECONNREFUSED), .is_v5 = true}, RETRY, "Connection refused"},
    {"errno", {ERRNO(ECONNRESET), .is_v5 = true}, RETRY, "Connection reset"},
    {"not-mqtt", {.rc = MOSQ_ERR_PROTOCOL, .is_v5 = true}, V3_GUESS, "the answer is not MQTT"},
    {"not-mqtt",
     {.rc = MOSQ_ERR_MALFORMED_PACKET, .is_v5 = true},
     V3_GUESS,
     "the answer is not MQTT"},
    {"not-mqtt", {.rc = MOSQ_ERR_PROTOCOL}, RETRY, "is this the broker's port, and does it need"},
    {"not-mqtt",
     {.rc = MOSQ_ERR_NOMEM, .is_packet_large = true, .is_v5 = true},
     V3_GUESS,
     "the answer is not MQTT"},
    {"large-packet",
     {.rc = MOSQ_ERR_NOMEM, .is_packet_large = true, .was_up = true, .is_v5 = true},
     RETRY,
     "the broker sent a packet that needs more memory than this program may use"},
    {"bad-packet",
     {.rc = MOSQ_ERR_PROTOCOL, .was_up = true, .is_v5 = true},
     RETRY,
     "the broker sent an invalid packet"},
    {"other", {.rc = 99, .was_up = true}, RETRY, "the MQTT library reports error 99"},
};

static void test_outcome_has_words_and_effect(void **state)
{
    char text[GT_MQTT_WHY];

    for (size_t i = 0; i < GT_ARRAY_SIZE(ends); i++) {
        const char *name = gt_mqtt_error_outcome(&ends[i].end)->name;

        gt_mqtt_error_describe(&ends[i].end, text, sizeof(text));
        if (strcmp(name, ends[i].name) != 0 || !strstr(text, ends[i].words) ||
            gt_mqtt_error_effect(&ends[i].end) != ends[i].effect)
            fail_msg("end %zu: row %s with \"%s\" and effect %u, expected %s with \"%s\" and %u", i,
                     name, text, gt_mqtt_error_effect(&ends[i].end), ends[i].name, ends[i].words,
                     ends[i].effect);
    }
}

/* Every row is reached, and its name is in the document's table. */
static void test_every_outcome_is_tested_and_documented(void **state)
{
    const struct gt_mqtt_outcome *outcome;
    char *document = NULL, *path = getenv("GOTTHARD_OUTCOMES"), row[64];

    FILE *file = path ? fopen(path, "r") : NULL;
    if (file && getdelim(&document, &(size_t){0}, 0, file) < 0)
        fail_msg("%s is empty", path);
    for (size_t i = 0; (outcome = gt_mqtt_outcome_at(i)); i++) {
        bool is_tested = false;

        for (size_t k = 0; k < GT_ARRAY_SIZE(ends); k++)
            is_tested |= gt_mqtt_error_outcome(&ends[k].end) == outcome;
        is_tested |= strcmp(outcome->name, "clock") == 0; /* it has a test of its own */
        if (!is_tested)
            fail_msg("row %s is not reached", outcome->name);
        snprintf(row, sizeof(row), "\n| %s |", outcome->name);
        if (document && !strstr(document, row))
            fail_msg("row %s is not in %s", outcome->name, path);
    }
    free(document);
    if (file)
        fclose(file);
}

/* Whatever the library and the kernel report: never the texts that say nothing. */
static void test_no_outcome_is_without_words(void **state)
{
    static const char *const empty[] = {"Unknown error", "Success", "No error"};
    char text[GT_MQTT_WHY];

    for (int rc = -4; rc < 40; rc++) {
        for (int i = 0; i < 8; i++) {
            struct gt_mqtt_error end = {.rc = rc, .is_v5 = i & 1, .was_up = i & 2, .is_tls = i & 4};

            gt_mqtt_error_describe(&end, text, sizeof(text));
            assert_int_not_equal(text[0], 0);
            for (size_t k = 0; k < GT_ARRAY_SIZE(empty); k++)
                if (strstr(text, empty[k]))
                    fail_msg("rc %d: \"%s\"", rc, text);
        }
    }
}

/* The unset clock of a machine without a battery. */
static void test_clock_before_the_release_is_the_cause(void **state)
{
    struct gt_mqtt_error end = {
        .rc = MOSQ_ERR_TLS,
        .verification = {.error = X509_V_ERR_CERT_NOT_YET_VALID,
                         .names = "b.example",
                         .not_before = 1790000000},
    };
    char text[GT_MQTT_WHY];

    wall_clock = 86400;
    const struct gt_mqtt_outcome *outcome = gt_mqtt_error_outcome(&end);
    gt_mqtt_error_describe(&end, text, sizeof(text));
    wall_clock = 0;
    assert_string_equal(outcome->name, "clock");
    assert_int_equal(outcome->kind, GT_MQTT_KIND_CLOCK);
    assert_string_equal(text, "TLS: the clock of this machine is wrong, it shows 1970-01-02: the "
                              "certificate b.example is valid from 2026-09-21");
}

static void test_every_outcome_has_a_hint(void **state)
{
    const struct gt_mqtt_outcome *outcome;

    for (size_t i = 0; (outcome = gt_mqtt_outcome_at(i)); i++)
        if (!outcome->hint || strlen(outcome->hint) < 10 || strstr(outcome->hint, "GOTTHARD_"))
            fail_msg("row %s", outcome->name);
}

static void test_describe_truncates_long_text(void **state)
{
    struct gt_mqtt_error end = {.rc = MOSQ_ERR_TLS};
    char text[16];

    gt_mqtt_error_describe(&end, text, sizeof(text));
    assert_string_equal(text, "TLS: the handsh");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outcome_has_words_and_effect),
        cmocka_unit_test(test_every_outcome_is_tested_and_documented),
        cmocka_unit_test(test_no_outcome_is_without_words),
        cmocka_unit_test(test_clock_before_the_release_is_the_cause),
        cmocka_unit_test(test_every_outcome_has_a_hint),
        cmocka_unit_test(test_describe_truncates_long_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
