/* SPDX-License-Identifier: ISC */
/* Interpretation of libmosquitto's codes at the end of a connection; see the header. */
#include "gotthard/mqtt/mqtt-error.h"

#include <errno.h>
#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>
#include <string.h>

#include "gotthard/mqtt/mqtt-connection.h"

/*
 * Returns true if TLS failed. In TLS 1.3 a broker rejects this side's certificate after the
 * handshake (RFC 8446, section 4.4.2.4): the library receives the alert when it reads or writes,
 * and reports a lost connection or EPROTO. If the broker's reset overtakes its alert, EPROTO is the
 * only sign, or the error of the library's close, which comes after it.
 */
static bool failed_in_tls(const struct gt_mqtt_error *end)
{
    if (end->rc == MOSQ_ERR_TLS || end->verification.error != 0)
        return true;
    if (end->rc == MOSQ_ERR_SUCCESS || end->was_up)
        return false;
    bool is_reset = end->err == ECONNRESET || end->err == EPIPE;
    return (end->rc == MOSQ_ERR_ERRNO && (end->err == EPROTO || (end->is_tls && is_reset))) ||
           strstr(end->last_error, " alert ") || strstr(end->last_error, "certificate verify");
}

/* The reason why this side rejected the broker's certificate. */
static void describe_rejection(const struct gt_verification *v, char *ret, size_t cap)
{
    char day[GT_VERIFICATION_DAY], today[GT_VERIFICATION_DAY];

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

void gt_mqtt_error_describe(const struct gt_mqtt_error *end, char *ret, size_t cap)
{
    char text[128];
    int rc = end->rc;

    if (end->is_aborted)
        snprintf(ret, cap, "the MQTT library failed on a packet from the broker");
    else if (end->reason == GT_MQTT_REASON_NO_ROUTE)
        snprintf(ret, cap, "the route to the broker is gone");
    else if (end->reason && end->was_up)
        snprintf(ret, cap, "closed by the broker: %s", mosquitto_reason_string(end->reason));
    else if (end->reason)
        snprintf(ret, cap, "refused by the broker: %s",
                 end->is_v5 ? mosquitto_reason_string(end->reason)
                            : mosquitto_connack_string(end->reason));
    else if (end->verification.error != 0)
        describe_rejection(&end->verification, ret, cap);
    else if (failed_in_tls(end))
        snprintf(ret, cap, "TLS: %s",
                 *end->last_error ? end->last_error
                                  : "aborted by the broker; it may have rejected our "
                                    "certificate");
    else if (rc == MOSQ_ERR_ERRNO)
        snprintf(ret, cap, "%s", strerror_r(end->err, text, sizeof(text)));
    else if (rc == MOSQ_ERR_EAI)
        snprintf(ret, cap, "the host name cannot be resolved");
    else
        snprintf(ret, cap, "%s", mosquitto_strerror(rc));
}

/* Some brokers reject version 5 (with 0x84, or with version 3's code 1), some answer with a packet
 * that the library cannot parse as version 5, some just close. */
bool gt_mqtt_error_suggests_v3(const struct gt_mqtt_error *end)
{
    int rc = end->rc;

    if (!end->is_v5 || end->was_up || end->is_aborted || failed_in_tls(end))
        return false;
    if (end->reason)
        return end->reason == MQTT_RC_UNSUPPORTED_PROTOCOL_VERSION ||
               end->reason == CONNACK_REFUSED_PROTOCOL_VERSION;
    return rc == MOSQ_ERR_CONN_LOST || rc == MOSQ_ERR_PROTOCOL || rc == MOSQ_ERR_MALFORMED_PACKET;
}
