/* SPDX-License-Identifier: ISC */
/* What libmosquitto's codes mean when a connection is over; see the header. */
#include "gotthard/brokerend.h"

#include <errno.h>
#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <stdio.h>
#include <string.h>

#include "gotthard/broker.h"

/*
 * In TLS 1.3 a broker that does not take this side's certificate says so after the handshake: the
 * library sees the alert when it reads or writes, and calls it a lost connection or EPROTO. Where
 * the broker's reset overtakes its own alert, EPROTO (which comes from nothing but TLS) is all
 * there is.
 */
static bool broker_end_failed_in_tls(const struct gt_broker_end *end)
{
    if (end->rc == MOSQ_ERR_TLS)
        return true;
    if (end->rc == MOSQ_ERR_SUCCESS || end->was_up)
        return false;
    return (end->rc == MOSQ_ERR_ERRNO && end->err == EPROTO) ||
           strstr(end->last_error, " alert ") || strstr(end->last_error, "certificate verify");
}

void gt_broker_end_explain(const struct gt_broker_end *end, char *ret, size_t cap)
{
    char text[128];
    int rc = end->rc;
    if (end->is_spoiled)
        snprintf(ret, cap, "the broker sent what the MQTT library cannot bear");
    else if (end->reason == GT_BROKER_NO_WAY)
        snprintf(ret, cap, "the network has gone");
    else if (end->reason && end->was_up)
        snprintf(ret, cap, "closed by the broker: %s", mosquitto_reason_string(end->reason));
    else if (end->reason)
        snprintf(ret, cap, "refused by the broker: %s",
                 end->is_v5 ? mosquitto_reason_string(end->reason)
                            : mosquitto_connack_string(end->reason));
    else if (broker_end_failed_in_tls(end))
        snprintf(ret, cap, "TLS: %s",
                 *end->last_error ? end->last_error
                                  : "broken off by the broker, as when it takes no certificate "
                                    "of ours");
    else if (rc == MOSQ_ERR_ERRNO)
        snprintf(ret, cap, "%s", strerror_r(end->err, text, sizeof(text)));
    else if (rc == MOSQ_ERR_EAI)
        snprintf(ret, cap, "no address for that name");
    else
        snprintf(ret, cap, "%s", mosquitto_strerror(rc));
}

/* Some refuse version 5 (as 0x84, or 1 in the words of version 3), some send what this library
 * cannot read as version 5, some just close. */
bool gt_broker_end_may_be_older(const struct gt_broker_end *end)
{
    int rc = end->rc;
    if (!end->is_v5 || end->was_up || end->is_spoiled || broker_end_failed_in_tls(end))
        return false;
    if (end->reason)
        return end->reason == MQTT_RC_UNSUPPORTED_PROTOCOL_VERSION ||
               end->reason == CONNACK_REFUSED_PROTOCOL_VERSION;
    return rc == MOSQ_ERR_CONN_LOST || rc == MOSQ_ERR_PROTOCOL || rc == MOSQ_ERR_MALFORMED_PACKET;
}
