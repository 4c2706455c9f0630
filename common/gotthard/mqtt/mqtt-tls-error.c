/* SPDX-License-Identifier: ISC */
/* The rows of TLS; see the header. */
#include "gotthard/mqtt/mqtt-tls-error.h"

#include <errno.h>
#include <mosquitto.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "gotthard/base/clock.h"

enum { /* alerts: RFC 8446, section 6 */
       ALERT_HANDSHAKE_FAILURE = 40,
       ALERT_BAD_CERTIFICATE = 42,
       ALERT_CERTIFICATE_REVOKED = 44,
       ALERT_CERTIFICATE_EXPIRED = 45,
       ALERT_CERTIFICATE_UNKNOWN = 46,
       ALERT_UNKNOWN_CA = 48,
       ALERT_ACCESS_DENIED = 49,
       ALERT_DECRYPT_ERROR = 51,
       ALERT_PROTOCOL_VERSION = 70,
       ALERT_UNRECOGNIZED_NAME = 112,
       ALERT_CERTIFICATE_REQUIRED = 116,
       ALERT_NO_APPLICATION_PROTOCOL = 120,
};

/* --- conditions ------------------------------------------------------------------------------- */

bool gt_mqtt_tls_is_reset(const struct gt_mqtt_error *end)
{
    return end->rc == MOSQ_ERR_ERRNO && (end->err == ECONNRESET || end->err == EPIPE);
}

static bool is_certificate_rejected(const struct gt_mqtt_error *end)
{
    return end->verification.error != 0;
}

static bool is_expired(const struct gt_mqtt_error *end)
{
    return end->verification.error == X509_V_ERR_CERT_HAS_EXPIRED;
}

static bool is_not_yet_valid(const struct gt_mqtt_error *end)
{
    return end->verification.error == X509_V_ERR_CERT_NOT_YET_VALID;
}

/* The machine has no battery for its clock, and no time server so far. */
static bool is_clock_unset(const struct gt_mqtt_error *end)
{
    return is_not_yet_valid(end) && gt_clock_is_wrong(time(NULL));
}

static bool is_for_another_name(const struct gt_mqtt_error *end)
{
    return end->verification.error == X509_V_ERR_HOSTNAME_MISMATCH ||
           end->verification.error == X509_V_ERR_IP_ADDRESS_MISMATCH;
}

static bool is_of_unknown_authority(const struct gt_mqtt_error *end)
{
    switch (end->verification.error) {
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE: return true;
    }
    return false;
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
    return (end->rc == MOSQ_ERR_ERRNO && end->err == EPROTO) ||
           (end->is_tls && gt_mqtt_tls_is_reset(end)) || end->verification.alert != 0 ||
           strstr(end->last_error, " alert ") || strstr(end->last_error, "certificate verify");
}

static bool is_peer_http(const struct gt_mqtt_error *end)
{
    return failed_in_tls(end) && end->verification.is_http;
}

static bool is_peer_without_tls(const struct gt_mqtt_error *end)
{
    return failed_in_tls(end) && (strstr(end->last_error, "wrong version number") ||
                                  strstr(end->last_error, "packet length too long"));
}

static bool is_alpn_refused(const struct gt_mqtt_error *end)
{
    return failed_in_tls(end) && end->verification.alert == ALERT_NO_APPLICATION_PROTOCOL;
}

static bool is_server_name_unknown(const struct gt_mqtt_error *end)
{
    return failed_in_tls(end) && end->verification.alert == ALERT_UNRECOGNIZED_NAME;
}

static bool is_peer_outdated(const struct gt_mqtt_error *end)
{
    return failed_in_tls(end) && (end->verification.alert == ALERT_PROTOCOL_VERSION ||
                                  strstr(end->last_error, "unsupported protocol"));
}

/* The connection ended before any answer to the ClientHello. */
static bool is_unanswered(const struct gt_mqtt_error *end)
{
    bool is_closed = end->rc == MOSQ_ERR_CONN_LOST || (end->rc == MOSQ_ERR_ERRNO && end->err == 0);

    return end->is_tls && !end->was_up && !end->verification.is_answered &&
           end->verification.alert == 0 && (is_closed || failed_in_tls(end));
}

/* Without an alert a certificate may be the cause, or anything else. After the handshake,
 * libmosquitto 2.0.21 calls a reset connection a failure of TLS. */
bool gt_mqtt_tls_is_guess(const struct gt_mqtt_error *end)
{
    return end->verification.alert == 0 && failed_in_tls(end) && !is_unanswered(end) &&
           (end->rc != MOSQ_ERR_TLS || end->verification.is_done);
}

/* The broker rejects this side's certificate. */
static bool is_own_rejected(const struct gt_mqtt_error *end)
{
    switch (end->verification.alert) {
    case ALERT_HANDSHAKE_FAILURE:
    case ALERT_BAD_CERTIFICATE:
    case ALERT_CERTIFICATE_REVOKED:
    case ALERT_CERTIFICATE_EXPIRED:
    case ALERT_CERTIFICATE_UNKNOWN:
    case ALERT_UNKNOWN_CA:
    case ALERT_ACCESS_DENIED:
    case ALERT_DECRYPT_ERROR:
    case ALERT_CERTIFICATE_REQUIRED: return failed_in_tls(end) && *end->own.name;
    }
    return false;
}

static bool is_own_missing(const struct gt_mqtt_error *end)
{
    return failed_in_tls(end) && !*end->own.name &&
           (end->verification.alert == ALERT_HANDSHAKE_FAILURE ||
            end->verification.alert == ALERT_CERTIFICATE_REQUIRED);
}

static bool is_own_expired(const struct gt_mqtt_error *end)
{
    return (is_own_rejected(end) || gt_mqtt_tls_is_guess(end)) && end->own.not_after != 0 &&
           end->own.not_after < time(NULL);
}

static bool is_own_not_yet_valid(const struct gt_mqtt_error *end)
{
    return (is_own_rejected(end) || gt_mqtt_tls_is_guess(end)) && end->own.not_before > time(NULL);
}

/* The certificate is valid by the clock of this side. Behind the two above. */
static bool is_own_expired_there(const struct gt_mqtt_error *end)
{
    return is_own_rejected(end) && end->verification.alert == ALERT_CERTIFICATE_EXPIRED;
}

static bool is_own_revoked(const struct gt_mqtt_error *end)
{
    return is_own_rejected(end) && end->verification.alert == ALERT_CERTIFICATE_REVOKED;
}

static bool is_own_of_unknown_authority(const struct gt_mqtt_error *end)
{
    return is_own_rejected(end) && end->verification.alert == ALERT_UNKNOWN_CA;
}

/* --- words ------------------------------------------------------------------------------------ */

static const char *today(char *ret)
{
    return gt_verification_day(time(NULL), ret);
}

static void describe_clock(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    char day[GT_VERIFICATION_DAY], now[GT_VERIFICATION_DAY];

    snprintf(ret, cap,
             "TLS: the clock of this machine is wrong, it shows %s: the certificate %s is valid "
             "from %s",
             today(now), end->verification.names,
             gt_verification_day(end->verification.not_before, day));
}

static void describe_expired(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    char day[GT_VERIFICATION_DAY], now[GT_VERIFICATION_DAY];

    snprintf(ret, cap, "TLS: the certificate %s expired on %s (today is %s here)",
             end->verification.names, gt_verification_day(end->verification.not_after, day),
             today(now));
}

static void describe_not_yet_valid(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    char day[GT_VERIFICATION_DAY], now[GT_VERIFICATION_DAY];

    snprintf(ret, cap, "TLS: the certificate %s is valid from %s (today is %s here)",
             end->verification.names, gt_verification_day(end->verification.not_before, day),
             today(now));
}

static void describe_other_name(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    snprintf(ret, cap, "TLS: the broker's certificate is for %s, not for %s",
             end->verification.names, end->verification.host);
}

static void describe_authority(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    snprintf(ret, cap, "TLS: the certificate %s is from %s, which is not a trusted authority",
             end->verification.names, end->verification.issuer);
}

static void describe_certificate(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    snprintf(ret, cap, "TLS: the certificate %s is rejected: %s", end->verification.names,
             X509_verify_cert_error_string(end->verification.error));
}

static void describe_own_expired(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    char day[GT_VERIFICATION_DAY], now[GT_VERIFICATION_DAY];

    snprintf(ret, cap,
             "TLS: the broker rejects the certificate %s of this side, which expired on %s (today "
             "is %s here)",
             end->own.name, gt_verification_day(end->own.not_after, day), today(now));
}

static void describe_own_not_yet_valid(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    char day[GT_VERIFICATION_DAY], now[GT_VERIFICATION_DAY];

    snprintf(ret, cap,
             "TLS: the broker rejects the certificate %s of this side, which is valid from %s "
             "(today is %s here)",
             end->own.name, gt_verification_day(end->own.not_before, day), today(now));
}

static void describe_own_authority(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    snprintf(ret, cap,
             "TLS: the broker rejects the certificate %s of this side: it does not know the "
             "authority %s",
             end->own.name, end->own.issuer);
}

static void describe_own_expired_there(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    char day[GT_VERIFICATION_DAY], now[GT_VERIFICATION_DAY];

    snprintf(ret, cap,
             "TLS: the broker rejects the certificate %s of this side as expired, but it is valid "
             "until %s (today is %s here): the broker's CRL has expired, or a clock is wrong",
             end->own.name, gt_verification_day(end->own.not_after, day), today(now));
}

static void describe_own_rejected(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    char alert[40];

    snprintf(ret, cap, "TLS: the broker rejects the certificate %s of this side (%s)",
             end->own.name, gt_verification_alert(end->verification.alert, alert, sizeof(alert)));
}

static void describe_reset(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    static const char words[] = "TLS: the connection was reset during the handshake or after it";

    if (*end->own.name)
        snprintf(ret, cap, "%s; the broker may have rejected the certificate %s of this side",
                 words, end->own.name);
    else
        snprintf(ret, cap, "%s; the broker may require a certificate of this side", words);
}

static void describe_own_revoked(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    snprintf(ret, cap,
             "TLS: the broker rejects the certificate %s of this side: it has been revoked",
             end->own.name);
}

static void describe_server_name(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    snprintf(ret, cap, "TLS: the server does not know the name that it was asked for");
}

static void describe_tls(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    char alert[64] = "no common parameters, or the answer is no valid TLS";

    if (end->verification.alert != 0)
        gt_verification_alert(end->verification.alert, alert, sizeof(alert));
    snprintf(ret, cap, "TLS: the handshake with the broker failed (%s)", alert);
}

/* --- the rows --------------------------------------------------------------------------------- */

#define KIND(kind_) .kind = GT_MQTT_KIND_##kind_
#define HINT_LOGIN                                                                            \
    "; a login page of the network (hotel, guest network) or a proxy may answer in place of " \
    "the broker"
#define HINT_OWN "cert.pem in {mqtt.cert_path}"
#define HINT_RENEW                                                                              \
    "renew " HINT_OWN ": make-certificate-example --renew FOLDER where the authority is, then " \
    "copy FOLDER/cert.pem"

static const struct gt_mqtt_outcome outcomes[] = {
    {"clock", .is = is_clock_unset, .describe = describe_clock, KIND(CLOCK),
     .hint = "set the clock of this machine; without a clock battery it needs a time server (NTP)"},
    {"certificate-expired", .is = is_expired, .describe = describe_expired, KIND(UNTRUSTED),
     .hint = "renew the certificate at the broker; if the date here is wrong, set the clock of "
             "this machine"},
    {"certificate-early", .is = is_not_yet_valid, .describe = describe_not_yet_valid,
     KIND(UNTRUSTED), .hint = "set the clock of this machine, if the date here is wrong"},
    {"certificate-name", .is = is_for_another_name, .describe = describe_other_name,
     KIND(UNTRUSTED), .hint = "write a name of the certificate into {mqtt.endpoint}" HINT_LOGIN},
    {"certificate-authority", .is = is_of_unknown_authority, .describe = describe_authority,
     KIND(UNTRUSTED),
     .hint = "put the certificate of the broker's authority into ca.crt in "
             "{mqtt.cert_path}" HINT_LOGIN},
    {"certificate", .is = is_certificate_rejected, .describe = describe_certificate,
     KIND(UNTRUSTED), .hint = "renew the certificate at the broker"},
    {"http", .is = is_peer_http, .words = "TLS: the server answers with HTTP in place of TLS",
     KIND(FOREIGN), .hint = "check host and port of {mqtt.endpoint}" HINT_LOGIN},
    {"no-tls", .is = is_peer_without_tls,
     .words = "TLS: the port does not use TLS; mqtt:// connects without it", KIND(FOREIGN),
     .hint = "check the port in {mqtt.endpoint}: 8883 is usual with TLS; mqtt://HOST:1883 connects "
             "without it"},
    {"alpn", .is = is_alpn_refused,
     .words = "TLS: the broker does not accept the ALPN protocol (mqtt.alpn)", KIND(FOREIGN),
     .hint = "check {mqtt.alpn} and the port in {mqtt.endpoint}"},
    {"server-name", .is = is_server_name_unknown, .describe = describe_server_name, KIND(FOREIGN),
     .hint = "check the host in {mqtt.endpoint}"},
    {"old-tls", .is = is_peer_outdated, .words = "TLS: the broker has no TLS 1.2 or newer",
     KIND(FOREIGN), .hint = "update the broker, or its TLS settings (mosquitto: tls_version)"},
    {"own-missing", .is = is_own_missing,
     .words = "TLS: aborted by the broker; it needs a certificate of this side, which has none",
     KIND(REFUSED), .hint = "put cert.pem and private.key into {+mqtt.cert_path}"},
    {"own-expired", .is = is_own_expired, .describe = describe_own_expired, KIND(CERTIFICATE),
     .hint = HINT_RENEW},
    {"own-early", .is = is_own_not_yet_valid, .describe = describe_own_not_yet_valid,
     KIND(CERTIFICATE), .hint = "set the clock of this machine, or " HINT_RENEW},
    {"own-expired-there", .is = is_own_expired_there, .describe = describe_own_expired_there,
     KIND(REFUSED),
     .hint = "check the broker's CRL (mosquitto: crlfile) and its clock, and the clock of this "
             "machine"},
    {"own-revoked", .is = is_own_revoked, .describe = describe_own_revoked, KIND(REFUSED),
     .hint = "get a new certificate and replace " HINT_OWN},
    {"own-authority", .is = is_own_of_unknown_authority, .describe = describe_own_authority,
     KIND(REFUSED),
     .hint = "use a certificate of the broker's authority as " HINT_OWN
             ", or add the authority at the broker (mosquitto: cafile), or its CRL (crlfile)"},
    {"own-rejected", .is = is_own_rejected, .describe = describe_own_rejected, KIND(REFUSED),
     .hint = "check " HINT_OWN " and whether it is registered and active at the broker"},
    {"tls-closed", .is = is_unanswered,
     .words = "TLS: the connection was closed without an answer to the handshake",
     .hint = "check host and port of {mqtt.endpoint}, and the log of the broker; a firewall or a "
             "load balancer without a broker closes as well"},
    {"tls-reset", .is = gt_mqtt_tls_is_guess, .describe = describe_reset,
     .attempt = GT_MQTT_EFFECT_V3_GUESS,
     .hint = "check {mqtt.cert_path}, the port in {mqtt.endpoint}, and the log of the broker"},
    {"tls", .is = failed_in_tls, .describe = describe_tls, KIND(FOREIGN),
     .hint = "check the port in {mqtt.endpoint}; log.level debug shows details"},
};

const struct gt_mqtt_outcome *gt_mqtt_tls_outcomes(size_t *ret_n)
{
    *ret_n = GT_ARRAY_SIZE(outcomes);
    return outcomes;
}
