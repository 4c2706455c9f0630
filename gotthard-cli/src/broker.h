/* SPDX-License-Identifier: ISC */
/*
 * A command's one connection to the MQTT broker, made from the settings: TLS with the operator's
 * certificate, a client id that no other run has, no second attempt.
 */
#pragma once

#include "failure.h"
#include "gotthard/endpoint.h"
#include "gotthard/mqtt.h"
#include "print.h"
#include "settings.h"

/* 0, or 1 with @ret_failure. Nothing is called inside. */
int broker_connect(struct ev_loop *loop, const struct settings *settings, struct print *print,
                   const struct gt_mqtt_events *events, void *userdata, struct gt_mqtt **ret,
                   struct failure *ret_failure) GT_MUST_CHECK;
/* What on_down's @why means to the operator. */
void broker_failure(const struct settings *settings, const char *why, struct failure *ret_failure);
