/* SPDX-License-Identifier: ISC */
/* The table of outcomes; see the header. */
#include "gotthard/mqtt/mqtt-error.h"

#include <errno.h>
#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <netdb.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>
#include <string.h>

#include "gotthard/mqtt/mqtt-connection.h"

/* --- conditions ------------------------------------------------------------------------------- */

static bool could_not_begin(const struct gt_mqtt_error *end)
{
    return end->start_err != 0;
}

static bool is_aborted(const struct gt_mqtt_error *end)
{
    return end->is_aborted;
}

static bool has_no_route(const struct gt_mqtt_error *end)
{
    return end->reason == GT_MQTT_REASON_NO_ROUTE;
}

static bool is_late(const struct gt_mqtt_error *end)
{
    return end->late != GT_MQTT_LATE_NONE;
}

static bool is_broker_late(const struct gt_mqtt_error *end)
{
    return end->late == GT_MQTT_LATE_TLS || end->late == GT_MQTT_LATE_CONNACK;
}

static bool is_filter_refused(const struct gt_mqtt_error *end)
{
    return end->is_filter_refused;
}

static bool has_reason(const struct gt_mqtt_error *end)
{
    return end->reason != 0;
}

static bool is_certificate_rejected(const struct gt_mqtt_error *end)
{
    return end->verification.error != 0;
}

static bool is_reset(const struct gt_mqtt_error *end)
{
    return end->rc == MOSQ_ERR_ERRNO && (end->err == ECONNRESET || end->err == EPIPE);
}

/*
 * In TLS 1.3 a broker rejects this side's certificate after the handshake (RFC 8446, section
 * 4.4.2.4): the library receives the alert when it reads or writes, and reports a lost connection
 * or EPROTO. If the broker's reset overtakes its alert, EPROTO is the only sign, or the error of
 * the library's close, which comes after it.
 */
static bool failed_in_tls(const struct gt_mqtt_error *end)
{
    if (end->rc == MOSQ_ERR_TLS)
        return true;
    if (end->rc == MOSQ_ERR_SUCCESS || end->was_up)
        return false;
    return (end->rc == MOSQ_ERR_ERRNO && end->err == EPROTO) || (end->is_tls && is_reset(end)) ||
           strstr(end->last_error, " alert ") || strstr(end->last_error, "certificate verify");
}

static bool is_peer_without_tls(const struct gt_mqtt_error *end)
{
    return failed_in_tls(end) && (strstr(end->last_error, "wrong version number") ||
                                  strstr(end->last_error, "packet length too long"));
}

static bool is_alpn_refused(const struct gt_mqtt_error *end)
{
    return failed_in_tls(end) && strstr(end->last_error, "no application protocol");
}

static bool has_no_name(const struct gt_mqtt_error *end)
{
    return end->rc == MOSQ_ERR_EAI || end->name_err != 0;
}

static bool has_no_memory(const struct gt_mqtt_error *end)
{
    return end->rc == MOSQ_ERR_NOMEM;
}

static bool is_keepalive(const struct gt_mqtt_error *end)
{
    return end->rc == MOSQ_ERR_KEEPALIVE;
}

static bool is_network_error(const struct gt_mqtt_error *end)
{
    static const int errors[] = {ENETUNREACH, EHOSTUNREACH, ENETDOWN,
                                 EHOSTDOWN,   ETIMEDOUT,    EADDRNOTAVAIL};

    for (size_t i = 0; i < GT_ARRAY_SIZE(errors); i++)
        if (end->rc == MOSQ_ERR_ERRNO && end->err == errors[i])
            return true;
    return false;
}

/* "Success" is no reason: the library has found the end of the connection without an errno. */
static bool is_closed(const struct gt_mqtt_error *end)
{
    return end->rc == MOSQ_ERR_CONN_LOST || end->rc == MOSQ_ERR_NO_CONN ||
           end->rc == MOSQ_ERR_SUCCESS || (end->rc == MOSQ_ERR_ERRNO && end->err == 0);
}

static bool is_closed_early(const struct gt_mqtt_error *end)
{
    return !end->was_up && is_closed(end);
}

static bool is_lost(const struct gt_mqtt_error *end)
{
    return end->was_up && (is_closed(end) || is_reset(end));
}

static bool is_errno(const struct gt_mqtt_error *end)
{
    return end->rc == MOSQ_ERR_ERRNO;
}

static bool is_bad_packet(const struct gt_mqtt_error *end)
{
    return end->rc == MOSQ_ERR_PROTOCOL || end->rc == MOSQ_ERR_MALFORMED_PACKET ||
           end->rc == MOSQ_ERR_MALFORMED_UTF8 || end->rc == MOSQ_ERR_CONN_REFUSED;
}

static bool is_answer_without_mqtt(const struct gt_mqtt_error *end)
{
    return !end->was_up && is_bad_packet(end);
}

static bool is_any(const struct gt_mqtt_error *end)
{
    return true;
}

/* --- words ------------------------------------------------------------------------------------ */

static void describe_start(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    const char *words = end->start_err == -EINVAL   ? "invalid certificate, key or other setting"
                        : end->start_err == -EAGAIN ? "too many threads are blocked"
                                                    : "out of memory";

    snprintf(ret, cap, "%s", words);
}

static void describe_late(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    static const char *const words[] = {
        [GT_MQTT_LATE_NAME] = "from the name server",
        [GT_MQTT_LATE_CONNECTION] = "to the connection attempt",
        [GT_MQTT_LATE_TLS] = "from the broker to the TLS handshake",
        [GT_MQTT_LATE_CONNACK] = "from the broker to CONNECT",
        [GT_MQTT_LATE_SUBACK] = "from the broker to a subscription",
    };

    snprintf(ret, cap, "no answer %s within %u s", words[end->late], end->limit_s);
}

/* Appends the properties of a rejecting CONNACK that explain it. */
static void describe_reason(const struct gt_mqtt_error *end, const char *words, char *ret,
                            size_t cap)
{
    snprintf(ret, cap, "%s by the broker: %s%s%s%s%s", end->was_up ? "closed" : "refused", words,
             *end->server ? "; it names the server " : "", end->server,
             *end->remark ? "; it says: " : "", end->remark);
}

static void describe_client_id(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    char words[256];

    snprintf(words, sizeof(words), "it does not accept the client id \"%s\"", end->client_id);
    describe_reason(end, words, ret, cap);
}

static void describe_rival(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    char words[256];

    snprintf(words, sizeof(words),
             "another client uses the same client id; is there a second device named %s?",
             end->client_id);
    describe_reason(end, words, ret, cap);
}

static void describe_other_reason(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    describe_reason(end,
                    end->is_v5 ? mosquitto_reason_string(end->reason)
                               : mosquitto_connack_string(end->reason),
                    ret, cap);
}

/* The reason why this side rejected the broker's certificate. */
static void describe_certificate(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    char day[GT_VERIFICATION_DAY], today[GT_VERIFICATION_DAY];
    const struct gt_verification *v = &end->verification;

    gt_verification_day(time(NULL), today);
    switch (v->error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        snprintf(ret, cap, "TLS: the certificate %s expired on %s (today is %s here)", v->names,
                 gt_verification_day(v->not_after, day), today);
        return;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        snprintf(ret, cap, "TLS: the certificate %s is valid from %s (today is %s here)", v->names,
                 gt_verification_day(v->not_before, day), today);
        return;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        snprintf(ret, cap, "TLS: the broker's certificate is for %s, not for %s", v->names,
                 v->host);
        return;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        snprintf(ret, cap, "TLS: the certificate %s is from %s, which is not a trusted authority",
                 v->names, v->issuer);
        return;
    }
    snprintf(ret, cap, "TLS: the certificate %s is rejected: %s", v->names,
             X509_verify_cert_error_string(v->error));
}

static void describe_tls(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    snprintf(ret, cap, "TLS: %s",
             *end->last_error ? end->last_error
                              : "aborted by the broker; it may have rejected our certificate");
}

static void describe_name(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    snprintf(ret, cap, "the host name cannot be resolved (%s)",
             gai_strerror(end->name_err ? end->name_err : EAI_NONAME));
}

static void describe_keepalive(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    snprintf(ret, cap, "no answer from the broker within the keep-alive interval of %u s",
             end->limit_s);
}

static void describe_errno(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    char text[128];

    snprintf(ret, cap, "%s", strerror_r(end->err, text, sizeof(text)));
}

static void describe_other(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    snprintf(ret, cap, "the MQTT library reports error %d", end->rc);
}

/* --- the table -------------------------------------------------------------------------------- */

#define BOTH(effect)    .attempt = GT_MQTT_EFFECT_##effect, .was_up = GT_MQTT_EFFECT_##effect
#define ATTEMPT(effect) .attempt = GT_MQTT_EFFECT_##effect
#define WAS_UP(effect)  .was_up = GT_MQTT_EFFECT_##effect

/* The first row that matches applies. A row without an effect has RETRY. */
static const struct gt_mqtt_outcome outcomes[] = {
    {"start-failed", .is = could_not_begin, .describe = describe_start},
    {"library-failed", .is = is_aborted,
     .words = "the MQTT library failed on a packet from the broker"},
    {"no-route", .is = has_no_route, .words = "the route to the broker is gone", BOTH(QUICK)},
    {"connack-late", .is = is_broker_late, .describe = describe_late, ATTEMPT(SPREAD)},
    {"answer-late", .is = is_late, .describe = describe_late, ATTEMPT(NETWORK), WAS_UP(SPREAD)},
    {"filter-refused", .is = is_filter_refused, .words = "the broker refuses a subscription"},

    {"version", .words = "it does not support this version of MQTT",
     .reason = MQTT_RC_UNSUPPORTED_PROTOCOL_VERSION, .reason_v3 = CONNACK_REFUSED_PROTOCOL_VERSION,
     ATTEMPT(V3)},
    {"client-id", .describe = describe_client_id, .reason = MQTT_RC_CLIENTID_NOT_VALID,
     .reason_v3 = CONNACK_REFUSED_IDENTIFIER_REJECTED},
    {"password", .words = "Bad user name or password", .reason = MQTT_RC_BAD_USERNAME_OR_PASSWORD,
     .reason_v3 = CONNACK_REFUSED_BAD_USERNAME_PASSWORD},
    {"not-authorized", .words = "Not authorized", .reason = MQTT_RC_NOT_AUTHORIZED,
     .reason_v3 = CONNACK_REFUSED_NOT_AUTHORIZED, WAS_UP(SPREAD)},
    {"unavailable", .words = "Server unavailable", .reason = MQTT_RC_SERVER_UNAVAILABLE,
     .reason_v3 = CONNACK_REFUSED_SERVER_UNAVAILABLE, BOTH(SPREAD)},
    {"busy", .words = "Server busy", .reason = MQTT_RC_SERVER_BUSY, BOTH(SPREAD)},
    {"shutting-down", .words = "Server shutting down", .reason = MQTT_RC_SERVER_SHUTTING_DOWN,
     BOTH(SPREAD)},
    {"quota", .words = "Quota exceeded", .reason = MQTT_RC_QUOTA_EXCEEDED, BOTH(SPREAD)},
    {"connection-rate", .words = "too many clients connect at the same time",
     .reason = MQTT_RC_CONNECTION_RATE_EXCEEDED, BOTH(SPREAD)},
    {"taken-over", .describe = describe_rival, .reason = MQTT_RC_SESSION_TAKEN_OVER, BOTH(RIVAL)},
    {"no-retained", .words = "it keeps no retained messages",
     .reason = MQTT_RC_RETAIN_NOT_SUPPORTED, ATTEMPT(UNRETAINED)},
    {"qos", .words = "it accepts only QoS 0, and Gotthard needs QoS 1",
     .reason = MQTT_RC_QOS_NOT_SUPPORTED},
    {"receive-maximum", .words = "more unacknowledged messages than its Receive Maximum",
     .reason = MQTT_RC_RECEIVE_MAXIMUM_EXCEEDED},
    {"packet-size", .words = "a packet was larger than its limit",
     .reason = MQTT_RC_PACKET_TOO_LARGE},
    {"other-server", .words = "use another server; change mqtt.endpoint if this lasts",
     .reason = MQTT_RC_USE_ANOTHER_SERVER, WAS_UP(SPREAD)},
    {"moved", .words = "the server has moved; change mqtt.endpoint", .reason = MQTT_RC_SERVER_MOVED,
     WAS_UP(SPREAD)},
    {"other-reason", .is = has_reason, .describe = describe_other_reason, WAS_UP(SPREAD)},

    {"certificate", .is = is_certificate_rejected, .describe = describe_certificate},
    {"no-tls", .is = is_peer_without_tls,
     .words = "TLS: the port does not use TLS; mqtt:// connects without it"},
    {"alpn", .is = is_alpn_refused,
     .words = "TLS: the broker does not accept the ALPN protocol (mqtt.alpn)"},
    {"tls", .is = failed_in_tls, .describe = describe_tls},
    {"name", .is = has_no_name, .describe = describe_name, ATTEMPT(NETWORK)},
    {"memory", .is = has_no_memory, .words = "out of memory"},
    {"keepalive", .is = is_keepalive, .describe = describe_keepalive, WAS_UP(SILENT)},
    {"network", .is = is_network_error, .describe = describe_errno, ATTEMPT(NETWORK),
     WAS_UP(QUICK)},
    {"lost", .is = is_lost, .words = "the broker or the network closed the connection",
     WAS_UP(SPREAD)},
    {"closed-early", .is = is_closed_early,
     .words = "the connection was closed without an answer to CONNECT; is this the broker's port?",
     ATTEMPT(V3_GUESS)},
    {"errno", .is = is_errno, .describe = describe_errno},
    {"not-mqtt", .is = is_answer_without_mqtt,
     .words = "the answer is not MQTT; is this the broker's port, and does it need TLS?",
     ATTEMPT(V3_GUESS)},
    {"bad-packet", .is = is_bad_packet, .words = "the broker sent an invalid packet"},
    {"other", .is = is_any, .describe = describe_other},
};

static bool row_matches(const struct gt_mqtt_outcome *row, const struct gt_mqtt_error *end)
{
    if (row->is)
        return row->is(end);
    if (end->is_v5 && end->reason == row->reason)
        return true;
    /* A broker without MQTT 5 answers MQTT 5 with its own code. */
    return row->reason_v3 && end->reason == row->reason_v3;
}

const struct gt_mqtt_outcome *gt_mqtt_error_outcome(const struct gt_mqtt_error *end)
{
    const struct gt_mqtt_outcome *row = outcomes;

    while (!row_matches(row, end))
        row++;
    return row;
}

void gt_mqtt_error_describe(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    const struct gt_mqtt_outcome *row = gt_mqtt_error_outcome(end);

    if (row->describe)
        row->describe(end, ret, cap);
    else if (row->is)
        snprintf(ret, cap, "%s", row->words);
    else
        describe_reason(end, row->words, ret, cap);
}

enum gt_mqtt_effect gt_mqtt_error_effect(const struct gt_mqtt_error *end)
{
    const struct gt_mqtt_outcome *row = gt_mqtt_error_outcome(end);
    enum gt_mqtt_effect effect = end->was_up ? row->was_up : row->attempt;

    bool is_v3 = effect == GT_MQTT_EFFECT_V3 || effect == GT_MQTT_EFFECT_V3_GUESS;

    return is_v3 && !end->is_v5 ? GT_MQTT_EFFECT_RETRY : effect;
}

const struct gt_mqtt_outcome *gt_mqtt_outcomes(size_t *ret_n)
{
    *ret_n = GT_ARRAY_SIZE(outcomes);
    return outcomes;
}
