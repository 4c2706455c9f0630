/* SPDX-License-Identifier: ISC */
/* diagnosis.c: each protocol condition has its failure id, and the message names the device. */
#include "diagnosis.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define DEVICE "GatewayOli"

static void assert_failure(const struct failure *failure, enum failure_id id, const char *text)
{
    assert_int_equal(failure->id, id);
    if (!strstr(failure->message, text))
        fail_msg("\"%s\" is not in \"%s\"", text, failure->message);
    assert_true(strlen(failure->hint) > 0);
}

static void test_diagnosis_silence_by_device_state(void **state)
{
    static const struct {
        enum device_state state;
        enum failure_id id;
    } rows[] = {
        {DEVICE_UNKNOWN, FAILURE_UNKNOWN_DEVICE},
        {DEVICE_FOREIGN, FAILURE_NO_ANSWER},
        {DEVICE_OFFLINE, FAILURE_OFFLINE},
        {DEVICE_ONLINE, FAILURE_NO_ANSWER},
    };
    struct failure failure;

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        diagnosis_of_silence(DEVICE, rows[i].state, 0, true, 20, &failure);
        assert_failure(&failure, rows[i].id, DEVICE);
        assert_null(strstr(failure.message, "since"));
    }
    diagnosis_of_silence(DEVICE, DEVICE_OFFLINE, 1700000000, true, 20, &failure);
    assert_failure(&failure, FAILURE_OFFLINE, "last came online 2023-11-");
    diagnosis_of_silence(DEVICE, DEVICE_OFFLINE, 1700000000, false, 20, &failure);
    assert_failure(&failure, FAILURE_OFFLINE, "is offline (since 2023-11-");
}

static void test_diagnosis_refusal_by_status_or_nak(void **state)
{
    static const struct {
        uint16_t nak_code;
        uint8_t status;
        enum failure_id id;
    } rows[] = {
        {UINT16_MAX, GT_ACK_DENIED, FAILURE_DENIED},
        {UINT16_MAX, GT_ACK_SERVICE, FAILURE_NO_SERVICE},
        {UINT16_MAX, GT_ACK_QUOTA, FAILURE_QUOTA},
        {UINT16_MAX, GT_ACK_RELAY, FAILURE_NO_RELAY},
        {UINT16_MAX, GT_ACK_INTERNAL, FAILURE_DEVICE_INTERNAL},
        {UINT16_MAX, 99, FAILURE_DENIED},
        {GT_NAK_BUSY, 0, FAILURE_QUOTA},
        {GT_NAK_SIZE, 0, FAILURE_BROKER_REFUSED},
        {GT_NAK_DENIED, 0, FAILURE_DENIED},
        {GT_NAK_EPOCH, 0, FAILURE_NO_ANSWER},
        {99, 0, FAILURE_NO_ANSWER},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        struct gt_answer answer = {.nak_code = rows[i].nak_code, .ack.status = rows[i].status};
        struct failure failure;

        diagnosis_of_refusal(DEVICE, &answer, "ssh", "main", &failure);
        assert_failure(&failure, rows[i].id, DEVICE);
    }
}

static void test_diagnosis_limit_of_the_device(void **state)
{
    struct gt_answer answer = {.nak_code = UINT16_MAX, .ack.status = GT_ACK_QUOTA};
    struct failure failure;

    diagnosis_of_refusal(DEVICE, &answer, "ssh", "main", &failure);
    assert_failure(&failure, FAILURE_QUOTA, ": limits.sessions_per_operator or limits.sessions in");
    answer.ack.extensions.limit = gt_span_text("limits.sessions (32)");
    diagnosis_of_refusal(DEVICE, &answer, "ssh", "main", &failure);
    assert_failure(&failure, FAILURE_QUOTA, ": limits.sessions (32) in its settings");
    assert_non_null(strstr(failure.hint, "gotthard-cli disconnect " DEVICE " --all"));
    answer.ack.extensions.limit = gt_span_text("limits.sessions_per_operator (16)");
    diagnosis_of_refusal(DEVICE, &answer, "ssh", "main", &failure);
    assert_string_equal(failure.hint, "close your sessions: gotthard-cli disconnect " DEVICE);
}

static void test_diagnosis_of_the_older_side(void **state)
{
    static const struct {
        uint16_t session_version;
        const char *hint;
    } rows[] = {
        {0, "upgrade gotthard-agentd on " DEVICE},
        {GT_SESSION_VERSION + 1, "upgrade gotthard-cli here"},
    };
    struct failure failure;

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        struct gt_extensions extensions = {.session_version = rows[i].session_version};

        assert_true(diagnosis_of_version(DEVICE, &extensions, &failure));
        assert_failure(&failure, FAILURE_VERSION, "cannot open a tunnel with gotthard-cli");
        assert_string_equal(failure.hint, rows[i].hint);
    }
    assert_false(diagnosis_of_version(
        DEVICE, &(struct gt_extensions){.session_version = GT_SESSION_VERSION}, &failure));
}

static void test_diagnosis_tunnel_end_by_cause(void **state)
{
    static const struct {
        enum gt_end_reason cause;
        enum gt_code code;
        bool was_up;
        enum failure_id id;
        const char *text;
    } rows[] = {
        {GT_END_CLOSED, GT_CODE_BYE, false, FAILURE_DEVICE_LOST, "before it was up"},
        {GT_END_UNREACHABLE, GT_CODE_NONE, false, FAILURE_RELAY_UNREACHABLE, "relay.example:7000"},
        {GT_END_REFUSED, GT_CODE_NONE, false, FAILURE_RELAY_REFUSED, "relay.example:7000"},
        {GT_END_RELAY, GT_CODE_NO_PORT, false, FAILURE_RELAY_FULL, "relay.example:7000"},
        {GT_END_RELAY, GT_CODE_SHUTDOWN, true, FAILURE_TUNNEL_LOST, "relay.example:7000"},
        {GT_END_RELAY, GT_CODE_PROTOCOL, true, FAILURE_RELAY_ERROR, "relay.example:7000"},
        {GT_END_LOST, GT_CODE_NONE, true, FAILURE_TUNNEL_LOST, "the reason"},
        {GT_END_PEER, GT_CODE_NONE, false, FAILURE_DEVICE_LOST, "did not connect to the relay"},
        {GT_END_PEER, GT_CODE_NONE, true, FAILURE_DEVICE_LOST, "is lost"},
        {GT_END_EXPIRED, GT_CODE_LIFETIME, true, FAILURE_TUNNEL_EXPIRED, "lifetime"},
        {GT_END_IDLE, GT_CODE_IDLE, true, FAILURE_TUNNEL_IDLE, "timeouts.idle"},
        {GT_END_PEER, GT_CODE_PAIRING, false, FAILURE_DEVICE_LOST, "timeouts.pairing"},
        {GT_END_PEER, GT_CODE_GRACE, true, FAILURE_DEVICE_LOST, "timeouts.session_grace"},
        {GT_END_LIMIT, GT_CODE_SESSIONS, false, FAILURE_RELAY_LIMIT, "limits.sessions permits"},
        {GT_END_LIMIT, GT_CODE_IDENTITY, false, FAILURE_RELAY_LIMIT,
         "limits.sessions_per_identity"},
        {GT_END_LIMIT, GT_CODE_LIMIT, false, FAILURE_RELAY_LIMIT, "limits.descriptors"},
        {GT_END_WITHDRAWN, GT_CODE_WITHDRAWN, true, FAILURE_WITHDRAWN, "has withdrawn the access"},
        {GT_END_INTERNAL, GT_CODE_NONE, true, FAILURE_INTERNAL, "the reason"},
    };

    const struct gt_host_port relay = {.host = "relay.example", .port = 7000};

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        struct tunnel_end end = {
            .device = DEVICE,
            .relay = &relay,
            .was_up = rows[i].was_up,
            .cause = rows[i].cause,
            .code = rows[i].code,
            .why = "the reason",
        };
        struct failure failure;

        diagnosis_of_tunnel_end(&end, &failure);
        assert_failure(&failure, rows[i].id, rows[i].text);
    }
}

static void test_diagnosis_of_the_devices_report(void **state)
{
    static const struct {
        uint8_t kind;
        enum failure_id id;
        const char *text;
    } rows[] = {
        {GT_REPORT_AT_RELAY, FAILURE_DEVICE_RELAY,
         "GatewayOli waits at relay other.example:7000 and this side at relay relay.example:7000"},
        {GT_REPORT_UNREACHABLE, FAILURE_DEVICE_RELAY,
         "GatewayOli cannot reach its relay other.example:7000 (connection refused); here it is "
         "relay.example:7000"},
        {GT_REPORT_REJECTED, FAILURE_DEVICE_RELAY, "not accepted by other.example:7000"},
        {GT_REPORT_ERROR, FAILURE_DEVICE_RELAY, "refused by other.example:7000"},
        {GT_REPORT_ENDED, FAILURE_DEVICE_LOST, "before it was up (connection refused)"},
        {77, FAILURE_DEVICE_LOST, "before it was up (connection refused)"},
    };
    const struct gt_host_port relay = {.host = "relay.example", .port = 7000};

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        struct gt_report report = {
            .kind = rows[i].kind, .relay = "other.example:7000", .why = "Connection refused"};
        struct tunnel_end end = {
            .device = DEVICE, .relay = &relay, .cause = GT_END_PEER, .report = &report, .why = ""};
        struct failure failure;

        diagnosis_of_report(DEVICE, &relay, &report, &failure);
        assert_failure(&failure, rows[i].id, rows[i].text);
        diagnosis_of_tunnel_end(&end, &failure);
        assert_failure(&failure, rows[i].id, rows[i].text);
    }
}

static void test_diagnosis_target(void **state)
{
    struct failure failure = {0};

    assert_true(diagnosis_of_target(DEVICE, "ssh", GT_RST_REFUSED, &failure));
    assert_failure(&failure, FAILURE_TARGET,
                   "connection to ssh failed: the target refused the connection");
    assert_string_equal(failure.hint, "start the program on GatewayOli, or see gotthard-cli doctor "
                                      "GatewayOli");
    for (unsigned code = 0; code <= GT_RST_LAST + 1; code++) {
        bool is_of_target = code == GT_RST_REFUSED || code == GT_RST_TIMEOUT ||
                            code == GT_RST_UNREACHABLE || code == GT_RST_NO_NAME ||
                            code == GT_RST_NO_RESOLVER || code == GT_RST_WITHDRAWN;

        assert_int_equal(diagnosis_of_target(DEVICE, "ssh", (enum gt_rst)code, &failure),
                         is_of_target);
    }
}

static void test_diagnosis_service_of_udp(void **state)
{
    struct failure failure;

    diagnosis_of_service(DEVICE, "udp:dns", &failure);
    assert_failure(&failure, FAILURE_NO_SERVICE,
                   "GatewayOli offers this operator no service \"dns\" over UDP");
    assert_non_null(strstr(failure.hint, "dns = \"udp:HOST:PORT\""));
    diagnosis_of_service(DEVICE, "udp:53", &failure);
    assert_failure(&failure, FAILURE_NO_SERVICE, "does not permit udp:53");
    assert_true(diagnosis_is_target("udp:10.0.0.5:53"));
    assert_false(diagnosis_is_target("udp:dns"));
}

static void test_diagnosis_unknown_device_with_user(void **state)
{
    struct failure failure;

    diagnosis_of_silence("root@GatewayOli", DEVICE_UNKNOWN, 0, false, 3, &failure);
    assert_failure(&failure, FAILURE_UNKNOWN_DEVICE, "no device named root@GatewayOli");
    assert_string_equal(failure.hint,
                        "a device has no user here: gotthard-cli ssh root@GatewayOli");
    diagnosis_of_silence(DEVICE, DEVICE_UNKNOWN, 0, false, 3, &failure);
    assert_null(strstr(failure.hint, "user"));
}

static void test_diagnosis_relay_rejects_both(void **state)
{
    const struct gt_host_port relay = {.host = "relay.example", .port = 7000};
    struct gt_report report = {.kind = GT_REPORT_REJECTED, .relay = "relay.example:7000"};
    struct tunnel_end end = {
        .device = DEVICE, .relay = &relay, .cause = GT_END_REFUSED, .report = &report, .why = "x"};
    struct failure failure;

    diagnosis_of_tunnel_end(&end, &failure);
    assert_failure(&failure, FAILURE_RELAY_REFUSED,
                   "relay.example:7000 rejects this operator and GatewayOli alike");
    assert_non_null(strstr(failure.hint, "gotthard-cli keygen relay > relay.key"));
    snprintf(report.relay, sizeof(report.relay), "other.example:7000");
    diagnosis_of_tunnel_end(&end, &failure);
    assert_failure(&failure, FAILURE_RELAY_REFUSED, "relay relay.example:7000: x");
}

static void test_diagnosis_relay_elsewhere(void **state)
{
    static const struct {
        const char *host, *reported;
        bool is_elsewhere;
    } rows[] = {
        {"relay.example", "relay.example:7000", false},
        {"relay.example", "Relay.Example:7000", false},
        {"relay.example", "relay.example:7001", true},
        {"relay.example", "relay:7000", true},
        {"relay.example", "relay.example.org:7000", true},
        {"::1", "[::1]:7000", false},
        {"::1", "[::2]:7000", true},
        {"relay.example", "", false},
        {"relay.example", ":", true},
        {"relay.example", "[:7000", true},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        struct gt_host_port relay = {.port = 7000};
        struct gt_report report = {.kind = GT_REPORT_UNREACHABLE};

        snprintf(relay.host, sizeof(relay.host), "%s", rows[i].host);
        snprintf(report.relay, sizeof(report.relay), "%s", rows[i].reported);
        assert_int_equal(diagnosis_is_elsewhere(&relay, &report), rows[i].is_elsewhere);
    }
}

static void test_diagnosis_of_both_sides(void **state)
{
    const struct gt_host_port relay = {.host = "relay.example", .port = 7000};
    struct gt_report report = {.kind = GT_REPORT_UNREACHABLE, .relay = "r:1", .why = "No answer"};
    struct tunnel_end end = {.device = DEVICE,
                             .relay = &relay,
                             .cause = GT_END_UNREACHABLE,
                             .report = &report,
                             .why = "the reason"};
    struct failure failure;

    diagnosis_of_tunnel_end(&end, &failure);
    assert_failure(&failure, FAILURE_RELAY_UNREACHABLE,
                   "the reason; GatewayOli cannot reach r:1 either (no answer)");
    report.kind = GT_REPORT_ERROR;
    report.code = GT_CODE_NO_PORT;
    diagnosis_of_report(DEVICE, &relay, &report, &failure);
    assert_failure(&failure, FAILURE_RELAY_FULL, "GatewayOli was refused by r:1");
    report.code = GT_CODE_IDENTITY;
    diagnosis_of_report(DEVICE, &relay, &report, &failure);
    assert_failure(&failure, FAILURE_RELAY_LIMIT, "limits.sessions_per_identity");
    report.kind = GT_REPORT_AT_RELAY;
    diagnosis_of_tunnel_end(&end, &failure);
    assert_failure(&failure, FAILURE_RELAY_UNREACHABLE,
                   "the reason; GatewayOli is connected to r:1");
}

static void test_diagnosis_limit_of_the_relay_with_its_value(void **state)
{
    const struct gt_host_port relay = {.host = "relay.example", .port = 7000};
    struct gt_report report = {.kind = GT_REPORT_ERROR, .relay = "r:1", .code = GT_CODE_IDENTITY};
    struct tunnel_end end = {.device = DEVICE,
                             .relay = &relay,
                             .cause = GT_END_LIMIT,
                             .code = GT_CODE_IDENTITY,
                             .why = gt_code_limit_text(GT_CODE_IDENTITY, 64)};
    struct failure failure;

    snprintf(report.why, sizeof(report.why), "%s", end.why);
    diagnosis_of_tunnel_end(&end, &failure);
    assert_failure(&failure, FAILURE_RELAY_LIMIT,
                   "the relay allows 64 sessions per identity: limits.sessions_per_identity (this "
                   "operator has as many)");
    diagnosis_of_report(DEVICE, &relay, &report, &failure);
    assert_failure(&failure, FAILURE_RELAY_LIMIT, "per_identity (GatewayOli has as many)");
    end.code = GT_CODE_SESSIONS;
    end.why = gt_code_limit_text(GT_CODE_SESSIONS, 7);
    diagnosis_of_tunnel_end(&end, &failure);
    assert_failure(&failure, FAILURE_RELAY_LIMIT, "the relay allows 7 sessions: limits.sessions");
}

static void test_diagnosis_lifetime_of_each_program(void **state)
{
    static const struct {
        double age_s, granted_s, requested_s;
        const char *text, *hint;
    } rows[] = {
        {7200, 7200, 7200, "timeouts.lifetime of this command", "timeouts.lifetime"},
        {7199, 7200, 43200, "timeouts.lifetime of the device", "device's settings"},
        {3600, 7200, 43200, "timeouts.lifetime of the relay", "relay's settings"},
        {3600, 7200, 7200, "timeouts.lifetime of the relay", "relay's settings"},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        struct tunnel_end end = {
            .device = DEVICE,
            .relay = &(struct gt_host_port){.host = "relay.example", .port = 7000},
            .was_up = true,
            .age_s = rows[i].age_s,
            .granted_s = rows[i].granted_s,
            .requested_s = rows[i].requested_s,
            .cause = GT_END_EXPIRED,
            .code = GT_CODE_LIFETIME,
            .why = "",
        };
        struct failure failure;

        diagnosis_of_tunnel_end(&end, &failure);
        assert_failure(&failure, FAILURE_TUNNEL_EXPIRED, rows[i].text);
        assert_non_null(strstr(failure.hint, rows[i].hint));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_diagnosis_silence_by_device_state),
        cmocka_unit_test(test_diagnosis_refusal_by_status_or_nak),
        cmocka_unit_test(test_diagnosis_limit_of_the_device),
        cmocka_unit_test(test_diagnosis_of_the_older_side),
        cmocka_unit_test(test_diagnosis_tunnel_end_by_cause),
        cmocka_unit_test(test_diagnosis_of_the_devices_report),
        cmocka_unit_test(test_diagnosis_target),
        cmocka_unit_test(test_diagnosis_service_of_udp),
        cmocka_unit_test(test_diagnosis_unknown_device_with_user),
        cmocka_unit_test(test_diagnosis_relay_rejects_both),
        cmocka_unit_test(test_diagnosis_relay_elsewhere),
        cmocka_unit_test(test_diagnosis_of_both_sides),
        cmocka_unit_test(test_diagnosis_limit_of_the_relay_with_its_value),
        cmocka_unit_test(test_diagnosis_lifetime_of_each_program),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
