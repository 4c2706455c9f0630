/* SPDX-License-Identifier: ISC */
/* The table of outcomes; see the header. */
#include "gotthard/mqtt/mqtt-error.h"

#include <errno.h>
#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#include "gotthard/mqtt/mqtt-connection.h"
#include "gotthard/mqtt/mqtt-tls-error.h"
#include "gotthard/net/resolve-error.h"

/* --- conditions ------------------------------------------------------------------------------- */

static bool could_not_begin(const struct gt_mqtt_error *end)
{
    return end->start_err != 0;
}

static bool is_setting_invalid(const struct gt_mqtt_error *end)
{
    return end->start_err == -EINVAL;
}

static bool is_aborted(const struct gt_mqtt_error *end)
{
    return end->is_aborted;
}

static bool has_no_route(const struct gt_mqtt_error *end)
{
    return end->reason == GT_MQTT_REASON_NO_ROUTE;
}

static bool is_name_late(const struct gt_mqtt_error *end)
{
    return end->late == GT_MQTT_LATE_NAME;
}

static bool is_connection_late(const struct gt_mqtt_error *end)
{
    return end->late == GT_MQTT_LATE_CONNECTION;
}

static bool is_late(const struct gt_mqtt_error *end)
{
    return end->late != GT_MQTT_LATE_NONE;
}

static bool is_at_proxy(const struct gt_mqtt_error *end)
{
    return end->is_at_proxy;
}

static bool is_proxy_denial(const struct gt_mqtt_error *end)
{
    return end->is_at_proxy && end->is_proxy_denial;
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

static bool has_no_name(const struct gt_mqtt_error *end)
{
    return end->rc == MOSQ_ERR_EAI || end->name_err != 0;
}

/* The name servers have answered: the name does not exist, or has no address. */
static bool is_name_unknown(const struct gt_mqtt_error *end)
{
    return has_no_name(end) && gt_resolve_is_unknown(end->name_err);
}

static bool has_no_memory(const struct gt_mqtt_error *end)
{
    return end->rc == MOSQ_ERR_NOMEM && !end->is_packet_large;
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
    return end->was_up && (is_closed(end) || gt_mqtt_tls_is_reset(end));
}

static bool has_no_descriptor(const struct gt_mqtt_error *end)
{
    return end->rc == MOSQ_ERR_ERRNO && (end->err == EMFILE || end->err == ENFILE);
}

static bool is_errno(const struct gt_mqtt_error *end)
{
    return end->rc == MOSQ_ERR_ERRNO;
}

static bool is_packet_large(const struct gt_mqtt_error *end)
{
    return end->was_up && end->is_packet_large;
}

static bool is_bad_packet(const struct gt_mqtt_error *end)
{
    return end->is_packet_large || end->rc == MOSQ_ERR_PROTOCOL ||
           end->rc == MOSQ_ERR_MALFORMED_PACKET || end->rc == MOSQ_ERR_MALFORMED_UTF8 ||
           end->rc == MOSQ_ERR_CONN_REFUSED;
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
    snprintf(ret, cap, "%s",
             end->start_err == -EAGAIN ? "too many threads are blocked" : "out of memory");
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

static void describe_name(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    char why[GT_RESOLVE_WHY];

    snprintf(ret, cap, "the host name cannot be resolved (%s)",
             gt_resolve_describe(end->name_err ? end->name_err : EAI_AGAIN, end->name_s, why,
                                 sizeof(why)));
}

static void describe_keepalive(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    snprintf(ret, cap, "no answer from the broker within the keep-alive interval of %u s",
             end->limit_s);
}

static void describe_errno(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    snprintf(ret, cap, "%s", strerror(end->err));
}

/* The proxy was not reached, or its answer. */
static void describe_proxy(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    char why[128];

    if (*end->proxy_why) {
        snprintf(ret, cap, "%s", end->proxy_why);
        return;
    }
    if (end->late != GT_MQTT_LATE_NONE)
        describe_late(end, why, sizeof(why));
    else if (end->name_err != 0)
        describe_name(end, why, sizeof(why));
    else
        describe_errno(end, why, sizeof(why));
    snprintf(ret, cap, "proxy %s: %s", end->proxy, why);
}

static void describe_other(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    snprintf(ret, cap, "the MQTT library reports error %d", end->rc);
}

/* --- the table -------------------------------------------------------------------------------- */

#define BOTH(effect)    .attempt = GT_MQTT_EFFECT_##effect, .was_up = GT_MQTT_EFFECT_##effect
#define ATTEMPT(effect) .attempt = GT_MQTT_EFFECT_##effect
#define WAS_UP(effect)  .was_up = GT_MQTT_EFFECT_##effect
#define KIND(kind_)     .kind = GT_MQTT_KIND_##kind_

#define HINT_BUSY "the broker is overloaded or restarts; try again later, and see its log"
#define HINT_NETWORK \
    "check the network of this machine, and the firewalls between it and {mqtt.endpoint}"
#define HINT_PORT \
    "check host and port of {mqtt.endpoint}: 8883 is usual with TLS, and 1883 with mqtt://"
#define HINT_LIMITS "raise this limit in the settings of the broker (docs/brokers.md)"

/* The first row that matches applies. A row without an effect has RETRY, and one without a kind is
 * UNREACHABLE. */
static const struct gt_mqtt_outcome outcomes[] = {
    {"setting", .is = is_setting_invalid, .words = "invalid certificate, key or other setting",
     KIND(SETTINGS), .hint = "check {mqtt.cert_path}, {mqtt.username} and {mqtt.password}"},
    {"start-failed", .is = could_not_begin, .describe = describe_start, KIND(INTERNAL),
     .hint = "close other programs of this machine"},
    {"library-failed", .is = is_aborted,
     .words = "the MQTT library failed on a packet from the broker", KIND(FOREIGN),
     .hint = "report it with the name and the version of the broker"},
    {"proxy-denied", .is = is_proxy_denial, .describe = describe_proxy, ATTEMPT(NETWORK),
     KIND(PROXY),
     .hint = "check {mqtt.proxy} and {mqtt.proxy_password}; none is a direct connection"},
    {"proxy", .is = is_at_proxy, .describe = describe_proxy, ATTEMPT(NETWORK),
     .hint = "check {mqtt.proxy}, and whether it can connect to {mqtt.endpoint}"},
    {"no-route", .is = has_no_route, .words = "the route to the broker is gone", BOTH(QUICK),
     .hint = "check the network of this machine"},
    {"connack-late", .is = is_broker_late, .describe = describe_late, ATTEMPT(SPREAD),
     .hint = "the broker is overloaded, or another kind of server answers: " HINT_PORT},
    {"name-late", .is = is_name_late, .describe = describe_late, ATTEMPT(NETWORK),
     .hint = "check the name server of this machine (/etc/resolv.conf) and its network"},
    {"connection-late", .is = is_connection_late, .describe = describe_late, ATTEMPT(NETWORK),
     .hint = "a firewall drops the packets, or the machine is off: " HINT_PORT
             "; guest networks often let only port 443 out"},
    {"answer-late", .is = is_late, .describe = describe_late, ATTEMPT(NETWORK), WAS_UP(SPREAD),
     .hint = HINT_BUSY},
    {"filter-refused", .is = is_filter_refused, .words = "the broker refuses a subscription",
     KIND(REFUSED),
     .hint = "permit this client to subscribe in the access rules of the broker (mosquitto: "
             "acl_file), below {mqtt.prefix}"},

    {"version", .words = "it does not support this version of MQTT",
     .reason = MQTT_RC_UNSUPPORTED_PROTOCOL_VERSION, .reason_v3 = CONNACK_REFUSED_PROTOCOL_VERSION,
     ATTEMPT(V3), KIND(REFUSED), .hint = "check {mqtt.version}: auto tries both versions"},
    {"client-id", .describe = describe_client_id, .reason = MQTT_RC_CLIENTID_NOT_VALID,
     .reason_v3 = CONNACK_REFUSED_IDENTIFIER_REJECTED, KIND(REFUSED),
     .hint = "permit this client id at the broker (AWS IoT Core: iot:Connect of the policy; "
             "mosquitto: clientid_prefixes). A device uses its name, a command gtc- and random "
             "digits"},
    {"password", .words = "Bad user name or password", .reason = MQTT_RC_BAD_USERNAME_OR_PASSWORD,
     .reason_v3 = CONNACK_REFUSED_BAD_USERNAME_PASSWORD, KIND(REFUSED),
     .hint = "check {mqtt.username} and {mqtt.password}"},
    {"not-authorized", .words = "Not authorized", .reason = MQTT_RC_NOT_AUTHORIZED,
     .reason_v3 = CONNACK_REFUSED_NOT_AUTHORIZED, WAS_UP(SPREAD), KIND(REFUSED),
     .hint = "permit this client in the access rules of the broker; it identifies itself by "
             "{mqtt.username}, {mqtt.password} and the certificate in {mqtt.cert_path}"},
    {"unavailable", .words = "Server unavailable", .reason = MQTT_RC_SERVER_UNAVAILABLE,
     .reason_v3 = CONNACK_REFUSED_SERVER_UNAVAILABLE, BOTH(SPREAD), .hint = HINT_BUSY},
    {"busy", .words = "Server busy", .reason = MQTT_RC_SERVER_BUSY, BOTH(SPREAD),
     .hint = HINT_BUSY},
    {"shutting-down", .words = "Server shutting down", .reason = MQTT_RC_SERVER_SHUTTING_DOWN,
     BOTH(SPREAD), .hint = HINT_BUSY},
    {"quota", .words = "Quota exceeded", .reason = MQTT_RC_QUOTA_EXCEEDED, BOTH(SPREAD),
     KIND(REFUSED), .hint = HINT_LIMITS},
    {"connection-rate", .words = "too many clients connect at the same time",
     .reason = MQTT_RC_CONNECTION_RATE_EXCEEDED, BOTH(SPREAD), .hint = HINT_BUSY},
    {"taken-over", .describe = describe_rival, .reason = MQTT_RC_SESSION_TAKEN_OVER, BOTH(RIVAL),
     KIND(REFUSED), .hint = "give each device a name of its own"},
    {"no-retained", .words = "it keeps no retained messages",
     .reason = MQTT_RC_RETAIN_NOT_SUPPORTED, ATTEMPT(UNRETAINED), KIND(REFUSED),
     .hint = "permit retained messages at the broker"},
    {"qos", .words = "it accepts only QoS 0, and Gotthard needs QoS 1",
     .reason = MQTT_RC_QOS_NOT_SUPPORTED, KIND(REFUSED), .hint = HINT_LIMITS},
    {"receive-maximum", .words = "more unacknowledged messages than its Receive Maximum",
     .reason = MQTT_RC_RECEIVE_MAXIMUM_EXCEEDED, KIND(REFUSED), .hint = HINT_LIMITS},
    {"packet-size", .words = "a packet was larger than its limit",
     .reason = MQTT_RC_PACKET_TOO_LARGE, KIND(REFUSED),
     .hint = "let the broker accept messages of 8192 bytes (mosquitto: max_packet_size)"},
    {"other-server", .words = "use another server; change mqtt.endpoint if this lasts",
     .reason = MQTT_RC_USE_ANOTHER_SERVER, WAS_UP(SPREAD), KIND(REFUSED),
     .hint = "change {mqtt.endpoint}"},
    {"moved", .words = "the server has moved; change mqtt.endpoint", .reason = MQTT_RC_SERVER_MOVED,
     WAS_UP(SPREAD), KIND(REFUSED), .hint = "change {mqtt.endpoint}"},
    {"other-reason", .is = has_reason, .describe = describe_other_reason, WAS_UP(SPREAD),
     KIND(REFUSED), .hint = "see the log of the broker"},
};

/* Behind the rows of mqtt-tls-error.c. */
static const struct gt_mqtt_outcome later_outcomes[] = {
    {"name-unknown", .is = is_name_unknown, .describe = describe_name, ATTEMPT(NETWORK),
     .hint = "check the spelling in {mqtt.endpoint}"},
    {"name", .is = has_no_name, .describe = describe_name, ATTEMPT(NETWORK),
     .hint = "check the name server of this machine (/etc/resolv.conf) and its network"},
    {"memory", .is = has_no_memory, .words = "out of memory", KIND(INTERNAL),
     .hint = "close other programs of this machine"},
    {"keepalive", .is = is_keepalive, .describe = describe_keepalive, WAS_UP(SILENT),
     .hint = HINT_NETWORK},
    {"network", .is = is_network_error, .describe = describe_errno, ATTEMPT(NETWORK), WAS_UP(QUICK),
     .hint = HINT_NETWORK},
    {"lost", .is = is_lost, .words = "the broker or the network closed the connection",
     WAS_UP(SPREAD), .hint = "try again; if it lasts, see the log of the broker"},
    {"closed-early", .is = is_closed_early,
     .words = "the connection was closed without an answer to CONNECT; is this the broker's port?",
     ATTEMPT(V3_GUESS), .hint = HINT_PORT "; or see the log of the broker"},
    {"descriptors", .is = has_no_descriptor, .describe = describe_errno, KIND(INTERNAL),
     .hint = "raise the limit of open files (ulimit -n), or close other programs"},
    {"errno", .is = is_errno, .describe = describe_errno,
     .hint = "no broker accepts connections there: check that it runs. " HINT_PORT},
    {"not-mqtt", .is = is_answer_without_mqtt,
     .words = "the answer is not MQTT; is this the broker's port, and does it need TLS?",
     ATTEMPT(V3_GUESS), KIND(FOREIGN), .hint = HINT_PORT},
    {"large-packet", .is = is_packet_large,
     .words = "the broker sent a packet that needs more memory than this program may use",
     KIND(FOREIGN), .hint = "report it with the name and the version of the broker"},
    {"bad-packet", .is = is_bad_packet, .words = "the broker sent an invalid packet", KIND(FOREIGN),
     .hint = "report it with the name and the version of the broker"},
    {"other", .is = is_any, .describe = describe_other, .hint = "see the log of the broker"},
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

const struct gt_mqtt_outcome *gt_mqtt_outcome_at(size_t i)
{
    size_t n_tls;
    const struct gt_mqtt_outcome *tls = gt_mqtt_tls_outcomes(&n_tls);

    if (i < GT_ARRAY_SIZE(outcomes))
        return &outcomes[i];
    i -= GT_ARRAY_SIZE(outcomes);
    if (i < n_tls)
        return &tls[i];
    i -= n_tls;
    return i < GT_ARRAY_SIZE(later_outcomes) ? &later_outcomes[i] : NULL;
}

bool gt_mqtt_outcome_is_of_tls(const struct gt_mqtt_outcome *outcome)
{
    size_t n_tls;
    const struct gt_mqtt_outcome *tls = gt_mqtt_tls_outcomes(&n_tls);

    for (size_t i = 0; i < n_tls; i++)
        if (outcome == &tls[i])
            return true;
    return false;
}

const struct gt_mqtt_outcome *gt_mqtt_error_outcome(const struct gt_mqtt_error *end)
{
    size_t i = 0;

    while (!row_matches(gt_mqtt_outcome_at(i), end))
        i++;
    return gt_mqtt_outcome_at(i);
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
