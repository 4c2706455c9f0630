/* SPDX-License-Identifier: ISC */
/*
 * Where the broker is: GOTTHARD_MQTT_ENDPOINT, as agentd and the CLI both read it.
 *
 *     host, host:port, mqtts://host[:port]    TLS, port 8883 unless said
 *     mqtt://host[:port]                      plain, port 1883 unless said
 *
 * TLS is what nobody has to ask for: only the word mqtt:// turns it off, never a port. Pure text: a
 * name is not looked up here.
 */
#pragma once

#include "gotthard/text.h"

#define GT_ENDPOINT_TLS_PORT   8883
#define GT_ENDPOINT_PLAIN_PORT 1883
#define GT_ENDPOINT_AWS_ALPN   "x-amzn-mqtt-ca"

struct gt_endpoint {
    char host[GT_HOST_MAX + 1];
    uint16_t port;
    bool is_tls;
    const char *alpn; /* static; NULL but for AWS IoT on port 443, which needs it to tell MQTT from
                         HTTPS */
};

enum { GT_ENDPOINT_E_SYNTAX = 1 };

int gt_endpoint_parse(const char *text, struct gt_endpoint *ret) GT_MUST_CHECK;
/* Does the host say this very machine (localhost, 127.x.y.z, ::1)? A plain endpoint elsewhere is
 * worth a warning. */
bool gt_endpoint_is_loopback(const struct gt_endpoint *endpoint);
