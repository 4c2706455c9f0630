/* SPDX-License-Identifier: ISC */
/*
 * The address of the broker (mqtt.endpoint) for agentd and the CLI.
 *
 *     HOST, HOST:PORT, mqtts://HOST[:PORT]    TLS, default port 8883
 *     mqtt://HOST[:PORT]                      plain, default port 1883
 *
 * TLS is the default: only the scheme mqtt:// disables it, never a port number. Pure: names are not
 * resolved here.
 */
#pragma once

#include "gotthard/base/text.h"

#define GT_MQTT_URL_TLS_PORT   8883
#define GT_MQTT_URL_PLAIN_PORT 1883
#define GT_MQTT_URL_AWS_ALPN   "x-amzn-mqtt-ca"

struct gt_mqtt_url {
    char host[GT_HOST_MAX + 1];
    uint16_t port;
    bool is_tls;
    const char *alpn; /* static; AWS IoT requires it on port 443 to separate MQTT from HTTPS;
                         otherwise NULL */
};

enum { GT_MQTT_URL_E_SYNTAX = 1 };

/* Returns 0 or E_SYNTAX. */
int gt_mqtt_url_parse(const char *text, struct gt_mqtt_url *ret) GT_MUST_CHECK;
/* Writes why gt_mqtt_url_parse() rejects @text. The message contains the text, unless that may
 * contain a password. */
void gt_mqtt_url_explain(const char *text, char *ret_why, size_t cap);
/* Returns true if the host is this machine (localhost, 127.x.y.z, ::1). A plain connection to any
 * other host deserves a warning. */
bool gt_mqtt_url_is_loopback(const struct gt_mqtt_url *url);
