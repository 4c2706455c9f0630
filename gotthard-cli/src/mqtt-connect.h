/* SPDX-License-Identifier: ISC */
/*
 * The connection of a command to the MQTT broker, by the settings: TLS with the operator's
 * certificate, a unique client id, and a single attempt.
 */
#pragma once

#include "failure.h"
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
/* Turns @why of on_down (gt_mqtt_events) into a failure. It depends on the texts of mqtt-error.c
 * and mqtt.c; test-request.c has them. */
void mqtt_connect_failure(const struct settings *settings, const char *why,
                          struct failure *ret_failure);
