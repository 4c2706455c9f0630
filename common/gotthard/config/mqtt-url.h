/* SPDX-License-Identifier: ISC */
/*
 * The address of the broker (mqtt.endpoint) for agentd and the CLI.
 *
 *     HOST, HOST:PORT, mqtts://HOST[:PORT]    TLS, default port 8883; the same: ssl://, tls://
 *     mqtt://HOST[:PORT]                      plain, default port 1883; the same: tcp://
 *
 * TLS is the default: only the schemes mqtt:// and tcp:// disable it, never a port number. Pure:
 * names are not resolved here.
 */
#pragma once

#include "gotthard/base/text.h"

#define GT_MQTT_URL_TLS_PORT   8883
#define GT_MQTT_URL_PLAIN_PORT 1883
#define GT_MQTT_URL_AWS_ALPN   "x-amzn-mqtt-ca"
#define GT_MQTT_URL_ALPN_MAX   64

struct gt_mqtt_url {
    char host[GT_HOST_MAX + 1];
    uint16_t port;
    bool is_tls;
    /* The ALPN protocol, or empty. AWS IoT requires it on port 443 to separate MQTT from HTTPS. */
    char alpn[GT_MQTT_URL_ALPN_MAX + 1];
};

enum { GT_MQTT_URL_E_SYNTAX = 1 };

/* The texts of the settings, each NULL if it is not given. */
struct gt_mqtt_options {
    const char *endpoint, *alpn, *username, *password;
};

/* Checks the settings of agentd and the CLI, which depend on each other. Returns NULL and the
 * address (untouched without an endpoint), or the path of the setting at fault with a sentence. */
const char *gt_mqtt_options_check(const struct gt_mqtt_options *options, struct gt_mqtt_url *ret,
                                  char *ret_why, size_t cap) GT_MUST_CHECK;

/* Returns 0 or E_SYNTAX. */
int gt_mqtt_url_parse(const char *text, struct gt_mqtt_url *ret) GT_MUST_CHECK;
/* Writes why gt_mqtt_url_parse() rejects @text. The message contains the text, unless that may
 * contain a password. */
void gt_mqtt_url_explain(const char *text, char *ret_why, size_t cap);
/* Returns true if the host is this machine (localhost, 127.x.y.z, ::1). A plain connection to any
 * other host deserves a warning. */
bool gt_mqtt_url_is_loopback(const struct gt_mqtt_url *url);
