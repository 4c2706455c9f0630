/* SPDX-License-Identifier: ISC */
/*
 * The connection of a command to the MQTT broker, by the settings: TLS with the operator's
 * certificate, a unique client id, and a single attempt.
 */
#pragma once

#include "failure.h"
#include "gotthard/base/proxy.h"
#include "gotthard/config/mqtt-url.h"
#include "gotthard/mqtt/mqtt.h"
#include "identity.h"
#include "print.h"
#include "settings.h"

/* Starts to connect, with the certificate of @identity. Returns 0, or 1 with @ret_failure.
 * Callbacks come from the loop. */
int mqtt_connect(struct ev_loop *loop, const struct settings *settings,
                 const struct identity *identity, struct print *print,
                 const struct gt_mqtt_events *events, void *userdata, struct gt_mqtt **ret,
                 struct failure *ret_failure) GT_MUST_CHECK;
/* The parts of mqtt_connect(), for a command that uses them one by one. */
#define MQTT_CONNECT_ID (sizeof("gtc-") + 16) /* bytes of a client id, with its NUL */
struct mqtt_connect_setup {
    struct gt_mqtt_url endpoint;
    char client_id[MQTT_CONNECT_ID];
    struct gt_proxy proxy;        /* kind NONE: none */
    struct ssl_ctx_st *tls;       /* owned; NULL: without TLS */
    struct gt_mqtt_settings mqtt; /* borrows the others, and the settings */
};
/* Returns 0, or 1 with @ret_failure; the caller calls _deinit after 0. */
int mqtt_connect_prepare(const struct settings *settings, const struct identity *identity,
                         struct print *print, struct mqtt_connect_setup *ret,
                         struct failure *ret_failure) GT_MUST_CHECK;
void mqtt_connect_setup_deinit(struct mqtt_connect_setup *setup);
/* Reads the file of authorities, which the caller frees. Returns 0, or 1 with @ret_failure. */
int mqtt_connect_authorities(const struct settings *settings, struct identity_file *ret,
                             struct failure *ret_failure) GT_MUST_CHECK;
/* Turns @why of on_down (gt_mqtt_events) into a failure. @outcome: gt_mqtt_last_outcome(), which
 * has the hint; NULL: the broker does not answer, or has closed the connection. */
void mqtt_connect_failure(const struct settings *settings, const struct gt_mqtt_outcome *outcome,
                          const char *why, struct failure *ret_failure);
/* A subscription to the states of devices was refused for the reason @why. */
void mqtt_connect_failure_of_states(const struct settings *settings, const char *why,
                                    struct failure *ret_failure);
